//! The files of a skill on this machine, before they are uploaded.

use super::document::SkillDocument;
use crate::ClientError;
use claudemesh_proto::ErrorCode;
use claudemesh_proto::limits::{MAX_SKILL_BUNDLE_BYTES, MAX_SKILL_FILE_BYTES, MAX_SKILL_FILES};
use claudemesh_proto::model::{check_bundle_path, folded_path};
use std::collections::BTreeSet;
use std::io::Read;

/// The file with frontmatter and instructions.
pub(super) const MAIN_FILE: &str = "SKILL.md";
/// Most places that are named when SKILL.md is not found.
const SHOWN: usize = 10;

/// A skill with its files.
#[derive(Clone, Debug, PartialEq)]
pub struct SkillBundle {
    /// What SKILL.md says.
    pub document: SkillDocument,
    /// The name to take if SKILL.md has none: that of its directory.
    pub directory: Option<String>,
    /// The other files, by path.
    pub files: Vec<BundleFile>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Its path from the directory of SKILL.md.
    pub path: String,
    /// Whether it is a program.
    pub executable: bool,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Collects a bundle and keeps its limits. What is read is counted as it comes, whatever a source says about sizes.
#[derive(Debug, Default)]
pub(super) struct Collector {
    document: Option<SkillDocument>,
    files: Vec<BundleFile>,
    folded: BTreeSet<String>,
    bytes: usize,
}

impl Collector {
    /// Adds the file of this path.
    pub(super) fn add(&mut self, path: &str, executable: bool, content: impl Read) -> Result<(), ClientError> {
        if path == MAIN_FILE {
            let content = read(path, content, SkillDocument::MAX_BYTES)?;
            let text = String::from_utf8(content).map_err(|_| unusable(path, "it is not text in UTF-8"))?;
            self.document = Some(SkillDocument::parse(&text)?);
            return Ok(());
        }
        check_bundle_path(path).map_err(|error| unusable(path, format!("this path cannot be in a skill: {error}")))?;
        if self.files.len() >= MAX_SKILL_FILES {
            return Err(too_large(format!("a skill has at most {MAX_SKILL_FILES} files")));
        }
        let folded = folded_path(path);
        if folded == folded_path(MAIN_FILE) || !self.folded.insert(folded) {
            return Err(unusable(
                path,
                "another file has the same path but for the case of letters",
            ));
        }
        let content = read(path, content, MAX_SKILL_FILE_BYTES)?;
        self.bytes += content.len();
        if self.bytes > MAX_SKILL_BUNDLE_BYTES {
            let text = format!("the files of a skill have at most {MAX_SKILL_BUNDLE_BYTES} bytes together");
            return Err(too_large(text));
        }
        self.files.push(BundleFile {
            path: path.to_owned(),
            executable,
            content,
        });
        Ok(())
    }

    /// The bundle.
    pub(super) fn finish(mut self, directory: Option<String>) -> Result<SkillBundle, ClientError> {
        let document = self.document.ok_or_else(|| unusable(MAIN_FILE, "it is missing"))?;
        let is_directory = |path: &String| {
            let below = format!("{path}/");
            let next = self.folded.range(below.clone()..).next();
            next.is_some_and(|next| next.starts_with(&below))
        };
        if let Some(both) = self.folded.iter().find(|path| is_directory(path)) {
            return Err(unusable(both, "it is a file and a directory"));
        }
        self.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(SkillBundle {
            document,
            directory,
            files: self.files,
        })
    }
}

fn read(path: &str, content: impl Read, limit: usize) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    let read = content.take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| unusable(path, format!("it cannot be read: {error}")))?;
    if bytes.len() > limit {
        return Err(too_large(format!("{} has more than {limit} bytes", shown(path))));
    }
    Ok(bytes)
}

/// A path of somebody else's making, for an error.
pub(super) fn shown(path: &str) -> String {
    let short: String = path.chars().take(200).collect();
    format!("{short:?}")
}

pub(super) fn unusable(path: &str, why: impl std::fmt::Display) -> ClientError {
    ClientError::refused(ErrorCode::InvalidRequest, format!("{}: {why}", shown(path)))
}

pub(super) fn too_large(text: String) -> ClientError {
    ClientError::refused(ErrorCode::TooLarge, text)
}

/// What computers leave beside the files that people mean.
pub(super) fn is_litter(path: &str) -> bool {
    path.starts_with("__MACOSX/")
        || path
            .split('/')
            .any(|part| matches!(part, ".git" | ".DS_Store" | "Thumbs.db" | "desktop.ini") || part.starts_with("._"))
}

