//! Writing a skill into a directory, such that nothing of it lands elsewhere.

use crate::CliError;
use claudemesh_client::skills::{SkillDocument, content_of};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::model::check_bundle_path;
use claudemesh_proto::ops::{Skill, SkillFile};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Writes `<directory>/<name>` and gives its path. It is made beside its place and is there as a whole or not at all.
pub(super) async fn skill(skill: Skill, directory: PathBuf, overwrite: bool) -> Result<PathBuf, CliError> {
    let writing = tokio::task::spawn_blocking(move || write(&skill, &directory, overwrite));
    let interrupted = |_| CliError::new(ErrorCode::Internal, "Writing the skill was interrupted.");
    writing.await.map_err(interrupted)?
}

fn write(skill: &Skill, directory: &Path, overwrite: bool) -> Result<PathBuf, CliError> {
    let name = &skill.name;
    if check_bundle_path(name).is_err() {
        return Err(CliError::usage(
            format!("The name {name:?} cannot be the name of a directory."),
            "Print the skill without --output.",
        ));
    }
    let cannot = |error: io::Error| {
        let text = format!("Cannot write into {}: {error}", directory.display());
        CliError::local(text, "Choose a directory that you may write to.")
    };
    fs::create_dir_all(directory).map_err(cannot)?;
    let place = directory.join(name);
    if place.symlink_metadata().is_ok() && !overwrite {
        let text = format!("{} exists.", place.display());
        return Err(CliError::new(ErrorCode::Conflict, text).next("Add --overwrite to replace it."));
    }
    let desk = tempfile::Builder::new()
        .prefix(".claudemesh-skill-")
        .tempdir_in(directory)
        .map_err(cannot)?;
    let new = desk.path().join("new");
    fs::create_dir(&new).map_err(cannot)?;
    put(&new, "SKILL.md", false, SkillDocument::render(skill).as_bytes()).map_err(cannot)?;
    for file in &skill.files {
        put_file(&new, file, cannot)?;
    }
    if place.symlink_metadata().is_ok() {
        // What was there goes with the desk.
        fs::rename(&place, desk.path().join("old")).map_err(cannot)?;
    }
    fs::rename(&new, &place).map_err(cannot)?;
    Ok(place)
}

fn put_file(new: &Path, file: &SkillFile, cannot: impl Fn(io::Error) -> CliError) -> Result<(), CliError> {
    // The broker has checked it; a broker is not trusted with this machine.
    let refused = |why: String| {
        let text = format!("The skill has a file that is not written: {:?}: {why}", file.path);
        CliError::new(ErrorCode::InvalidRequest, text).next("Print the skill without --output.")
    };
    check_bundle_path(&file.path).map_err(|error| refused(error.to_string()))?;
    let content = content_of(file).ok_or_else(|| refused("its content did not come".to_owned()))?;
    put(new, &file.path, file.executable, &content).map_err(cannot)
}

/// Writes a file that must not be there yet: not even on a system that takes two names for one.
fn put(directory: &Path, path: &str, executable: bool, content: &[u8]) -> io::Result<()> {
    let place = directory.join(path);
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if executable { 0o777 } else { 0o666 });
    }
    #[cfg(not(unix))]
    let _ = executable;
    options.open(place)?.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skill_with(name: &str, path: &str) -> Skill {
        Skill {
            name: name.to_owned(),
            description: "d".to_owned(),
            instructions: "Go.".to_owned(),
            files: vec![SkillFile {
                path: path.to_owned(),
                text: Some("x".to_owned()),
                executable: true,
                ..SkillFile::default()
            }],
            ..Skill::default()
        }
    }

    #[test]
    fn a_broker_cannot_write_elsewhere() {
        let desk = tempfile::tempdir().unwrap();
        let to = desk.path().join("skills");
        for (name, path) in [
            ("..", "a"),
            ("a/b", "a"),
            (".git", "a"),
            ("x", "../../escaped"),
            ("x", "/tmp/escaped"),
            ("x", "a/../../../escaped"),
            ("x", "SKILL.md"),
        ] {
            assert!(write(&skill_with(name, path), &to, false).is_err(), "{name} {path}");
        }
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "nothing is left");
        assert_eq!(fs::read_dir(desk.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_is_replaced_when_asked() {
        let desk = tempfile::tempdir().unwrap();
        let place = write(&skill_with("x", "scripts/run.sh"), desk.path(), false).unwrap();
        assert_eq!(fs::read(place.join("scripts/run.sh")).unwrap(), b"x");
        assert!(fs::read_to_string(place.join("SKILL.md")).unwrap().ends_with("Go.\n"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &str| fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o111;
            assert!(mode("scripts/run.sh") != 0 && mode("SKILL.md") == 0);
        }
        let error = write(&skill_with("x", "other"), desk.path(), false).unwrap_err();
        assert_eq!(error.exit_code(), 6);
        write(&skill_with("x", "other"), desk.path(), true).unwrap();
        assert!(place.join("other").exists() && !place.join("scripts").exists());
        assert_eq!(
            fs::read_dir(desk.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        // A link in the place is replaced, and not followed.
        #[cfg(unix)]
        {
            let elsewhere = desk.path().join("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, desk.path().join("y")).unwrap();
            write(&skill_with("y", "a"), desk.path(), true).unwrap();
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        }
    }
}
