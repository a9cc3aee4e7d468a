//! SKILL.md: YAML frontmatter, then instructions in Markdown.

use super::yaml::{flow, json, quoted, scalar, yaml_line};
use crate::ClientError;
use claudemesh_proto::limits::{MAX_SKILL_INSTRUCTIONS_BYTES, MAX_SKILL_MANIFEST_BYTES};
use claudemesh_proto::model::{SkillContext, SkillManifest};
use claudemesh_proto::ops::{ShareSkill, Skill};
use serde_json::{Map, Value};

/// Largest frontmatter that is read, in bytes.
const MAX_FRONTMATTER_BYTES: usize = 2 * MAX_SKILL_MANIFEST_BYTES;
/// Fields that hold a text for people, who do not think of YAML when they write it.
const TEXTS: [&str; 6] = [
    "name",
    "description",
    "when_to_use",
    "when-to-use",
    "argument-hint",
    "argument_hint",
];
/// Longest description that is made of the first paragraph of the instructions, in characters.
const SHORT: usize = 1_000;

/// What a SKILL.md says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SkillDocument {
    /// The name, if it has one.
    pub name: Option<String>,
    /// What it is for; the first paragraph of the instructions if the frontmatter does not say.
    pub description: String,
    /// The instructions, without the frontmatter.
    pub instructions: String,
    /// Tags.
    pub tags: Vec<String>,
    /// What else the frontmatter says.
    pub manifest: SkillManifest,
}

impl SkillDocument {
    /// Longest text that is read.
    pub(super) const MAX_BYTES: usize = MAX_SKILL_INSTRUCTIONS_BYTES + MAX_FRONTMATTER_BYTES + 16;

    /// Reads a SKILL.md. Fields are found with `-` and with `_`; a list may also be a text, as agents' programs allow. Values
    /// that are only YAML once they are quoted (`argument-hint: [a] [b]`, `description: Use when: x`) are taken as they are.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] with the field and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (frontmatter, body) = split(text)?;
        let instructions = body.trim_matches(['\r', '\n']).trim_end().to_owned();
        if instructions.is_empty() {
            return Err(invalid("it has no instructions"));
        }
        let mut fields = Fields(match frontmatter {
            Some(yaml) => read_yaml(yaml)?,
            None => Map::new(),
        });
        let description = match fields.text(&["description"])? {
            Some(description) if !description.trim().is_empty() => description.trim().to_owned(),
            _ => first_paragraph(&instructions),
        };
        Ok(Self {
            name: fields.text(&["name"])?.map(|name| name.trim().to_owned()),
            description,
            tags: fields.list(&["tags"], |c| c == ',')?.unwrap_or_default(),
            manifest: SkillManifest {
                when_to_use: fields.text(&["when_to_use", "when-to-use"])?,
                allowed_tools: fields.list(&["allowed-tools", "allowed_tools"], |c| c == ',' || c.is_whitespace())?,
                model: fields.text(&["model"])?,
                effort: fields.text(&["effort"])?,
                context: fields.context()?,
                agent: fields.text(&["agent"])?,
                user_invocable: fields.flag(&["user-invocable", "user_invocable"])?,
                disable_model_invocation: fields.flag(&["disable-model-invocation", "disable_model_invocation"])?,
                argument_hint: fields.hint(&["argument-hint", "argument_hint"])?,
                arguments: fields.list(&["arguments"], |c| c == ',' || c.is_whitespace())?,
                other: std::mem::take(&mut fields.0),
            },
            instructions,
        })
    }

    /// The request that shares it. `name` is taken if the document has none.
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] if there is no name.
    pub fn share(self, name: Option<String>) -> Result<ShareSkill, ClientError> {
        let name = self.name.filter(|name| !name.is_empty()).or(name);
        let name = name.ok_or_else(|| invalid("it has no `name`, and nothing else tells the skill's name"))?;
        Ok(ShareSkill {
            name,
            description: self.description,
            instructions: self.instructions,
            tags: self.tags,
            manifest: Some(self.manifest).filter(|manifest| !manifest.is_empty()),
        })
    }

    /// The SKILL.md of a skill of the mesh.
    #[must_use]
    pub fn render(skill: &Skill) -> String {
        let mut text = String::from("---\n");
        let mut line = |key: &str, value: String| {
            text.push_str(&yaml_line(key, &value));
        };
        line("name", scalar(&skill.name));
        line("description", quoted(&skill.description));
        if !skill.tags.is_empty() {
            line("tags", flow(&skill.tags));
        }
        if let Some(manifest) = &skill.manifest {
            for (key, value) in manifest_lines(manifest) {
                line(&key, value);
            }
        }
        text.push_str("---\n\n");
        text.push_str(&skill.instructions);
        text.push('\n');
        text
    }
}

