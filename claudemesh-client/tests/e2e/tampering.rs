//! The audit log shows what was done to it.

use super::files::share;
use super::kit::*;
use claudemesh_broker::security::rate_limit::Limit;
use claudemesh_client::MeshClient;
use claudemesh_client::flows::{InviteOptions, create_invite};
use claudemesh_client::proto::model::{Capability, DeliveryStage, GroupName, Priority, SqlValue};
use claudemesh_client::proto::operations;
use claudemesh_client::proto::ops::{
    AuditQuery, AuditVerify, AuditVerifyResult, CancelTask, ClaimTask, CompleteTask, CreateStream, CreateTask, DeleteFile,
    DeleteState, Forget, GraphExecute, JoinGroup, LeaveGroup, MeshExecute, ReleaseTask, Remember, RemoveMember, RemoveSkill, SetGrants,
    SetState, ShareSkill, SkillDeploy, SkillSource, VectorDelete, VectorStore,
};
use claudemesh_client::proto::tools::GrantFile;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

async fn total(client: &MeshClient, event_type: &str) -> u64 {
    let query = AuditQuery {
        limit: Some(1),
        event_type: Some(event_type.to_owned()),
        ..AuditQuery::default()
    };
    client.request(query).await.unwrap().total
}

async fn verify(client: &MeshClient) -> AuditVerifyResult {
    client.request(AuditVerify {}).await.unwrap()
}

pub async fn every_audited_operation_leaves_an_entry(database: Database) {
    let generous = |config: &mut claudemesh_broker::config::Config| {
        config.rate_limits.heavy = Limit::per_second(1_000, 1_000);
    };
    let (lab, Three { ana, ben, cara }) = Lab::with_three_and(database, generous).await;
    // State is kept in the clear; the log must not keep it for ever.
    let secret = "a value that is nobody's business";
    let mut file = String::new();
    for meta in operations().iter().filter(|meta| meta.audit.is_some()) {
        let event_type = meta.audit.unwrap();
        let before = total(&ben, event_type).await;
        let name = || GroupName::new("backend");
        match meta.wire_type {
            "send" => {
                let text = lab.text("message");
                let sent = ana.send_text("ben", &text, Priority::Now).await.unwrap();
                assert_eq!(recv_text(&ben).await, text);
                wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Delivered).await;
            }
            "join_group" => drop(
                ben.request(JoinGroup {
                    name: name(),
                    role: None,
                })
                .await
                .unwrap(),
            ),
            "leave_group" => drop(ben.request(LeaveGroup { name: name() }).await.unwrap()),
            "set_state" => {
                let set = SetState {
                    key: "k".to_owned(),
                    value: json!({ "secret": secret }),
                };
                ben.request(set).await.unwrap();
            }
            "mesh_execute" => {
                let sql = "CREATE TABLE t AS SELECT $1 AS x".to_owned();
                let params = vec![SqlValue::Text(secret.to_owned())];
                let request = MeshExecute { sql, params };
                ben.request(request).await.unwrap();
            }
            "graph_execute" => {
                let request = GraphExecute {
                    cypher: "CREATE (:Secret {text: $text})".to_owned(),
                    params: [("text".to_owned(), json!(secret))].into_iter().collect(),
                };
                ben.request(request).await.unwrap();
            }
            "vector_store" | "vector_delete" => {
                let (collection, vector) = ("docs".to_owned(), Some(vec![1.0, 2.0]));
                let store = VectorStore {
                    collection: collection.clone(),
                    text: secret.to_owned(),
                    metadata: Some([("secret".to_owned(), json!(secret))].into()),
                    vector,
                    id: None,
                };
                let id = ben.request(store).await.unwrap().id;
                if meta.wire_type == "vector_delete" {
                    ben.request(VectorDelete { collection, id }).await.unwrap();
                }
            }
            "create_stream" => {
                let name = "builds".to_owned();
                ben.request(CreateStream { name }).await.unwrap();
            }
            "delete_state" => drop(ben.request(DeleteState { key: "k".to_owned() }).await.unwrap()),
            "set_grants" => {
                let grants = [(ana.key(), Some(vec![Capability::Dm]))].into();
                ben.request(SetGrants { grants }).await.unwrap();
            }
            "group_commit" => {
                let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
                assert_eq!(invite.warning, None);
            }
            "remove_member" => {
                let member_id = cara.person.identity.member_id.clone();
                ana.request(RemoveMember { member_id }).await.unwrap();
            }
            "remember" | "forget" => {
                let new = Remember {
                    content: secret.to_owned(),
                    tags: Vec::new(),
                };
                let memory_id = ben.request(new).await.unwrap().id;
                if meta.wire_type == "forget" {
                    ben.request(Forget { memory_id }).await.unwrap();
                }
            }
            "create_task" | "claim_task" | "release_task" | "complete_task" | "cancel_task" => {
                let new = CreateTask {
                    title: secret.to_owned(),
                    ..CreateTask::default()
                };
                let task_id = ben.request(new).await.unwrap().id;
                match meta.wire_type {
                    "create_task" => {}
                    "complete_task" => {
                        let result = Some(secret.to_owned());
                        ben.request(CompleteTask { task_id, result }).await.unwrap();
                    }
                    "cancel_task" => {
                        let reason = Some(secret.to_owned());
                        ben.request(CancelTask { task_id, reason }).await.unwrap();
                    }
                    claims => {
                        let claim = ClaimTask {
                            task_id: task_id.clone(),
                        };
                        ben.request(claim).await.unwrap();
                        if claims == "release_task" {
                            ben.request(ReleaseTask { task_id }).await.unwrap();
                        }
                    }
                }
            }
            "share_skill" => {
                let request = ShareSkill {
                    name: "review".to_owned(),
                    description: secret.to_owned(),
                    instructions: secret.to_owned(),
                    ..ShareSkill::default()
                };
                ben.request(request).await.unwrap();
            }
            "remove_skill" => {
                let name = "review".to_owned();
                ben.request(RemoveSkill { name }).await.unwrap();
            }
            "skill_deploy" => {
                let request = SkillDeploy {
                    source: SkillSource::Local {},
                    skill: Some(ShareSkill {
                        name: "deployed".to_owned(),
                        description: secret.to_owned(),
                        instructions: secret.to_owned(),
                        ..ShareSkill::default()
                    }),
                    upload: None,
                };
                ben.request(request).await.unwrap();
            }
            "finish_upload" => {
                let desk = tempfile::NamedTempFile::new().unwrap();
                file = ana.share_file(share(&desk.path().to_string_lossy(), Some("ben"))).await.unwrap().id;
            }
            "grant_file_access" => {
                let (file_id, to) = (file.clone(), "cara".to_owned());
                ana.grant_file(GrantFile { file_id, to }).await.unwrap();
            }
            "delete_file" => drop(ana.delete_file(DeleteFile { file_id: file.clone() }).await.unwrap()),
            other => panic!("{other} is audited: call it here"),
        }
        assert!(total(&ben, event_type).await > before, "{event_type} is not on record");
    }
    assert!(verify(&ben).await.valid);
    let all = AuditQuery {
        limit: Some(500),
        ..AuditQuery::default()
    };
    let all = ben.request(all).await.unwrap();
    assert!(!serde_json::to_string(&all).unwrap().contains(secret));
    lab.finish().await;
}

