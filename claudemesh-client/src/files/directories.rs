//! What may be read in the directories that this session shares. Blocking.
//!
//! Every component of a path is opened below the one before it and without following links, so that a path cannot lead
//! out, however the directory changes meanwhile. Hidden files, and files whose names say that they hold secrets, are not
//! there for others.

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::fs::{Dir, OpenOptions};
use claudemesh_proto::limits::{MAX_PEER_FILE_BYTES, MAX_PEER_FILE_NAMES, MAX_PEER_FILE_PART, MAX_PEER_PATH_BYTES};
use std::collections::BTreeSet;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use wildmatch::WildMatch;

/// Levels of directories that a listing shows.
const LEVELS: usize = 3;
/// Names that a listing looks at before it stops.
const MAX_VISITED: usize = 50_000;
/// Names of files that hold secrets, without regard to case.
const SECRETS: &[&str] = &[
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.kdb",
    "*.ppk",
    "*.gpg",
    "*.asc",
    "*.age",
    "*.ovpn",
    "*.tfstate",
    "*.tfstate.*",
    "*.tfvars",
    "*.cmb",
    "*.env",
    "env.*",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*credential*",
    "*secret*",
    "*password*",
    "*passwd*",
    "*api_key*",
    "*apikey*",
    "*api-key*",
    "*private_key*",
    "*private-key*",
    "*service-account*.json",
    "*service_account*.json",
    "htpasswd*",
    "shadow",
    "*token*.json",
    "*.sqlite-wal",
    "wallet.dat",
];

/// Why something is not read for a peer. The texts are for the peer: they name no path of this machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied(pub(super) String);

fn denied(text: impl Into<String>) -> Denied {
    Denied(text.into())
}

/// The directories, opened once.
#[derive(Debug)]
pub(super) struct Roots {
    roots: Vec<(String, Dir)>,
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct FilePart {
    /// Length of the file, in bytes.
    pub(super) size: u64,
    /// When it changed, to tell that it did between two parts.
    pub(super) changed_ms: i64,
    pub(super) content: Vec<u8>,
}

/// Names in a directory.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) entries: Vec<String>,
    pub(super) truncated: bool,
}

impl Roots {
    /// Opens the directories. A link that the person names is followed: the directory is what it points to now.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let mut roots: Vec<(String, Dir)> = Vec::new();
        for path in paths {
            let failed = |error| (path.clone(), error);
            let dir = Dir::open_ambient_dir(path, cap_std::ambient_authority()).map_err(failed)?;
            let whole = path.canonicalize().map_err(failed)?;
            let name = whole
                .file_name()
                .map_or("root".to_owned(), |name| name.to_string_lossy().into_owned());
            let taken = |name: &str| roots.iter().any(|(known, _)| known == name);
            // Two directories of one name are told apart by a number.
            let unique = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}-{n}") });
            let name = unique.into_iter().find(|name| !taken(name)).unwrap_or(name);
            roots.push((name, dir));
        }
        Ok(Self { roots })
    }

    /// Reads a part of a file.
    pub(super) fn read(&self, path: &str, offset: u64) -> Result<FilePart, Denied> {
        let components = components(path)?;
        let Some((name, directories)) = components.split_last() else {
            return Err(denied(
                "not a file: this is the shared directory; list_peer_files shows what is in it",
            ));
        };
        let dir = self.directory(directories)?;
        let Some(dir) = dir else {
            return Err(self.which());
        };
        let kind = dir.symlink_metadata(name).map_err(|error| hidden(&error))?;
        if kind.is_symlink() {
            return Err(denied("links are not followed; ask for the file itself"));
        }
        if !kind.is_file() {
            return Err(denied("not a file"));
        }
        let mut options = OpenOptions::new();
        // A pipe that takes the file's place in this moment must not hold this up.
        options.read(true).follow(FollowSymlinks::No).nonblock(true);
        let mut file = dir.open_with(name, &options).map_err(|error| hidden(&error))?;
        let metadata = file.metadata().map_err(|error| hidden(&error))?;
        if !metadata.is_file() {
            return Err(denied("not a file"));
        }
        let size = metadata.len();
        if size > MAX_PEER_FILE_BYTES {
            return Err(denied(format!(
                "file too large ({size} bytes, max {MAX_PEER_FILE_BYTES}); ask the peer to share it with share_file"
            )));
        }
        let changed = metadata
            .modified()
            .ok()
            .and_then(|time| time.into_std().duration_since(std::time::UNIX_EPOCH).ok());
        let mut content = Vec::new();
        file.seek(SeekFrom::Start(offset)).map_err(|error| hidden(&error))?;
        file.take(MAX_PEER_FILE_PART as u64)
            .read_to_end(&mut content)
            .map_err(|error| hidden(&error))?;
        Ok(FilePart {
            size,
            changed_ms: changed.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or_default()),
            content,
        })
    }

    /// Names in a directory and the two levels below it, sorted; directories end with `/`.
    pub(super) fn list(&self, path: &str, pattern: Option<&str>) -> Result<Names, Denied> {
        let components = components(path)?;
        let mut walk = Walk {
            pattern: pattern
                .filter(|text| !text.is_empty())
                .map(WildMatch::new_case_insensitive),
            names: BTreeSet::new(),
            visited: 0,
            truncated: false,
        };
        match self.directory(&components)? {
            Some(dir) => walk.visit(&dir, "", LEVELS),
            None => {
                for (name, dir) in &self.roots {
                    walk.take(name, true);
                    walk.visit(dir, &format!("{name}/"), LEVELS - 1);
                }
            }
        }
        Ok(Names {
            entries: walk.names.into_iter().collect(),
            truncated: walk.truncated,
        })
    }

    /// Several directories are shared, and the path names none of them.
    fn which(&self) -> Denied {
        let names: Vec<&str> = self.roots.iter().map(|(name, _)| name.as_str()).collect();
        denied(format!("file not found; paths start with one of: {}", names.join(", ")))
    }

    /// The directory of these components; `None` for what is above several shared ones.
    fn directory(&self, components: &[&str]) -> Result<Option<Dir>, Denied> {
        let (root, rest) = match self.roots.as_slice() {
            [(_, only)] => (only, components),
            several => {
                let Some((first, rest)) = components.split_first() else {
                    return Ok(None);
                };
                let named = several.iter().find(|(name, _)| name == first);
                let Some((_, root)) = named else {
                    return Err(self.which());
                };
                (root, rest)
            }
        };
        let mut dir = root.try_clone().map_err(|error| hidden(&error))?;
        for component in rest {
            dir = dir.open_dir_nofollow(component).map_err(|error| hidden(&error))?;
        }
        Ok(Some(dir))
    }
}

