//! What is secret stays with who may know it: real clients on a real broker with everything logged, then a search through
//! the log, every error text, the counters and the broker's files.
#![allow(missing_docs, clippy::unwrap_used)]

mod gateway_kit;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claudemesh_broker::Broker;
use claudemesh_broker::config::Config;
use claudemesh_client::flows::{InviteOptions, create_invite, create_mesh, join};
use claudemesh_client::proto::model::Priority;
use claudemesh_client::proto::ops::{MessageStatus, SetState};
use claudemesh_client::{ClientError, Identity, MeshClient};
use claudemesh_crypto::SecretKey;
use gateway_kit::http;
use serde_json::json;
use tokio::time::timeout;

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

/// What must not be found, with the forms that it may take.
#[derive(Default)]
struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    fn text(&mut self, what: &str, text: &str) {
        assert!(text.len() >= 8, "{what} is too short to be looked for");
        self.0.push((what.to_owned(), text.as_bytes().to_vec()));
    }

    /// A key as bytes, in hexadecimal and in both base64 alphabets.
    fn key(&mut self, what: &str, key: &SecretKey) {
        let hex = key.to_hex().to_string();
        let seed: Vec<u8> = (0..32)
            .map(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap())
            .collect();
        // The last characters of base64 depend on what follows.
        self.text(what, &hex[..64]);
        self.text(what, &hex[..64].to_uppercase());
        let url = claudemesh_crypto::encode_base64_url(&seed);
        self.text(what, &url[..42]);
        self.text(what, &url[..42].replace('-', "+").replace('_', "/"));
        self.0.push((what.to_owned(), seed));
    }

    fn search(&self, place: &str, bytes: &[u8]) {
        for (what, canary) in &self.0 {
            if bytes.windows(canary.len()).any(|window| window == canary) {
                panic!("{what} is in {place}");
            }
        }
    }
}

fn keys_of(canaries: &mut Canaries, who: &str, identity: &Identity) {
    canaries.key(&format!("{who}'s member key"), &identity.member);
    if let Some(owner) = &identity.owner {
        canaries.key(&format!("{who}'s owner key"), owner);
    }
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

async fn received(client: &MeshClient) -> String {
    let message = timeout(Duration::from_secs(10), client.recv()).await.unwrap().unwrap();
    message.text.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_46_secrets_are_nowhere_but_with_their_owners() {
    let captured = Captured::default();
    let writer = captured.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let mut canaries = Canaries::default();
    let mut errors = Vec::new();
    let mut failed = |error: ClientError| {
        errors.push(format!("{error} {error:?}"));
    };

    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(Config::local(directory.path())).await.unwrap();
    let url = broker.websocket_url();
    let created = create_mesh(&url, "Secrets", Some("ana")).await.unwrap();
    keys_of(&mut canaries, "ana", &created.identity);
    let debug = format!("{:?}", created.identity);
    let ana = MeshClient::connect(created.identity).await.unwrap();
    let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let secret = invite.link.rsplit_once('#').unwrap().1.to_owned();
    canaries.text("the secret of the link", &secret);
    if let Some(token) = &invite.token {
        canaries.text("the invite token", token);
    }
    let joined = join(&invite.link, "ben", None).await.unwrap();
    keys_of(&mut canaries, "ben", &joined.identity);
    let ben = joined.builder().connect().await.unwrap();
    // Once more, and with a link that nobody made: errors that have seen the secret.
    if let Err(error) = join(&invite.link, "carl", None).await {
        failed(error);
    }
    let forged = invite.link.replace(&invite.code, "AAAAAAAA");
    failed(join(&forged, "carl", None).await.unwrap_err());

    let texts = [
        "direct canary 1 7fa31c",
        "group canary 2 7fa31c",
        "everybody canary 3 7fa31c",
        "quiet canary 4 7fa31c",
    ];
    for (text, target) in texts.iter().zip(["ben", "@all", "*", "ben"]) {
        canaries.text("a message", text);
        let base64 = claudemesh_crypto::encode_base64_url(text.as_bytes());
        canaries.text("a message in base64", &base64[..base64.len() - 3]);
        let priority = if text.starts_with("quiet") {
            Priority::Low
        } else {
            Priority::Now
        };
        ana.send_text(target, text, priority).await.unwrap();
        if priority == Priority::Now {
            assert_eq!(received(&ben).await, *text);
        }
    }
    let pulled = ben.check_messages().await.unwrap();
    assert_eq!(pulled.messages.len(), 1);
    // A message that waits for somebody who is away is in the database.
    ben.close().await;
    let waiting = "waiting canary 5 7fa31c";
    canaries.text("a message that waits", waiting);
    let sent = ana.send_text("ben", waiting, Priority::Next).await.unwrap();
    // Refusals that have seen content.
    let lost = "refused canary 6 7fa31c";
    canaries.text("a refused message", lost);
    failed(
        ana.send_text("nobody-of-this-name", lost, Priority::Now)
            .await
            .unwrap_err(),
    );
    let large = format!("{lost}{}", "x".repeat(1_100_000));
    failed(ana.send_text("ben", &large, Priority::Now).await.unwrap_err());
    let value = "x".repeat(100_000) + "state canary 7 7fa31c";
    canaries.text("a refused value", "state canary 7 7fa31c");
    let refused = ana
        .request(SetState {
            key: "k".to_owned(),
            value: json!(value),
        })
        .await;
    failed(refused.unwrap_err());
    let unknown = ana
        .request(MessageStatus {
            message_id: "no-such-message".into(),
        })
        .await;
    failed(unknown.unwrap_err());
    ana.request(MessageStatus {
        message_id: sent.message_id.clone(),
    })
    .await
    .unwrap();
    // A wrong key for an existing member.
    let stranger = Identity {
        member: SecretKey::generate(),
        owner: None,
        ..ana.identity().clone()
    };
    keys_of(&mut canaries, "the stranger", &stranger);
    if let Err(error) = MeshClient::connect(stranger).await {
        failed(error);
    }
    let metrics = http(broker.addr, "GET", "/metrics", "", b"").await.body;
    let audit = http(broker.addr, "GET", "/health", "", b"").await.body;
    ana.close().await;
    broker.shutdown().await;

    let log = captured.0.lock().unwrap().clone();
    assert!(
        String::from_utf8_lossy(&log).contains("listening"),
        "the log is captured"
    );
    assert!(errors.len() >= 6, "{errors:?}");
    canaries.search("the debug form of an identity", debug.as_bytes());
    canaries.search("the counters", metrics.as_bytes());
    canaries.search("the health answer", audit.as_bytes());
    for error in &errors {
        canaries.search(
            &format!("an error: {}", &error[..error.len().min(80)]),
            error.as_bytes(),
        );
    }
    let mut found = Vec::new();
    files(directory.path(), &mut found);
    assert!(found.iter().any(|path| path.ends_with("claudemesh.db")), "{found:?}");
    for path in &found {
        canaries.search(&path.display().to_string(), &content(path));
    }
    // The broker's own key is in its file only; the code of an invite is a secret of the log.
    let key = std::fs::read_to_string(directory.path().join("broker.key")).unwrap();
    let mut own = Canaries::default();
    own.text("the broker's key", key.trim());
    for path in found.iter().filter(|path| !path.ends_with("broker.key")) {
        own.search(&path.display().to_string(), &content(path));
    }
    own.text("the code of an invite", &invite.code);
    own.search("the log", &log);
    canaries.search("the log", &log);
}

/// What a file holds. SQLite's log goes with the last connection, which may be closed only now.
fn content(path: &std::path::Path) -> Vec<u8> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.unwrap(),
    }
}
