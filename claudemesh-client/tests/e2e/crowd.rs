//! Many at once.

use super::kit::*;
use claudemesh_client::Resolved;
use claudemesh_client::flows::{InviteOptions, create_invite};
use claudemesh_client::proto::model::Priority;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const MEMBERS: usize = 20;
const MESSAGES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// Whom a message is for: everybody, or one of three.
fn recipient(sender: usize, number: usize) -> Option<usize> {
    (!number.is_multiple_of(5)).then_some((sender + 1 + number % 3) % MEMBERS)
}

pub async fn twenty_members_lose_nothing(database: Database) {
    let lab = Lab::start(database).await;
    let ana = lab.mesh("Crowd", "m0").await;
    let options = InviteOptions {
        max_uses: 19,
        ..InviteOptions::default()
    };
    let invite = create_invite(&ana, options).await.unwrap();
    let mut seats = vec![ana];
    for number in 1..MEMBERS {
        seats.push(lab.use_link(&invite, &format!("m{number}")).await);
    }
    let seats = Arc::new(seats);
    let texts: Vec<Vec<String>> = (0..MEMBERS)
        .map(|_| (0..MESSAGES).map(|_| lab.text("in the crowd")).collect())
        .collect();
    let texts = Arc::new(texts);
    let sending = (0..MEMBERS).map(|sender| {
        let (seats, texts) = (seats.clone(), texts.clone());
        tokio::spawn(async move {
            let mut pending = Vec::new();
            for number in 0..MESSAGES {
                let to = match recipient(sender, number) {
                    Some(one) => seats[one].person.address(),
                    None => Resolved::Multicast { spec: "*".to_owned() },
                };
                let text = &texts[sender][number];
                pending.push(seats[sender].queue_to(&to, text, Priority::Next).await.unwrap());
            }
            for ack in pending {
                ack.await.unwrap();
            }
        })
    });
    let sending: Vec<_> = sending.collect();
    let receiving = (0..MEMBERS).map(|receiver| {
        let seats = seats.clone();
        let expected: Vec<(usize, usize)> = (0..MEMBERS)
            .filter(|sender| *sender != receiver)
            .flat_map(|sender| (0..MESSAGES).map(move |number| (sender, number)))
            .filter(|(sender, number)| recipient(*sender, *number).is_none_or(|one| one == receiver))
            .collect();
        let texts = texts.clone();
        tokio::spawn(async move {
            let mut came: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for count in 0..expected.len() {
                // Opening is slow in a build without optimisation, and twenty clients share the machine.
                let message = timeout(PATIENCE, seats[receiver].recv()).await;
                let Ok(Some(message)) = message else {
                    panic!("m{receiver} waits for {} of {}", expected.len() - count, expected.len())
                };
                assert!(message.authenticated && message.warnings.is_empty(), "{:?}", message.warnings);
                came.entry(message.from.clone())
                    .or_default()
                    .push(message.text.clone().unwrap());
            }
            let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (sender, number) in expected {
                wanted.entry(format!("m{sender}")).or_default().push(texts[sender][number].clone());
            }
            assert_eq!(came, wanted, "m{receiver}");
        })
    });
    for task in receiving.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for task in sending {
        timeout(PATIENCE, task).await.expect("all acknowledgements").unwrap();
    }
    let seats = Arc::into_inner(seats).expect("the tasks are over");
    for seat in &seats[1..] {
        expect_nothing(&lab, &seats[0], seat).await;
    }
    lab.finish().await;
}
