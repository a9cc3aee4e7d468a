//! What a member leaves with is in force again when it comes back.

use super::kit::*;
use claudemesh_client::MeshClient;
use claudemesh_client::proto::model::{DeliveryStage, Group, GroupName, Peer, Priority, Stats};
use claudemesh_client::proto::ops::{
    JoinGroup, LeaveGroup, MeshStats, MemberStats, SetProfile, SetStats, SetSummary,
};

async fn peer(client: &MeshClient, key: &str) -> Peer {
    let peers = peers(client).await;
    peers
        .into_iter()
        .find(|peer| peer.member_pubkey.as_ref().is_some_and(|known| known.0 == key))
        .expect("a peer")
}

async fn stats_of(client: &MeshClient, name: &str) -> MemberStats {
    let members = client.request(MeshStats {}).await.unwrap().members;
    members
        .into_iter()
        .find(|member| member.name == name)
        .expect("a member")
}

pub async fn defect_097_groups_summary_and_profile_come_back(database: Database) {
    let (mut lab, Three { ana, mut ben, cara: _cara }) = Lab::with_three(database).await;
    let group = |name: &str, role: Option<&str>| Group {
        name: GroupName::new(name),
        role: role.map(str::to_owned),
    };
    let join = |name: &str, role: Option<&str>| JoinGroup {
        name: GroupName::new(name),
        role: role.map(str::to_owned),
    };
    ben.request(join("backend/db", Some("lead"))).await.unwrap();
    ben.request(join("left", None)).await.unwrap();
    let joined = ben.request(join("@backend/db", Some("member"))).await.unwrap();
    assert_eq!(joined.groups, [group("backend/db", Some("member")), group("left", None)]);
    let left = ben
        .request(LeaveGroup {
            name: GroupName::new("left"),
        })
        .await
        .unwrap();
    assert!(left.was_member);
    let left = ben
        .request(LeaveGroup {
            name: GroupName::new("left"),
        })
        .await
        .unwrap();
    assert!(!left.was_member);
    let summary = "on the migration of the store".to_owned();
    ben.request(SetSummary {
        summary: summary.clone(),
    })
    .await
    .unwrap();
    ben.request(SetProfile {
        title: Some("Lead architect".to_owned()),
        bio: Some("knows the store".to_owned()),
        capabilities: Some(vec!["sql".to_owned()]),
        ..SetProfile::default()
    })
    .await
    .unwrap();
    ben.request(SetProfile {
        bio: Some(String::new()),
        avatar: Some("🦀".to_owned()),
        ..SetProfile::default()
    })
    .await
    .unwrap();
    for round in 0..3 {
        let seen = eventually("the return of ben", || async {
            let peers = peers(&ana).await;
            peers
                .into_iter()
                .find(|peer| peer.member_pubkey == Some(ben.key()) && peer.summary.is_some())
        })
        .await;
        assert_eq!(seen.groups, [group("backend/db", Some("member"))], "round {round}");
        assert_eq!(seen.summary.as_ref(), Some(&summary));
        let profile = seen.profile.expect("a profile");
        assert_eq!(
            (profile.title.as_deref(), profile.bio, profile.avatar.as_deref()),
            (Some("Lead architect"), None, Some("🦀"))
        );
        assert_eq!(profile.capabilities, ["sql"]);
        let text = lab.text("for the group");
        let sent = ana.send_text("@backend", &text, Priority::Now).await.unwrap();
        assert_eq!(recv_text(&ben).await, text);
        // Else the broker may stop before it has the acknowledgement, and ben, who keeps no journal, gets it once more.
        wait_stage(&ana, &sent.message_id, &ben.key(), DeliveryStage::Delivered).await;
        match round {
            0 => {
                ben.restart().await;
                let hello = ben.hello().expect("a hello");
                assert!(hello.restored && hello.last_seen_at.is_some());
                assert_eq!(hello.last_summary.as_ref(), Some(&summary));
            }
            1 => {
                lab.restart().await;
                // The connected process sets again what it had set, and the fresh one has it from the store.
                eventually("the return of ana", || async {
                    (peers(&ana).await.len() == 3).then_some(())
                })
                .await;
                ben.restart().await;
            }
            _ => {}
        }
    }
    lab.finish().await;
}

pub async fn who_closes_and_comes_back_at_once_finds_what_it_left(database: Database) {
    let (lab, Three { mut ben, .. }) = Lab::with_three(database).await;
    for round in 0..20 {
        let summary = format!("round {round}");
        ben.request(SetSummary {
            summary: summary.clone(),
        })
        .await
        .unwrap();
        ben.restart().await;
        let hello = ben.hello().expect("a hello");
        assert_eq!(hello.last_summary.as_ref(), Some(&summary));
    }
    lab.finish().await;
}

pub async fn defect_095_sub_e_25_counters_never_double(database: Database) {
    let (mut lab, Three { ana, mut ben, .. }) = Lab::with_three(database).await;
    let count = |stats: &Stats| (stats.messages_in, stats.messages_out, stats.tool_calls, stats.errors);
    let (mut sent, mut received) = (0, 0);
    for round in 0..3 {
        for _ in 0..3 {
            ben.send_text("ana", &lab.text("counted"), Priority::Now).await.unwrap();
            sent += 1;
        }
        ana.send_text("ben", &lab.text("counted"), Priority::Now).await.unwrap();
        recv(&ben).await;
        received += 1;
        for _ in 0..3 {
            // Repeating a report changes nothing.
            ben.report_stats().await;
        }
        let stats = stats_of(&ana, "ben").await;
        assert_eq!(count(&stats.stats), (received, sent, 0, 0), "round {round}");
        assert!(stats.online);
        match round {
            0 => ben.restart().await,
            1 => {
                lab.restart().await;
                within("the connection", ben.request(MeshStats {})).await.unwrap();
                ben.report_stats().await;
                assert_eq!(count(&stats_of(&ana, "ben").await.stats), (received, sent, 0, 0));
            }
            _ => {}
        }
    }
    // Two sessions add up.
    let second = ben.person.connect().await;
    for session in [&ben.client, &second] {
        session.count_tool_call(false);
        session.count_tool_call(true);
        session.report_stats().await;
        session.report_stats().await;
    }
    assert_eq!(count(&stats_of(&ana, "ben").await.stats), (received, sent, 4, 2));
    second.close().await;
    ben.restart().await;
    ben.count_tool_call(false);
    ben.report_stats().await;
    assert_eq!(count(&stats_of(&ana, "ben").await.stats), (received, sent, 5, 2));
    assert_eq!(peer(&ana, ben.key().as_str()).await.stats.map(|stats| count(&stats)), Some((received, sent, 5, 2)));

    // The request as an original client makes it: the base plus what it did.
    let base = ben.hello().unwrap().restored_stats.unwrap();
    let third = ben.person.connect().await;
    let reported = Stats {
        tool_calls: base.tool_calls + 10,
        ..third.hello().unwrap().restored_stats.unwrap()
    };
    let totals = third.request(SetStats { stats: reported }).await.unwrap().stats;
    assert!(totals.tool_calls >= base.tool_calls + 10);
    lab.finish().await;
}
