//! Files of peers.

use super::kit::*;
use claudemesh_client::MeshClient;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Base64, Capability, KeyHex};
use claudemesh_client::proto::ops::{PeerFileRequest, PeerFileResponse, SetGrants};
use claudemesh_client::proto::tools::{ListPeerFiles, PeerFile, ReadPeerFile};
use claudemesh_client::ClientError;
use claudemesh_crypto::{PeerAsk, SecretKey, decode_base64, encode_base64};
use std::fs;
use tempfile::TempDir;

fn directory(lab: &Lab) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let secret = lab.text("what is in the notes");
    fs::create_dir_all(directory.path().join("src")).unwrap();
    fs::write(directory.path().join("notes.md"), &secret).unwrap();
    fs::write(directory.path().join("src/main.rs"), "fn main() {}").unwrap();
    fs::write(directory.path().join("picture.bin"), [0xff, 0, 1]).unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    fs::write(directory.path().join("large.txt"), "x".repeat(1024 * 1024)).unwrap();
    fs::write(directory.path().join(".env"), "KEY=1").unwrap();
    (directory, secret)
}

async fn grant(client: &MeshClient, to: KeyHex, capabilities: Option<Vec<Capability>>) {
    let grants = [(to, capabilities)].into();
    client.request(SetGrants { grants }).await.unwrap();
}

async fn read(client: &MeshClient, peer: &str, path: &str) -> Result<PeerFile, ClientError> {
    let request = ReadPeerFile { peer: peer.to_owned(), path: path.to_owned() };
    within("the answer", client.read_peer_file(request)).await
}

fn list(peer: &str) -> ListPeerFiles {
    ListPeerFiles { peer: peer.to_owned(), path: None, pattern: None }
}

fn with_file_read() -> Option<Vec<Capability>> {
    Some(Capability::DEFAULT.into_iter().chain([Capability::FileRead]).collect())
}

pub async fn defect_050_cli_26_cli_38_files_are_read_from_shared_directories_only(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let (directory, secret) = directory(&lab);
    // Nothing by default, even with the grant.
    grant(&ben, ana.key(), with_file_read()).await;
    let error = read(&ana, "ben", "notes.md").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchPeer);
    assert!(error.to_string().contains("--share"), "{error}");

    let sharing = ben.person.builder().share_directory(directory.path()).connect().await.unwrap();
    assert_eq!(read(&ana, "ben", "notes.md").await.unwrap().text, Some(secret));
    assert_eq!(read(&ana, "BEN", "src/main.rs").await.unwrap().text.unwrap(), "fn main() {}");
    assert_eq!(read(&ana, "ben", "empty").await.unwrap().text.as_deref(), Some(""));
    let picture = read(&ana, "ben", "picture.bin").await.unwrap();
    assert_eq!((picture.text, picture.base64), (None, Some(encode_base64(&[0xff, 0, 1]))));
    let large = read(&ana, "ben", "large.txt").await.unwrap();
    assert_eq!(large.text.unwrap().len(), 1024 * 1024, "defect 50: as large as it says");
    let listed = ana.list_peer_files(list("ben")).await.unwrap();
    assert_eq!(listed.entries, ["empty", "large.txt", "notes.md", "picture.bin", "src/", "src/main.rs"]);
    let matching = ListPeerFiles { pattern: Some("*.RS".to_owned()), ..list("ben") };
    assert_eq!(ana.list_peer_files(matching).await.unwrap().entries, ["src/main.rs"]);

    for path in [".env", "../x", "/etc/passwd", "missing", "src", "src/../notes.md"] {
        let error = read(&ana, "ben", path).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound, "{path}: {error}");
        assert!(!error.to_string().contains(&directory.path().to_string_lossy().into_owned()), "{error}");
    }
    // Who has no grant: nothing is asked of ben at all.
    for result in [read(&cara, "ben", "notes.md").await.err(), cara.list_peer_files(list("ben")).await.err()] {
        assert_eq!(result.unwrap().code(), ErrorCode::Refused);
    }
    grant(&ben, ana.key(), Some(vec![Capability::Dm])).await;
    assert_eq!(code(read(&ana, "ben", "notes.md").await), ErrorCode::Refused);
    assert_eq!(code(read(&ana, "@all", "notes.md").await), ErrorCode::InvalidRequest);
    // A member reads its own other session's without a grant.
    assert!(read(&ben, "ben", "src/main.rs").await.unwrap().text.is_some());
    sharing.close().await;
    lab.finish().await;
}

