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

macro_rules! modules {
    ($($module:ident)+) => { $( pub mod $module; )+ };
}
modules! { messages deliveries committer invites audit group_log members state skills whole }

macro_rules! suite {
    ($attributes:tt $fresh:ident) => {
        store_suite::suite! { @all $attributes $fresh
            messages {
                defect_078_repeated_sends_store_nothing
                an_id_belongs_to_one_sender
                one_key_in_two_forms_is_one_key
                defect_035_sub_e_10_every_column_comes_back
                messages_stay_in_order
                defect_065_history_does_not_slow_the_queue
            }
            deliveries {
                stages_only_advance
                marks_by_place_are_the_same
                defect_065_due_messages_expire_and_old_ones_go
            }
            committer {
                completions_come_in_submit_order
                a_guilty_write_fails_alone
                a_panicking_write_fails_alone
                a_full_queue_says_so
            }
            invites {
                an_invite_is_used_as_often_as_it_may
                joining_twice_uses_no_invite
            }
            audit {
                defect_033_034_sub_e_09_the_audit_chain_holds_and_shows_changes
                audit_is_undone_with_its_write
            }
            group_log {
                the_group_log_has_one_end
                group_leftovers_are_kept
            }
            members {
                members_come_and_go
            }
            state {
                state_counts_writes
                statuses_wait_for_their_session
            }
            skills {
                skills_are_replaced_found_and_removed
                files_belong_to_one_version
                uploads_have_limits_and_an_end
            }
            whole {
                data_survives_a_restart
                a_second_broker_is_refused
                meshes_are_apart
            }
        }
    };
    (@all $attributes:tt $fresh:ident $( $module:ident { $($name:ident)+ } )+) => {
        $( mod $module { $( crate::store_suite::suite!(@one $attributes $fresh $module $name); )+ } )+
    };
    (@one [$($attribute:meta)?] $fresh:ident $module:ident $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])?
        async fn $name() {
            crate::store_suite::$module::$name(&crate::$fresh().await).await;
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
