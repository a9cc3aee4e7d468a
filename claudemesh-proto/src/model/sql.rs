//! Values of shared SQL.

use super::Base64;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Largest integer that every JSON reader keeps exact: 2⁵³ − 1.
const MAX_SAFE: i64 = 9_007_199_254_740_991;
const BLOB: &str = "$base64";
const BIGINT: &str = "$bigint";

/// A value in a row, or of a parameter.
///
/// | value | JSON |
/// |---|---|
/// | NULL, truth values, texts, floating-point numbers | as they are |
/// | integers up to ±(2⁵³ − 1) | a number |
/// | larger integers | `{"$bigint": "9223372036854775807"}` |
/// | bytes | `{"$base64": "…"}` |
/// | everything else (dates, exact numerics, JSON, arrays) | the database's text form |
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SqlValue {
    /// No value.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer of 64 bits.
    Integer(i64),
    /// A floating-point number. One that is not finite is written as text (`Infinity`, `NaN`).
    Real(f64),
    /// A text, or the text form of any other type.
    Text(String),
    /// Bytes.
    Blob(Base64),
}

impl From<&SqlValue> for Value {
    fn from(value: &SqlValue) -> Self {
        match value {
            SqlValue::Null => Self::Null,
            SqlValue::Bool(value) => json!(value),
            SqlValue::Integer(value) if (-MAX_SAFE..=MAX_SAFE).contains(value) => json!(value),
            SqlValue::Integer(value) => json!({ BIGINT: value.to_string() }),
            SqlValue::Real(value) if value.is_finite() => json!(value),
            SqlValue::Real(value) => json!(real_text(*value)),
            SqlValue::Text(value) => json!(value),
            SqlValue::Blob(value) => json!({ BLOB: value }),
        }
    }
}

fn real_text(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

impl TryFrom<Value> for SqlValue {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::Null => Ok(Self::Null),
            Value::Bool(value) => Ok(Self::Bool(value)),
            Value::String(value) => Ok(Self::Text(value)),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Ok(Self::Integer(value)),
                (None, Some(value)) if !number.is_u64() => Ok(Self::Real(value)),
                _ => Err("an integer has at most 64 bits with sign"),
            },
            Value::Object(members) => marked(&members),
            Value::Array(_) => Err("a list is no SQL value; pass JSON as text"),
        }
    }
}

fn marked(members: &Map<String, Value>) -> Result<SqlValue, &'static str> {
    let mut members = members.iter();
    match (members.next(), members.next()) {
        (Some((name, Value::String(text))), None) if name == BLOB => Ok(SqlValue::Blob(text.clone().into())),
        (Some((name, Value::String(text))), None) if name == BIGINT => {
            let value = text.parse().map_err(|_| "$bigint is not an integer of 64 bits")?;
            Ok(SqlValue::Integer(value))
        }
        _ => Err("an object is {\"$base64\": \"…\"} or {\"$bigint\": \"…\"}; pass JSON as text"),
    }
}

impl Serialize for SqlValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SqlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for SqlValue {
    fn schema_name() -> Cow<'static, str> {
        "SqlValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let marked = |name: &str, schema: Value| json!({ "type": "object", "properties": { name: schema }, "required": [name], "additionalProperties": false });
        json_schema!({
            "description": "A text, number, truth value or null; bytes as {\"$base64\": \"…\"}; integers above 2^53 as \
                {\"$bigint\": \"…\"}.",
            "anyOf": [
                { "type": ["string", "number", "boolean", "null"] },
                marked(BLOB, json!({ "type": "string" })),
                marked(BIGINT, json!({ "type": "string", "pattern": "^-?[0-9]{1,19}$" })),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_json_and_stay_exact() {
        let values = [
            SqlValue::Null,
            SqlValue::Bool(true),
            SqlValue::Integer(-7),
            SqlValue::Integer(MAX_SAFE),
            SqlValue::Integer(MAX_SAFE + 1),
            SqlValue::Integer(i64::MIN),
            SqlValue::Integer(i64::MAX),
            SqlValue::Real(1.5),
            SqlValue::Text("{\"$base64\": \"\"}".to_owned()),
            SqlValue::Blob("AAE=".to_owned().into()),
        ];
        for value in values {
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<SqlValue>(&text).unwrap(), value, "{text}");
        }
        assert_eq!(
            Value::from(&SqlValue::Integer(i64::MAX)),
            json!({ "$bigint": "9223372036854775807" })
        );
        assert_eq!(Value::from(&SqlValue::Real(f64::NEG_INFINITY)), json!("-Infinity"));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "[]",
            "{}",
            "18446744073709551615",
            r#"{"a":1}"#,
            r#"{"$bigint":"x"}"#,
            r#"{"$base64":"","a":1}"#,
        ] {
            assert!(serde_json::from_str::<SqlValue>(text).is_err(), "{text}");
        }
    }
}
