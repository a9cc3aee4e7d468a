//! The protocol, line by line, as the measured host speaks it.

mod mcp_kit;

use mcp_kit::raw::Raw;
use mcp_kit::{Person, ana_and_ben};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn probe() -> Value {
    json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "claude-code", "version": "2.1.330" },
        "io.modelcontextprotocol/clientCapabilities": { "roots": { "listChanged": true } },
    } })
}

#[tokio::test]
async fn discovery_is_refused_at_once_before_and_after_initialize() {
    let nobody = Person::new("nobody");
    let mut server = Raw::start(&nobody);
    // What comes before initialize must not end the session.
    server
        .write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    server.write("no JSON at all").await;
    let begin = Instant::now();
    for params in [probe(), json!({})] {
        let answer = server
            .ask(json!("server-discover-probe-1"), "server/discover", params)
            .await;
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
    }
    assert!(
        begin.elapsed() < Duration::from_secs(3),
        "an unanswered probe costs hosts 3 s"
    );
    assert_eq!(
        server.ask(json!("a"), "no/such", json!({})).await["error"]["code"],
        -32601
    );
    assert_eq!(
        server.ask(json!("b"), "tools/list", json!({})).await["error"]["code"],
        -32600
    );
    assert_eq!(server.ask(json!("c"), "ping", json!({})).await["result"], json!({}));

    let info = server.initialize("2025-11-25").await;
    assert_eq!(info["protocolVersion"], "2025-11-25");
    for method in [
        "server/discover",
        "subscriptions/listen",
        "no/such",
        "resources/subscribe",
        "logging/setLevel",
    ] {
        let params = match method {
            "logging/setLevel" => json!({ "level": "debug" }),
            "resources/subscribe" => json!({ "uri": "skill://claudemesh/x" }),
            _ => json!({ "notifications": {} }),
        };
        let answer = server.ask(json!(method), method, params).await;
        assert_eq!(answer["error"]["code"], -32601, "{method}: {answer}");
    }
    for (method, params) in [
        ("tools/call", json!({ "name": 5 })),
        ("prompts/get", json!({ "name": 5 })),
        ("resources/read", json!({})),
    ] {
        let answer = server.ask(json!("d"), method, params).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    // Without a mesh there is nothing to list, and that is no failure.
    for (method, list) in [("prompts/list", "prompts"), ("resources/list", "resources")] {
        let answer = server.ask(json!(method), method, json!({})).await;
        assert_eq!(answer["result"][list], json!([]), "{answer}");
    }
    let answer = server.ask(json!("e"), "prompts/get", json!({ "name": "x" })).await;
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("claudemesh join"),
        "{answer}"
    );
}

#[tokio::test]
async fn capabilities_instructions_and_versions() {
    let nobody = Person::new("nobody")
        .with("CLAUDEMESH_DISPLAY_NAME", "quick fox")
        .with("CLAUDEMESH_ROLE", "reviewer");
    for (asked, answered) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", "2025-11-25"),
        ("2031-01-01", "2025-11-25"),
    ] {
        let mut server = Raw::start(&nobody);
        let info = server.initialize(asked).await;
        assert_eq!(info["protocolVersion"], answered);
        assert_eq!(info["serverInfo"]["name"], "claudemesh");
        assert_eq!(
            info["capabilities"],
            json!({
                "experimental": { "claude/channel": {} },
                "prompts": { "listChanged": true },
                "resources": { "listChanged": true },
                "tools": {},
            })
        );
        let instructions = info["instructions"].as_str().unwrap();
        assert!(instructions.len() < 4096, "{}", instructions.len());
        for part in ["\"quick fox\"", "role reviewer", "ListAgents", "claudemesh join"] {
            assert!(instructions.contains(part), "{part} in {instructions}");
        }
    }
}

#[tokio::test]
async fn cli_05_standard_output_carries_the_protocol_only() {
    let (_hub, ana, _ben) = ana_and_ben().await;
    let ana = ana.with("CLAUDEMESH_DEBUG", "debug");
    let mut server = Raw::start(&ana);
    server.initialize("2025-11-25").await;
    let listed = server.ask(json!(1), "tools/list", json!({})).await;
    assert!(listed["result"]["tools"].as_array().unwrap().len() > 10);
    let meta = json!({ "claudecode/toolUseId": "toolu_1", "progressToken": 7 });
    let called = server
        .ask(
            json!("x"),
            "tools/call",
            json!({ "name": "list_peers", "arguments": {}, "_meta": meta }),
        )
        .await;
    assert_eq!(
        called["result"]["structuredContent"]["meshes"][0]["peers"][0]["displayName"], "ana",
        "{called}"
    );
    server.close_stdin();
    while server.line().await.is_some() {}
    assert_eq!(server.exit().await, 0);
}

#[tokio::test]
async fn cli_59_the_end_of_input_and_signals_end_the_server_with_code_0() {
    let (_hub, ana, _ben) = ana_and_ben().await;
    for signal in ["INT", "TERM", "HUP"] {
        let mut server = Raw::start(&ana);
        server.initialize("2025-11-25").await;
        assert_eq!(server.signal(signal).await, 0, "SIG{signal}");
    }
    let mut early = Raw::start(&ana);
    early.close_stdin();
    assert_eq!(early.exit().await, 0, "also before initialize");
}
