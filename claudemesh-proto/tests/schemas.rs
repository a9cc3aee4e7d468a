//! The committed schemas are what the types generate, and every schema compiles.
#![allow(clippy::unwrap_used)]

use claudemesh_proto::schema;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn committed(dir: &Path, prefix: &str, into: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            committed(&entry.path(), &format!("{name}/"), into);
        } else {
            into.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn defect_115_committed_schemas_are_current() {
    let mut on_disk = BTreeMap::new();
    committed(&root(), "", &mut on_disk);
    let generated = schema::files();
    let differing: Vec<_> = generated
        .keys()
        .chain(on_disk.keys())
        .filter(|path| generated.get(*path) != on_disk.get(*path))
        .collect();
    assert!(
        differing.is_empty(),
        "schemas differ from the types; run `cargo xtask schemas`: {differing:?}"
    );
}

#[test]
fn every_schema_compiles() {
    for (path, text) in schema::files() {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        jsonschema::validator_for(&value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[test]
fn tools_take_and_describe_objects() {
    for tool in schema::tools() {
        let params = tool.params.as_value();
        assert_eq!(params["type"], "object", "{}", tool.meta.name);
        let description = params["description"].as_str().unwrap_or_default();
        assert!(description.len() > 20, "{} needs a description", tool.meta.name);
        assert_eq!(tool.output.as_value()["type"], "object", "{}", tool.meta.name);
    }
}
