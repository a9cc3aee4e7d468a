//! Skills in directories of this machine.

use super::archive;
use super::bundle::{Collector, MAIN_FILE, SkillBundle, is_litter, too_large, unusable};
use crate::ClientError;
use crate::files::local;
use claudemesh_proto::limits::{MAX_SKILL_ARCHIVE_BYTES, MAX_SKILL_FILES, MAX_SKILL_PATH_DEPTH};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Most names that are looked at: a home directory is no skill.
const MAX_NAMES: usize = 10 * MAX_SKILL_FILES;

impl SkillBundle {
    /// Reads a skill of this machine: its directory, its SKILL.md alone, or a zip archive. Symbolic links are not followed.
    /// Blocks.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] if it cannot be read, `invalid_request` and `too_large` if it is no skill.
    pub fn read(path: &Path) -> Result<Self, ClientError> {
        let cannot = |error: io::Error| local(path, "path", &error);
        let facts = fs::metadata(path).map_err(cannot)?;
        let mut collector = Collector::default();
        if facts.is_dir() {
            let mut names = 0;
            walk(path, "", 1, &mut names, &mut collector)?;
            let absolute = std::path::absolute(path).map_err(cannot)?;
            let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
            return collector.finish(name);
        }
        let is_zip = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
        let file = File::open(path).map_err(cannot)?;
        if is_zip {
            if facts.len() > MAX_SKILL_ARCHIVE_BYTES {
                return Err(too_large(format!(
                    "the archive has more than {MAX_SKILL_ARCHIVE_BYTES} bytes"
                )));
            }
            let mut bundle = archive::unpack(file, None)?;
            let stem = path.file_stem().map(|name| name.to_string_lossy().into_owned());
            bundle.directory = bundle.directory.or(stem);
            return Ok(bundle);
        }
        collector.add(MAIN_FILE, false, file)?;
        let parent = std::path::absolute(path).ok();
        let parent = parent.as_deref().and_then(Path::parent).and_then(Path::file_name);
        collector.finish(parent.map(|name| name.to_string_lossy().into_owned()))
    }
}

fn walk(
    directory: &Path,
    prefix: &str,
    depth: usize,
    names: &mut usize,
    collector: &mut Collector,
) -> Result<(), ClientError> {
    let cannot = |error: io::Error| local(directory, "path", &error);
    if depth > MAX_SKILL_PATH_DEPTH {
        return Err(unusable(prefix, "the directories are too deep"));
    }
    let entries = fs::read_dir(directory).map_err(cannot)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        *names += 1;
        if *names > MAX_NAMES {
            return Err(too_large(format!("a skill has at most {MAX_SKILL_FILES} files")));
        }
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(unusable(&name.to_string_lossy(), "the name is not UTF-8"));
        };
        let path = format!("{prefix}{name}");
        if is_litter(&path) {
            continue;
        }
        let kind = entry.file_type().map_err(cannot)?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), depth + 1, names, collector)?;
        } else if kind.is_file() {
            let file = File::open(entry.path()).map_err(|error| local(&entry.path(), "path", &error))?;
            collector.add(&path, is_program(&file), file)?;
        } else {
            return Err(unusable(&path, "it is not a plain file: a skill has files only"));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_program(file: &File) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|facts| facts.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(_: &File) -> bool {
    false
}
