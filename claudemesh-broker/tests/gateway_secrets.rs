//! Nothing secret reaches the log, however much is logged.
#![allow(missing_docs, clippy::unwrap_used)]

mod gateway_kit;

use std::io::Write;
use std::sync::{Arc, Mutex};

use claudemesh_crypto::{InviteRole, NewInviteV1, SecretKey, encode_base64_url};
use gateway_kit::{Lab, now_ms};
use serde_json::json;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn defect_024_sub_e_32_secrets_are_not_logged() {
    let captured = Captured::default();
    let writer = captured.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();

    let lab = Lab::start().await;
    let root_key = [0x5a; 32];
    let token = NewInviteV1 {
        mesh_id: &lab.mesh,
        mesh_slug: "lab-mesh",
        broker_url: "ws://127.0.0.1/ws",
        expires_at: now_ms() / 1_000 + 600,
        mesh_root_key: &root_key,
        role: InviteRole::Member,
    }
    .sign(&lab.owner_key)
    .unwrap();
    let text = token.to_token().to_string();
    let body = json!({
        "invite_token": text,
        "invite_payload": token,
        "peer_pubkey": SecretKey::generate().public().to_string(),
        "display_name": "x",
    });
    let (status, _) = lab.call("POST", "/join", None, Some(body)).await;
    assert_eq!(status, 400);
    let code = lab.invited("member", 1).await;
    let joiner = SecretKey::generate();
    assert_eq!(lab.claim(&code, &joiner, "joiner").await.0, 200);
    assert_eq!(lab.claim("WRONGCODE", &joiner, "joiner").await.0, 404);
    let mut socket = lab.connect_v2(&lab.owner).await;
    let message = "c2VjcmV0LW1lc3NhZ2UtdGV4dA==";
    socket
        .send(&json!({ "type": "send", "targetSpec": "*", "nonce": "", "ciphertext": message }))
        .await;
    socket
        .ask(json!({ "type": "set_state", "key": "password", "value": "state-value-4711" }))
        .await;
    socket
        .ask(json!({ "type": "set_state", "key": 7, "value": "state-value-4711" }))
        .await;
    socket
        .send_text("{\"type\":\"nonsense\",\"value\":\"state-value-4711\"")
        .await;
    let _ = socket.next().await;
    let broker_key = std::fs::read_to_string(lab.directory.path().join("broker.key")).unwrap();
    let owner_seed = lab.owner_key.to_hex().to_string();
    let member_seed = lab.owner.key.to_hex().to_string();
    lab.running.shutdown().await;

    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(log.contains("listening"), "the log is captured");
    for (what, secret) in [
        ("invite token", text.as_str()),
        ("root key", &encode_base64_url(&root_key)),
        ("invite code", &code),
        ("wrong code", "WRONGCODE"),
        ("broker key", broker_key.trim()),
        ("owner seed", &owner_seed[..64]),
        ("member seed", &member_seed[..64]),
        ("message", message),
        ("state value", "state-value-4711"),
    ] {
        if let Some(at) = log.find(secret) {
            let line = log[..at].rfind('\n').map_or(0, |start| start + 1);
            panic!("{what} is in the log: {}", &log[line..at]);
        }
    }
}
