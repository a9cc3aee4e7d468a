//! Frames of a client and of a broker: what fits the schema of its operation is read, and read again from what is written.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use claudemesh_proto::frame::{Push, ServerFrame};
use claudemesh_proto::hello::Hello;
use claudemesh_proto::ops::*;
use claudemesh_proto::{ErrorFrame, Operation, schema};
use jsonschema::Validator;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static SCHEMAS: LazyLock<HashMap<&str, Validator>> = LazyLock::new(|| {
    let all = schema::operations().into_iter();
    all.map(|operation| {
        let validator = jsonschema::validator_for(operation.request.as_value());
        (operation.meta.wire_type, validator.expect("a schema"))
    })
    .collect()
});

/// Reads a request of this type; what was read is written and read to the same.
fn read<T: Operation>(value: &Value) -> bool {
    let Ok(request) = serde_json::from_value::<T>(value.clone()) else {
        return false;
    };
    let written = serde_json::to_value(&request).expect("it can be written");
    let again: T = serde_json::from_value(written.clone()).expect("it can be read again");
    assert_eq!(serde_json::to_value(&again).ok(), Some(written));
    true
}

macro_rules! read_any {
    ($( { $name:ident, $request:ty => $response:ty, $($rest:tt)* } )+) => {
        /// Reads a request of this wire type; `None` for a type that there is not.
        fn read_as(kind: &str, value: &Value) -> Option<bool> {
            $( if kind == <$request as Operation>::META.wire_type {
                return Some(read::<$request>(value));
            } )+
            None
        }
    };
}
claudemesh_proto::for_each_operation!(read_any);

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        _ => false,
    }
}

fuzz_target!(|text: &str| {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let kind = value["type"].as_str().unwrap_or("send").to_owned();
    if let Some(object) = value.as_object_mut() {
        object.remove("type");
        object.remove("_reqId");
    }
    let _ = serde_json::from_value::<Hello>(value.clone());
    let _ = serde_json::from_value::<Push>(value.clone());
    let _ = serde_json::from_value::<ErrorFrame>(value.clone());
    let _ = ServerFrame::from_value(&kind, value.clone());
    if let Some(was_read) = read_as(&kind, &value)
        && SCHEMAS[kind.as_str()].is_valid(&value)
    {
        // A whole number may be written as `1.0` or `1e30`, which fits a schema and no integer.
        assert!(was_read || has_float(&value), "what fits the schema is read");
    }
});
