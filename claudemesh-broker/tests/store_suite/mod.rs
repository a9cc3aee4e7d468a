//! What the store promises, on whatever database.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use claudemesh_broker::store::*;
use claudemesh_proto::http::InvitePreset;
use claudemesh_proto::model::*;
use claudemesh_proto::ops::SealRecord;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A fresh, empty database.
pub struct Db {
    pub url: String,
    pub raw_url: String,
    /// Deletes the file in the end.
    pub _keep: Option<tempfile::TempDir>,
}

impl Db {
    pub async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    /// Runs a statement beside the store, and gives the first column of its rows as text.
    pub async fn raw(&self, sql: &str) -> Vec<String> {
        let mut connection = sqlx::AnyConnection::connect(&self.raw_url).await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        rows.iter()
            .map(|row| row.try_get::<String, _>(0).unwrap_or_default())
            .collect()
    }
}

macro_rules! suite {
    ($attributes:tt $fresh:ident) => {
        store_suite::suite! { @all $attributes $fresh
            defect_078_repeated_sends_store_nothing
            an_id_belongs_to_one_sender
            one_key_in_two_forms_is_one_key
            defect_035_sub_e_10_every_column_comes_back
            messages_stay_in_order
            completions_come_in_submit_order
            stages_only_advance
            marks_by_place_are_the_same
            a_guilty_write_fails_alone
            a_panicking_write_fails_alone
            a_full_queue_says_so
            an_invite_is_used_as_often_as_it_may
            joining_twice_uses_no_invite
            defect_033_034_sub_e_09_the_audit_chain_holds_and_shows_changes
            audit_is_undone_with_its_write
            the_group_log_has_one_end
            group_leftovers_are_kept
            data_survives_a_restart
            a_second_broker_is_refused
            defect_065_due_messages_expire_and_old_ones_go
            defect_065_history_does_not_slow_the_queue
            members_come_and_go
            state_counts_writes
            statuses_wait_for_their_session
            meshes_are_apart
        }
    };
    (@all $attributes:tt $fresh:ident $($name:ident)+) => { $( store_suite::suite!(@one $attributes $fresh $name); )+ };
    (@one [$($attribute:meta)?] $fresh:ident $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])?
        async fn $name() {
            store_suite::$name(&$fresh().await).await;
        }
    };
}
pub(crate) use suite;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(1_760_000_000_000 + ms)
}

/// A mesh whose members are `<mesh>-0` (the owner), `<mesh>-1`, …
pub async fn add_mesh(store: &Store, members: usize) -> MeshId {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mesh = MeshId(format!("mesh{number}"));
    store
        .create_mesh(
            NewMesh {
                id: mesh.clone(),
                name: format!("Mesh {number}"),
                slug: format!("slug-{number}"),
                owner_pubkey: KeyHex(format!("{number:064x}")),
                root_key: SecretText("sealed".into()),
                policy: MeshPolicy::default(),
                created_at: at(0),
                owner: new_member(&mesh, 0),
            },
            None,
        )
        .await
        .unwrap();
    for member in 1..members {
        store.insert_member(new_member(&mesh, member), None).await.unwrap();
    }
    mesh
}

fn member_id(mesh: &MeshId, number: usize) -> MemberId {
    MemberId(format!("{mesh}-{number}"))
}

fn key(number: usize) -> KeyHex {
    KeyHex(format!("{:064x}", 0xabc_0000 + number))
}

fn new_member(mesh: &MeshId, number: usize) -> NewMember {
    NewMember {
        id: member_id(mesh, number),
        mesh_id: mesh.clone(),
        pubkey: key(number),
        display_name: format!("member {number}"),
        role: Role::Member,
        is_owner: number == 0,
        role_tag: None,
        default_groups: Vec::new(),
        message_mode: MessageMode::Push,
        permissions: Permissions::default(),
        dashboard_user_id: None,
        joined_at: at(i64::try_from(number).unwrap()),
    }
}

/// A message whose id and idempotency key are `id`.
pub fn message(mesh: &MeshId, from: usize, to: &[usize], id: &str) -> NewMessage {
    NewMessage {
        message: Arc::new(MessageRow {
            id: MessageId(id.into()),
            mesh_id: mesh.clone(),
            sender_member_id: member_id(mesh, from),
            sender_session_pubkey: None,
            sender_name: format!("member {from}"),
            sender_pubkey: key(from).0,
            client_id: Some(id.into()),
            target: Target {
                kind: TargetKind::Direct,
                spec: key(*to.first().unwrap_or(&0)).0,
            },
            priority: Priority::Next,
            nonce: Base64("nonce".into()),
            ciphertext: Base64("ciphertext".into()),
            meta: None,
            sealed: None,
            subtype: None,
            session_hint: None,
            created_at: at(1_000),
            expires_at: at(100_000),
        }),
        recipients: to
            .iter()
            .map(|number| Recipient::accepting(member_id(mesh, *number)))
            .collect(),
    }
}

fn edit(mut new: NewMessage, change: impl FnOnce(&mut MessageRow)) -> NewMessage {
    change(Arc::make_mut(&mut new.message));
    new
}

fn step(mesh: &MeshId, id: &str, to: usize, stage: DeliveryStage, ms: i64) -> StageChange {
    StageChange {
        mesh_id: mesh.clone(),
        message_id: MessageId(id.into()),
        recipient: member_id(mesh, to),
        stage,
        at: at(ms),
        adapter: None,
        reason: None,
        place: None,
    }
}

fn event(mesh: &MeshId, kind: &str, payload: serde_json::Value) -> AuditEvent {
    AuditEvent {
        mesh_id: mesh.clone(),
        event_type: kind.into(),
        actor_member_id: Some(member_id(mesh, 0)),
        actor_name: Some("member 0".into()),
        payload,
        at: at(5),
    }
}

async fn waiting_ids(store: &Store, mesh: &MeshId, member: usize) -> Vec<String> {
    let waiting = store
        .pending(mesh, &member_id(mesh, member), Priority::Next, 0, 10_000)
        .await
        .unwrap();
    waiting.iter().map(|message| message.id.0.clone()).collect()
}

