//! Shared key-value state.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::ops::{DeleteState, GetState, ListState, SetState, StateResult};
use claudemesh_client::{ClientEvent, MeshClient};
use serde_json::{Value, json};

async fn set(client: &MeshClient, key: &str, value: Value) -> u64 {
    let request = SetState {
        key: key.to_owned(),
        value,
    };
    client.request(request).await.unwrap().version
}

async fn get(client: &MeshClient, key: &str) -> StateResult {
    client.request(GetState { key: key.to_owned() }).await.unwrap()
}

async fn delete(client: &MeshClient, key: &str) -> bool {
    client
        .request(DeleteState { key: key.to_owned() })
        .await
        .unwrap()
        .existed
}

pub async fn values_are_set_read_listed_and_deleted(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let mut events = ben.events();
    let mut own_events = ana.events();
    let values = [
        json!("text with ünïcode"),
        json!(null),
        json!({ "nested": [1, 2.5, true, null] }),
        json!(18_446_744_073_709_551_615_u64),
    ];
    assert!(!get(&ana, "key").await.exists);
    for (index, value) in values.iter().enumerate() {
        let version = set(&ana, "key", value.clone()).await;
        assert_eq!(version, index as u64 + 1);
        let found = get(&ben, "key").await;
        assert!(found.exists);
        assert_eq!(
            (&found.value, found.version, found.updated_by.as_str()),
            (value, version, "ana")
        );
        let change = event(&mut events, "the change", |event| match event {
            ClientEvent::StateChange(change) => Some(change),
            _ => None,
        })
        .await;
        assert_eq!(
            (change.key.as_str(), &change.value, change.version, change.deleted),
            ("key", value, version, false)
        );
        assert_eq!(change.updated_by, "ana");
    }
    set(&cara, "another", json!(1)).await;
    // Ana hears of cara's change and of none of her own.
    let first = event(&mut own_events, "the change", |event| match event {
        ClientEvent::StateChange(change) => Some(change.key),
        _ => None,
    });
    assert_eq!(first.await, "another");

    lab.restart().await;
    let entries = ben.request(ListState {}).await.unwrap().entries;
    let listed: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.key.as_str(),
                &entry.value,
                entry.version,
                entry.updated_by.as_str(),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [("another", &json!(1), 1, "cara"), ("key", &values[3], 4, "ana")]
    );

    // Ana is back as well: who is away hears of no change.
    get(&ana, "key").await;
    assert!(delete(&ben, "key").await);
    assert!(!delete(&ben, "key").await);
    let gone = get(&ana, "key").await;
    assert_eq!((gone.exists, gone.value, gone.version), (false, Value::Null, 0));
    let change = event(&mut own_events, "the removal", |event| match event {
        ClientEvent::StateChange(change) if change.key == "key" => Some(change),
        _ => None,
    });
    let change = change.await;
    assert!(change.deleted && change.value.is_null());
    lab.finish().await;
}

pub async fn what_does_not_fit_is_refused_with_its_field(database: Database) {
    let (lab, Three { ana, .. }) = Lab::with_three(database).await;
    let largest = json!("x".repeat(65_534));
    set(&ana, "large", largest.clone()).await;
    assert_eq!(get(&ana, "large").await.value, largest);
    let set = |key: &str, value| {
        ana.request(SetState {
            key: key.to_owned(),
            value,
        })
    };
    let (code, field) = refusal(set("large", json!("x".repeat(65_535))).await);
    assert_eq!((code, field.as_deref()), (ErrorCode::TooLarge, Some("/value")));
    for key in [String::new(), "k".repeat(257)] {
        let (code, field) = refusal(set(&key, json!(1)).await);
        assert_eq!((code, field.as_deref()), (ErrorCode::InvalidRequest, Some("/key")));
    }
    assert_eq!(get(&ana, "large").await.version, 1, "and nothing was changed");
    lab.finish().await;
}

pub async fn of_two_writers_the_last_wins(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let write = |client: &MeshClient, name: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut versions = Vec::new();
            for number in 0..40 {
                let version = set(&client, "contested", json!({ "by": name, "number": number })).await;
                versions.push((version, json!({ "by": name, "number": number })));
            }
            versions
        })
    };
    let (by_ana, by_ben) = (write(&ana, "ana"), write(&ben, "ben"));
    let mut all = within("the writes", by_ana).await.unwrap();
    all.append(&mut within("the writes", by_ben).await.unwrap());
    all.sort_by_key(|(version, _)| *version);
    let versions: Vec<_> = all.iter().map(|(version, _)| *version).collect();
    assert_eq!(
        versions,
        (1..=80).collect::<Vec<_>>(),
        "every write has a version of its own"
    );
    let found = get(&cara, "contested").await;
    assert_eq!((found.version, &found.value), (80, &all[79].1));
    lab.finish().await;
}