pub async fn defect_018_only_who_was_asked_answers(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    // Ben's session says that it shares, and is played by hand.
    let mut hand = Socket::v2_with(&lab, &ben.person, &SecretKey::generate(), &["ack", "peer-files"]).await;
    grant(&ben, ana.key(), with_file_read()).await;
    let asking = {
        let ana = ana.client.clone();
        tokio::spawn(async move { read(&ana, "ben", "notes.md").await })
    };
    let forwarded = hand.next_of("peer_file_request_forward").await;
    assert_eq!(forwarded["filePath"], "", "the broker does not see the path");
    assert!(!forwarded.to_string().contains("notes.md"));
    let relay = forwarded["relayId"].as_str().unwrap().to_owned();
    // Cara learns the id somehow.
    let forged = PeerFileResponse {
        requester_pubkey: ana.key(),
        relay_id: Some(relay.clone()),
        file_path: String::new(),
        content: Some(Base64(encode_base64(b"forged"))),
        error: None,
        sealed: None,
    };
    assert!(!cara.peer_file_response(forged.clone()).await.unwrap().delivered);
    // Ben's own session answers in clear text: the asker does not take it.
    let mut answer = serde_json::to_value(&forged).unwrap();
    answer["type"] = "peer_file_response".into();
    hand.send(&answer).await;
    let result = within("the answer", asking).await.unwrap();
    assert!(matches!(result, Err(ClientError::Crypto { .. })), "{result:?}");
    lab.finish().await;
}

pub async fn a_question_is_answered_once_and_to_its_member(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let (directory, _) = directory(&lab);
    let _sharing = ben.person.builder().share_directory(directory.path()).connect().await.unwrap();
    for reader in [&ana, &cara] {
        grant(&ben, reader.key(), with_file_read()).await;
    }
    let identity = &ana.person.identity;
    let question = br#"{"ask":"read","path":"src/main.rs","offset":0}"#;
    let (mesh, ben_key) = (identity.mesh_id.as_str(), ben.person.identity.public());
    let (ask, sealed) = PeerAsk::seal(&identity.member, &ben_key, mesh, now_ms(), question).unwrap();
    let request = |sealed: &[u8]| PeerFileRequest {
        target_pubkey: ben.key(),
        file_path: String::new(),
        sealed: Some(Base64(encode_base64(sealed))),
    };
    let open = |sealed: Option<Base64>| ask.open(&decode_base64(sealed.unwrap().as_str()).unwrap());
    let answer = within("the answer", ana.peer_file_request(request(&sealed))).await.unwrap();
    assert!(open(answer.sealed).unwrap().ends_with(b"fn main() {}"));
    // Somebody who saw it sends it again.
    let replayed = within("the answer", cara.peer_file_request(request(&sealed))).await.unwrap();
    assert!(replayed.sealed.is_none() && replayed.error.unwrap().contains("answered already"));
    // A question in clear text is not answered.
    let clear = PeerFileRequest { file_path: "src/main.rs".to_owned(), sealed: None, ..request(&[]) };
    assert_eq!(code(ana.peer_file_request(clear).await), ErrorCode::NoSuchPeer);
    // A question too old.
    let old = now_ms() - 200_000;
    let (_, sealed) = PeerAsk::seal(&identity.member, &ben_key, mesh, old, question).unwrap();
    let refused = within("the answer", ana.peer_file_request(request(&sealed))).await.unwrap();
    assert!(refused.sealed.is_none() && refused.error.is_some());
    // Somebody who is no member, through a member that passes it on.
    let stranger = SecretKey::generate();
    let (ask, sealed) = PeerAsk::seal(&stranger, &ben_key, mesh, now_ms(), question).unwrap();
    let answer = within("the answer", cara.peer_file_request(request(&sealed))).await.unwrap();
    let text = ask.open(&decode_base64(answer.sealed.unwrap().as_str()).unwrap()).unwrap();
    assert!(String::from_utf8_lossy(&text).contains("not a member"));
    lab.finish().await;
}
