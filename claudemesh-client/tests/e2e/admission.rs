//! How the group keys get to those who join.

use super::kit::*;
use claudemesh_client::flows::{InviteOptions, create_invite, join};
use claudemesh_client::proto::model::{DeliveryStage, Priority};

/// The link as somebody passes it on who cuts it at the `#`.
fn without_secret(link: &str) -> String {
    link.split_once('#').expect("a link with a secret").0.to_owned()
}

pub async fn the_secret_of_the_link_is_enough(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let options = InviteOptions {
        max_uses: 2,
        ..InviteOptions::default()
    };
    let invite = create_invite(&ana, options).await.unwrap();
    let mut newcomers = Vec::new();
    for name in ["dan", "dora"] {
        let joined = join(&invite.link, name, None).await.unwrap();
        assert!(
            joined.secret.is_some() && joined.warnings.is_empty(),
            "{:?}",
            joined.warnings
        );
        newcomers.push(lab.person(joined.identity, joined.secret));
    }
    let text = lab.text("for those who are not there yet");
    ben.send_text("*", &text, Priority::Next).await.unwrap();
    for seat in [&ana, &ben, &cara] {
        seat.client.close().await;
    }
    lab.restart().await;
    // Nobody is there to hand out a key, nor will be.
    let dan = newcomers[0].connect().await;
    let message = recv(&dan).await;
    assert_eq!(message.text.as_ref(), Some(&text));
    assert!(message.authenticated);
    assert_eq!(peer_names(&dan).await, ["dan"]);
    // Two newcomers understand each other.
    let dora = newcomers[1].connect().await;
    assert_eq!(recv_text(&dora).await, text);
    let text = lab.text("among newcomers");
    dan.send_text("*", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&dora).await, text);
    // And the rest reads it later.
    let ben = ben.person.connect().await;
    assert_eq!(recv_text(&ben).await, text);
    lab.finish().await;
}

pub async fn without_the_secret_the_keys_come_with_the_first_member(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let joined = join(&without_secret(&invite.link), "dan", None).await.unwrap();
    assert!(joined.secret.is_none() && !joined.warnings.is_empty());
    let dan = lab.person(joined.identity, None);
    let texts = [lab.text("before dan has keys"), lab.text("straight to dan")];
    let to_all = ben.send_text("*", &texts[0], Priority::Next).await.unwrap();
    for seat in [&ana, &cara] {
        assert_eq!(recv_text(seat).await, texts[0]);
    }
    for seat in [&ana, &ben, &cara] {
        seat.client.close().await;
    }
    // Alone it reads what is for itself, and keeps what it cannot read yet.
    let client = dan.connect().await;
    let observer = ben.person.observe().await;
    ben_writes(&observer, &dan, &texts[1]).await;
    assert_eq!(recv_text(&client).await, texts[1]);
    assert_eq!(client.waiting(), 0);
    let line = line_of(&observer, &to_all.message_id, &dan.key()).await;
    assert_eq!(
        line.stage,
        Some(DeliveryStage::Accepted),
        "unread mail is not acknowledged"
    );
    // The owner comes: then it reads.
    let ana = ana.person.connect().await;
    let message = recv(&client).await;
    assert_eq!(message.text.as_ref(), Some(&texts[0]));
    assert!(message.authenticated);
    wait_stage(&observer, &to_all.message_id, &dan.key(), DeliveryStage::Delivered).await;
    let text = lab.text("now dan writes");
    client.send_text("*", &text, Priority::Now).await.unwrap();
    assert_eq!(recv_text(&ana).await, text);
    // A fresh process has the keys and asks nobody.
    client.close().await;
    let text = lab.text("to the fresh process");
    ana.send_text("*", &text, Priority::Next).await.unwrap();
    ana.close().await;
    let client = dan.connect().await;
    assert_eq!(recv_text(&client).await, text);
    lab.finish().await;
}

async fn ben_writes(ben: &claudemesh_client::MeshClient, to: &Person, text: &str) {
    ben.send_to(&to.address(), text, Priority::Now).await.unwrap();
}