pub async fn keys_and_values_are_kept_as_they_are(database: Database) {
    let (mut lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let mut keys: Vec<String> = [
        "it's",
        "\"quoted\"",
        "back\\slash",
        "'; DROP TABLE state; --",
        "%_",
        "a",
        "A",
        "a ",
        " ",
        "a\nb\t",
        "../etc",
        "$1",
        "\u{7f}",
        "\u{200b}",
        "é",
        "e\u{301}",
        "日本語",
        "🦀",
        "null",
        "0",
        "\u{feff}x",
        "\u{fffd}",
    ]
    .map(str::to_owned)
    .into();
    // The limit is on characters.
    keys.push("🦀".repeat(256));
    let value = |key: &str| {
        json!({
            "of": key, "": [], "text\u{2028}\"\\'": "\u{1}🦀", "numbers": [0, -1, i64::MIN, u64::MAX, 1.5, 1e-7, 1e300],
            "deep": (0..60).fold(json!(null), |inner, _| json!([inner])),
        })
    };
    for key in &keys {
        assert_eq!(set(&ana, key, value(key)).await, 1, "{key:?} is a key of its own");
    }
    keys.sort();
    for _ in 0..2 {
        for key in &keys {
            let found = get(&ben, key).await;
            assert_eq!((found.exists, &found.value, &found.key), (true, &value(key), key));
        }
        let entries = ben.request(ListState {}).await.unwrap().entries;
        assert_eq!(entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), keys);
        lab.restart().await;
    }
    // No store keeps U+0000 reliably: it is refused, and the place is named.
    for (key, value, place) in [
        ("a\0b", json!(1), "/key"),
        ("a", json!("x\0"), "/value"),
        ("a", json!({ "list": [1, "\0"] }), "/value/list/1"),
    ] {
        let request = SetState {
            key: key.to_owned(),
            value,
        };
        let (code, field) = refusal(ana.request(request).await);
        assert_eq!((code, field.as_deref()), (ErrorCode::InvalidRequest, Some(place)));
    }
    let key = "a\0b".to_owned();
    assert_eq!(
        code(ana.request(GetState { key: key.clone() }).await),
        ErrorCode::InvalidRequest
    );
    assert_eq!(code(ana.request(DeleteState { key }).await), ErrorCode::InvalidRequest);
    assert_eq!(get(&ana, "a").await.version, 1, "and nothing was changed");
    // Exactly one goes.
    assert!(delete(&ana, "e\u{301}").await);
    assert!(delete(&ana, "%_").await);
    assert_eq!(ben.request(ListState {}).await.unwrap().entries.len(), keys.len() - 2);
    lab.finish().await;
}

pub async fn all_others_hear_of_a_change_in_its_order(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let second = ana.person.connect().await;
    let observer = ben.person.observe().await;
    let change = |event| match event {
        ClientEvent::StateChange(change) => Some((change.key, change.version, change.deleted)),
        _ => None,
    };
    let mut own = ana.events();
    let mut others = [second.events(), ben.events(), cara.events()];
    let mut observed = observer.events();
    for version in 1..=3 {
        assert_eq!(set(&ana, "k", json!(version)).await, version);
    }
    let too_large = SetState {
        key: "k".to_owned(),
        value: json!("x".repeat(70_000)),
    };
    assert_eq!(code(ana.request(too_large).await), ErrorCode::TooLarge);
    assert!(delete(&ana, "k").await);
    assert!(!delete(&ana, "k").await);
    assert!(!delete(&ana, "never there").await);
    assert_eq!(set(&ana, "k", json!("again")).await, 1, "a deleted key starts anew");
    set(&ben, "fence", json!(1)).await;
    let expected = [
        ("k", 1, false),
        ("k", 2, false),
        ("k", 3, false),
        ("k", 0, true),
        ("k", 1, false),
    ];
    for (number, events) in others.iter_mut().enumerate() {
        for expected in expected {
            let (key, version, deleted) = event(events, "the change", change).await;
            assert_eq!((key.as_str(), version, deleted), expected, "{number}");
        }
    }
    // The writer hears nothing of it; it knows.
    assert_eq!(event(&mut own, "the change", change).await.0, "fence");
    // Observers are told nothing.
    observer.close().await;
    while let Some(event) = within("the end", observed.next()).await {
        assert!(!matches!(event, ClientEvent::StateChange(_)), "{event:?}");
    }
    // Versions go on after a restart.
    assert_eq!(set(&cara, "k", json!(2)).await, 2);
    lab.restart().await;
    assert_eq!(set(&cara, "k", json!(3)).await, 3);
    lab.finish().await;
}

pub async fn two_writes_at_once_are_two_versions_of_one_key(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let mut events = cara.events();
    for number in 0..30 {
        let key = format!("contested {number}");
        let (by_ana, by_ben) = tokio::join!(set(&ana, &key, json!("ana")), set(&ben, &key, json!("ben")));
        let last = match (by_ana, by_ben) {
            (2, 1) => "ana",
            (1, 2) => "ben",
            versions => panic!("{versions:?}"),
        };
        let found = get(&cara, &key).await;
        assert_eq!(
            (found.version, &found.value, found.updated_by.as_str()),
            (2, &json!(last), last)
        );
        // Whoever keeps what it last heard of has what is there.
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.push(
                event(&mut events, "the change", |event| match event {
                    ClientEvent::StateChange(change) => Some((change.version, change.value)),
                    _ => None,
                })
                .await,
            );
        }
        let first = if last == "ana" { "ben" } else { "ana" };
        assert_eq!(heard, [(1, json!(first)), (2, json!(last))]);
    }
    lab.restart().await;
    let entries = cara.request(ListState {}).await.unwrap().entries;
    assert_eq!(entries.len(), 30);
    assert!(entries.iter().all(|entry| entry.version == 2));
    lab.finish().await;
}
