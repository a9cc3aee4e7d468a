//! What happened is on record.

use super::kit::*;
use claudemesh_broker::config::Config;
use claudemesh_broker::security::rate_limit::Limit;
use claudemesh_client::MeshClient;
use claudemesh_client::flows::{InviteOptions, create_invite};
use claudemesh_client::proto::model::{Capability, GroupName, Priority};
use claudemesh_client::proto::ops::{
    AuditQuery, AuditResult, AuditVerify, DeleteState, JoinGroup, LeaveGroup, RemoveMember, SetGrants, SetState,
};
use claudemesh_client::proto::ErrorCode;
use serde_json::json;

async fn query(client: &MeshClient, event_type: Option<&str>, limit: u32, offset: u64) -> AuditResult {
    let request = AuditQuery {
        limit: Some(limit),
        offset: Some(offset),
        event_type: event_type.map(str::to_owned),
    };
    client.request(request).await.unwrap()
}

pub async fn defect_114_everything_that_counts_is_on_record(database: Database) {
    let generous = |config: &mut Config| config.rate_limits.heavy = Limit::per_second(1_000, 1_000);
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three_and(database, generous).await;
    let name = || GroupName::new("backend");
    ben.request(JoinGroup {
        name: name(),
        role: None,
    })
    .await
    .unwrap();
    ben.request(LeaveGroup { name: name() }).await.unwrap();
    let value = "a value that is nobody's business";
    let set = SetState {
        key: "a key".to_owned(),
        value: json!(value),
    };
    ben.request(set).await.unwrap();
    let delete = DeleteState {
        key: "a key".to_owned(),
    };
    ben.request(delete).await.unwrap();
    let grants = [(ana.key(), Some(vec![Capability::Dm]))].into();
    ben.request(SetGrants { grants }).await.unwrap();
    let texts = [lab.text("direct"), lab.text("to all")];
    ana.send_text("ben", &texts[0], Priority::Now).await.unwrap();
    ana.send_text("*", &texts[1], Priority::Now).await.unwrap();
    let invite = create_invite(&ana, InviteOptions::default()).await.unwrap();
    let identity = &ana.person.identity;
    lab.http()
        .revoke_invite(&identity.member, &identity.mesh_id, &invite.invite_id)
        .await
        .unwrap();
    let member_id = cara.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();

    // The rest of what is audited has a test of its own: every_audited_operation_leaves_an_entry.
    for event_type in [
        "mesh_created",
        "peer_joined",
        "member_joined",
        "invite_created",
        "invite_revoked",
        "group_commit",
        "group_joined",
        "group_left",
        "state_set",
        "state_deleted",
        "grants_set",
        "message_sent",
        "member_removed",
    ] {
        let found = query(&ben, Some(event_type), 500, 0).await;
        assert!(found.total > 0, "{event_type} is not on record");
        assert!(found.entries.iter().all(|entry| entry.event_type == event_type));
    }
    let sent = query(&ben, Some("message_sent"), 500, 0).await;
    assert_eq!(sent.total, 2);
    assert!(sent.entries.iter().all(|entry| entry.actor == "ana"));
    let set = &query(&ben, Some("state_set"), 1, 0).await.entries[0];
    assert_eq!((set.actor.as_str(), &set.payload["key"]), ("ben", &json!("a key")));

    // A refused request leaves no entry of what it did not do.
    let removed = query(&ben, Some("member_removed"), 500, 0).await.total;
    let member_id = ana.person.identity.member_id.clone();
    assert_eq!(code(ben.request(RemoveMember { member_id }).await), ErrorCode::Forbidden);
    assert_eq!(query(&ben, Some("member_removed"), 500, 0).await.total, removed);

    for round in 0..2 {
        let verdict = ben.request(AuditVerify {}).await.unwrap();
        assert!(verdict.valid && verdict.broken_at.is_none(), "round {round}");
        let all = query(&ben, None, 500, 0).await;
        assert_eq!(all.entries.len() as u64, all.total);
        assert!(all.entries.windows(2).all(|pair| pair[0].id > pair[1].id), "the newest first");
        // Page by page it is the same.
        let mut paged = Vec::new();
        while paged.len() < all.entries.len() {
            let page = query(&ben, None, 7, paged.len() as u64).await.entries;
            assert!(!page.is_empty());
            paged.extend(page);
        }
        assert_eq!(paged, all.entries);
        let whole = serde_json::to_string(&all).unwrap();
        assert!(!whole.contains(value) && texts.iter().all(|text| !whole.contains(text)));
        if round == 0 {
            lab.restart().await;
            eventually("the return of both", || async {
                (peer_names(&ben).await.len() == 1 || peer_names(&ben).await.len() == 2).then_some(())
            })
            .await;
            // Joining again is on record, so let that be over.
            within("the connection", ana.request(AuditVerify {})).await.unwrap();
            eventually("quiet", || async {
                let before = query(&ben, None, 1, 0).await.total;
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                (query(&ben, None, 1, 0).await.total == before).then_some(())
            })
            .await;
        }
    }
    // Another mesh has its own.
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(query(&olga, Some("message_sent"), 1, 0).await.total, 0);
    lab.finish().await;
}