pub async fn what_is_changed_behind_the_back_is_found(database: Database) {
    let (mut lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    for number in 0..5 {
        let set = SetState {
            key: format!("key {number}"),
            value: json!(number),
        };
        ben.request(set).await.unwrap();
    }
    let mesh = ana.person.identity.mesh_id.clone();
    let other = lab.mesh("Other", "olga").await;
    let verdict = verify(&ana).await;
    assert!(verdict.valid && verdict.broken_at.is_none());
    let middle = i64::try_from(verdict.entries).unwrap() / 2;
    // Each with what takes it back.
    let row = format!("WHERE mesh_id = '{mesh}' AND id = {middle}");
    let changes = [
        ("payload = '{\"key\":\"nothing\"}'", middle),
        ("event_type = 'nothing_happened'", middle),
        ("actor_member_id = 'somebody_else'", middle),
        ("created_at = created_at + 1", middle),
        ("hash = prev_hash", middle),
        ("prev_hash = hash", middle),
        ("id = 1000000", middle + 1),
    ];
    for (change, broken_at) in changes {
        lab.stop().await;
        let (mut store, schema) = lab.store().await;
        let column = change.split_once(" = ").unwrap().0;
        let kept = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {schema}audit_log {row}")));
        let kept = kept.fetch_one(&mut store).await.unwrap();
        let changed = format!("UPDATE {schema}audit_log SET {change} {row}");
        let changed = sqlx::query(AssertSqlSafe(changed)).execute(&mut store).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
        store.close().await.unwrap();
        lab.start_again().await;
        let verdict = within("the connection", verify(&ana)).await;
        assert_eq!((verdict.valid, verdict.broken_at), (false, Some(broken_at)), "{change}");
        assert!(verify(&other).await.valid, "another mesh has its own chain");
        // What is written after it does not heal it.
        let set = SetState {
            key: "later".to_owned(),
            value: json!(change),
        };
        if column == "id" {
            break;
        }
        ben.request(set).await.unwrap();
        assert_eq!(verify(&ana).await.broken_at, Some(broken_at), "{change}");

        lab.stop().await;
        let (mut store, schema) = lab.store().await;
        let back = format!("UPDATE {schema}audit_log SET {column} = $1 {row}");
        let back = sqlx::query(AssertSqlSafe(back));
        let back = match column {
            "created_at" => back.bind(kept.get::<i64, _>(column)),
            _ => back.bind(kept.get::<Option<String>, _>(column)),
        };
        back.execute(&mut store).await.unwrap();
        store.close().await.unwrap();
        lab.start_again().await;
        assert!(within("the connection", verify(&ana)).await.valid, "{change}");
    }
    lab.finish().await;
}
