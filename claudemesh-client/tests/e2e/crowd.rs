//! Many at once.

use super::kit::*;
use claudemesh_client::flows::{InviteOptions, create_invite};
use claudemesh_client::proto::model::Priority;
use claudemesh_client::{Message, Resolved};
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
                assert!(
                    message.authenticated && message.warnings.is_empty(),
                    "{:?}",
                    message.warnings
                );
                came.entry(message.from.clone())
                    .or_default()
                    .push(message.text.clone().unwrap());
            }
            let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (sender, number) in expected {
                wanted
                    .entry(format!("m{sender}"))
                    .or_default()
                    .push(texts[sender][number].clone());
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

pub async fn a_crowd_that_comes_and_goes_loses_nothing(database: Database) {
    const CROWD: usize = 12;
    const EACH: usize = 12;
    let mut lab = Lab::start(database).await;
    let ana = lab.mesh("Crowd", "m0").await;
    let options = InviteOptions {
        max_uses: u32::try_from(CROWD - 1).unwrap(),
        ..InviteOptions::default()
    };
    let invite = create_invite(&ana, options).await.unwrap();
    let mut seats = vec![ana];
    for number in 1..CROWD {
        seats.push(lab.use_link(&invite, &format!("m{number}")).await);
    }
    let texts: Vec<Vec<String>> = (0..CROWD)
        .map(|_| (0..EACH).map(|_| lab.text("in the coming and going")).collect())
        .collect();
    let to = |sender: usize, number: usize| {
        (!number.is_multiple_of(3)).then_some((sender + 1 + number % (CROWD - 1)) % CROWD)
    };
    let sending: Vec<_> = (0..CROWD)
        .map(|sender| {
            let client = seats[sender].client.clone();
            let messages: Vec<(Resolved, String)> = (0..EACH)
                .map(|number| {
                    let to = match to(sender, number) {
                        Some(one) => seats[one].person.address(),
                        None => Resolved::Multicast { spec: "*".to_owned() },
                    };
                    (to, texts[sender][number].clone())
                })
                .collect();
            tokio::spawn(async move {
                let mut pending = Vec::new();
                for (to, text) in &messages {
                    pending.push(client.queue_to(to, text, Priority::Next).await.unwrap());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                for ack in pending {
                    ack.await.unwrap();
                }
            })
        })
        .collect();
    // Every third member reads with a second process from the middle on; the broker restarts in between.
    let receiving: Vec<_> = (0..CROWD)
        .map(|receiver| {
            let (first, person) = (seats[receiver].client.clone(), seats[receiver].person.clone());
            let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for sender in (0..CROWD).filter(|sender| *sender != receiver) {
                let own = (0..EACH).filter(|number| to(sender, *number).is_none_or(|one| one == receiver));
                let own = own.map(|number| texts[sender][number].clone()).collect();
                wanted.insert(format!("m{sender}"), own);
            }
            let total = wanted.values().map(Vec::len).sum::<usize>();
            tokio::spawn(async move {
                let mut came: BTreeMap<String, Vec<String>> = BTreeMap::new();
                let mut taken = 0;
                let mut second = None;
                while taken < total {
                    if second.is_none() && receiver % 3 == 2 && taken >= total / 2 {
                        second = Some(person.connect().await);
                    }
                    let message = within_patience(receiver, async {
                        match &second {
                            None => first.recv().await,
                            Some(second) => tokio::select! {
                                message = first.recv() => message,
                                message = second.recv() => message,
                            },
                        }
                    })
                    .await;
                    taken += 1;
                    came.entry(message.from.clone())
                        .or_default()
                        .push(message.text.clone().unwrap());
                }
                // Between two processes of one member there is no order to see; nothing is missing and nothing doubled.
                if second.is_some() {
                    for texts in came.values_mut().chain(wanted.values_mut()) {
                        texts.sort();
                    }
                }
                assert_eq!(came, wanted, "m{receiver}");
                if let Some(second) = second {
                    second.close().await;
                }
            })
        })
        .collect();
    lab.restart().await;
    for task in receiving {
        timeout(2 * PATIENCE, task).await.expect("all messages").unwrap();
    }
    for task in sending {
        timeout(PATIENCE, task).await.expect("all acknowledgements").unwrap();
    }
    for seat in &seats[1..] {
        expect_nothing(&lab, &seats[0], seat).await;
    }
    lab.finish().await;
}

async fn within_patience(receiver: usize, next: impl Future<Output = Option<Message>>) -> Message {
    match timeout(PATIENCE, next).await {
        Ok(Some(message)) => message,
        _ => panic!("m{receiver} waits for a message"),
    }
}
