//! Reading and writing small values: durations, times, keys and values.

use crate::CliError;
use claudemesh_proto::model::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;

/// A duration as people write it: `90`, `90s`, `15m`, `12h`, `7d`. A bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write a number and s, m, h or d, for example 15m or 7d");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" | "hr" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())
}

/// A time of day in the local zone, with the date if it is not today.
pub(crate) fn local_time(at: Timestamp) -> String {
    let Ok(moment) = jiff::Timestamp::from_millisecond(at.as_ms()) else {
        return at.to_string();
    };
    let zone = jiff::tz::TimeZone::system();
    let (then, now) = (moment.to_zoned(zone.clone()), jiff::Timestamp::now().to_zoned(zone));
    let format = if then.date() == now.date() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M"
    };
    then.strftime(format).to_string()
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_ms(jiff::Timestamp::now().as_millisecond())
}

/// A value of the shared state from a command line: JSON if it is JSON, else text.
pub(crate) fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// How a value of the shared state is shown: texts as they are, everything else as JSON.
pub(crate) fn show_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Arguments of a tool: one JSON object, or words of the form `key=value`.
pub(crate) fn tool_arguments(words: &[String]) -> Result<Value, CliError> {
    if let [word] = words
        && word.trim_start().starts_with('{')
    {
        return serde_json::from_str(word).map_err(|error| {
            CliError::usage(
                format!("The arguments are not JSON: {error}."),
                "Quote the object: '{\"key\": \"value\"}'.",
            )
        });
    }
    let mut object = Map::new();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            CliError::usage(
                format!("{word:?} is neither key=value nor a JSON object."),
                "Write arguments as key=value, or as one JSON object in quotes.",
            )
        })?;
        object.insert(key.to_owned(), json_or_text(value));
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "d", "7w", "-1s", "1e400", "7 d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arguments_of_tools() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            tool_arguments(&words(&["a=1", "b=x y", "c=[1]"])).unwrap(),
            json!({"a": 1, "b": "x y", "c": [1]})
        );
        assert_eq!(tool_arguments(&words(&[r#"{"a": null}"#])).unwrap(), json!({"a": null}));
        assert_eq!(tool_arguments(&[]).unwrap(), json!({}));
        assert!(tool_arguments(&words(&["a"])).is_err());
    }
}
