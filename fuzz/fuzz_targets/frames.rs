//! Frames of a client: what fits the schema of its operation is read, and read again from what is written.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use claudemesh_proto::frame::{Push, ServerFrame};
use claudemesh_proto::hello::Hello;
use claudemesh_proto::{ErrorFrame, ops::SendEnvelope, schema};
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

fuzz_target!(|text: &str| {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let _ = serde_json::from_value::<Hello>(value.clone());
    let _ = serde_json::from_value::<Push>(value.clone());
    let _ = serde_json::from_value::<ErrorFrame>(value.clone());
    let kind = value["type"].as_str().unwrap_or("send").to_owned();
    let _ = ServerFrame::from_value(&kind, value.clone());
    if let Some(schema) = SCHEMAS.get(kind.as_str())
        && schema.is_valid(&value)
        && kind == "send"
    {
        let request: SendEnvelope = serde_json::from_value(value).expect("what fits is read");
        let again = serde_json::to_value(&request).expect("it can be written");
        assert_eq!(
            serde_json::from_value::<SendEnvelope>(again).expect("and read"),
            request
        );
    }
});
