//! Every operation, from its schema: a request that fits, then everything that does not, one change at a time.

use claudemesh_proto::schema;
use serde_json::{Map, Value, json};

use crate::gateway_kit::Lab;
use crate::watch;

/// A value that fits the schema. Texts come from `text`, so that patterns and formats hold.
fn valid(schema: &Value) -> Value {
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    if let Some(alternatives) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        return valid(&alternatives[0]);
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        Value::Array(kinds) => kinds[0].as_str().unwrap(),
        // Anything goes.
        _ => return json!({ "any": [1, "two", null] }),
    };
    match kind {
        "object" => {
            let mut object = Map::new();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                object.insert(name.clone(), valid(property));
            }
            for (pattern, property) in schema["patternProperties"].as_object().into_iter().flatten() {
                object.insert(text(&json!({ "pattern": pattern })), valid(property));
            }
            Value::Object(object)
        }
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(1).max(1);
            (0..least).map(|_| valid(&schema["items"])).collect()
        }
        "string" => json!(text(schema)),
        "integer" | "number" => json!(schema["minimum"].as_f64().unwrap_or(1.0).max(1.0) as u64),
        "boolean" => json!(false),
        other => panic!("the generator does not know {other}"),
    }
}

fn text(schema: &Value) -> String {
    match schema["pattern"].as_str() {
        Some("^[0-9a-f]{64}$") => return "ab".repeat(32),
        Some("^[0-9a-f]{128}$") => return "ab".repeat(64),
        _ => {}
    }
    let most = schema["maxLength"].as_u64().unwrap_or(16).min(16) as usize;
    let least = schema["minLength"].as_u64().unwrap_or(1) as usize;
    "a".repeat(most.max(least))
}

/// Values of the wrong kind for this schema, with what makes them wrong.
fn wrong(schema: &Value) -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e308),
        json!(1.0),
        json!(1e30),
        json!(u64::MAX),
        json!(""),
        json!("'; DROP TABLE mesh; --"),
        json!("\u{0}\u{202e}\n\"'`<>&"),
        json!([]),
        json!([[[[]]]]),
        json!({}),
        json!({ "__proto__": { "x": 1 }, "": null }),
    ];
    if let Some(most) = schema["maxLength"].as_u64() {
        values.push(json!("x".repeat(most as usize + 1)));
        // Above that the frame is refused, not the field.
        if most < 100_000 {
            values.push(json!("é".repeat(most as usize + 1)));
        }
    }
    if let Some(least) = schema["minLength"].as_u64() {
        values.push(json!("x".repeat(least.saturating_sub(1) as usize)));
    }
    if schema["pattern"].is_string() {
        values.push(json!("AB".repeat(32)));
        values.push(json!("ab".repeat(33)));
        values.push(json!(format!("{}\n", "ab".repeat(32))));
    }
    if schema["enum"].is_array() {
        values.push(json!("neither"));
        values.push(json!("NOW"));
    }
    if let Some(least) = schema["minimum"].as_i64() {
        values.push(json!(least - 1));
    }
    if let Some(most) = schema["maximum"].as_u64() {
        values.push(json!(most + 1));
    }
    if let Some(most) = schema["maxItems"].as_u64() {
        let item = valid(&schema["items"]);
        values.push((0..=most).map(|_| item.clone()).collect());
    }
    values
}

/// Every place below this schema, as a pointer into its instance.
fn places<'a>(schema: &'a Value, at: &str, found: &mut Vec<(String, &'a Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{at}/{name}");
        found.push((place.clone(), property));
        places(property, &place, found);
    }
    if schema["oneOf"].is_array() {
        places(&schema["oneOf"][0], at, found);
    }
    if schema["items"].is_object() {
        let place = format!("{at}/0");
        found.push((place.clone(), &schema["items"]));
        places(&schema["items"], &place, found);
    }
    if let Some(property) = schema["patternProperties"]
        .as_object()
        .and_then(|all| all.values().next())
    {
        let place = format!("{at}/{}", "ab".repeat(32));
        found.push((place.clone(), property));
        places(property, &place, found);
    }
}

/// The instance with one member taken out.
fn without(instance: &Value, place: &str) -> Value {
    let (parent, name) = place.rsplit_once('/').unwrap();
    let mut changed = instance.clone();
    match changed.pointer_mut(parent).unwrap() {
        Value::Object(object) => {
            object.remove(name);
        }
        Value::Array(items) => {
            items.pop();
        }
        other => panic!("{other} has no members"),
    }
    changed
}

/// Requests of this operation: the whole one first, then its broken ones.
pub(crate) fn requests(schema: &Value) -> Vec<Value> {
    let whole = valid(schema);
    let mut found = Vec::new();
    places(schema, "", &mut found);
    let mut requests = vec![whole.clone(), json!({})];
    for (place, property) in found {
        requests.push(without(&whole, &place));
        for value in wrong(property) {
            let mut changed = whole.clone();
            *changed.pointer_mut(&place).unwrap() = value;
            requests.push(changed);
        }
    }
    let mut more = whole;
    more["unheard_of"] = json!({ "deep": [[["x"]]] });
    more["_reqid"] = json!(7);
    requests.push(more);
    requests
}

/// Operations that would end the session that sends them are sent as broken requests only.
fn ends_the_session(request: &Value, lab: &Lab) -> bool {
    request["memberId"] == lab.owner.id.as_str()
}

