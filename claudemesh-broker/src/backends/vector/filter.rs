//! What searches can filter by: the same on every backend, because each value of the metadata becomes a text (a tag) that
//! backends compare as a whole.

use std::collections::BTreeSet;

use claudemesh_proto::limits::{
    MAX_FILTER_FIELDS, MAX_FILTER_KEY_BYTES, MAX_FILTER_TEXT_BYTES, MAX_FILTER_VALUES, MAX_VECTOR_TAGS,
};
use serde_json::{Number, Value, json};
use thiserror::Error;

use super::Metadata;

/// Largest whole number up to which every one of them has a floating-point form of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A vector passes if, for each of the lists, it has at least one of its tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One list per field.
    pub all: Vec<Vec<String>>,
}

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct FilterError {
    /// Where, as a JSON pointer into the filter.
    pub field: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

/// Why a value cannot be filtered by.
enum Unfit {
    Structure,
    Long,
}

/// The tag of a field with one value. Numbers are told apart by their value: 2 and 2.0 are the same.
fn tag(key: &str, value: &Value) -> Result<String, Unfit> {
    if key.len() > MAX_FILTER_KEY_BYTES {
        return Err(Unfit::Long);
    }
    let value = match value {
        Value::Array(_) | Value::Object(_) => return Err(Unfit::Structure),
        Value::String(text) if text.len() > MAX_FILTER_TEXT_BYTES => return Err(Unfit::Long),
        Value::Number(number) => Value::Number(plain(number)),
        other => other.clone(),
    };
    Ok(json!([key, value]).to_string())
}

fn plain(number: &Number) -> Number {
    match number.as_f64() {
        // Whole and small enough that nothing is lost.
        Some(real) if !number.is_i64() && !number.is_u64() && real.fract() == 0.0 && real.abs() < EXACT => {
            Number::from(real as i64)
        }
        _ => number.clone(),
    }
}

/// What of the metadata searches can filter by: texts, numbers, truth values and nulls at the top, and those in lists there.
/// Objects, lists in lists and long texts are kept, but not filtered by.
///
/// # Errors
/// If there are more of them than allowed.
pub fn tags(metadata: &Metadata) -> Result<Vec<String>, String> {
    let mut tags = BTreeSet::new();
    for (key, value) in metadata {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        tags.extend(values.iter().filter_map(|value| tag(key, value).ok()));
    }
    if tags.len() > MAX_VECTOR_TAGS {
        let count = tags.len();
        return Err(format!(
            "the metadata has {count} values to filter by, the limit is {MAX_VECTOR_TAGS}"
        ));
    }
    Ok(tags.into_iter().collect())
}

impl Filter {
    /// The filter that a caller wrote: fields with a value, or with a list of values of which one is enough.
    ///
    /// # Errors
    /// [`FilterError`] with the field that is no such thing.
    pub fn new(fields: &Metadata) -> Result<Self, FilterError> {
        if fields.len() > MAX_FILTER_FIELDS {
            return Err(FilterError {
                field: String::new(),
                problem: format!("a filter has at most {MAX_FILTER_FIELDS} fields"),
            });
        }
        let mut all = Vec::new();
        for (key, value) in fields {
            let refused = |problem: String| FilterError {
                // As JSON pointers spell it.
                field: format!("/{}", key.replace('~', "~0").replace('/', "~1")),
                problem,
            };
            let values = match value {
                Value::Array(values) if values.is_empty() || values.len() > MAX_FILTER_VALUES => {
                    return Err(refused(format!(
                        "a list in a filter has 1 to {MAX_FILTER_VALUES} values"
                    )));
                }
                Value::Array(values) => values.as_slice(),
                value => std::slice::from_ref(value),
            };
            let any = values.iter().map(|value| match tag(key, value) {
                Ok(tag) => Ok(tag),
                Err(Unfit::Structure) => {
                    let text = "a filter compares texts, numbers, true, false and null, or lists of them";
                    Err(refused(text.to_owned()))
                }
                Err(Unfit::Long) => Err(refused(format!(
                    "a filter compares fields with names of up to {MAX_FILTER_KEY_BYTES} bytes and texts of up to \
                     {MAX_FILTER_TEXT_BYTES}"
                ))),
            });
            all.push(any.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Self { all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    fn passes(filter: Value, metadata: Value) -> bool {
        let filter = Filter::new(&map(filter)).unwrap();
        let tags = tags(&map(metadata)).unwrap();
        filter.all.iter().all(|any| any.iter().any(|tag| tags.contains(tag)))
    }

    #[test]
    fn values_are_equal_or_not() {
        let metadata = json!({ "lang": "rust", "n": 2, "x": 2.5, "ok": true, "none": null, "tags": ["a", 7, ["deep"]],
            "a.b[0]\"": "odd", "deep": { "lang": "go" }, "long": "y".repeat(300) });
        for (filter, expected) in [
            (json!({}), true),
            (json!({ "lang": "rust", "n": 2.0 }), true),
            (json!({ "lang": "rust", "n": 3 }), false),
            (json!({ "lang": ["go", "rust"] }), true),
            (json!({ "lang": "Rust" }), false),
            (json!({ "n": "2" }), false),
            (json!({ "x": 2.5 }), true),
            (json!({ "ok": true }), true),
            (json!({ "ok": 1 }), false),
            (json!({ "none": null }), true),
            (json!({ "missing": null }), false),
            (json!({ "tags": "a" }), true),
            (json!({ "tags": 7 }), true),
            (json!({ "tags": "deep" }), false),
            (json!({ "a.b[0]\"": "odd" }), true),
        ] {
            assert_eq!(passes(filter.clone(), metadata.clone()), expected, "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused_by_name() {
        for (filter, field) in [
            (json!({ "a/b": { "c": 1 } }), "/a~1b"),
            (json!({ "a": [] }), "/a"),
            (json!({ "a": [[1]] }), "/a"),
            (json!({ "a": "x".repeat(257) }), "/a"),
        ] {
            assert_eq!(Filter::new(&map(filter)).unwrap_err().field, field);
        }
        let many: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!(n))).collect();
        assert!(Filter::new(&map(many.into())).is_err());
        assert!(tags(&map(json!({ "a": (0..257).collect::<Vec<_>>() }))).is_err());
    }
}