pub async fn defect_078_repeated_sends_store_nothing(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 4).await;
    let mut new = message(&mesh, 0, &[1, 2, 3], "m1");
    new.recipients[2].refused = Some("no dm grant".into());
    let first = store
        .insert_message(new.clone(), Some(event(&mesh, "message_sent", json!({}))))
        .await
        .unwrap();
    assert_eq!((first.duplicate, first.recipients, first.refused), (false, 2, 1));
    // Later, with another id and recipient, and twice at once.
    let again = edit(message(&mesh, 0, &[1], "m1"), |row| row.id = MessageId("m2".into()));
    let audit = || Some(event(&mesh, "message_sent", json!({})));
    let (second, third) = tokio::join!(
        store.insert_message(again.clone(), audit()),
        store.insert_message(again, audit())
    );
    for repeated in [second.unwrap(), third.unwrap()] {
        assert_eq!(
            repeated,
            MessageOutcome {
                duplicate: true,
                ..first.clone()
            }
        );
    }
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["m1"]);
    assert_eq!(waiting_ids(&store, &mesh, 3).await, [""; 0]);
    assert_eq!(store.audit_query(&mesh, 10, 0, None).await.unwrap().total, 1);
    // Without an idempotency key nothing is a repetition.
    for id in ["a", "b"] {
        let new = edit(message(&mesh, 0, &[2], id), |row| row.client_id = None);
        assert!(!store.insert_message(new, None).await.unwrap().duplicate);
    }
    let (_, recipients) = store
        .message_status(&mesh, &MessageId("m1".into()))
        .await
        .unwrap()
        .unwrap();
    let refused = &recipients[2].delivery;
    assert_eq!(
        (refused.stage, refused.reason.as_deref()),
        (DeliveryStage::Refused, Some("no dm grant"))
    );
    assert_eq!(refused.ended_at, Some(at(1_000)));
    assert_eq!(
        (recipients[0].name.as_str(), &recipients[0].pubkey),
        ("member 1", &key(1))
    );
}

pub async fn an_id_belongs_to_one_sender(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    store.insert_message(message(&mesh, 0, &[1], "m1"), None).await.unwrap();
    let error = store
        .insert_message(message(&mesh, 1, &[2], "m1"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert_eq!(waiting_ids(&store, &mesh, 2).await, [""; 0]);
    // Another mesh is another world.
    let other = add_mesh(&store, 3).await;
    assert!(
        !store
            .insert_message(message(&other, 1, &[2], "m1"), None)
            .await
            .unwrap()
            .duplicate
    );
}

pub async fn one_key_in_two_forms_is_one_key(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    // Protocol 2 sends its id as the key; for protocol 1 the broker makes the id.
    let old = |id: &str, key: &str| edit(message(&mesh, 0, &[1], key), |row| row.id = MessageId(id.into()));
    let new = |key: &str| message(&mesh, 0, &[1], key);
    let id = |outcome: Result<MessageOutcome, StoreError>| {
        let outcome = outcome.unwrap();
        (outcome.message_id.0, outcome.duplicate)
    };
    let told = |id: &str, duplicate: bool| (id.to_owned(), duplicate);
    assert_eq!(id(store.insert_message(new("a"), None).await), told("a", false));
    assert_eq!(id(store.insert_message(old("x1", "a"), None).await), told("a", true));
    assert_eq!(id(store.insert_message(old("x2", "b"), None).await), told("x2", false));
    assert_eq!(id(store.insert_message(new("b"), None).await), told("x2", true));
    assert_eq!(id(store.insert_message(old("x3", "b"), None).await), told("x2", true));
    // Known after a restart, too.
    store.close().await;
    let store = db.open().await;
    assert_eq!(id(store.insert_message(new("b"), None).await), told("x2", true));
    // All in one transaction.
    let release = hold(&store);
    let (first, second, third, fourth, ()) = tokio::join!(
        store.insert_message(old("x4", "c"), None),
        store.insert_message(new("c"), None),
        store.insert_message(old("x5", "c"), None),
        store.insert_message(new("d"), None),
        async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            release.send(()).unwrap();
        }
    );
    assert_eq!(id(first), told("x4", false));
    assert_eq!((id(second), id(third)), (told("x4", true), told("x4", true)));
    assert_eq!(id(fourth), told("d", false));
    // An id that is taken is a conflict where it is not the key.
    let error = store.insert_message(old("a", "e"), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["a", "x2", "x4", "d"]);
}

pub async fn defect_035_sub_e_10_every_column_comes_back(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let new = edit(message(&mesh, 0, &[1], "m1"), |row| {
        row.client_id = Some("own".into());
        row.sender_session_pubkey = Some(key(77));
        row.target = Target {
            kind: TargetKind::Group,
            spec: "@ops \"' ; $1 \u{1F980}".into(),
        };
        row.priority = Priority::Low;
        row.meta = Some(SealedMeta {
            nonce: Base64("n".into()),
            ciphertext: Base64("c".into()),
        });
        row.sealed = Some(GroupSeal {
            scheme: "epoch/1".into(),
            generation: 1,
            epoch: 2,
            label: "group:ops".into(),
            key_id: "abcd".into(),
            device: key(5),
            session: key(6),
            seq: 9,
        });
        row.subtype = Some("ping".into());
        row.session_hint = Some(key(78));
    });
    let outcome = store.insert_message(new.clone(), None).await.unwrap();
    let pending = store
        .pending(&mesh, &member_id(&mesh, 1), Priority::Low, 0, 10)
        .await
        .unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(
        pending[0],
        StoredMessage {
            seq: outcome.seq,
            row: new.message
        }
    );
    let waiting = store
        .waiting_counts(&mesh, &member_id(&mesh, 1), at(2_000))
        .await
        .unwrap();
    assert_eq!((waiting.now, waiting.next, waiting.low), (0, 0, 1));
    assert_eq!(
        store
            .waiting_counts(&mesh, &member_id(&mesh, 1), at(100_000))
            .await
            .unwrap()
            .total(),
        0
    );
    assert_eq!(store.queue_depth().await.unwrap().low, 1);
}

pub async fn messages_stay_in_order(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 9).await;
    let tasks: Vec<_> = (1..9)
        .map(|sender| {
            let (store, mesh) = (store.clone(), mesh.clone());
            tokio::spawn(async move {
                let mut seqs = Vec::new();
                for number in 0..40 {
                    let id = format!("{sender}-{number:03}");
                    seqs.push(
                        store
                            .insert_message(message(&mesh, sender, &[0], &id), None)
                            .await
                            .unwrap()
                            .seq,
                    );
                }
                assert!(seqs.is_sorted());
                seqs
            })
        })
        .collect();
    let mut all = HashSet::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    assert_eq!(all.len(), 320);
    let ids = waiting_ids(&store, &mesh, 0).await;
    assert_eq!(ids.len(), 320);
    for sender in 1..9 {
        let prefix = format!("{sender}-");
        let own: Vec<_> = ids.iter().filter(|id| id.starts_with(&prefix)).collect();
        assert!(own.is_sorted());
        assert_eq!(own.len(), 40);
    }
    // Page by page gives the same.
    let mut paged = Vec::new();
    let mut after = 0;
    loop {
        let page = store
            .pending(&mesh, &member_id(&mesh, 0), Priority::Next, after, 37)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        paged.extend(page.iter().map(|message| message.id.0.clone()));
    }
    assert_eq!(paged, ids);
}