/// What the manifest says, as keys and values of YAML, in the order in which agents' programs document them.
pub(super) fn manifest_lines(manifest: &SkillManifest) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push((key.to_owned(), value));
        }
    };
    add("when_to_use", manifest.when_to_use.as_deref().map(quoted));
    let tools = manifest.allowed_tools.as_ref().filter(|tools| !tools.is_empty());
    add(
        "allowed-tools",
        tools.map(|tools| tools.iter().map(|tool| format!("\n  - {}", quoted(tool))).collect()),
    );
    add("model", manifest.model.as_deref().map(scalar));
    add("effort", manifest.effort.as_deref().map(scalar));
    add("context", manifest.context.map(|context| context.as_str().to_owned()));
    add("agent", manifest.agent.as_deref().map(scalar));
    // What is the default is not said.
    let false_one = manifest.user_invocable == Some(false);
    add("user-invocable", false_one.then(|| "false".to_owned()));
    let true_one = manifest.disable_model_invocation == Some(true);
    add("disable-model-invocation", true_one.then(|| "true".to_owned()));
    add("argument-hint", manifest.argument_hint.as_deref().map(quoted));
    let arguments = manifest.arguments.as_ref().filter(|arguments| !arguments.is_empty());
    add("arguments", arguments.map(|arguments| flow(arguments)));
    for (key, value) in &manifest.other {
        let is_said_before = matches!(key.as_str(), "name" | "description" | "tags");
        if !is_said_before {
            add(&scalar(key), Some(json(value)));
        }
    }
    lines
}

fn invalid(message: impl Into<String>) -> ClientError {
    ClientError::invalid("SKILL.md", message)
}

/// The frontmatter, if there is one, and what follows it.
fn split(text: &str) -> Result<(Option<&str>, &str), ClientError> {
    let mut lines = text.split_inclusive('\n');
    let Some(first) = lines.next().filter(|line| line.trim_end() == "---") else {
        return Ok((None, text));
    };
    let mut end = first.len();
    for line in lines {
        if matches!(line.trim_end(), "---" | "...") {
            let frontmatter = &text[first.len()..end];
            if frontmatter.len() > MAX_FRONTMATTER_BYTES {
                let size = frontmatter.len();
                return Err(invalid(format!(
                    "the frontmatter has {size} bytes, the limit is {MAX_FRONTMATTER_BYTES}"
                )));
            }
            return Ok((Some(frontmatter), &text[end + line.len()..]));
        }
        end += line.len();
    }
    Err(invalid("the frontmatter does not end: a line `---` is missing"))
}

fn read_yaml(yaml: &str) -> Result<Map<String, Value>, ClientError> {
    if yaml.trim().is_empty() {
        return Ok(Map::new());
    }
    let value = match parse_yaml(yaml) {
        Ok(value) => value,
        Err(error) => parse_yaml(&with_quotes(yaml)).map_err(|_| error)?,
    };
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Map::new()),
        _ => Err(invalid("the frontmatter is not a list of `key: value` lines")),
    }
}

/// Bounded in depth, nodes and aliases: what somebody else wrote must not fill the memory.
fn parse_yaml(yaml: &str) -> Result<Value, ClientError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000,
            max_nodes: 10_000,
            max_aliases: 100,
            max_anchors: 100,
            max_depth: 16,
            max_documents: 1,
            max_merge_keys: 100,
            max_total_scalar_bytes: 4 * MAX_FRONTMATTER_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 1_000,
            max_replay_stack_depth: 8,
        },
    };
    serde_saphyr::from_str_with_options::<Value>(yaml, options).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let first: String = first.chars().take(200).collect();
        invalid(format!("the frontmatter is not YAML: {first}"))
    })
}

