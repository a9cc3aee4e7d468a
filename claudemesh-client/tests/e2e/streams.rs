//! Streams: live events for everybody who subscribed.

use super::enrolment::{patch, permissions};
use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Capability, Permissions};
use claudemesh_client::proto::ops::{
    CreateStream, ListStreams, MeshInfo, Publish, Published, RemoveMember, SetGrants, StreamCreated, StreamData,
    Subscribe, Unsubscribe,
};
use claudemesh_client::{ClientError, ClientEvent, MeshClient, StreamItem, Subscription};
use claudemesh_crypto::SecretKey;
use serde_json::{Value, json};
use std::sync::Arc;

async fn create(client: &MeshClient, name: &str) -> StreamCreated {
    let name = name.to_owned();
    client.request(CreateStream { name }).await.unwrap()
}

async fn try_publish(client: &MeshClient, stream: &str, data: Value) -> Result<Published, ClientError> {
    let stream = stream.to_owned();
    client.request(Publish { stream, data }).await
}

async fn publish(client: &MeshClient, stream: &str, data: Value) -> Published {
    try_publish(client, stream, data).await.unwrap()
}

fn to(stream: &str) -> Subscribe {
    Subscribe {
        stream: stream.to_owned(),
        ..Subscribe::default()
    }
}

fn replaying(stream: &str, count: u32) -> Subscribe {
    Subscribe {
        replay: Some(count),
        ..to(stream)
    }
}

async fn item(subscription: &mut Subscription) -> StreamItem {
    within("an item of the stream", subscription.next())
        .await
        .expect("the subscription goes on")
}

async fn next(subscription: &mut Subscription) -> Arc<StreamData> {
    match item(subscription).await {
        StreamItem::Event(data) => data,
        other => panic!("an event: {other:?}"),
    }
}

pub async fn events_come_in_order_to_everybody_else(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let created = create(&ana, "builds").await;
    assert!(created.created);
    let again = create(&ben, "builds").await;
    assert_eq!((again.id, again.created), (created.id.clone(), false));
    create(&cara, "Builds").await;
    let mut by_ben = ben.subscribe(to("builds")).await.unwrap();
    let mut by_ana = ana.subscribe(to("builds")).await.unwrap();
    let mut events = cara.events();
    let subscribed = cara.call_tool("subscribe", json!({ "stream": "builds" })).await.unwrap();
    assert_eq!(subscribed["seq"], 0);
    for number in 1..=50_u64 {
        let published = publish(&ana, "builds", json!({ "number": number, "ünï": null })).await;
        assert_eq!((published.seq, published.receivers), (number, 2));
    }
    publish(&ben, "builds", json!("from ben")).await;
    for number in 1..=50_u64 {
        let event = next(&mut by_ben).await;
        assert_eq!((event.seq, &event.data["number"]), (number, &json!(number)));
        assert_eq!((event.published_by.as_str(), event.publisher.as_ref()), ("ana", Some(&ana.key())));
        let heard = event_of(&mut events).await;
        assert_eq!(heard.seq, number);
    }
    // Nobody hears its own.
    assert_eq!(next(&mut by_ana).await.data, json!("from ben"));
    assert_eq!(event_of(&mut events).await.data, json!("from ben"));

    let list = cara.request(ListStreams {}).await.unwrap().streams;
    let listed: Vec<_> = list
        .iter()
        .map(|stream| (stream.name.as_str(), stream.created_by.as_str(), stream.subscriber_count))
        .collect();
    assert_eq!(listed, [("builds", "ana", 3), ("Builds", "cara", 0)]);
    assert_eq!(cara.request(MeshInfo {}).await.unwrap().streams, ["builds", "Builds"]);

    lab.restart().await;
    // The names are there, and so are the subscriptions, which are told that something may be missing.
    let others = || async {
        let streams = ana.request(ListStreams {}).await.unwrap().streams;
        let ids = streams.iter().map(|stream| stream.id.as_str());
        assert_eq!(ids.take(1).collect::<Vec<_>>(), [created.id.as_str()]);
        (streams[0].subscriber_count == 3).then_some(())
    };
    eventually("the return of the subscribers", others).await;
    assert_eq!(publish(&ana, "builds", json!("after")).await.receivers, 2);
    assert!(matches!(item(&mut by_ben).await, StreamItem::Missed(None)));
    assert_eq!(next(&mut by_ben).await.data, json!("after"));
    let missed = event(&mut events, "the gap", |event| match event {
        ClientEvent::StreamMissed { stream, count } => Some((stream, count)),
        _ => None,
    });
    assert_eq!(missed.await, ("builds".to_owned(), None));
    assert_eq!(event_of(&mut events).await.data, json!("after"));
    lab.finish().await;
}

