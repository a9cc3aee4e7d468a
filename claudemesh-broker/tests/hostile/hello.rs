//! Hellos that are not what they say: forged, repeated, recorded, with somebody else's key.

use claudemesh_crypto::SecretKey;
use serde_json::{Value, json};

use crate::gateway_kit::{Socket, http};
use crate::watch;

/// What may stand where a signature belongs: somebody else's, another text's, altered, too short, too long, no
/// hexadecimal, and none at all.
fn forged(right: &str) -> Vec<Value> {
    let last = if right.ends_with('0') { "1" } else { "0" };
    vec![
        json!(SecretKey::generate().sign(b"anything").to_string()),
        json!(format!("{}{last}", &right[..right.len() - 1])),
        json!(right.to_uppercase()),
        json!(&right[..126]),
        json!(format!("{right}00")),
        json!("0".repeat(128)),
        json!("f".repeat(128)),
        json!("z".repeat(128)),
        json!(""),
        json!(null),
        json!(0),
        json!([right]),
    ]
}

/// Both versions and HTTP: nothing but the right signature lets anybody in.
#[tokio::test]
async fn forged_signatures_open_nothing() {
    let lab = watch::lab().await;
    for field in ["signature", "sessionSignature"] {
        let mut attempt = 0;
        loop {
            let mut socket = lab.socket().await;
            let nonce = socket.challenge().await;
            let mut hello = lab.hello_v2(&lab.owner, &nonce, &lab.origin());
            let forgeries = forged(hello[field].as_str().unwrap());
            let Some(forgery) = forgeries.get(attempt) else { break };
            // Capitals are another way to write the same signature: taken or not, it is the right one.
            let same = forgery.as_str() == hello[field].as_str();
            hello[field] = forgery.clone();
            socket.send(&hello).await;
            let answer = socket.next().await;
            watch::is_typed(&answer, &hello.to_string());
            let is_capitals = forgery
                .as_str()
                .is_some_and(|text| text.contains(|c: char| c.is_ascii_uppercase()));
            assert!(
                same || is_capitals || answer["type"] == "error",
                "{field}: {forgery} → {answer}"
            );
            attempt += 1;
        }
    }
    let right = lab.hello_v1(&lab.owner)["signature"].as_str().unwrap().to_owned();
    for forgery in forged(&right) {
        let mut hello = lab.hello_v1(&lab.owner);
        hello["signature"] = forgery.clone();
        let mut socket = lab.socket().await;
        socket.send(&hello).await;
        let answer = socket.next().await;
        watch::is_typed(&answer, &hello.to_string());
        assert_eq!(answer["type"], "error", "{forgery} → {answer}");
    }
    // The right signature of somebody else: bob's, for the owner's row.
    let bob = lab.join("bob", "member").await;
    let mut hello = lab.hello_v1(&lab.owner);
    hello["signature"] = lab.hello_v1(&bob)["signature"].clone();
    let mut socket = lab.socket().await;
    socket.send(&hello).await;
    assert_eq!(socket.refused().await.0["code"], "bad_signature");
    let path = lab.path("/members");
    let header = crate::gateway_kit::authorization(&lab.owner.key, "GET", &path, b"");
    let (start, signature) = header.trim_end().rsplit_once(':').unwrap_or((&header, ""));
    for forgery in [
        header.trim_end().replace(&lab.owner.pubkey(), &bob.pubkey()),
        format!("{start}:"),
        format!("{start}:{signature}{signature}"),
        "authorization: ".to_owned(),
        "authorization: ClaudemeshSig".to_owned(),
        format!("authorization: ClaudemeshSig {}", "=".repeat(5_000)),
    ] {
        let answer = http(lab.addr(), "GET", &path, &format!("{forgery}\r\n"), b"").await;
        assert!((400..500).contains(&answer.status), "{forgery}: {}", answer.body);
    }
    watch::still_serves(&lab).await;
}

/// The second hello of one socket would have been a second session of the original, for ever.
#[tokio::test]
async fn defect_010_a_second_hello_makes_no_ghost() {
    let lab = watch::lab().await;
    let bob = lab.join("bob", "member").await;
    let mut socket = lab.connect_v2(&lab.owner).await;
    for person in [&lab.owner, &bob] {
        let nonce_less = lab.hello_v1(person);
        for _ in 0..20 {
            socket.send(&nonce_less).await;
            let error = socket.next_of("error").await;
            assert_eq!(error["code"], "already_connected");
        }
    }
    // With a challenge of its own it is a second hello as well.
    socket.send(&json!({ "type": "hello_challenge" })).await;
    let answer = socket.next().await;
    let nonce = answer["nonce"].as_str().unwrap_or("none").to_owned();
    socket.send(&lab.hello_v2(&bob, &nonce, &lab.origin())).await;
    assert_eq!(socket.next_of("error").await["code"], "already_connected");
    let peers = socket.ask(json!({ "type": "list_peers" })).await;
    assert_eq!(peers["peers"].as_array().unwrap().len(), 1, "{peers}");
    // The session is whose it was.
    assert_eq!(peers["peers"][0]["displayName"], "olivia", "{peers}");
}

