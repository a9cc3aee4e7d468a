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
        assert_eq!((&found.value, found.version, found.updated_by.as_str()), (value, version, "ana"));
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
        .map(|entry| (entry.key.as_str(), &entry.value, entry.version, entry.updated_by.as_str()))
        .collect();
    assert_eq!(listed, [("another", &json!(1), 1, "cara"), ("key", &values[3], 4, "ana")]);

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
    assert_eq!(versions, (1..=80).collect::<Vec<_>>(), "every write has a version of its own");
    let found = get(&cara, "contested").await;
    assert_eq!((found.version, &found.value), (80, &all[79].1));
    lab.finish().await;
}