pub async fn completions_come_in_submit_order(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..500 {
        let kind = if number % 5 == 3 {
            WriteKind::Stages([step(&mesh, &format!("{}", number - 1), 1, DeliveryStage::Delivered, 5)].into())
        } else {
            WriteKind::Message(message(&mesh, 0, &[1], &format!("{number}")))
        };
        let order = Arc::clone(&order);
        let done = Box::new(move |outcome: Result<Outcome, StoreError>| {
            let seq = match outcome {
                Ok(Outcome::Message(outcome)) => Some(outcome.seq),
                Ok(_) => None,
                Err(error) => panic!("{error}"),
            };
            order.lock().unwrap().push((number, seq));
        });
        store.committer().submit(Write::new(kind), done).unwrap();
    }
    store.close().await;
    let order = order.lock().unwrap();
    assert_eq!(
        order.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        (0..500).collect::<Vec<_>>()
    );
    assert!(order.iter().filter_map(|(_, seq)| *seq).is_sorted());
}

pub async fn stages_only_advance(db: &Db) {
    use DeliveryStage::{Accepted, Delivered, Expired, Read, Revoked, Surfaced};
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    for id in ["m1", "m2"] {
        store
            .insert_message(message(&mesh, 0, &[1, 2], id), None)
            .await
            .unwrap();
    }
    let change = |steps: Vec<StageChange>| {
        let store = store.clone();
        async move {
            let outcomes = store.change_stages(steps).await.unwrap();
            outcomes
                .into_iter()
                .map(|outcome| (outcome.changed, outcome.sender.is_some()))
                .collect::<Vec<_>>()
        }
    };
    let status = |id: &'static str, member: usize| {
        let (store, mesh) = (store.clone(), mesh.clone());
        async move {
            let (_, rows) = store
                .message_status(&mesh, &MessageId(id.into()))
                .await
                .unwrap()
                .unwrap();
            rows.into_iter()
                .find(|row| row.delivery.recipient == member_id(&mesh, member))
                .unwrap()
                .delivery
        }
    };
    // Surfacing fills what was skipped; going back, and again, is nothing new.
    let mut surfaced = step(&mesh, "m1", 1, Surfaced, 10);
    surfaced.adapter = Some("channel".into());
    assert_eq!(change(vec![surfaced]).await, [(true, true)]);
    let again = vec![
        step(&mesh, "m1", 1, Delivered, 11),
        step(&mesh, "m1", 1, Surfaced, 11),
        step(&mesh, "m1", 1, Accepted, 11),
        step(&mesh, "m1", 1, Expired, 11),
        step(&mesh, "m1", 1, Revoked, 11),
        step(&mesh, "none", 1, Delivered, 11),
        step(&mesh, "m1", 0, Delivered, 11),
    ];
    let none = (false, true);
    assert_eq!(
        change(again).await,
        [none, none, none, none, none, (false, false), (false, false)]
    );
    let row = status("m1", 1).await;
    assert_eq!(
        (row.stage, row.delivered_at, row.surfaced_at, row.read_at),
        (Surfaced, Some(at(10)), Some(at(10)), None)
    );
    assert_eq!((row.adapter.as_deref(), row.ended_at), (Some("channel"), None));
    // Several steps of one delivery in one go, mixed with others.
    let steps = vec![
        step(&mesh, "m2", 1, Delivered, 20),
        step(&mesh, "m2", 2, Delivered, 21),
        step(&mesh, "m2", 1, Surfaced, 22),
        step(&mesh, "m2", 1, Surfaced, 23),
        step(&mesh, "m2", 1, Read, 24),
        step(&mesh, "m1", 1, Read, 25),
    ];
    let yes = (true, true);
    assert_eq!(change(steps).await, [yes, yes, yes, none, yes, yes]);
    let row = status("m2", 1).await;
    assert_eq!(
        (row.delivered_at, row.surfaced_at, row.read_at),
        (Some(at(20)), Some(at(22)), Some(at(24)))
    );
    assert_eq!(row.ended_at, Some(at(24)));
    assert_eq!(status("m1", 1).await.adapter.as_deref(), Some("channel"));
    // An end without success is an end.
    let mut expired = step(&mesh, "m1", 2, Expired, 30);
    expired.reason = Some("too late".into());
    assert_eq!(change(vec![expired, step(&mesh, "m1", 2, Read, 31)]).await, [yes, none]);
    let row = status("m1", 2).await;
    assert_eq!(
        (row.stage, row.read_at, row.reason.as_deref()),
        (Expired, None, Some("too late"))
    );
    assert_eq!(waiting_ids(&store, &mesh, 2).await, [""; 0]);
}

/// A write that holds the committer until `release`.
fn hold(store: &Store) -> tokio::sync::oneshot::Sender<()> {
    let (release, held) = tokio::sync::oneshot::channel();
    let custom: CustomWrite = Box::new(move |_| {
        Box::pin(async move {
            let _ = held.await;
            Ok(Recorded::silently(Box::new(()) as AnyValue))
        })
    });
    store
        .committer()
        .submit(Write::new(WriteKind::Custom(custom)), Box::new(|_| {}))
        .unwrap();
    release
}