/// A hello that somebody has listened to is good for nothing.
#[tokio::test]
async fn defect_011_a_recorded_hello_is_no_login() {
    let lab = watch::lab().await;
    let elsewhere =
        watch::lab_with(|config| config.public_origins = vec!["https://mesh.example.org".parse().unwrap()]).await;
    let mut socket = lab.socket().await;
    let nonce = socket.challenge().await;
    let hello = lab.hello_v2(&lab.owner, &nonce, &lab.origin());
    socket.send(&hello).await;
    assert_eq!(socket.next().await["type"], "hello_ack");
    let mut again = lab.socket().await;
    again.challenge().await;
    again.send(&hello).await;
    assert_eq!(again.refused().await.0["code"], "replayed");
    // At another broker, which even asked for it.
    let mut other = Socket::open(elsewhere.addr()).await;
    other.challenge().await;
    other.send(&hello).await;
    assert_eq!(other.refused().await.0["code"], "wrong_origin");
    let first = lab.hello_v1(&lab.owner);
    let mut socket = lab.socket().await;
    socket.send(&first).await;
    assert_eq!(socket.next().await["type"], "hello_ack");
    let mut again = lab.socket().await;
    again.send(&first).await;
    assert_eq!(again.refused().await.0["code"], "replayed");
}

/// Naming somebody else's session key gives neither their mail nor their name.
#[tokio::test]
async fn defect_009_sub_e_16_a_stolen_session_key_takes_nothing() {
    let lab = watch::lab().await;
    let (victim, thief) = (lab.join("victim", "member").await, lab.join("thief", "member").await);
    let mut owner = lab.connect_v2(&lab.owner).await;
    let mut real = lab.connect_v2(&victim).await;
    let peers = owner.ask(json!({ "type": "list_peers" })).await;
    let listed = peers["peers"].as_array().unwrap();
    let key = listed
        .iter()
        .find(|peer| peer["displayName"] == "victim")
        .and_then(|peer| peer["sessionPubkey"].as_str().or(peer["pubkey"].as_str()))
        .unwrap()
        .to_owned();
    for stolen in [key.clone(), victim.pubkey()] {
        // Version 2 must prove the key.
        let mut socket = lab.socket().await;
        let nonce = socket.challenge().await;
        let mut hello = lab.hello_v2(&thief, &nonce, &lab.origin());
        hello["sessionPubkey"] = json!(stolen);
        socket.send(&hello).await;
        assert_eq!(socket.refused().await.0["code"], "bad_signature");
        // Version 1 cannot, and then does not have it.
        let mut socket = lab.socket().await;
        let mut hello = lab.hello_v1(&thief);
        hello["sessionPubkey"] = json!(stolen);
        socket.send(&hello).await;
        let answer = socket.next().await;
        watch::is_typed(&answer, "hello with a stolen key");
        let ack = owner
            .ask(json!({
                "type": "send", "id": claudemesh_crypto::random_id(), "targetSpec": stolen, "priority": "now",
                "nonce": "", "ciphertext": "c2VjcmV0"
            }))
            .await;
        assert_eq!(ack["type"], "ack", "{ack}");
        let push = real.next_message().await;
        assert_eq!(push["ciphertext"], "c2VjcmV0");
        if answer["type"] == "hello_ack" {
            let pulled = socket.ask(json!({ "type": "pull_messages" })).await;
            assert_eq!(pulled["messages"], json!([]), "{pulled}");
            // What the thief sends is not shown as the victim's.
            let ack = socket
                .ask(json!({ "type": "send", "targetSpec": lab.owner.pubkey(), "priority": "now", "nonce": "", "ciphertext": "AAAA" }))
                .await;
            assert_eq!(ack["type"], "ack", "{ack}");
            let push = owner.next_message().await;
            assert_eq!(push["senderMemberPubkey"], thief.pubkey(), "{push}");
        }
    }
    watch::nothing_panicked();
}
