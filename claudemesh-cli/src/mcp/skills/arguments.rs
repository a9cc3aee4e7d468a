//! Arguments of prompts, put into instructions as Claude Code does it for its own skills: `$ARGUMENTS` is all of them,
//! `$ARGUMENTS[0]` and `$0` the first, `$name` the one of that name. What has no place is put at the end.

use claudemesh_proto::model::SkillManifest;
use serde_json::{Map, Value};

/// Name of the argument of a skill that names none.
const ALL: &str = "arguments";
/// Most arguments that are declared.
const MOST: usize = 16;
/// How many a host is told of that gives each word to one argument and drops the others.
const WORDS: usize = 8;

/// Names of the arguments that a skill declares, or that its hint shows.
pub(super) fn names(manifest: Option<&SkillManifest>) -> Vec<String> {
    let named = named(manifest);
    if !named.is_empty() {
        return named.iter().take(MOST).cloned().collect();
    }
    let hint = manifest.and_then(|manifest| manifest.argument_hint.as_deref());
    let mut names: Vec<String> = Vec::new();
    for word in hinted(hint.unwrap_or_default()).into_iter().take(MOST) {
        if !names.contains(&word) {
            names.push(word);
        }
    }
    if names.is_empty() {
        names.push(ALL.to_owned());
    }
    names
}

/// [`names`], and some for further words: Claude Code splits what is written at spaces, gives one word to each argument, and
/// drops the rest.
pub(super) fn names_for_words(manifest: Option<&SkillManifest>) -> Vec<String> {
    let mut names = names(manifest);
    if let ([only], true) = (names.as_slice(), named(manifest).is_empty()) {
        let further: Vec<_> = (2..=WORDS).map(|number| format!("{only}_{number}")).collect();
        names.extend(further);
    }
    names
}

fn named(manifest: Option<&SkillManifest>) -> &[String] {
    manifest
        .and_then(|manifest| manifest.arguments.as_deref())
        .unwrap_or_default()
}

/// `[issue] <branch name> --force` → `issue`, `branch-name`, `force`.
fn hinted(hint: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut depth = 0_usize;
    let mut end = |word: &mut String| {
        let clean: String = word
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect();
        let parts: Vec<_> = clean.split('-').filter(|part| !part.is_empty()).collect();
        let name: String = parts.join("-").chars().take(64).collect();
        if !name.is_empty() {
            words.push(name);
        }
        word.clear();
    };
    for c in hint.chars() {
        match c {
            '[' | '<' => {
                if depth == 0 {
                    end(&mut word);
                }
                depth += 1;
            }
            ']' | '>' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    end(&mut word);
                }
            }
            c if depth == 0 && c.is_whitespace() => end(&mut word),
            c => word.push(c),
        }
    }
    end(&mut word);
    words
}

/// The instructions with the given arguments in their places.
pub(super) fn fill(instructions: &str, manifest: Option<&SkillManifest>, given: &Map<String, Value>) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => value.to_string(),
    };
    let mut values: Vec<String> = names_for_words(manifest)
        .iter()
        .map(|name| given.get(name).map(text).unwrap_or_default())
        .collect();
    while values.last().is_some_and(String::is_empty) {
        values.pop();
    }
    let all = values
        .iter()
        .filter(|value| !value.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(" ");
    let named = named(manifest);
    let words = if named.is_empty() && names(manifest).len() == 1 {
        // One text that holds them all.
        shlex::split(&all).unwrap_or_else(|| all.split_whitespace().map(str::to_owned).collect())
    } else {
        values
    };
    let (mut filled, used) = substitute(instructions, named, &words, &all);
    if !used && !all.is_empty() {
        filled.push_str(&format!("\n\nARGUMENTS: {all}"));
    }
    filled
}