/// Deliveries whose place the caller knows take another way to the same end.
pub async fn marks_by_place_are_the_same(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let mut places = std::collections::HashMap::new();
    for id in ["a", "b", "c"] {
        let outcome = store.insert_message(message(&mesh, 0, &[1], id), None).await.unwrap();
        places.insert(id, outcome.seq);
    }
    let placed = |id: &'static str, ms: i64| StageChange {
        place: Some(DeliveryPlace {
            seq: places[id],
            sender: member_id(&mesh, 0),
        }),
        ..step(&mesh, id, 1, DeliveryStage::Delivered, ms)
    };
    let change = async |steps: Vec<StageChange>| {
        let outcomes = store.change_stages(steps).await.unwrap();
        let told = outcomes
            .into_iter()
            .map(|outcome| (outcome.changed, outcome.sender.is_some()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(change(vec![placed("a", 10)]).await, [(true, true)]);
    // One that repeats makes the whole batch go the careful way.
    assert_eq!(
        change(vec![placed("a", 11), placed("b", 11)]).await,
        [(false, true), (true, true)]
    );
    let mut surfaced = step(&mesh, "c", 1, DeliveryStage::Surfaced, 12);
    surfaced.adapter = Some("channel".into());
    let steps = vec![placed("c", 12), surfaced.clone(), placed("c", 13)];
    assert_eq!(change(steps).await, [(true, true), (true, true), (false, true)]);
    for (id, ms) in [("a", 10), ("b", 11), ("c", 12)] {
        let (_, rows) = store
            .message_status(&mesh, &MessageId(id.into()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(rows[0].delivery.delivered_at, Some(at(ms)), "{id}");
    }
    assert!(waiting_ids(&store, &mesh, 1).await.is_empty());
}

pub async fn a_guilty_write_fails_alone(db: &Db) {
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let on_commit: CommitObserver = Arc::new(move |stats: &CommitStats| {
        seen.fetch_max(stats.writes, Ordering::Relaxed);
    });
    let store = Store::open_with(
        &db.url,
        StoreOptions {
            on_commit: Some(on_commit),
            ..StoreOptions::default()
        },
    )
    .await
    .unwrap();
    let mesh = add_mesh(&store, 3).await;
    let release = hold(&store);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut writes = Vec::new();
    for number in 0..20 {
        let id = format!("{number:02}");
        // One recipient twice: the statement for the deliveries of all twenty fails.
        let to: &[usize] = if number == 7 { &[1, 1] } else { &[1] };
        let write = Write {
            kind: WriteKind::Message(message(&mesh, 0, to, &id)),
            audit: vec![event(&mesh, "message_sent", json!({ "id": id }))],
        };
        let (store, failing) = (store.clone(), number == 7);
        writes.push(tokio::spawn(
            async move { (failing, store.committer().write(write).await) },
        ));
        tokio::task::yield_now().await;
    }
    let failing = store.transaction(None, |connection| {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO state (mesh_id, key, value, version, updated_by_member, updated_by_name, updated_at) \
                         VALUES ('nowhere', 'k', '1', 1, 'm', 'n', 1)",
            )
            .execute(connection)
            .await?;
            Ok(Recorded::silently(()))
        })
    });
    let (store2, mesh2) = (store.clone(), mesh.clone());
    let last = tokio::spawn(async move { store2.insert_message(message(&mesh2, 0, &[1], "last"), None).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    release.send(()).unwrap();
    let error = failing.await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    for write in writes {
        let (failing, outcome) = write.await.unwrap();
        assert_eq!(outcome.is_err(), failing);
        if let Err(error) = outcome {
            assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        }
    }
    last.await.unwrap().unwrap();
    assert!(largest.load(Ordering::Relaxed) >= 20);
    let ids: HashSet<_> = waiting_ids(&store, &mesh, 1).await.into_iter().collect();
    assert_eq!(ids.len(), 20);
    assert!(!ids.contains("07"));
    assert!(
        store
            .message_status(&mesh, &MessageId("07".into()))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.audit_query(&mesh, 100, 0, None).await.unwrap().total, 19);
    assert_eq!(
        store.audit_verify(&mesh).await.unwrap(),
        AuditVerdict {
            checked: 19,
            broken_at: None
        }
    );
}

pub async fn a_panicking_write_fails_alone(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let panicking = store.transaction::<(), _>(None, |_| Box::pin(async { panic!("on purpose") }));
    assert!(panicking.await.is_err());
    let write = Write::new(WriteKind::Message(message(&mesh, 0, &[1], "m1")));
    store
        .committer()
        .submit(write, Box::new(|_| panic!("on purpose")))
        .unwrap();
    store.insert_message(message(&mesh, 0, &[1], "m2"), None).await.unwrap();
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["m1", "m2"]);
    assert_eq!(store.committer().waiting(), 0);
}

pub async fn a_full_queue_says_so(db: &Db) {
    let options = StoreOptions {
        queue_writes: 4,
        queue_bytes: 10_000,
        ..StoreOptions::default()
    };
    let store = Store::open_with(&db.url, options).await.unwrap();
    let mesh = add_mesh(&store, 2).await;
    let release = hold(&store);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let submit = |id: &str, bytes: usize| {
        let new = edit(message(&mesh, 0, &[1], id), |row| {
            row.ciphertext = Base64("x".repeat(bytes))
        });
        store
            .committer()
            .submit(Write::new(WriteKind::Message(new)), Box::new(|_| {}))
    };
    let error = submit("large", 20_000).unwrap_err();
    assert!(matches!(error, StoreError::QueueFull) && error.is_retryable());
    for id in ["1", "2", "3", "4"] {
        submit(id, 10).unwrap();
    }
    assert!(matches!(submit("5", 10).unwrap_err(), StoreError::QueueFull));
    assert_eq!(store.committer().waiting(), 5);
    release.send(()).unwrap();
    store.insert_message(message(&mesh, 0, &[1], "wait"), None).await.ok();
    while store.committer().waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What is larger than the queue goes through when nothing else waits.
    submit("large", 20_000).unwrap();
    store.close().await;
    assert!(matches!(submit("late", 10).unwrap_err(), StoreError::Closed));
}

fn invite(mesh: &MeshId, id: &str, max_uses: u64) -> NewInvite {
    InviteRow {
        id: id.into(),
        mesh_id: mesh.clone(),
        code: format!("code-{id}"),
        token_hash: Some(format!("hash-{id}")),
        canonical_v2: "v=2|…".into(),
        signature: HexSignature("ab".repeat(64)),
        issuer_pubkey: key(0),
        role: Role::Admin,
        max_uses,
        used_count: 0,
        expires_at: at(50_000),
        invite_key: Some(key(900)),
        preset: InvitePreset {
            role_tag: Some("ops".into()),
            ..InvitePreset::default()
        },
        created_by: member_id(mesh, 0),
        created_at: at(1),
        revoked_at: None,
    }
}

pub async fn an_invite_is_used_as_often_as_it_may(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    store.insert_invite(invite(&mesh, "one", 1), None).await.unwrap();
    let claims: Vec<_> = (1..=50)
        .map(|number| {
            let (store, member) = (store.clone(), new_member(&mesh, number));
            let audit = event(&mesh, "member_joined", json!({ "number": number }));
            tokio::spawn(async move {
                store
                    .use_invite_and_insert_member("one", member, at(10), Some(audit))
                    .await
            })
        })
        .collect();
    let mut used = 0;
    for claim in claims {
        match claim.await.unwrap().unwrap() {
            InviteUse::Used => used += 1,
            other => assert_eq!(other, InviteUse::Exhausted),
        }
    }
    assert_eq!(used, 1);
    assert_eq!(store.member_count(&mesh).await.unwrap(), 2);
    assert_eq!(store.audit_query(&mesh, 1, 0, None).await.unwrap().total, 1);
    assert_eq!(store.invite_by_code("code-one").await.unwrap().unwrap().used_count, 1);
    assert!(store.invites(&mesh, at(10)).await.unwrap().is_empty());
}

pub async fn joining_twice_uses_no_invite(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    let other = add_mesh(&store, 1).await;
    for (id, uses) in [("a", 5), ("b", 5), ("c", 5)] {
        store.insert_invite(invite(&mesh, id, uses), None).await.unwrap();
    }
    let error = store.insert_invite(invite(&other, "a", 1), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)));
    assert_eq!(
        store.invite_by_token_hash("hash-a").await.unwrap().unwrap(),
        invite(&mesh, "a", 5)
    );
    let join = |invite: &'static str, member: NewMember, now: i64| {
        let store = store.clone();
        async move {
            store
                .use_invite_and_insert_member(invite, member, at(now), None)
                .await
                .unwrap()
        }
    };
    assert_eq!(join("a", new_member(&mesh, 1), 10).await, InviteUse::Used);
    let again = NewMember {
        id: MemberId("other".into()),
        ..new_member(&mesh, 1)
    };
    let InviteUse::AlreadyMember(known) = join("a", again, 10).await else {
        panic!()
    };
    assert_eq!(known.id, member_id(&mesh, 1));
    assert_eq!(store.invite_by_code("code-a").await.unwrap().unwrap().used_count, 1);
    assert_eq!(join("a", new_member(&mesh, 2), 50_000).await, InviteUse::Expired);
    assert!(store.revoke_invite(&mesh, "b", at(3), None).await.unwrap());
    assert!(!store.revoke_invite(&mesh, "b", at(3), None).await.unwrap());
    assert!(!store.revoke_invite(&other, "c", at(3), None).await.unwrap());
    assert_eq!(join("b", new_member(&mesh, 2), 10).await, InviteUse::Revoked);
    assert_eq!(join("c", new_member(&other, 2), 10).await, InviteUse::NoSuchInvite);
    let usable: Vec<_> = store
        .invites(&mesh, at(10))
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(usable, ["a", "c"]);
}

