//! JSON schemas of requests, replies, frames and tools, all generated from the Rust types.
//!
//! The committed copies are in `schemas/`; a test compares them and names the command that writes them anew.

use crate::frame::ServerFrame;
use crate::hello::{Hello, HelloChallenge};
use crate::ops::*;
use crate::tools::*;
use crate::{Operation, OperationMeta, Tool, ToolMeta, tool::by_name};
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The schema of one type, draft 2020-12, with sub-schemas inlined: hosts of models read such schemas best.
#[must_use]
pub fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms.push(Box::new(ForModels));
    });
    settings.into_generator().into_root_schema_for::<T>()
}

/// Shapes schemas for hosts of models: enumerations as `enum` (with what each value means in the description), and
/// descriptions without the line breaks of the source.
#[derive(Clone, Debug)]
struct ForModels;

impl Transform for ForModels {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        if let Some((values, meanings)) = object.get("oneOf").and_then(constants) {
            object.remove("oneOf");
            object.insert("type".to_owned(), json!("string"));
            object.insert("enum".to_owned(), json!(values));
            object.entry("description").or_insert_with(|| json!(meanings));
        }
        if let Some(Value::String(text)) = object.get_mut("description") {
            *text = text
                .split("\n\n")
                .map(|part| part.replace('\n', " "))
                .collect::<Vec<_>>()
                .join("\n\n");
        }
    }
}

/// The values of a `oneOf` that lists constants, and a text that explains them.
fn constants(alternatives: &Value) -> Option<(Vec<String>, String)> {
    let mut values = Vec::new();
    let mut meanings = Vec::new();
    for alternative in alternatives.as_array()? {
        let value = alternative.get("const")?.as_str()?;
        values.push(value.to_owned());
        if let Some(text) = alternative.get("description").and_then(Value::as_str) {
            meanings.push(format!("`{value}`: {text}"));
        }
    }
    Some((values, meanings.join(" ")))
}

/// Schemas of one operation.
#[derive(Clone, Debug)]
pub struct OperationSchemas {
    /// The row of the table.
    pub meta: &'static OperationMeta,
    /// The request without `type` and `_reqId`.
    pub request: Schema,
    /// The reply without `type` and `_reqId`.
    pub response: Schema,
}

/// Schemas of one tool.
#[derive(Clone, Debug)]
pub struct ToolSchemas {
    /// The row of the table.
    pub meta: &'static ToolMeta,
    /// The arguments.
    pub params: Schema,
    /// The result.
    pub output: Schema,
}

macro_rules! operation_schemas {
    ($( { $name:ident, $request:ty => $response:ty, $($rest:tt)* } )+) => {
        /// Schemas of every operation, in the order of the table.
        #[must_use]
        pub fn operations() -> Vec<OperationSchemas> {
            vec![$( OperationSchemas {
                meta: <$request as Operation>::META,
                request: of::<$request>(),
                response: of::<$response>(),
            }, )+]
        }
    };
}
crate::for_each_operation!(operation_schemas);

macro_rules! tool_schemas {
    ($( { $name:ident, $params:ty => $output:ty, $($rest:tt)* } )+) => {
        /// Schemas of every tool, in the order of the table.
        #[must_use]
        pub fn tools() -> Vec<ToolSchemas> {
            vec![$( ToolSchemas {
                meta: <by_name::$name as Tool>::META,
                params: of::<$params>(),
                output: of::<$output>(),
            }, )+]
        }
    };
}
crate::for_each_tool!(tool_schemas);

/// The committed schema files: relative path → content.
#[must_use]
pub fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut add = |path: String, schema: &Schema| {
        let mut text = serde_json::to_string_pretty(schema).unwrap_or_default();
        text.push('\n');
        files.insert(path, text);
    };
    for operation in operations() {
        add(
            format!("operations/{}.request.json", operation.meta.wire_type),
            &operation.request,
        );
        add(
            format!("operations/{}.reply.json", operation.meta.wire_type),
            &operation.response,
        );
    }
    for tool in tools() {
        add(format!("tools/{}.params.json", tool.meta.name), &tool.params);
        add(format!("tools/{}.result.json", tool.meta.name), &tool.output);
    }
    for (kind, schema) in ServerFrame::schemas() {
        add(format!("frames/{kind}.json"), &schema);
    }
    add("frames/hello.json".to_owned(), &of::<Hello>());
    add("frames/hello_challenge.json".to_owned(), &of::<HelloChallenge>());
    files
}