/// The directory of the skill in a source with these files: `""`, or a path that ends with `/`. It is `wanted`, or the top,
/// or the only directory there.
pub(super) fn find_directory<'a>(
    paths: impl Iterator<Item = &'a str> + Clone,
    wanted: Option<&str>,
) -> Result<String, ClientError> {
    let top = common_top(paths.clone());
    let wanted = match wanted.map(|path| path.trim_matches('/')) {
        None | Some("" | ".") => String::new(),
        Some(path) => {
            check_bundle_path(path).map_err(|error| ClientError::invalid("path", error.to_string()))?;
            format!("{path}/")
        }
    };
    let in_top = top.map(|top| format!("{top}{wanted}"));
    for directory in [Some(wanted.clone()), in_top].into_iter().flatten() {
        let main = format!("{directory}{MAIN_FILE}");
        if paths.clone().any(|path| path == main) {
            return Ok(directory);
        }
    }
    let mut places: Vec<String> = paths
        .filter_map(|path| path.strip_suffix(MAIN_FILE)?.strip_suffix('/'))
        .map(shown)
        .collect();
    places.sort();
    let more = places.len().saturating_sub(SHOWN);
    places.truncate(SHOWN);
    let hint = match (places.as_slice(), more) {
        ([], _) => "no directory has one".to_owned(),
        (places, 0) => format!("give one of these as `path`: {}", places.join(", ")),
        (places, more) => format!("give one of these as `path`: {} and {more} more", places.join(", ")),
    };
    let place = if wanted.is_empty() {
        "at the top".to_owned()
    } else {
        format!("in {}", shown(&wanted))
    };
    let text = format!("there is no {MAIN_FILE} {place}; {hint}");
    Err(ClientError::refused(ErrorCode::NotFound, text))
}

/// The directory that everything is in, if there is one.
fn common_top<'a>(mut paths: impl Iterator<Item = &'a str>) -> Option<String> {
    let (top, _) = paths.next()?.split_once('/')?;
    let top = format!("{top}/");
    paths.all(|path| path.starts_with(&top)).then_some(top)
}

/// The last part of a directory's path.
pub(super) fn last_part(directory: &str) -> Option<String> {
    let last = directory.trim_end_matches('/').rsplit('/').next()?;
    (!last.is_empty()).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(paths: &[&str], wanted: Option<&str>) -> Result<String, String> {
        find_directory(paths.iter().copied(), wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn the_directory_is_found_or_others_are_named() {
        assert_eq!(found(&["SKILL.md", "a/b"], None), Ok(String::new()));
        assert_eq!(found(&["x/SKILL.md", "x/a"], None), Ok("x/".to_owned()));
        assert_eq!(
            found(&["x/skills/a/SKILL.md", "x/README.md"], Some("skills/a")),
            Ok("x/skills/a/".to_owned())
        );
        assert_eq!(
            found(&["skills/a/SKILL.md", "README.md"], Some("/skills/a/")),
            Ok("skills/a/".to_owned())
        );
        let error = found(&["skills/a/SKILL.md", "skills/b/SKILL.md", "c"], None).unwrap_err();
        assert!(error.contains("\"skills/a\", \"skills/b\""), "{error}");
        assert!(found(&["a/b.md"], None).unwrap_err().contains("no directory"));
        assert!(found(&["SKILL.md"], Some("../x")).unwrap_err().contains("path: "));
        assert!(found(&[], None).is_err());
    }

    #[test]
    fn limits_are_kept() {
        let main = || "---\nname: x\n---\nGo.".as_bytes();
        let mut many = Collector::default();
        for number in 0..MAX_SKILL_FILES {
            many.add(&format!("f{number}"), false, &b"x"[..]).unwrap();
        }
        assert_eq!(
            many.add("one-more", false, &b"x"[..]).unwrap_err().code(),
            ErrorCode::TooLarge
        );
        let mut large = Collector::default();
        let error = large.add("big", false, std::io::repeat(0)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
        for number in 0..MAX_SKILL_BUNDLE_BYTES / MAX_SKILL_FILE_BYTES {
            large
                .add(
                    &number.to_string(),
                    false,
                    std::io::repeat(0).take(MAX_SKILL_FILE_BYTES as u64),
                )
                .unwrap();
        }
        let error = large
            .add("rest", false, std::io::repeat(0).take(MAX_SKILL_FILE_BYTES as u64))
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
        let mut twice = Collector::default();
        twice.add("a/B", false, &b""[..]).unwrap();
        assert!(twice.add("A/b", false, &b""[..]).is_err());
        assert!(twice.add("skill.md", false, &b""[..]).is_err());
        twice.add("a/b/c", false, &b""[..]).unwrap();
        twice.add(MAIN_FILE, false, main()).unwrap();
        assert!(
            twice
                .finish(None)
                .unwrap_err()
                .to_string()
                .contains("a file and a directory")
        );
        assert!(Collector::default().finish(None).is_err());
        assert!(Collector::default().add(MAIN_FILE, false, &b"\xff\xfe"[..]).is_err());
    }
}