pub async fn defect_033_034_sub_e_09_the_audit_chain_holds_and_shows_changes(db: &Db) {
    let store = db.open().await;
    let meshes = [add_mesh(&store, 2).await, add_mesh(&store, 2).await];
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let (store, mesh) = (store.clone(), meshes[number % 2].clone());
            tokio::spawn(async move {
                let audit = event(
                    &mesh,
                    "message_sent",
                    json!({ "z": number, "a": { "y": 1.5, "b": [null, "ü"] } }),
                );
                store
                    .insert_message(message(&mesh, 0, &[1], &format!("{number}")), Some(audit))
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut system = event(&meshes[0], "started", json!({}));
    system.actor_member_id = None;
    system.actor_name = None;
    store
        .transaction(Some(system), |_| Box::pin(async { Ok(Recorded::audited(())) }))
        .await
        .unwrap();
    let whole = |checked| AuditVerdict {
        checked,
        broken_at: None,
    };
    assert_eq!(store.audit_verify(&meshes[0]).await.unwrap(), whole(101));
    assert_eq!(store.audit_verify(&meshes[1]).await.unwrap(), whole(100));
    let page = store.audit_query(&meshes[0], 3, 1, Some("message_sent")).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (3, 100));
    assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [99, 98, 97]);
    assert_eq!(page.rows[0].payload["a"]["b"], json!([null, "ü"]));
    // The chain goes on after a restart.
    store.close().await;
    let store = db.open().await;
    let audit = event(&meshes[1], "message_sent", json!({}));
    store
        .insert_message(message(&meshes[1], 0, &[1], "more"), Some(audit))
        .await
        .unwrap();
    assert_eq!(store.audit_verify(&meshes[1]).await.unwrap(), whole(101));
    db.raw(&format!(
        "UPDATE audit_log SET payload = '{{}}' WHERE mesh_id = '{}' AND id = 50",
        meshes[0]
    ))
    .await;
    assert_eq!(store.audit_verify(&meshes[0]).await.unwrap().broken_at, Some(50));
    db.raw(&format!(
        "DELETE FROM audit_log WHERE mesh_id = '{}' AND id = 7",
        meshes[1]
    ))
    .await;
    assert_eq!(store.audit_verify(&meshes[1]).await.unwrap().broken_at, Some(8));
}

pub async fn audit_is_undone_with_its_write(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let failing = store.transaction::<(), _>(Some(event(&mesh, "failed", json!({}))), |connection| {
        Box::pin(async move {
            sqlx::query("DELETE FROM member").execute(connection).await?;
            Err(StoreError::NotFound("thing"))
        })
    });
    assert!(matches!(failing.await, Err(StoreError::NotFound("thing"))));
    assert_eq!(store.member_count(&mesh).await.unwrap(), 2);
    assert!(
        !store
            .delete_state(&mesh, "none", Some(event(&mesh, "state_deleted", json!({}))), |_| {})
            .await
            .unwrap()
    );
    assert_eq!(store.audit_query(&mesh, 10, 0, None).await.unwrap().total, 0);
}

fn head(index: u64, hash: &str) -> EpochHead {
    EpochHead {
        generation: 0,
        index,
        epoch: index,
        hash: HexHash(hash.into()),
    }
}

fn append(expected: Option<EpochHead>, index: u64, hash: &str) -> AppendGroup {
    AppendGroup {
        expected,
        entries: vec![GroupEntryRow {
            generation: 0,
            index,
            epoch: index,
            hash: HexHash(hash.into()),
            author: key(0),
            body: json!({ "hash": hash }),
        }],
        seals: vec![SealRecord {
            generation: 0,
            epoch: index,
            to: key(1),
            seal: json!({ "of": hash }),
        }],
        new_head: head(index, hash),
        new_state: format!("state {hash}"),
    }
}