/// Quotes the plain values of fields that hold a text for people.
fn with_quotes(yaml: &str) -> String {
    let mut text = String::with_capacity(yaml.len() + 64);
    for line in yaml.lines() {
        let plain = line.split_once(": ").filter(|(key, value)| {
            let is_quoted = value.trim().starts_with(['"', '\'', '|', '>']);
            TEXTS.contains(key) && !is_quoted && !value.trim().is_empty()
        });
        match plain {
            Some((key, value)) => text.push_str(&format!("{key}: {}\n", quoted(value.trim()))),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Fields of a frontmatter that are taken one by one; what is left is kept as it is.
struct Fields(Map<String, Value>);

impl Fields {
    fn take(&mut self, keys: &[&str]) -> Option<Value> {
        let mut found = None;
        for key in keys {
            if let Some(value) = self.0.remove(*key) {
                found = found.or(Some(value));
            }
        }
        found.filter(|value| !value.is_null())
    }

    fn text(&mut self, keys: &[&str]) -> Result<Option<String>, ClientError> {
        self.take(keys).map(|value| text_of(value, keys[0])).transpose()
    }

    fn flag(&mut self, keys: &[&str]) -> Result<Option<bool>, ClientError> {
        match self.take(keys) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(word)) if word.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(word)) if word.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(invalid(format!("`{}` is not true or false", keys[0]))),
        }
    }

    fn context(&mut self) -> Result<Option<SkillContext>, ClientError> {
        match self.text(&["context"])?.as_deref() {
            None => Ok(None),
            Some("inline") => Ok(Some(SkillContext::Inline)),
            Some("fork") => Ok(Some(SkillContext::Fork)),
            Some(_) => Err(invalid("`context` is not inline or fork")),
        }
    }

    /// A list, or a text of items that are separated outside of brackets.
    fn list(&mut self, keys: &[&str], separates: fn(char) -> bool) -> Result<Option<Vec<String>>, ClientError> {
        let items = match self.take(keys) {
            None => return Ok(None),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| text_of(item, keys[0]))
                .collect::<Result<Vec<_>, _>>()?,
            Some(value) => {
                let text = text_of(value, keys[0])?;
                separated(&text, separates)
            }
        };
        let items = items.into_iter().map(|item| item.trim().to_owned());
        Ok(Some(items.filter(|item| !item.is_empty()).collect()))
    }

    /// `[a]` is a list for YAML, and a text for people.
    fn hint(&mut self, keys: &[&str]) -> Result<Option<String>, ClientError> {
        match self.take(keys) {
            Some(Value::Array(items)) => {
                let items = items.into_iter().map(|item| text_of(item, keys[0]));
                let items = items.collect::<Result<Vec<_>, _>>()?;
                Ok(Some(format!("[{}]", items.join(", "))))
            }
            value => value.map(|value| text_of(value, keys[0])).transpose(),
        }
    }
}

fn text_of(value: Value, key: &str) -> Result<String, ClientError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(invalid(format!("`{key}` is not a text"))),
    }
}

/// `Bash(git add *), Read` → `Bash(git add *)` and `Read`.
fn separated(text: &str, separates: fn(char) -> bool) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && separates(c) {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items
}

