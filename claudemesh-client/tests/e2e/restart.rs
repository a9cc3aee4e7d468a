//! Restarts of the broker and of clients in the middle of work.

use super::kit::*;
use claudemesh_client::proto::model::Priority;
use claudemesh_crypto::random_id;
use std::time::Duration;
use tokio::time::sleep;

pub async fn a_broker_restart_in_the_middle_of_traffic_loses_nothing(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let count = 60;
    let texts: Vec<String> = (0..count).map(|_| lab.text("traffic")).collect();
    let broadcasts: Vec<String> = (0..count / 3).map(|_| lab.text("to all")).collect();
    let sending = tokio::spawn({
        let (ana, cara) = (ana.client.clone(), cara.client.clone());
        let (to, texts, broadcasts) = (ben.person.address(), texts.clone(), broadcasts.clone());
        async move {
            let mut pending = Vec::new();
            for (number, text) in texts.iter().enumerate() {
                pending.push(ana.queue_to(&to, text, Priority::Next).await.unwrap());
                if number % 3 == 0 {
                    let all = claudemesh_client::Resolved::Multicast { spec: "*".to_owned() };
                    pending.push(cara.queue_to(&all, &broadcasts[number / 3], Priority::Next).await.unwrap());
                }
                sleep(Duration::from_millis(10)).await;
            }
            for ack in pending {
                ack.await.unwrap();
            }
        }
    });
    for _ in 0..2 {
        sleep(Duration::from_millis(150)).await;
        lab.restart().await;
    }
    let (mut direct, mut to_all) = (Vec::new(), Vec::new());
    while direct.len() + to_all.len() < texts.len() + broadcasts.len() {
        let message = recv(&ben).await;
        let text = message.text.clone().expect("it can be read");
        match message.from.as_str() {
            "ana" => direct.push(text),
            _ => to_all.push(text),
        }
    }
    assert_eq!(direct, texts);
    assert_eq!(to_all, broadcasts);
    within("all acknowledgements", sending).await.unwrap();
    assert_eq!(recv_texts(&ana, broadcasts.len()).await, broadcasts);
    expect_nothing(&lab, &ana, &ben).await;
    // What was restored after the restarts is right as well.
    assert_eq!(peer_names(&ana).await, ["ana", "ben", "cara"]);
    lab.finish().await;
}

pub async fn what_is_sent_while_the_broker_is_down_arrives_once(database: Database) {
    let (mut lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    lab.stop().await;
    let texts: Vec<String> = (0..5).map(|_| lab.text("into the dark")).collect();
    let mut pending = Vec::new();
    for text in &texts {
        pending.push(ana.queue_to(&ben.person.address(), text, Priority::Next).await.unwrap());
    }
    // One that its caller waits for.
    let last = lab.text("waiting for the broker");
    let waiting = tokio::spawn({
        let (ana, to, last) = (ana.client.clone(), ben.person.address(), last.clone());
        async move { ana.send_to(&to, &last, Priority::Next).await }
    });
    sleep(Duration::from_millis(200)).await;
    lab.start_again().await;
    for ack in pending {
        assert!(!within("an acknowledgement", ack).await.unwrap().duplicate);
    }
    within("an acknowledgement", waiting).await.unwrap().unwrap();
    let mut expected = texts;
    expected.push(last);
    let mut came = recv_texts(&ben, 6).await;
    assert_eq!(came[..5], expected[..5]);
    came.sort();
    expected.sort();
    assert_eq!(came, expected);
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn a_restarted_sender_repeats_nothing(database: Database) {
    let (lab, Three { mut ana, ben, .. }) = Lab::with_three(database).await;
    let texts: Vec<String> = (0..20).map(|_| lab.text("from either process")).collect();
    let (before, after) = texts.split_at(10);
    for text in before {
        // Closing waits for what is on its way.
        let _pending = ana.queue_to(&ben.person.address(), text, Priority::Next).await.unwrap();
    }
    ana.restart().await;
    for text in after {
        ana.send_text("ben", text, Priority::Next).await.unwrap();
    }
    assert_eq!(recv_texts(&ben, 20).await, texts);

    // The id decides, whichever process sends.
    let id = random_id();
    let text = lab.text("said twice");
    let key = ben.person.identity.public();
    let seal = |from: &Seat| {
        let sealed = from
            .secure()
            .seal_direct(&key, None, text.as_bytes(), &id, Priority::Next, None);
        sealed.unwrap()
    };
    let first = ana.send_sealed(seal(&ana)).await.unwrap();
    ana.restart().await;
    let second = ana.send_sealed(seal(&ana)).await.unwrap();
    assert_eq!(first.message_id, second.message_id);
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(recv_text(&ben).await, text);
    expect_nothing(&lab, &ana, &ben).await;
    // A process that dies right after the acknowledgement takes nothing with it.
    let text = lab.text("last words");
    ana.send_text("ben", &text, Priority::Next).await.unwrap();
    drop(ana);
    assert_eq!(recv_text(&ben).await, text);
    lab.finish().await;
}

pub async fn a_restarted_receiver_gets_the_rest(database: Database) {
    let (lab, Three { ana, mut ben, .. }) = Lab::with_three(database).await;
    let count = 90;
    let texts: Vec<String> = (0..count).map(|_| lab.text("for either process")).collect();
    let sending = tokio::spawn({
        let (ana, to, texts) = (ana.client.clone(), ben.person.address(), texts.clone());
        async move {
            for text in &texts {
                ana.send_to(&to, text, Priority::Next).await.unwrap();
            }
        }
    });
    let mut came = Vec::new();
    for _ in 0..2 {
        came.append(&mut recv_texts(&ben, 20).await);
        ben.client.close().await;
        // What the client had taken is given out before its end.
        while let Some(message) = within("the rest", ben.recv()).await {
            came.push(message.text.clone().unwrap());
        }
        ben.client = ben.person.connect().await;
    }
    while came.len() < count {
        came.push(recv_text(&ben).await);
    }
    assert_eq!(came, texts);
    within("all acknowledgements", sending).await.unwrap();
    expect_nothing(&lab, &ana, &ben).await;
    lab.finish().await;
}

pub async fn a_killed_receiver_loses_nothing(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let texts: Vec<String> = (0..5).map(|_| lab.text("not read yet")).collect();
    for text in &texts {
        ana.send_text("ben", text, Priority::Next).await.unwrap();
    }
    eventually("in memory", || async { (ben.waiting() == 5).then_some(()) }).await;
    let Seat { person, client } = ben;
    // No `close()`: the process is gone before the program has taken anything.
    drop(client);
    let next = person.connect().await;
    assert_eq!(recv_texts(&next, 5).await, texts);
    lab.finish().await;
}
