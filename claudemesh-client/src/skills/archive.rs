//! Skills in zip archives that anybody may have made.

use super::bundle::{Collector, SkillBundle, find_directory, is_litter, last_part, shown, too_large, unusable};
use crate::ClientError;
use claudemesh_proto::ErrorCode;
use std::io::{Read, Seek};
use zip::ZipArchive;
use zip::result::ZipError;

/// Most entries of an archive; those that are not of the skill count too.
const MAX_ENTRIES: usize = 20_000;

/// Takes the skill out of an archive. Nothing is written anywhere; contents are counted while they are inflated.
pub(super) fn unpack<R: Read + Seek>(reader: R, wanted: Option<&str>) -> Result<SkillBundle, ClientError> {
    let mut archive = ZipArchive::new(reader).map_err(|error| broken(&error))?;
    if archive.len() > MAX_ENTRIES {
        return Err(too_large(format!("the archive has more than {MAX_ENTRIES} entries")));
    }
    if archive.has_duplicate_names() {
        return Err(bad("the archive has two entries of the same name"));
    }
    let mut names = Vec::with_capacity(archive.len());
    for number in 0..archive.len() {
        let entry = archive.by_index_raw(number).map_err(|error| broken(&error))?;
        names.push(match std::str::from_utf8(entry.name_raw()) {
            Ok(name) => name.to_owned(),
            // Names of old programs, in the code page that the format had then.
            Err(_) => entry.name().map_err(|error| broken(&error))?.into_owned(),
        });
    }
    let files = || {
        names
            .iter()
            .map(String::as_str)
            .filter(|name| !name.ends_with('/') && !is_litter(name))
    };
    let directory = find_directory(files(), wanted)?;
    let mut collector = Collector::default();
    for (number, name) in names.iter().enumerate() {
        let Some(path) = name.strip_prefix(&directory) else {
            check_outside(name)?;
            continue;
        };
        if path.is_empty() || path.ends_with('/') || is_litter(name) {
            continue;
        }
        let entry = archive.by_index(number).map_err(|error| broken(&error))?;
        if entry.is_symlink() {
            return Err(unusable(name, "it is a symbolic link: a skill has files only"));
        }
        let mode = entry.unix_mode().unwrap_or(0);
        let kind = mode & 0o170_000;
        if kind != 0 && kind != 0o100_000 {
            return Err(unusable(name, "it is not a plain file"));
        }
        let executable = mode & 0o111 != 0;
        collector.add(path, executable, entry)?;
    }
    collector.finish(last_part(&directory))
}

/// An archive that tries to leave its directory is refused as a whole, whichever entry it is.
fn check_outside(name: &str) -> Result<(), ClientError> {
    let leaves = name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..");
    if leaves {
        return Err(unusable(name, "the path leads out of the archive"));
    }
    Ok(())
}

fn bad(text: &str) -> ClientError {
    ClientError::refused(ErrorCode::InvalidRequest, text)
}

fn broken(error: &ZipError) -> ClientError {
    let text = match error {
        ZipError::UnsupportedArchive(what) => format!("the archive cannot be opened here: {what}"),
        error => format!("this is not a whole zip archive: {}", shown(&error.to_string())),
    };
    ClientError::refused(ErrorCode::InvalidRequest, text)
}
