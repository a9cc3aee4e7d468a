//! Skills: their names, what their frontmatter says, and the paths of the files that come with them.

use crate::limits::{MAX_SKILL_NAME_CHARS, MAX_SKILL_PATH_BYTES, MAX_SKILL_PATH_DEPTH};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

/// Where a skill runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SkillContext {
    /// In the conversation that invokes it.
    #[default]
    Inline,
    /// In a sub-agent of its own.
    Fork,
}

impl SkillContext {
    /// The wire text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Fork => "fork",
        }
    }
}

/// What the frontmatter of a skill says beside name, description and tags. Fields that are not listed are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SkillManifest {
    /// When an agent should use it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    pub when_to_use: Option<String>,
    /// Tools that it may use without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 512)))]
    pub allowed_tools: Option<Vec<String>>,
    /// The model for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub model: Option<String>,
    /// How hard the model should think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub effort: Option<String>,
    /// `inline` (in the conversation) or `fork` (in a sub-agent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<SkillContext>,
    /// Type of the sub-agent for `fork`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub agent: Option<String>,
    /// `false`: not offered to people as a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_invocable: Option<bool>,
    /// `true`: agents do not use it by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_model_invocation: Option<bool>,
    /// What to write behind the command: `[issue] [branch]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub argument_hint: Option<String>,
    /// Names of the arguments, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub arguments: Option<Vec<String>>,
    /// Any other field.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl SkillManifest {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a text cannot be the name of a skill, or the path of a file that comes with one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SkillPathError {
    /// Nothing is there, or nothing between two slashes.
    #[error("it is empty, or a part of it is")]
    Empty,
    /// Too long.
    #[error("it is longer than {0}")]
    TooLong(String),
    /// Too many directories.
    #[error("it leads through more than {MAX_SKILL_PATH_DEPTH} directories")]
    TooDeep,
    /// It does not begin in the bundle.
    #[error("it is absolute: paths begin in the directory of SKILL.md")]
    Absolute,
    /// It leads elsewhere.
    #[error("it has a part `.` or `..`: paths stay in the directory of SKILL.md")]
    Escapes,
    /// A character that some system gives a meaning, or that cannot be seen.
    #[error("it contains {0:?}")]
    Character(char),
    /// White space or a dot where some systems drop it.
    #[error("a part of it begins or ends with white space, or ends with a dot")]
    Edge,
    /// A name that is a device on Windows, or git's own directory.
    #[error("{0:?} is reserved")]
    Reserved(String),
}

/// Checks the name of a skill. Any letters and digits will do; Claude Code wants lower-case letters, digits and hyphens.
///
/// # Errors
/// For a name that is empty, has more than 64 characters, begins with a dot, begins or ends with white space, or contains
/// `/`, `\` or a character that cannot be seen.
pub fn check_skill_name(name: &str) -> Result<(), SkillPathError> {
    if name.is_empty() {
        return Err(SkillPathError::Empty);
    }
    if name.chars().count() > MAX_SKILL_NAME_CHARS {
        return Err(SkillPathError::TooLong(format!("{MAX_SKILL_NAME_CHARS} characters")));
    }
    if let Some(bad) = name.chars().find(|c| is_unseen(*c) || matches!(c, '/' | '\\')) {
        return Err(SkillPathError::Character(bad));
    }
    if name.starts_with('.') {
        return Err(SkillPathError::Escapes);
    }
    if name.trim() != name {
        return Err(SkillPathError::Edge);
    }
    Ok(())
}

/// Whether a skill of this name can be a directory of Claude Code's skills as it is: lower-case ASCII letters, digits and
/// hyphens.
#[must_use]
pub fn is_plain_skill_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().count() <= MAX_SKILL_NAME_CHARS && name.chars().all(fits)
}