async fn event_of(events: &mut claudemesh_client::EventStream) -> Arc<StreamData> {
    event(events, "an event of the stream", |event| match event {
        ClientEvent::StreamData(data) => Some(data),
        _ => None,
    })
    .await
}

pub async fn a_broken_connection_loses_and_doubles_nothing(database: Database) {
    let (lab, Three { ana, ben, cara: _cara }) = Lab::with_three(database).await;
    create(&ana, "s").await;
    let mut first = ben.subscribe(to("s")).await.unwrap();
    let mut second = ben.subscribe(to("s")).await.unwrap();
    let publisher = tokio::spawn({
        let ana = ana.client.clone();
        async move {
            for number in 1..=200_u64 {
                publish(&ana, "s", json!(number)).await;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    });
    for number in 1..=200_u64 {
        if number % 50 == 25 {
            lab.cut(&ben);
        }
        let event = next(&mut first).await;
        assert_eq!((event.seq, &event.data), (number, &json!(number)));
        assert_eq!(next(&mut second).await.seq, number);
    }
    within("the end", publisher).await.unwrap();
    // More than is kept, while ben is away for good.
    drop(second);
    lab.cut(&ben);
    let away = ben.state();
    for number in 0..300 {
        publish(&ana, "s", json!(number)).await;
    }
    drop(away);
    // Wherever the connection came back, the numbers and the gap together are all there is.
    let mut heard = 200;
    while heard < 500 {
        match item(&mut first).await {
            StreamItem::Event(event) => {
                heard += 1;
                assert_eq!(event.seq, heard);
            }
            StreamItem::Missed(missed) => heard += missed.expect("the broker was not restarted"),
            other => panic!("{other:?}"),
        }
    }
    lab.finish().await;
}

pub async fn the_past_is_shown_on_request(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    create(&ana, "s").await;
    for number in 1..=300 {
        publish(&ana, "s", json!(number)).await;
    }
    let mut none = ben.subscribe(to("s")).await.unwrap();
    let mut some = ben.subscribe(replaying("s", 3)).await.unwrap();
    assert_eq!(some.subscribed().seq, 300);
    let tool = cara.call_tool("subscribe", json!({ "stream": "s", "replay": 256 })).await.unwrap();
    let numbers: Vec<_> = tool["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["data"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (45..=300).collect::<Vec<_>>());
    publish(&ana, "s", json!("live")).await;
    assert_eq!(next(&mut none).await.seq, 301);
    for number in [298, 299, 300, 301] {
        assert_eq!(next(&mut some).await.seq, number);
    }
    let (code, field) = refusal(cara.subscribe(replaying("s", 257)).await);
    assert_eq!((code, field.as_deref()), (ErrorCode::InvalidRequest, Some("/replay")));

    // A subscription ends with its last reader; one of the session with `unsubscribe`.
    let count = || async { ana.request(ListStreams {}).await.unwrap().streams[0].subscriber_count };
    assert_eq!(count().await, 2);
    drop(none);
    drop(some);
    eventually("the end of ben's subscription", || async { (count().await == 1).then_some(()) }).await;
    let mut reader = cara.subscribe(to("s")).await.unwrap();
    let stream = "s".to_owned();
    assert!(cara.unsubscribe(Unsubscribe { stream }).await.unwrap().was_subscribed);
    assert!(within("the end", reader.next()).await.is_none());
    assert_eq!(count().await, 0);
    let stream = "s".to_owned();
    assert!(!cara.unsubscribe(Unsubscribe { stream }).await.unwrap().was_subscribed);
    // A one-shot connection may subscribe too, and gets nothing it did not ask for.
    let observer = cara.person.observe().await;
    let mut observed = observer.subscribe(replaying("s", 1)).await.unwrap();
    assert_eq!(next(&mut observed).await.data, json!("live"));
    assert_eq!(publish(&ana, "s", json!(1)).await.receivers, 1);
    assert_eq!(next(&mut observed).await.data, json!(1));
    observer.close().await;
    assert!(within("the end", observed.next()).await.is_none());
    eventually("the end of the observer", || async { (count().await == 0).then_some(()) }).await;
    lab.finish().await;
}

pub async fn a_slow_subscriber_slows_nobody_and_is_told(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    create(&ana, "s").await;
    let mut fast = ben.subscribe(to("s")).await.unwrap();
    let mut slow = Socket::v2(&lab, &cara.person, &SecretKey::generate()).await;
    slow.ask(json!({ "type": "subscribe", "stream": "s" })).await;
    const EVENTS: u64 = 300;
    let large = "x".repeat(60_000);
    // 18 MB, of which the broker keeps 4 and the sockets some.
    let mut left_out = 0;
    for number in 1..=EVENTS {
        let published = publish(&ana, "s", json!([number, large])).await;
        left_out += u64::from(2 - published.receivers);
        assert_eq!(next(&mut fast).await.seq, number);
    }
    assert!(left_out > 100, "{left_out}");
    publish(&ana, "s", json!("last")).await;
    let (mut heard, mut missed, mut last) = (0, 0, 0);
    while heard + missed < EVENTS {
        let frame = slow.next().await;
        match frame["type"].as_str().unwrap() {
            "stream_data" => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(seq > last);
                assert_eq!(seq, last + 1 + (heard + missed - last), "what is between was told");
                last = seq;
                heard += 1;
            }
            "stream_lagged" => {
                assert_eq!(frame["stream"], "s");
                missed += frame["missed"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    assert!(heard > 10 && missed >= left_out, "{heard} {missed} {left_out}");
    // It is still connected, and hears the next event.
    let (reply, _) = slow.ask(json!({ "type": "list_streams" })).await;
    assert_eq!(reply["streams"][0]["subscriberCount"], 2);
    publish(&ana, "s", json!("next")).await;
    loop {
        if slow.next_of("stream_data").await["data"] == "next" {
            break;
        }
    }
    lab.finish().await;
}

pub async fn who_may_not_is_refused(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    create(&ana, "builds").await;
    // What there is not.
    let refused = try_publish(&ben, "build", json!(1)).await;
    let Err(ClientError::Refused(frame)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((frame.code, frame.field.as_deref()), (ErrorCode::NotFound, Some("/stream")));
    assert_eq!(frame.suggestions, ["builds"]);
    assert_eq!(code(ben.subscribe(to("none")).await), ErrorCode::NotFound);
    // What does not fit.
    publish(&ben, "builds", json!("x".repeat(65_534))).await;
    let (code_, field) = refusal(try_publish(&ben, "builds", json!("x".repeat(65_535))).await);
    assert_eq!((code_, field.as_deref()), (ErrorCode::TooLarge, Some("/data")));
    for name in [String::new(), "n".repeat(129)] {
        assert_eq!(code(ben.request(CreateStream { name }).await), ErrorCode::InvalidRequest);
    }
    // Another mesh has streams of its own.
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(code(olga.subscribe(to("builds")).await), ErrorCode::NotFound);
    create(&olga, "builds").await;
    let mut other = olga.subscribe(replaying("builds", 256)).await.unwrap();

    // A member that may not send or write.
    let mut by_ben = ben.subscribe(to("builds")).await.unwrap();
    let nothing = Permissions {
        can_send: Some(false),
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &ben, permissions(nothing)).await.unwrap();
    assert_eq!(code(try_publish(&ben, "builds", json!(1)).await), ErrorCode::Forbidden);
    let name = "another".to_owned();
    assert_eq!(code(ben.request(CreateStream { name }).await), ErrorCode::Forbidden);
    publish(&ana, "builds", json!("it still hears")).await;
    assert_eq!(next(&mut by_ben).await.data, json!("it still hears"));

    // Who blocks another hears nothing of it, and is not heard.
    let grants = [(ana.key(), Some(vec![Capability::Dm]))].into();
    cara.request(SetGrants { grants }).await.unwrap();
    let mut by_cara = cara.subscribe(replaying("builds", 256)).await.unwrap();
    let mut by_ana = ana.subscribe(to("builds")).await.unwrap();
    assert_eq!(publish(&ana, "builds", json!("not for cara")).await.receivers, 1);
    assert_eq!(publish(&cara, "builds", json!("not for ana")).await.receivers, 1);
    assert_eq!(next(&mut by_ben).await.data, json!("not for cara"));
    assert_eq!(next(&mut by_ben).await.data, json!("not for ana"));
    let grants = [(ana.key(), None)].into();
    cara.request(SetGrants { grants }).await.unwrap();
    publish(&cara, "builds", json!("for ana")).await;
    publish(&ana, "builds", json!("for cara")).await;
    assert_eq!(next(&mut by_ana).await.data, json!("for ana"));
    // Of the past, too, only what ben wrote was shown.
    assert_eq!(next(&mut by_cara).await.published_by, "ben");
    assert_eq!(next(&mut by_cara).await.data, json!("for cara"));

    // A removed member hears nothing more.
    let member_id = ben.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    assert_eq!(publish(&ana, "builds", json!("without ben")).await.receivers, 1);
    publish(&olga, "builds", json!(1)).await;
    let fence = create(&olga, "fence").await;
    assert!(fence.created);
    let mut echo = lab.join(&olga, "omar").await.subscribe(replaying("builds", 1)).await.unwrap();
    assert_eq!(next(&mut echo).await.data, json!(1));
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(50), other.next()).await;
    assert!(nothing.is_err(), "olga hears neither herself nor another mesh: {nothing:?}");
    lab.finish().await;
}

pub async fn original_clients_use_streams_as_before(database: Database) {
    let (lab, Three { ana, ben, cara: _cara }) = Lab::with_three(database).await;
    let (mut old, _) = Socket::v1(&lab, &ben.person, None).await;
    // Nothing was created; publishing into the void and subscribing are fine, and not answered with errors.
    old.send(&json!({ "type": "publish", "stream": "void", "data": 1 })).await;
    old.send(&json!({ "type": "subscribe", "stream": "s" })).await;
    assert_eq!(old.next_of("subscribed").await["stream"], "s");
    let mut by_ana = ana.subscribe(to("s")).await.unwrap();
    old.send(&json!({ "type": "publish", "stream": "s", "data": { "n": 1 } })).await;
    assert_eq!(next(&mut by_ana).await.data, json!({ "n": 1 }));
    publish(&ana, "s", json!([2])).await;
    let frame = old.next_of("stream_data").await;
    assert_eq!(
        (&frame["stream"], &frame["data"], &frame["publishedBy"]),
        (&json!("s"), &json!([2]), &json!("ana"))
    );
    old.send(&json!({ "type": "list_streams" })).await;
    let list = old.next_of("stream_list").await;
    assert_eq!(list["streams"].as_array().unwrap().len(), 1);
    let stream = &list["streams"][0];
    assert_eq!((&stream["createdBy"], &stream["subscriberCount"]), (&json!("ben"), &json!(2)));
    assert!(stream["id"].is_string() && stream["createdAt"].is_string());
    old.send(&json!({ "type": "unsubscribe", "stream": "s" })).await;
    assert_eq!(old.drained().await, Vec::<Value>::new());
    assert_eq!(publish(&ana, "s", json!(3)).await.receivers, 0);
    lab.finish().await;
}
