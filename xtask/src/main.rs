//! Development tasks of the workspace: `cargo xtask <task>`.

use anyhow::{Context as _, bail};
use std::path::Path;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("schemas") => write_schemas(),
        other => bail!("unknown task {other:?}; tasks: schemas (writes claudemesh-proto/schemas anew)"),
    }
}

/// Replaces the committed schemas by what the types generate.
fn write_schemas() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../claudemesh-proto/schemas");
    if root.exists() {
        std::fs::remove_dir_all(&root).context("removing the old schemas")?;
    }
    let files = claudemesh_proto::schema::files();
    for (path, text) in &files {
        let target = root.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, text).with_context(|| format!("writing {}", target.display()))?;
    }
    println!("{} schemas written to claudemesh-proto/schemas", files.len());
    Ok(())
}