fn substitute(instructions: &str, named: &[String], words: &[String], all: &str) -> (String, bool) {
    let word = |number: usize| words.get(number).map(String::as_str).unwrap_or_default();
    let mut filled = String::with_capacity(instructions.len() + all.len());
    let mut used = false;
    let mut rest = instructions;
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        let found = indexed(after)
            .map(|(number, after)| (word(number), after))
            .or_else(|| whole(after, "ARGUMENTS").map(|after| (all, after)))
            .or_else(|| numbered(after).map(|(number, after)| (word(number), after)))
            .or_else(|| {
                let fitting = named.iter().enumerate();
                let fitting = fitting.filter_map(|(number, name)| Some((name.len(), number, whole(after, name)?)));
                fitting
                    .max_by_key(|(length, ..)| *length)
                    .map(|(_, number, after)| (word(number), after))
            });
        match found {
            Some((value, after)) => {
                filled.push_str(value);
                used = true;
                rest = after;
            }
            None => {
                filled.push('$');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    (filled, used)
}

/// What follows `name`, if it stands there as a whole word.
fn whole<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let after = text.strip_prefix(name)?;
    let goes_on = after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (!goes_on).then_some(after)
}

/// `ARGUMENTS[2]`.
fn indexed(text: &str) -> Option<(usize, &str)> {
    let (number, after) = text.strip_prefix("ARGUMENTS[")?.split_once(']')?;
    Some((number.parse().ok()?, after))
}

/// `2`, but not the price `2.50`.
fn numbered(text: &str) -> Option<(usize, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = text.split_at(digits);
    let mut next = after.chars();
    let is_price = matches!((next.next(), next.next()), (Some('.' | ','), Some('0'..='9')));
    let goes_on = after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if is_price || goes_on || digits > 2 {
        return None;
    }
    Some((number.parse().ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(instructions: &str, manifest: &SkillManifest, given: Value) -> String {
        fill(instructions, Some(manifest), given.as_object().unwrap())
    }

    #[test]
    fn arguments_are_put_in_their_places() {
        let none = SkillManifest::default();
        let given = json!({ "arguments": "42 'the main branch'" });
        assert_eq!(
            filled("a $ARGUMENTS b $0 c $1 d $ARGUMENTS[1] e $2.", &none, given.clone()),
            "a 42 'the main branch' b 42 c the main branch d the main branch e ."
        );
        assert_eq!(
            filled("Do it.", &none, given.clone()),
            "Do it.\n\nARGUMENTS: 42 'the main branch'"
        );
        assert_eq!(filled("Do it.", &none, json!({})), "Do it.");
        assert_eq!(
            filled("It costs $5.00, $100, $x, $ARGUMENTSX, $", &none, json!({})),
            "It costs $5.00, $100, $x, $ARGUMENTSX, $"
        );
        // A host that gives one word to each.
        let words = json!({ "arguments": "hello", "arguments_2": "world" });
        assert_eq!(filled("$ARGUMENTS|$0|$1", &none, words), "hello world|hello|world");
        // What is put in is not looked at again.
        assert_eq!(
            filled("$0 $1", &none, json!({ "arguments": "$1 '$ARGUMENTS'" })),
            "$1 $ARGUMENTS"
        );
        assert_eq!(filled("$0", &none, json!({ "arguments": "it's" })), "it's");

        let named = SkillManifest {
            arguments: Some(vec!["issue".to_owned(), "issue-url".to_owned(), "to".to_owned()]),
            ..SkillManifest::default()
        };
        let given = json!({ "issue": "7", "issue-url": "http://h/7", "unknown": "x" });
        assert_eq!(
            filled("$issue at $issue-url ($1), $to, $total, $ARGUMENTS", &named, given),
            "7 at http://h/7 (http://h/7), , $total, 7 http://h/7"
        );
    }

    #[test]
    fn names_come_from_the_frontmatter() {
        let hint = |hint: &str| SkillManifest {
            argument_hint: Some(hint.to_owned()),
            ..SkillManifest::default()
        };
        assert_eq!(
            names(Some(&hint("[issue] <branch name> --force"))),
            ["issue", "branch-name", "force"]
        );
        assert_eq!(names(Some(&hint("a a [a]"))), ["a"]);
        assert_eq!(names(Some(&hint("[] <>"))), ["arguments"]);
        assert_eq!(names(None), ["arguments"]);
        assert_eq!(names_for_words(None).len(), WORDS);
        assert_eq!(names_for_words(Some(&hint("[message]")))[..2], ["message", "message_2"]);
        assert_eq!(names_for_words(Some(&hint("[a] [b]"))), ["a", "b"]);
        let named = SkillManifest {
            arguments: Some(vec!["only".to_owned()]),
            ..hint("[x] [y]")
        };
        assert_eq!(names_for_words(Some(&named)), ["only"]);
    }
}
