//! From names to members.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{GroupName, Priority};
use claudemesh_client::proto::ops::{JoinGroup, MeshInfo, RemoveMember};
use claudemesh_client::proto::tools::{SendMessage, SendTargets};

pub async fn names_find_their_member_or_say_why_not(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let twin = lab.join(&ana, "Ben").await;
    let dan = lab.join(&ana, "daniela").await;

    let error = ana
        .send_text("emil", &lab.text("nobody"), Priority::Next)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchPeer);
    for name in ["ana", "ben", "cara", "daniela"] {
        assert!(error.suggestions().iter().any(|known| known == name), "{error:?}");
    }
    let error = ana
        .send_text("ben", &lab.text("which"), Priority::Next)
        .await
        .unwrap_err();
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
        ana.send_text(&seat.key().0.to_uppercase(), &text, Priority::Now)
            .await
            .unwrap();
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
    assert_eq!(
        code(ana.send_text(&nobody, &lab.text("x"), Priority::Now).await),
        ErrorCode::NoSuchPeer
    );
    assert_eq!(
        code(ana.send_text("@nobody", &lab.text("x"), Priority::Now).await),
        ErrorCode::NoSuchPeer
    );
    assert_eq!(
        code(ana.send_text(" ", &lab.text("x"), Priority::Now).await),
        ErrorCode::InvalidRequest
    );
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
    let failed: Vec<_> = results
        .iter()
        .filter(|result| result.error.is_some())
        .map(|result| &result.to)
        .collect();
    assert_eq!(failed, ["emil"]);
    assert_eq!(results.len(), 3, "each gets it once: {results:?}");
    assert_eq!(recv_text(&ben).await, text);
    assert_eq!(recv_text(&cara).await, text);
    expect_nothing(&lab, &ana, &ben).await;
    expect_nothing(&lab, &ana, &cara).await;
    lab.finish().await;
}

pub async fn groups_are_found_or_near_ones_suggested(database: Database) {
    let (mut lab, Three { ana, mut ben, cara }) = Lab::with_three(database).await;
    for (client, name) in [(&ben, "backend/db"), (&cara, "frontend"), (&ana, "mine")] {
        let name = GroupName::new(name);
        client.request(JoinGroup { name, role: None }).await.unwrap();
    }
    for round in 0..3 {
        for (target, suggested) in [
            ("@backnd", "@backend"),
            ("@backend/dbs", "@backend/db"),
            ("@FrontEnd", "@frontend"),
            ("@front", "@frontend"),
        ] {
            let error = ana
                .send_text(target, &lab.text("who?"), Priority::Now)
                .await
                .unwrap_err();
            assert_eq!(error.code(), ErrorCode::NoSuchPeer, "{round}: {target}");
            assert_eq!(
                error.suggestions().first().map(String::as_str),
                Some(suggested),
                "{round}: {error:?}"
            );
            // What it suggests works.
            let text = lab.text("found");
            ana.send_text(&error.suggestions()[0], &text, Priority::Now)
                .await
                .unwrap();
            let to = if suggested.starts_with("@b") { &ben } else { &cara };
            if round < 2 || suggested.starts_with("@f") {
                assert_eq!(recv_text(to).await, text);
            }
        }
        let error = ana
            .send_text("@minee", &lab.text("who?"), Priority::Now)
            .await
            .unwrap_err();
        assert!(error.suggestions().is_empty(), "nobody else is there: {error:?}");
        match round {
            0 => {
                lab.restart().await;
                for seat in [&ana, &ben, &cara] {
                    within("the connection", seat.request(MeshInfo {})).await.unwrap();
                }
                eventually("everybody's return", || async {
                    (peer_names(&ana).await.len() == 3).then_some(())
                })
                .await;
            }
            // Who is away is in the groups that it was in.
            1 => ben.client.close().await,
            _ => {}
        }
    }
    ben.client = ben.person.connect().await;
    recv_texts(&ben, 2).await;
    lab.finish().await;
}

pub async fn unusual_names_are_found_as_they_are_written(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let mut seats = Vec::new();
    for name in [
        "anabel",
        "Änne Öhlmann",
        "deadbeef",
        "日本語",
        "o'brien \"the\" \\ %_",
        "x y  z",
    ] {
        seats.push((name, lab.join(&ana, name).await));
    }
    let targets = [
        ("anabel", 0),
        ("anab", 0),
        ("änne öhlmann", 1),
        ("ÖHLM", 1),
        ("DEADBEEF", 2),
        ("日本語", 3),
        ("本", 3),
        ("o'brien \"the\" \\ %_", 4),
        ("%_", 4),
        ("  x y  z ", 5),
    ];
    for (target, number) in targets {
        let text = lab.text("for an unusual name");
        ana.send_text(target, &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(&seats[number].1).await, text, "{target}");
    }
    // The whole name is meant before a part of a longer one, whose part alone is not clear.
    let text = lab.text("for ana");
    ben.send_text("ANA", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ana).await, text);
    let error = ben
        .send_text("an", &lab.text("which"), Priority::Now)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::AmbiguousTarget, "{error:?}");
    // Seven characters of a key are no key.
    let error = ana
        .send_text(&ben.key().0[..7], &lab.text("short"), Priority::Now)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchPeer, "{error:?}");
    let text = lab.text("eight are");
    ana.send_text(&ben.key().0[..8].to_uppercase(), &text, Priority::Now)
        .await
        .unwrap();
    assert_eq!(recv_text(&ben).await, text);
    for (_, seat) in &seats {
        assert_eq!(seat.waiting(), 0);
    }
    lab.finish().await;
}

pub async fn names_and_keys_that_are_gone_lead_nowhere(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let olga = lab.mesh("Other", "olga").await;
    let laptop = ben.person.builder().display_name("ben-laptop").connect().await.unwrap();
    let session = laptop.session_key().to_string();
    let text = lab.text("while it is there");
    ana.send_text("BEN-laptop", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&laptop).await, text);
    laptop.close().await;
    eventually("the end of the session", || async {
        (peers(&ana).await.len() == 3).then_some(())
    })
    .await;
    let member_id = cara.identity().member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    // A session that ended, a removed member, a member of another mesh.
    for target in [
        "ben-laptop",
        &session,
        "cara",
        &cara.key().0,
        &cara.key().0[..16],
        "olga",
        &olga.key().0,
    ] {
        let error = ana
            .send_text(target, &lab.text("lost"), Priority::Now)
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::NoSuchPeer, "{target}: {error:?}");
        assert!(
            !error.suggestions().iter().any(|name| name == "cara" || name == "olga"),
            "{error:?}"
        );
    }
    // The name is free again.
    let other = lab.join(&ana, "cara").await;
    let text = lab.text("for the other cara");
    ana.send_text("cara", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&other).await, text);
    lab.finish().await;
}
