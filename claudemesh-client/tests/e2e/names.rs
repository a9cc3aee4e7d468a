//! From names to members.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::Priority;
use claudemesh_client::proto::tools::{SendMessage, SendTargets};

pub async fn names_find_their_member_or_say_why_not(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let twin = lab.join(&ana, "Ben").await;
    let dan = lab.join(&ana, "daniela").await;

    let error = ana.send_text("emil", &lab.text("nobody"), Priority::Next).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchPeer);
    for name in ["ana", "ben", "cara", "daniela"] {
        assert!(error.suggestions().iter().any(|known| known == name), "{error:?}");
    }
    let error = ana.send_text("ben", &lab.text("which"), Priority::Next).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AmbiguousTarget);
    let mut prefixes = error.suggestions().to_vec();
    prefixes.sort();
    let mut keys = [ben.key().0[..16].to_owned(), twin.key().0[..16].to_owned()];
    keys.sort();
    assert_eq!(prefixes, keys);
    // What the error suggests works: the beginning of the key.
    for (seat, other) in [(&ben, &twin), (&twin, &ben)] {
        let text = lab.text("by the beginning of the key");
        ana.send_text(&seat.key().0[..16], &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(seat).await, text);
        assert_eq!(other.waiting(), 0);
        let text = lab.text("by the key in capitals");
        ana.send_text(&seat.key().0.to_uppercase(), &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(seat).await, text);
    }
    // Without regard to case, and a part of a name that only one has; also of somebody who is away.
    dan.client.close().await;
    let texts = [lab.text("by name"), lab.text("by a part of it")];
    ana.send_text("DANIELA", &texts[0], Priority::Now).await.unwrap();
    ana.send_text("niel", &texts[1], Priority::Now).await.unwrap();
    let back = dan.person.connect().await;
    assert_eq!(recv_texts(&back, 2).await, texts);
    // Oneself.
    let text = lab.text("note to myself");
    ana.send_text("ana", &text, Priority::Next).await.unwrap();
    assert_eq!(recv_text(&ana).await, text);
    // A key that nobody has, a group that nobody is in, an empty target.
    let nobody = claudemesh_crypto::SecretKey::generate().public().to_string();
    assert_eq!(code(ana.send_text(&nobody, &lab.text("x"), Priority::Now).await), ErrorCode::NoSuchPeer);
    assert_eq!(code(ana.send_text("@nobody", &lab.text("x"), Priority::Now).await), ErrorCode::NoSuchPeer);
    assert_eq!(code(ana.send_text(" ", &lab.text("x"), Priority::Now).await), ErrorCode::InvalidRequest);
    lab.finish().await;
}

pub async fn one_unknown_name_does_not_hold_up_the_others(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let text = lab.text("for several");
    let targets = ["cara", "emil", "ben", &ben.key().0[..12], "CARA"].map(str::to_owned);
    let request = SendMessage {
        to: SendTargets::Many(targets.into()),
        message: text.clone(),
        priority: Priority::Now,
    };
    let results = ana.send_message(request).await.unwrap().results;
    let failed: Vec<_> = results.iter().filter(|result| result.error.is_some()).map(|result| &result.to).collect();
    assert_eq!(failed, ["emil"]);
    assert_eq!(results.len(), 3, "each gets it once: {results:?}");
    assert_eq!(recv_text(&ben).await, text);
    assert_eq!(recv_text(&cara).await, text);
    expect_nothing(&lab, &ana, &ben).await;
    expect_nothing(&lab, &ana, &cara).await;
    lab.finish().await;
}
