//! Secret keys: one file per mesh.

use super::file::{MeshEntry, safe_slug};
use super::private;
use crate::CliError;
use claudemesh_crypto::SecretKey;
use claudemesh_proto::ErrorCode;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the directory of key files and group keys.
pub(super) const DIR: &str = "keys";

/// Writes the member's key, and the owner's if there is one. Returns the key file's name for the configuration.
pub(super) fn store(dir: &Path, slug: &str, member: &SecretKey, owner: Option<&SecretKey>) -> Result<String, CliError> {
    private::create_dir(&dir.join(DIR))?;
    write_key(&owner_path(dir, slug), owner)?;
    let name = format!("{DIR}/{}.key", safe_slug(slug));
    write_key(&dir.join(&name), Some(member))?;
    Ok(name)
}

fn write_key(path: &Path, key: Option<&SecretKey>) -> Result<(), CliError> {
    let Some(key) = key else { return Ok(()) };
    let text = Zeroizing::new(format!("{}\n", key.to_hex().as_str()));
    private::write(path, text.as_bytes())
}

/// The member's secret key: from the configuration if it is there, else from the key file.
pub(super) fn member(dir: &Path, entry: &MeshEntry) -> Result<SecretKey, CliError> {
    let text = match &entry.secret_key {
        Some(text) => text.clone(),
        None => read(&member_path(dir, entry)?)?,
    };
    let key = SecretKey::from_hex(text.trim()).map_err(|error| bad_key(entry, &error.to_string()))?;
    if key.public().to_string() != entry.pubkey {
        return Err(bad_key(entry, "it is the key of another member"));
    }
    Ok(key)
}

/// The owner's secret key, if this is the owner's machine.
pub(super) fn owner(dir: &Path, entry: &MeshEntry) -> Result<Option<SecretKey>, CliError> {
    let path = owner_path(dir, &entry.slug);
    if !path.exists() {
        return Ok(None);
    }
    SecretKey::from_hex(read(&path)?.trim())
        .map(Some)
        .map_err(|error| bad_key(entry, &error.to_string()))
}

/// Whether the owner's secret key is here.
pub(super) fn has_owner(dir: &Path, entry: &MeshEntry) -> bool {
    owner_path(dir, &entry.slug).exists()
}

/// Key files of a mesh that exist.
pub(super) fn files(dir: &Path, entry: &MeshEntry) -> Vec<PathBuf> {
    let member = entry.key_file.as_ref().and_then(|_| member_path(dir, entry).ok());
    member
        .into_iter()
        .chain([owner_path(dir, &entry.slug)])
        .filter(|path| path.exists())
        .collect()
}

fn owner_path(dir: &Path, slug: &str) -> PathBuf {
    dir.join(DIR).join(format!("{}.owner", safe_slug(slug)))
}

fn member_path(dir: &Path, entry: &MeshEntry) -> Result<PathBuf, CliError> {
    match &entry.key_file {
        Some(name) => Ok(dir.join(name)),
        None => Err(bad_key(entry, "the configuration names neither a key nor a key file")),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, CliError> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| private::failed("read", path, &error))
}

fn bad_key(entry: &MeshEntry, why: &str) -> CliError {
    CliError::new(
        ErrorCode::BadSignature,
        format!("The secret key of mesh {} cannot be used: {why}.", entry.slug),
    )
    .next("Restore the key file from a backup, or leave the mesh and join it again with a new invite.")
}