fn first_paragraph(instructions: &str) -> String {
    let paragraph = instructions.split("\n\n").map(str::trim).find(|part| {
        let is_heading = part.starts_with('#') && !part.contains('\n');
        !part.is_empty() && !is_heading
    });
    let words = paragraph.unwrap_or(instructions).split_whitespace();
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().take(SHORT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_field_is_read() {
        let document = SkillDocument::parse(
            "\u{feff}---\r\nname: review\ndescription: \"Reviews a change\"\ntags: [code, Review]\nwhen_to_use: before a merge\n\
             allowed-tools: Bash(git add *), Read\nmodel: opus\neffort: high\ncontext: fork\nagent: Explore\n\
             user-invocable: false\ndisable-model-invocation: true\nargument-hint: [issue]\narguments: issue branch\n\
             license: MIT\nhooks:\n  Stop:\n    - {a: 1}\n---\n\n# Review\n\nDo $0.\n",
        )
        .unwrap();
        assert_eq!(
            document,
            SkillDocument {
                name: Some("review".to_owned()),
                description: "Reviews a change".to_owned(),
                instructions: "# Review\n\nDo $0.".to_owned(),
                tags: vec!["code".to_owned(), "Review".to_owned()],
                manifest: SkillManifest {
                    when_to_use: Some("before a merge".to_owned()),
                    allowed_tools: Some(vec!["Bash(git add *)".to_owned(), "Read".to_owned()]),
                    model: Some("opus".to_owned()),
                    effort: Some("high".to_owned()),
                    context: Some(SkillContext::Fork),
                    agent: Some("Explore".to_owned()),
                    user_invocable: Some(false),
                    disable_model_invocation: Some(true),
                    argument_hint: Some("[issue]".to_owned()),
                    arguments: Some(vec!["issue".to_owned(), "branch".to_owned()]),
                    other: json!({ "license": "MIT", "hooks": { "Stop": [{ "a": 1 }] } })
                        .as_object()
                        .cloned()
                        .unwrap(),
                },
            }
        );
    }

    #[test]
    fn what_people_write_is_understood() {
        let document = SkillDocument::parse(
            "---\nname: x\ndescription: Use when: it breaks\nargument-hint: [name] [type]\ntags: [a, b]\n---\nGo.",
        )
        .unwrap();
        assert_eq!(document.description, "Use when: it breaks");
        assert_eq!(document.manifest.argument_hint.as_deref(), Some("[name] [type]"));
        assert_eq!(document.tags, ["a", "b"]);
        let document = SkillDocument::parse("# Title\n\nFirst\nparagraph.\n\nSecond.").unwrap();
        assert_eq!(
            (document.name, document.description.as_str()),
            (None, "First paragraph.")
        );
        assert!(document.manifest.is_empty());
        let document = SkillDocument::parse("---\n---\nGo.").unwrap();
        assert_eq!(document.instructions, "Go.");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let bomb = format!(
            "---\na: &a [x,x,x,x,x,x,x,x,x]\n{}description: d\n---\nGo.",
            (b'b'..=b'j')
                .map(|c| format!(
                    "{0}: &{0} [*{1},*{1},*{1},*{1},*{1},*{1},*{1},*{1}]\n",
                    c as char,
                    (c - 1) as char
                ))
                .collect::<String>()
        );
        let deep = format!("---\na: {}{}\n---\nGo.", "[".repeat(5_000), "]".repeat(5_000));
        let long = format!("---\na: {}\n---\nGo.", "x".repeat(MAX_FRONTMATTER_BYTES));
        for (text, part) in [
            ("", "no instructions"),
            ("---\nname: x\n---\n\n", "no instructions"),
            ("---\nname: x\nGo.", "does not end"),
            ("---\n- a\n- b\n---\nGo.", "key: value"),
            ("---\nname: [a]\n---\nGo.", "`name`"),
            ("---\ncontext: both\n---\nGo.", "`context`"),
            ("---\nuser-invocable: maybe\n---\nGo.", "`user-invocable`"),
            ("---\na: \"\n---\nGo.", "YAML"),
            (&bomb, "YAML"),
            (&deep, "YAML"),
            (&long, "limit"),
        ] {
            let error = SkillDocument::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("SKILL.md: ") && error.contains(part),
                "{part}: {error}"
            );
            assert!(error.len() < 400, "{error}");
        }
    }

    fn words() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9 :#'\"\\\\\\[\\]{}&*!|>%@`,?-]{1,30}",
            "\\PC{1,20}",
            Just("true".to_owned()),
            Just("1e3".to_owned())
        ]
        .prop_filter("a text", |text| text.trim() == text && !text.is_empty())
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), yaml in "[-a-z:&*!|>%@`\"'\\[\\]{},? \n\t]{0,200}") {
            for text in [text.clone(), format!("---\n{text}\n---\nGo."), format!("---\n{yaml}\n---\nGo.")] {
                if let Err(error) = SkillDocument::parse(&text) {
                    prop_assert!(error.to_string().len() < 500);
                }
            }
        }

        #[test]
        fn what_is_written_is_read_again(
            name in words(), description in words(), tags in prop::collection::vec(words(), 0..4),
            tools in prop::collection::vec(words(), 1..4), hint in words(), other in words(), key in "[a-z]{3,8}x",
            body in "[ -~\n]{0,80}[!-~]", user_invocable in prop::option::of(Just(false)),
        ) {
            let manifest = SkillManifest {
                when_to_use: Some(description.clone()),
                allowed_tools: Some(tools),
                model: Some(name.clone()),
                context: Some(SkillContext::Fork),
                user_invocable,
                argument_hint: Some(hint),
                other: [(key, json!({ "a": [other, 1, null, true] }))].into_iter().collect(),
                ..SkillManifest::default()
            };
            let skill = Skill {
                name: name.clone(),
                description: description.clone(),
                instructions: body.trim_matches(['\r', '\n']).trim_end().to_owned(),
                tags: tags.clone(),
                manifest: Some(manifest.clone()),
                ..Skill::default()
            };
            let read = SkillDocument::parse(&SkillDocument::render(&skill)).unwrap();
            prop_assert_eq!(read.name, Some(name));
            prop_assert_eq!(read.description, description);
            prop_assert_eq!(read.tags, tags);
            prop_assert_eq!(read.instructions, skill.instructions);
            prop_assert_eq!(read.manifest, manifest);
        }
    }
}