pub async fn the_group_log_has_one_end(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let mut expected = None;
    for index in 0..5 {
        let tasks: Vec<_> = (0..8)
            .map(|author| {
                let (store, mesh) = (store.clone(), mesh.clone());
                let new = append(expected.clone(), index, &format!("{index}-{author}"));
                tokio::spawn(async move { store.append_group(&mesh, new, None).await.unwrap() })
            })
            .collect();
        let mut winners = Vec::new();
        let mut stale = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Appended::Ok(head) => winners.push(head),
                Appended::Stale(head) => stale.push(head),
            }
        }
        assert_eq!((winners.len(), stale.len()), (1, 7));
        assert!(stale.iter().all(|head| head.as_ref() == Some(&winners[0])));
        expected = winners.pop();
    }
    let row = store.group_head(&mesh).await.unwrap().unwrap();
    assert_eq!(Some(&row.head), expected.as_ref());
    assert_eq!(row.state, format!("state {}", row.head.hash));
    let entries = store.group_entries(&mesh, 0, 1, 3).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 2, 3]);
    let seals = store
        .group_seals(&mesh, &[key(9), key(1)], SealFilter::All)
        .await
        .unwrap();
    assert_eq!(seals.iter().map(|seal| seal.epoch).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(seals[4].seal, json!({ "of": row.head.hash }));
    let filter = SealFilter::Epochs {
        generation: 0,
        from: 2,
        to: 3,
    };
    assert_eq!(store.group_seals(&mesh, &[key(1)], filter).await.unwrap().len(), 2);
    // A place that is taken is not overwritten, whatever the head says.
    let error = store
        .append_group(&mesh, append(expected, 2, "again"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert_eq!(store.group_head(&mesh).await.unwrap().unwrap(), row);
}

pub async fn group_leftovers_are_kept(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    let other = add_mesh(&store, 1).await;
    for number in 0..5 {
        store
            .put_grant(&mesh, &key(1), &json!(number), at(number), 3)
            .await
            .unwrap();
    }
    assert!(store.take_grants(&other, &key(1)).await.unwrap().is_empty());
    let grants = store.take_grants(&mesh, &key(1)).await.unwrap();
    assert_eq!(
        grants.iter().map(|grant| grant.grant.clone()).collect::<Vec<_>>(),
        [json!(2), json!(3), json!(4)]
    );
    assert!(store.take_grants(&mesh, &key(1)).await.unwrap().is_empty());
    store
        .put_key_request(&mesh, &key(1), &json!({ "n": 1 }), at(1))
        .await
        .unwrap();
    store
        .put_key_request(&mesh, &key(1), &json!({ "n": 2 }), at(2))
        .await
        .unwrap();
    store
        .put_key_request(&mesh, &key(2), &json!({ "n": 3 }), at(1))
        .await
        .unwrap();
    let requests = store.key_requests(&mesh).await.unwrap();
    assert_eq!(
        requests.iter().map(|row| row.request["n"].clone()).collect::<Vec<_>>(),
        [json!(3), json!(2)]
    );
    assert!(!store.delete_key_request(&other, &key(1)).await.unwrap());
    assert!(store.delete_key_request(&mesh, &key(1)).await.unwrap());
    assert!(!store.delete_key_request(&mesh, &key(1)).await.unwrap());
    for (index, problem) in [(1, Some("fork")), (2, None)] {
        let cursor = GroupCursor {
            device: key(1),
            head: head(index, "h"),
            problem: problem.map(str::to_owned),
            updated_at: at(1),
        };
        store.set_group_cursor(&mesh, cursor.clone()).await.unwrap();
        assert_eq!(store.group_cursors(&mesh).await.unwrap(), [cursor]);
    }
    let seal = |text: &str| SealRecord {
        generation: 0,
        epoch: 1,
        to: key(1),
        seal: json!(text),
    };
    store.put_seals(&mesh, vec![seal("first")]).await.unwrap();
    store.put_seals(&mesh, vec![seal("second")]).await.unwrap();
    assert_eq!(
        store.group_seals(&mesh, &[key(1)], SealFilter::All).await.unwrap(),
        [seal("first")]
    );
}

pub async fn data_survives_a_restart(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    store.insert_message(message(&mesh, 0, &[1], "m1"), None).await.unwrap();
    // What was submitted before is written before the store is closed.
    let late = store.clone();
    let write = Write::new(WriteKind::Message(message(&mesh, 0, &[1], "m2")));
    late.committer()
        .submit(write, Box::new(|outcome| assert!(outcome.is_ok())))
        .unwrap();
    store.close().await;
    assert!(matches!(
        store.insert_message(message(&mesh, 0, &[1], "m3"), None).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.mesh(&mesh).await, Err(StoreError::Closed)));
    store.close().await;
    let store = db.open().await;
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["m1", "m2"]);
    assert_eq!(
        store
            .insert_message(message(&mesh, 0, &[1], "m3"), None)
            .await
            .unwrap()
            .seq,
        3
    );
    assert!(
        store
            .insert_message(message(&mesh, 0, &[1], "m1"), None)
            .await
            .unwrap()
            .duplicate
    );
}

pub async fn a_second_broker_is_refused(db: &Db) {
    let store = db.open().await;
    let error = Store::open(&db.url).await.err().unwrap();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    assert!(error.to_string().contains("another broker"), "{error}");
    // The first one is not disturbed.
    store.ping().await.unwrap();
    add_mesh(&store, 1).await;
    store.close().await;
    db.open().await.ping().await.unwrap();
}

pub async fn defect_065_due_messages_expire_and_old_ones_go(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    for (id, expires) in [("late", 30), ("early", 10), ("middle", 20), ("long", 9_000)] {
        let new = edit(message(&mesh, 0, &[1, 2], id), |row| row.expires_at = at(expires));
        store.insert_message(new, None).await.unwrap();
    }
    store
        .change_stages(vec![step(&mesh, "early", 2, DeliveryStage::Delivered, 1)])
        .await
        .unwrap();
    let first = store.expire_due(at(20), 1).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].message_id.as_str(), &first[0].recipient),
        ("early", &member_id(&mesh, 1))
    );
    assert_eq!((&first[0].sender, first[0].seq), (&member_id(&mesh, 0), 2));
    let next = store.expire_due(at(20), 100).await.unwrap();
    assert_eq!(
        next.iter().map(|ended| ended.message_id.as_str()).collect::<Vec<_>>(),
        ["middle", "middle"]
    );
    assert!(store.expire_due(at(20), 100).await.unwrap().is_empty());
    let (_, rows) = store
        .message_status(&mesh, &MessageId("middle".into()))
        .await
        .unwrap()
        .unwrap();
    assert!(
        rows.iter()
            .all(|row| row.delivery.stage == DeliveryStage::Expired && row.delivery.ended_at == Some(at(20)))
    );
    // All were accepted at 1000. "late" and "long" still wait.
    assert_eq!(store.purge(at(1_000), 100).await.unwrap(), 0);
    assert_eq!(store.purge(at(1_001), 1).await.unwrap(), 1);
    assert_eq!(store.purge(at(1_001), 100).await.unwrap(), 1);
    assert_eq!(store.purge(at(1_001), 100).await.unwrap(), 0);
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["late", "long"]);
    for gone in ["early", "middle"] {
        assert!(
            store
                .message_status(&mesh, &MessageId(gone.into()))
                .await
                .unwrap()
                .is_none()
        );
    }
    let rows = db.raw("SELECT message_id FROM delivery").await;
    assert_eq!(rows.len(), 4);
}

