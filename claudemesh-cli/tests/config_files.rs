//! The configuration directory: format of the original, permissions, several processes at once.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::Person;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A configuration as the original writes it, with keys of other versions. The keys belong together.
fn original() -> Value {
    let seed = "1".repeat(64);
    let public = public_of(&seed);
    json!({
        "version": 1,
        "meshes": [
            {
                "meshId": "mesh-1", "memberId": "member-1", "slug": "team", "name": "Team", "pubkey": public,
                "secretKey": format!("{seed}{public}"), "brokerUrl": "ws://127.0.0.1:9/ws",
                "joinedAt": "2025-01-02T03:04:05.000Z", "rootKey": "cm9vdA", "inviteVersion": 1, "later": {"a": 1},
            },
            {
                "meshId": "mesh-2", "memberId": "member-2", "slug": "other", "name": "Other", "pubkey": public,
                "secretKey": format!("{seed}{public}"), "brokerUrl": "ws://127.0.0.1:9/ws",
                "joinedAt": "2025-01-02T03:04:05.000Z",
            },
        ],
        "displayName": "kai", "role": "lead", "groups": [{"name": "eng", "role": "lead"}], "messageMode": "push",
        "accountId": "acc", "future": [1, 2],
    })
}

fn public_of(seed: &str) -> String {
    let bytes: Vec<u8> = (0..32)
        .map(|index| u8::from_str_radix(&seed[index * 2..index * 2 + 2], 16).unwrap())
        .collect();
    claudemesh_crypto::SecretKey::from_seed(&bytes.try_into().unwrap())
        .public()
        .to_string()
}

fn write(person: &Person, value: &Value) {
    fs::create_dir_all(&person.dir).unwrap();
    fs::set_permissions(&person.dir, fs::Permissions::from_mode(0o700)).unwrap();
    let path = person.dir.join("config.json");
    fs::write(&path, serde_json::to_string_pretty(value).unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn mode(person: &Person, name: &str) -> u32 {
    fs::metadata(person.dir.join(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_configuration_of_the_original_is_read_and_kept() {
    let person = Person::new();
    write(&person, &original());
    let listed = person.json(&["list"]);
    assert_eq!(listed["meshes"][0]["slug"], "team");
    assert_eq!(listed["meshes"][1]["brokerUrl"], "ws://127.0.0.1:9/ws");

    assert_eq!(person.run(&["leave", "other", "--yes"]).code, 0);
    let text = fs::read_to_string(person.dir.join("config.json")).unwrap();
    let mut expected = original();
    expected["meshes"].as_array_mut().unwrap().pop();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        expected,
        "nothing else changes"
    );
    assert!(
        text.starts_with("{\n  \"version\": 1,\n  \"meshes\": [\n    {\n      \"meshId\"") && text.ends_with("}\n")
    );
    assert_eq!((mode(&person, "config.json"), mode(&person, ".")), (0o600, 0o700));
}

#[test]
fn secrets_of_the_original_are_used_and_never_shown() {
    let person = Person::new();
    write(&person, &original());
    let run = person.run(&["status", "--mesh", "team"]);
    assert_eq!(run.code, 4, "the key is accepted, the broker is not there: {run:?}");
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["status"],
        &["status", "--json"],
        &["info"],
    ] {
        let run = person.run_with(words, &[("CLAUDEMESH_DEBUG", "trace")]);
        assert!(
            !run.stdout.contains(&"1".repeat(64)) && !run.stderr.contains(&"1".repeat(64)),
            "{words:?}"
        );
    }
}

#[test]
fn a_key_of_somebody_else_is_refused() {
    let person = Person::new();
    let mut config = original();
    config["meshes"][0]["pubkey"] = json!("2".repeat(64));
    write(&person, &config);
    let run = person.run(&["info", "--mesh", "team"]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn cli_29_cli_30_several_meshes_need_a_choice() {
    let person = Person::new();
    write(&person, &original());
    let run = person.run(&["info"]);
    assert_eq!(run.code, 3);
    assert!(
        run.stderr.contains("--mesh") && run.stderr.contains("team, other"),
        "{run:?}"
    );
    let run = person.run(&["send", "ana", "hi", "--mesh=nope"]);
    assert_eq!(run.code, 5);
    assert!(run.stderr.contains("team, other"), "{run:?}");
}

#[test]
fn leaving_needs_a_confirmation() {
    let person = Person::new();
    write(&person, &original());
    let run = person.run(&["leave", "team"]);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("--yes"));
    assert_eq!(person.json(&["list"])["meshes"].as_array().unwrap().len(), 2);
    assert_eq!(person.run(&["leave", "nope", "--yes"]).code, 5);
}

#[test]
fn cli_44_open_permissions_are_named_with_the_fix() {
    let person = Person::new();
    write(&person, &original());
    fs::set_permissions(person.dir.join("config.json"), fs::Permissions::from_mode(0o644)).unwrap();
    let run = person.run(&["list"]);
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("chmod 600"), "{run:?}");
    assert!(!person.run(&["list", "--quiet"]).stderr.contains("chmod"));
}

#[test]
fn a_damaged_file_is_an_error_and_stays() {
    let person = Person::new();
    write(&person, &json!({}));
    assert_eq!(
        person.json(&["list"])["meshes"],
        json!([]),
        "no list of meshes is an empty one"
    );
    fs::write(person.dir.join("config.json"), "{").unwrap();
    let run = person.run(&["list"]);
    assert_eq!(run.code, 8);
    assert_eq!(fs::read_to_string(person.dir.join("config.json")).unwrap(), "{");
}

#[test]
fn processes_that_write_at_once_lose_nothing() {
    let person = Person::new();
    let mut config = original();
    let template = config["meshes"][0].clone();
    let meshes: Vec<Value> = (0..12)
        .map(|index| {
            let mut mesh = template.clone();
            mesh["meshId"] = json!(format!("mesh-{index}"));
            mesh["slug"] = json!(format!("team-{index}"));
            mesh
        })
        .collect();
    config["meshes"] = json!(meshes);
    write(&person, &config);
    let slugs: Vec<String> = (0..11).map(|index| format!("team-{index}")).collect();
    let children: Vec<_> = slugs
        .iter()
        .map(|slug| person.command(&["leave", slug, "--yes", "--quiet"]).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let left = person.json(&["list"]);
    let left: Vec<_> = left["meshes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mesh| mesh["slug"].as_str().unwrap())
        .collect();
    assert_eq!(left, ["team-11"]);
}