/// Checks the path of a file in a bundle: relative, with `/`, and such that writing it below a directory of any system stays
/// below that directory and reaches no device.
///
/// # Errors
/// For any other path.
pub fn check_bundle_path(path: &str) -> Result<(), SkillPathError> {
    if path.len() > MAX_SKILL_PATH_BYTES {
        return Err(SkillPathError::TooLong(format!("{MAX_SKILL_PATH_BYTES} bytes")));
    }
    if path.starts_with('/') {
        return Err(SkillPathError::Absolute);
    }
    let has_meaning = |c: &char| is_unseen(*c) || "\\:*?\"<>|".contains(*c);
    if let Some(bad) = path.chars().find(has_meaning) {
        return Err(SkillPathError::Character(bad));
    }
    if path.split('/').count() > MAX_SKILL_PATH_DEPTH {
        return Err(SkillPathError::TooDeep);
    }
    for part in path.split('/') {
        if part.is_empty() {
            return Err(SkillPathError::Empty);
        }
        if matches!(part, "." | "..") {
            return Err(SkillPathError::Escapes);
        }
        if part.trim() != part || part.ends_with('.') {
            return Err(SkillPathError::Edge);
        }
        if is_device(part) || part.eq_ignore_ascii_case(".git") {
            return Err(SkillPathError::Reserved(part.to_owned()));
        }
    }
    Ok(())
}

/// What two paths have in common that are one file on a system which does not tell letters of different case apart.
#[must_use]
pub fn folded_path(path: &str) -> String {
    path.to_lowercase()
}

/// Characters that a person does not see, or that change how others look.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Names that Windows takes for devices, with any extension.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_lowercase();
    if matches!(
        stem.as_str(),
        "con" | "prn" | "aux" | "nul" | "conin$" | "conout$" | "clock$"
    ) {
        return true;
    }
    let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    number.is_some_and(|number| {
        let mut digits = number.chars();
        matches!(
            (digits.next(), digits.next()),
            (Some('0'..='9' | '¹' | '²' | '³'), None)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/./b",
            "a//b",
            "a/",
            "..",
            "C:\\x",
            "C:x",
            "a\\..\\b",
            "\\\\server\\share",
            "a\0b",
            "a\nb",
            "nul",
            "NUL.txt",
            "a/Com1",
            "lpt¹.log",
            "aux .md",
            "x.",
            " x",
            "x ",
            "...",
            ".git/config",
            "a/.GIT/hooks/post-checkout",
            "a\u{202e}b",
            "a:stream",
            "a?",
        ] {
            assert!(check_bundle_path(bad).is_err(), "{bad:?}");
        }
        assert!(check_bundle_path(&"a/".repeat(MAX_SKILL_PATH_DEPTH)).is_err());
        assert!(check_bundle_path(&"a".repeat(MAX_SKILL_PATH_BYTES + 1)).is_err());
        for good in [
            "SKILL.md",
            "scripts/run.sh",
            "a/b/c.d.e",
            ".env.example",
            "日本/résumé (1).md",
            "console.rs",
            "com10",
            "..x",
            "$HOME",
            "-rf",
        ] {
            assert_eq!(check_bundle_path(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn names_may_be_odd_but_not_harmful() {
        for good in ["review", "Code review", "a.b_c:d", "prüfen", "50% off?", "日本"] {
            assert_eq!(check_skill_name(good), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            "a/b",
            "a\\b",
            ".",
            "..",
            ".x",
            " a",
            "a\n",
            "a\u{200b}b",
            &"a".repeat(65),
        ] {
            assert!(check_skill_name(bad).is_err(), "{bad:?}");
        }
        assert!(is_plain_skill_name("code-review-2") && !is_plain_skill_name("Code") && !is_plain_skill_name("a_b"));
    }

    #[test]
    fn unknown_fields_are_kept() {
        let text = serde_json::json!({ "model": "m", "hooks": { "Stop": [1] }, "user_invocable": false });
        let manifest: SkillManifest = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(manifest.user_invocable, Some(false));
        assert_eq!(serde_json::to_value(&manifest).unwrap(), text);
        assert!(!manifest.is_empty() && SkillManifest::default().is_empty());
    }

    /// Paths of parts that matter.
    fn path() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just(String::new()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just("con".to_owned()),
            Just("C:".to_owned()),
            Just("\\".to_owned()),
            "[a-z.]{1,4}",
            any::<String>(),
        ];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #[test]
        fn what_passes_stays_below_its_directory(path in path()) {
            if check_bundle_path(&path).is_ok() {
                let mut parts = Path::new(&path).components();
                prop_assert!(parts.all(|part| matches!(part, Component::Normal(_))));
                let joined = Path::new("/base").join(&path);
                prop_assert!(joined.starts_with("/base") && joined != Path::new("/base"));
                prop_assert!(!path.contains(['\\', ':', '\0']));
                prop_assert_eq!(joined.to_str().unwrap(), format!("/base/{path}"), "nothing is dropped");
            }
        }
    }
}