pub async fn defect_065_history_does_not_slow_the_queue(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let series = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)";
    db.raw(&format!(
        "INSERT INTO message (seq, id, mesh_id, sender_member_id, sender_name, sender_pubkey, target_kind, target_spec, \
         priority, nonce, ciphertext, created_at, expires_at) {series} SELECT i, 'old' || i, '{mesh}', '{mesh}-0', 'n', \
         'k', 0, 's', 1, '', 'c', i, 1 FROM n"
    ))
    .await;
    db.raw(&format!(
        "INSERT INTO delivery (mesh_id, message_id, recipient_member_id, sender_member_id, seq, priority, stage, \
         created_at, expires_at) {series} SELECT '{mesh}', 'old' || i, '{mesh}-1', '{mesh}-0', i, 1, 1, i, 1 FROM n"
    ))
    .await;
    // And a queue of others.
    db.raw(&format!(
        "INSERT INTO delivery (mesh_id, message_id, recipient_member_id, sender_member_id, seq, priority, stage, \
         created_at, expires_at) {} SELECT '{mesh}', 'old' || i, 'other' || i % 100, '{mesh}-0', i, 1, 0, i, {} + i FROM n",
        series.replace("100000", "20000"),
        at(0).as_ms(),
    ))
    .await;
    store.close().await;
    let store = db.open().await;
    for id in ["a", "b", "c"] {
        assert!(
            store
                .insert_message(message(&mesh, 0, &[1], id), None)
                .await
                .unwrap()
                .seq
                > 100_000
        );
    }
    assert_eq!(waiting_ids(&store, &mesh, 1).await, ["a", "b", "c"]);
    db.raw("ANALYZE").await;
    let explain = if db.url.starts_with("sqlite:") {
        "EXPLAIN QUERY PLAN"
    } else {
        "EXPLAIN"
    };
    let pending = PENDING_SQL
        .replace("$1", &format!("'{mesh}'"))
        .replace("$2", &format!("'{mesh}-1'"))
        .replace("$3", "1")
        .replace("$4", "0")
        .replace("$5", "100");
    let due = "SELECT message_id FROM delivery WHERE stage = 0 AND expires_at <= 5 ORDER BY expires_at LIMIT 10";
    // What is due is looked for in all that waits, and in nothing else.
    for (sql, is_walked) in [(pending.as_str(), false), (due, true)] {
        let mut connection = sqlx::AnyConnection::connect(&db.raw_url).await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(format!("{explain} {sql}")))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let column = if db.url.starts_with("sqlite:") { 3 } else { 0 };
        let plan: Vec<String> = rows.iter().map(|row| row.get(column)).collect();
        assert!(plan.iter().any(|line| line.contains("delivery_pending")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("Seq Scan")), "{plan:#?}");
        assert!(
            is_walked || !plan.iter().any(|line| line.starts_with("SCAN ")),
            "{plan:#?}"
        );
    }
    assert_eq!(store.purge(at(0), 1_000).await.unwrap(), 1_000);
}

pub async fn members_come_and_go(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 3).await;
    let error = store
        .insert_member(
            NewMember {
                id: MemberId("x".into()),
                ..new_member(&mesh, 1)
            },
            None,
        )
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)));
    let error = store
        .insert_member(new_member(&MeshId("nowhere".into()), 1), None)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");

    let patch = MemberPatch {
        display_name: Some("Ünal".into()),
        role: Some(Role::Admin),
        role_tag: Some(Some("ops".into())),
        default_groups: Some(vec![Group {
            name: GroupName::new("a/b"),
            role: Some("lead".into()),
        }]),
        message_mode: Some(MessageMode::Inbox),
        permissions: Some(Permissions {
            can_send: Some(false),
            ..Permissions::default()
        }),
        dashboard_user_id: None,
    };
    let member = store
        .update_member(&mesh, &member_id(&mesh, 1), patch, None)
        .await
        .unwrap();
    assert_eq!(
        (member.display_name.as_str(), member.role, member.role_tag.as_deref()),
        ("Ünal", Role::Admin, Some("ops"))
    );
    assert_eq!(
        (member.message_mode, member.permissions.can_send),
        (MessageMode::Inbox, Some(false))
    );
    let clear = MemberPatch {
        role_tag: Some(None),
        ..MemberPatch::default()
    };
    let cleared = store
        .update_member(&mesh, &member_id(&mesh, 1), clear, None)
        .await
        .unwrap();
    assert_eq!(
        cleared,
        MemberRow {
            role_tag: None,
            ..member
        }
    );
    let grants = PeerGrants::from([(key(2), vec![Capability::Dm]), (key(0), vec![])]);
    let change = |entries: &[(KeyHex, Option<Vec<Capability>>)]| {
        let (store, mesh, change) = (store.clone(), mesh.clone(), entries.iter().cloned().collect());
        async move {
            store
                .change_grants(&mesh, &member_id(&mesh, 1), change, None, |_| {})
                .await
        }
    };
    let (one, other) = (
        [(key(2), Some(vec![Capability::Dm]))],
        [(key(0), Some(vec![])), (key(3), None)],
    );
    let (first, second) = tokio::join!(change(&one), change(&other));
    assert_eq!(
        (first.unwrap().len(), second.unwrap()),
        (1, grants.clone()),
        "changes add up"
    );
    assert_eq!(
        store
            .member(&mesh, &member_id(&mesh, 1))
            .await
            .unwrap()
            .unwrap()
            .peer_grants,
        grants
    );

    store
        .insert_message(message(&mesh, 0, &[1, 2], "m1"), None)
        .await
        .unwrap();
    store.insert_message(message(&mesh, 0, &[1], "m2"), None).await.unwrap();
    store
        .change_stages(vec![step(&mesh, "m1", 1, DeliveryStage::Delivered, 5)])
        .await
        .unwrap();
    let ended = store
        .revoke_member(&mesh, &member_id(&mesh, 1), at(50), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].message_id.as_str(), &ended[0].sender),
        ("m2", &member_id(&mesh, 0))
    );
    assert!(
        store
            .revoke_member(&mesh, &member_id(&mesh, 1), at(50), None)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        store.member_by_key(&mesh, &key(1)).await.unwrap().unwrap().revoked_at,
        Some(at(50))
    );
    assert!(matches!(
        store
            .update_member(&mesh, &member_id(&mesh, 1), MemberPatch::default(), None)
            .await,
        Err(StoreError::NotFound(_))
    ));
    // The key may join again, as a new member.
    let again = NewMember {
        id: MemberId(format!("{mesh}-again")),
        ..new_member(&mesh, 1)
    };
    store.insert_member(again, None).await.unwrap();
    let live = store.member_by_key(&mesh, &key(1)).await.unwrap().unwrap();
    assert_eq!((live.id.0, live.revoked_at), (format!("{mesh}-again"), None));
    let ids: Vec<_> = store
        .members(&mesh)
        .await
        .unwrap()
        .into_iter()
        .map(|member| member.id.0)
        .collect();
    assert_eq!(ids, [format!("{mesh}-0"), format!("{mesh}-again"), format!("{mesh}-2")]);

    let state = PeerStateRow {
        mesh_id: mesh.clone(),
        member_id: member_id(&mesh, 2),
        groups: vec![Group {
            name: GroupName::new("ops"),
            role: None,
        }],
        profile: Profile {
            title: Some("Lead".into()),
            ..Profile::default()
        },
        visible: false,
        last_summary: Some("working".into()),
        last_display_name: None,
        stats: Stats {
            messages_in: u64::from(u32::MAX) * 9,
            ..Stats::default()
        },
        last_seen_at: at(60),
    };
    let before = PeerStateRow {
        visible: true,
        last_summary: None,
        ..state.clone()
    };
    store.save_peer_state(|| Some(before)).await.unwrap();
    let saved = state.clone();
    store.save_peer_state(|| Some(saved)).await.unwrap();
    store.save_peer_state(|| None).await.unwrap();
    let loaded = store.load_mesh(&mesh).await.unwrap().unwrap();
    assert_eq!(loaded.peer_states, [state]);
    assert_eq!(loaded.members[2].last_seen_at, Some(at(60)));
    assert!(loaded.members[0].is_owner && loaded.group_head.is_none());
    assert!(!format!("{loaded:?}").contains("sealed\""), "the root key is printed");

    let presence = PresenceRow {
        id: PresenceId("p1".into()),
        mesh_id: mesh.clone(),
        member_id: member_id(&mesh, 2),
        session_id: String::new(),
        session_pubkey: Some(key(8)),
        display_name: "n".into(),
        pid: 7,
        cwd: "/".into(),
        connected_at: at(1),
    };
    store.insert_presence(presence.clone()).await.unwrap();
    store
        .insert_presence(PresenceRow {
            id: PresenceId("p2".into()),
            ..presence
        })
        .await
        .unwrap();
    store
        .end_presence(&mesh, &PresenceId("p1".into()), at(2))
        .await
        .unwrap();
    store.end_presences(at(9), at(5)).await.unwrap();
    assert_eq!(db.raw("SELECT id FROM presence").await, ["p2"]);
}

