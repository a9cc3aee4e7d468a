//! Writes the committed schemas.

use std::path::Path;

use anyhow::Context as _;

/// Replaces the committed schemas by what the types generate.
pub(crate) fn write() -> anyhow::Result<()> {
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