struct Walk {
    pattern: Option<WildMatch>,
    names: BTreeSet<String>,
    visited: usize,
    truncated: bool,
}

impl Walk {
    fn visit(&mut self, dir: &Dir, prefix: &str, levels: usize) {
        let Ok(entries) = dir.entries() else { return };
        for entry in entries.flatten() {
            self.visited += 1;
            if self.names.len() >= MAX_PEER_FILE_NAMES || self.visited > MAX_VISITED {
                self.truncated = true;
                return;
            }
            // A name that is no UTF-8 could not be asked for.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let Ok(kind) = entry.file_type() else { continue };
            if is_kept_back(&name) || !(kind.is_dir() || kind.is_file()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            if self.pattern.as_ref().is_none_or(|pattern| pattern.matches(&name)) {
                self.take(&path, kind.is_dir());
            }
            if kind.is_dir()
                && levels > 1
                && let Ok(below) = dir.open_dir_nofollow(&name)
            {
                self.visit(&below, &format!("{path}/"), levels - 1);
            }
        }
    }

    fn take(&mut self, path: &str, is_dir: bool) {
        self.names
            .insert(if is_dir { format!("{path}/") } else { path.to_owned() });
    }
}

/// The components of a path that may be read.
fn components(path: &str) -> Result<Vec<&str>, Denied> {
    if path.len() > MAX_PEER_PATH_BYTES || path.contains('\0') {
        return Err(denied("invalid file path"));
    }
    if path.starts_with(['/', '\\']) || Path::new(path).is_absolute() {
        return Err(denied(
            "file outside shared directories: paths are relative to the shared directory",
        ));
    }
    let components: Vec<&str> = path
        .split(['/', std::path::MAIN_SEPARATOR])
        .filter(|component| !component.is_empty() && *component != ".")
        .collect();
    if components.contains(&"..") {
        return Err(denied("path traversal not allowed"));
    }
    if components.iter().any(|component| is_kept_back(component)) {
        return Err(denied("hidden files, and files that may hold secrets, are not shared"));
    }
    Ok(components)
}

/// Whether something of this name is never there for others.
fn is_kept_back(name: &str) -> bool {
    // Other spellings of a name that some systems take for the same.
    let name = name.trim_end_matches(['.', ' ']);
    name.is_empty()
        || name.starts_with('.')
        || name.contains(':')
        || SECRETS
            .iter()
            .any(|pattern| WildMatch::new_case_insensitive(pattern).matches(name))
}

/// An error that tells a peer nothing about what is on this machine.
fn hidden(error: &io::Error) -> Denied {
    tracing::debug!(%error, "a shared file was not read");
    match error.kind() {
        io::ErrorKind::NotFound => denied("file not found"),
        io::ErrorKind::PermissionDenied => denied("the peer may not read this file itself"),
        _ => denied("file not found, or reached over a link: links are not followed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(root: &Path, name: &str, content: &[u8]) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn lab() -> (tempfile::TempDir, Roots) {
        let directory = tempfile::tempdir().unwrap();
        let shared = directory.path().join("shared");
        for name in [
            "notes.md",
            "src/main.rs",
            "a/b/c/deep.txt",
            ".env",
            ".git/config",
            "server.PEM",
            "my-secrets.txt",
        ] {
            write(&shared, name, name.as_bytes());
        }
        write(directory.path(), "outside.txt", b"outside");
        let roots = Roots::open(&[shared]).unwrap();
        (directory, roots)
    }

    #[test]
    fn what_is_shared_is_read() {
        let (_directory, roots) = lab();
        assert_eq!(roots.read("notes.md", 0).unwrap().content, b"notes.md");
        assert_eq!(roots.read("./src//main.rs", 4).unwrap().content, b"main.rs");
        assert_eq!(roots.read("a/b/c/deep.txt", 0).unwrap().size, 14);
    }

    #[test]
    fn cli_38_nothing_else_is() {
        let (directory, roots) = lab();
        for path in [
            "../outside.txt",
            "src/../../outside.txt",
            "..",
            "/etc/passwd",
            ".env",
            ".git/config",
            "server.PEM",
            "my-secrets.txt",
            "a\0b",
            "",
            "src",
            "missing",
            "notes.md/x",
            "server.PEM.",
        ] {
            assert!(roots.read(path, 0).is_err(), "{path}");
        }
        assert!(roots.read(&"x/".repeat(3000), 0).is_err());
        let large = directory.path().join("shared/large.bin");
        fs::File::create(large)
            .unwrap()
            .set_len(MAX_PEER_FILE_BYTES + 1)
            .unwrap();
        assert!(roots.read("large.bin", 0).unwrap_err().0.contains("max 1048576"));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_special_files_lead_nowhere() {
        use std::os::unix::fs::symlink;
        let (directory, roots) = lab();
        let shared = directory.path().join("shared");
        symlink("../outside.txt", shared.join("out")).unwrap();
        symlink(directory.path(), shared.join("up")).unwrap();
        symlink(".env", shared.join("inside")).unwrap();
        symlink("src", shared.join("dir")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(shared.join("pipe")).status();
        for path in ["out", "up/outside.txt", "inside", "dir/main.rs", "pipe"] {
            assert!(roots.read(path, 0).is_err(), "{path}");
        }
        assert!(pipe.is_ok());
        for path in ["up", "dir"] {
            assert!(roots.list(path, None).is_err(), "{path}");
        }
        // What is in the place of a directory after it was opened is what was there then.
        let listed = roots.list("", None).unwrap().entries;
        assert!(
            !listed
                .iter()
                .any(|name| ["out", "up/", "inside", "dir/", "pipe"].contains(&name.as_str())),
            "{listed:?}"
        );
    }

    #[test]
    fn three_levels_are_listed_and_what_is_kept_back_is_not() {
        let (_directory, roots) = lab();
        let all = roots.list("", None).unwrap();
        assert_eq!(all.entries, ["a/", "a/b/", "a/b/c/", "notes.md", "src/", "src/main.rs"]);
        assert!(!all.truncated);
        assert_eq!(roots.list(".", Some("*.RS")).unwrap().entries, ["src/main.rs"]);
        assert_eq!(roots.list("a/b", Some("d?ep*")).unwrap().entries, ["c/deep.txt"]);
        assert!(roots.list("notes.md", None).is_err());
    }

    #[test]
    fn a_long_listing_says_that_it_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..MAX_PEER_FILE_NAMES + 5 {
            write(directory.path(), &format!("f{number}"), b"");
        }
        let listed = Roots::open(&[directory.path().to_owned()])
            .unwrap()
            .list("", None)
            .unwrap();
        assert_eq!((listed.entries.len(), listed.truncated), (MAX_PEER_FILE_NAMES, true));
    }

    #[test]
    fn several_directories_are_told_apart_by_name() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "one/docs/a.txt", b"1");
        write(directory.path(), "two/docs/a.txt", b"2");
        let roots = Roots::open(&[directory.path().join("one/docs"), directory.path().join("two/docs")]).unwrap();
        assert_eq!(
            roots.list("", None).unwrap().entries,
            ["docs-2/", "docs-2/a.txt", "docs/", "docs/a.txt"]
        );
        assert_eq!(roots.read("docs/a.txt", 0).unwrap().content, b"1");
        assert_eq!(roots.read("docs-2/a.txt", 0).unwrap().content, b"2");
        assert!(roots.read("a.txt", 0).unwrap_err().0.contains("docs, docs-2"));
    }
}