pub async fn state_counts_writes(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 1).await;
    let write = |key: &str, value: serde_json::Value| StateWrite {
        key: key.into(),
        value,
        by_member: member_id(&mesh, 0),
        by_name: "member 0".into(),
        at: at(3),
    };
    for (key, value, version) in [
        ("b", json!(null), 1),
        ("b", json!({ "x": [1, "é"] }), 2),
        ("B", json!(1), 1),
    ] {
        assert_eq!(
            store
                .set_state(&mesh, write(key, value), 2, None, |_| {})
                .await
                .unwrap(),
            version
        );
    }
    let error = store
        .set_state(&mesh, write("c", json!(1)), 2, None, |_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Limit(_)) && !error.is_retryable(),
        "{error:?}"
    );
    assert_eq!(
        store
            .set_state(&mesh, write("b", json!(2)), 2, None, |_| {})
            .await
            .unwrap(),
        3
    );
    assert_eq!(store.state_count(&mesh).await.unwrap(), 2);
    let rows = store.list_state(&mesh).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["B", "b"]);
    let row = store.get_state(&mesh, "b").await.unwrap().unwrap();
    assert_eq!(
        row,
        StateRow {
            key: "b".into(),
            value: json!(2),
            version: 3,
            updated_by_member: member_id(&mesh, 0),
            updated_by_name: "member 0".into(),
            updated_at: at(3),
        }
    );
    assert!(store.delete_state(&mesh, "b", None, |_| {}).await.unwrap());
    assert!(store.get_state(&mesh, "b").await.unwrap().is_none());
    // Writers at once lose nothing.
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (store, mesh, write) = (store.clone(), mesh.clone(), write("n", json!(number)));
            tokio::spawn(async move { store.set_state(&mesh, write, 10, None, |_| {}).await.unwrap() })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>());
}

pub async fn statuses_wait_for_their_session(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let status = |status: PeerStatus, pid: i64, session: Option<&str>, ms: i64| PendingStatus {
        mesh_id: mesh.clone(),
        member_id: member_id(&mesh, 0),
        pid,
        cwd: "/work".into(),
        session_id: session.map(str::to_owned),
        status,
        created_at: at(ms),
    };
    let take = |member: usize, session: &'static str, pid: i64, since: i64| {
        let (store, mesh) = (store.clone(), mesh.clone());
        async move {
            let member = member_id(&mesh, member);
            store
                .take_pending_status(&mesh, &member, session, pid, "/work", at(since))
                .await
                .unwrap()
        }
    };
    store
        .insert_pending_status(status(PeerStatus::Idle, 7, None, 20))
        .await
        .unwrap();
    store
        .insert_pending_status(status(PeerStatus::Working, 7, None, 10))
        .await
        .unwrap();
    assert_eq!(take(1, "", 7, 0).await, None);
    assert_eq!(take(0, "", 8, 0).await, None);
    assert_eq!(take(0, "", 7, 30).await, None);
    assert_eq!(take(0, "", 7, 0).await, Some(PeerStatus::Idle));
    assert_eq!(take(0, "", 7, 0).await, None);
    store
        .insert_pending_status(status(PeerStatus::Dnd, 9, Some("s1"), 20))
        .await
        .unwrap();
    assert_eq!(take(0, "s1", 1, 0).await, Some(PeerStatus::Dnd));
    store
        .insert_pending_status(status(PeerStatus::Dnd, 9, None, 20))
        .await
        .unwrap();
    assert_eq!(store.sweep_pending_status(at(21)).await.unwrap(), 1);
}

pub async fn meshes_are_apart(db: &Db) {
    let store = db.open().await;
    let mesh = add_mesh(&store, 2).await;
    let other = add_mesh(&store, 2).await;
    store.insert_message(message(&mesh, 0, &[1], "m1"), None).await.unwrap();
    assert!(
        store
            .message_status(&other, &MessageId("m1".into()))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .pending(&other, &member_id(&mesh, 1), Priority::Next, 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.member(&other, &member_id(&mesh, 1)).await.unwrap().is_none());
    assert!(
        store
            .revoke_member(&other, &member_id(&mesh, 1), at(1), None)
            .await
            .unwrap()
            .is_none()
    );
    let row = store.mesh(&mesh).await.unwrap().unwrap();
    assert_eq!(store.mesh_by_slug(&row.slug).await.unwrap(), Some(row.clone()));
    assert_eq!(store.members_with_key(&key(1)).await.unwrap().len(), 2);
    let same_slug = |id: &str| NewMesh {
        id: MeshId(id.into()),
        name: "n".into(),
        slug: row.slug.clone(),
        owner_pubkey: key(0),
        root_key: SecretText("k".into()),
        policy: MeshPolicy::default(),
        created_at: at(0),
        owner: new_member(&MeshId(id.into()), 0),
    };
    assert!(matches!(
        store.create_mesh(same_slug("third"), None).await,
        Err(StoreError::Conflict(_))
    ));
    assert!(store.archive_mesh(&mesh, at(5), None).await.unwrap());
    assert!(!store.archive_mesh(&mesh, at(6), None).await.unwrap());
    assert_eq!(store.mesh(&mesh).await.unwrap().unwrap().archived_at, Some(at(5)));
    assert_eq!(store.members_with_key(&key(1)).await.unwrap().len(), 1);
    store.create_mesh(same_slug("third"), None).await.unwrap();
    assert_eq!(store.mesh_count().await.unwrap(), 2);
    assert_eq!(store.meshes().await.unwrap().len(), 2);
    let policy = MeshPolicy {
        self_editable: SelfEditable {
            groups: false,
            ..SelfEditable::default()
        },
    };
    store.update_policy(&other, policy, None).await.unwrap();
    assert_eq!(store.mesh(&other).await.unwrap().unwrap().policy, policy);
    assert!(store.update_policy(&MeshId("none".into()), policy, None).await.is_err());
    let _: BTreeMap<KeyHex, Vec<Capability>> = PeerGrants::new();
}
