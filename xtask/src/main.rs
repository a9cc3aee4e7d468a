//! Development tasks of the workspace.
fn main() -> anyhow::Result<()> {
    Ok(())
}
