//! Writing YAML that every reader takes for the same.

use serde_json::Value;

/// One line, or a key and its list below.
pub(super) fn yaml_line(key: &str, value: &str) -> String {
    let space = if value.starts_with('\n') { "" } else { " " };
    format!("{key}:{space}{value}\n")
}

/// A value in double quotes. JSON's escapes are YAML's too; what YAML cannot print is escaped as well.
pub(super) fn quoted(text: &str) -> String {
    let mut value = String::with_capacity(text.len() + 2);
    value.push('"');
    for c in text.chars() {
        match c {
            '"' => value.push_str("\\\""),
            '\\' => value.push_str("\\\\"),
            '\n' => value.push_str("\\n"),
            '\t' => value.push_str("\\t"),
            '\r' => value.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                value.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => value.push(c),
        }
    }
    value.push('"');
    value
}

/// A value without quotes, if it means the same without them.
pub(super) fn scalar(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let has_meaning = [
        "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf",
    ];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(is_word)
        && !has_meaning.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// `[a, "b c"]`.
pub(super) fn flow(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| scalar(item)).collect();
    format!("[{}]", items.join(", "))
}

/// JSON is YAML, but for characters that YAML cannot print.
pub(super) fn json(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(json).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, value)| format!("{}: {}", quoted(key), json(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