#[test]
fn generated_requests_fit_their_schema() {
    for operation in schema::operations() {
        let schema = operation.request.as_value();
        let check = jsonschema::validator_for(schema).unwrap();
        let whole = valid(schema);
        assert!(check.is_valid(&whole), "{}: {whole}", operation.meta.wire_type);
        let broken = requests(schema);
        let refused = broken.iter().filter(|request| !check.is_valid(request)).count();
        let mut all = Vec::new();
        places(schema, "", &mut all);
        // A place that takes anything can only be missing.
        let typed = all
            .iter()
            .filter(|(_, property)| property["type"].is_string() || property["type"].is_array());
        let expected = 5 * typed.count();
        assert!(
            refused >= expected,
            "{}: {refused} of {expected}",
            operation.meta.wire_type
        );
    }
}

/// Defects 79, 102, 111 of the original and more: an answer each, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn defect_079_102_111_every_request_has_one_typed_answer() {
    let lab = watch::lab().await;
    let bob = lab.join("bob", "member").await;
    let mut owner = lab.connect_v2(&lab.owner).await;
    let mut original = lab.connect_v1(&bob).await;
    let mut sent = 0_u32;
    let mut refused = 0_u32;
    let before = watch::resident_mib();
    for operation in schema::operations() {
        let name = operation.meta.wire_type;
        let schema = operation.request.as_value();
        let check = jsonschema::validator_for(schema).unwrap();
        for request in requests(schema) {
            if ends_the_session(&request, &lab) {
                continue;
            }
            // Beyond the schema: no text has U+0000.
            let is_valid = check.is_valid(&request) && !request.to_string().contains("\\u0000");
            let mut frame = request;
            let id = format!("r{sent}");
            frame["type"] = json!(name);
            frame["_reqId"] = json!(id);
            let text = frame.to_string();
            // Both versions of the protocol: the fields are the same, what they may do is not.
            let socket = if sent % 4 == 3 { &mut original } else { &mut owner };
            let answer = watch::one_answer(socket, &id, &text).await;
            watch::is_typed(&answer, &text);
            if is_valid {
                let expected = answer["type"] == operation.meta.reply_type || answer["type"] == "error";
                assert!(expected, "{text} → {answer}");
                // Whole numbers as a schema sees them, like `1.0`: refused or not, the field is named.
                assert!(
                    answer["code"] != "invalid_request" || answer["field"].is_string(),
                    "{text} → {answer}"
                );
            } else {
                assert_eq!(answer["code"], "invalid_request", "{name}: {text} → {answer}");
                assert!(answer["field"].is_string(), "{answer}");
                refused += 1;
            }
            sent += 1;
        }
    }
    assert!(sent > 1_000 && refused > 500, "{sent} sent, {refused} refused");
    if let Some(before) = before {
        watch::falls_below("self", before + 150, || watch::still_serves(&lab)).await;
    }
    // What was written by all this is still in order, and others are served.
    let audit = owner.ask(json!({ "type": "audit_verify" })).await;
    assert_eq!(audit["valid"], true, "{audit}");
    watch::still_serves(&lab).await;
}

/// The same for the bodies of HTTP requests: never a 500, never a hang.
#[tokio::test(flavor = "multi_thread")]
async fn every_body_has_a_typed_answer() {
    let lab = watch::lab().await;
    let bob = lab.join("bob", "member").await;
    let member = lab.path(&format!("/member/{}", bob.id));
    let code = lab.invited("member", 1_000).await;
    let claim = format!("/invites/{code}/claim");
    let endpoints = [
        (
            "POST",
            "/cli/mesh/create",
            schema::of::<claudemesh_proto::http::CreateMesh>(),
        ),
        ("POST", "/join", schema::of::<claudemesh_proto::http::Join>()),
        ("POST", &claim, schema::of::<claudemesh_proto::http::Claim>()),
        (
            "POST",
            &lab.path("/invites"),
            schema::of::<claudemesh_proto::http::CreateInvite>(),
        ),
        ("PATCH", &member, schema::of::<claudemesh_proto::http::PatchMember>()),
        (
            "PATCH",
            &lab.path("/settings"),
            schema::of::<claudemesh_proto::http::PatchSettings>(),
        ),
        (
            "POST",
            "/hook/set-status",
            schema::of::<claudemesh_proto::http::HookStatus>(),
        ),
    ];
    for (method, path, schema) in endpoints {
        for (index, body) in requests(schema.as_value()).into_iter().enumerate() {
            let signer = if index % 2 == 0 { Some(&lab.owner.key) } else { None };
            let (status, answer) = lab.call(method, path, signer, Some(body.clone())).await;
            assert!(status < 500, "{method} {path} {body} → {status} {answer}");
            if status != 200 {
                let code = answer["code"].as_str().unwrap_or_default();
                let known = claudemesh_proto::ErrorCode::ALL
                    .iter()
                    .any(|known| known.as_str() == code);
                assert!(known, "{method} {path} {body} → {status} {answer}");
            }
        }
        for raw in [&b"{"[..], b"\xff\xfe", b"null", b"[]", b"", &b"[".repeat(60_000)] {
            let headers = crate::gateway_kit::authorization(&lab.owner.key, method, path, raw);
            let answer = crate::gateway_kit::http(lab.addr(), method, path, &headers, raw).await;
            assert!(
                (200..500).contains(&answer.status),
                "{method} {path}: {}",
                answer.status
            );
            // Hooks of the original are answered with 200 whatever they send.
            assert!(answer.body.contains("\"ok\":false"), "{method} {path}: {}", answer.body);
        }
    }
    watch::still_serves(&lab).await;
}
