//! The mesh as a whole.

use super::kit::*;
use claudemesh_client::proto::model::{DeliveryStage, GroupName, PeerStatus, Priority};
use claudemesh_client::proto::ops::{JoinGroup, MeshInfo, MeshStats, SetState};
use claudemesh_client::proto::tools::PingMesh;
use serde_json::json;

pub async fn cli_69_ping_measures_every_priority(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let ping = || PingMesh {
        priorities: Priority::ALL.to_vec(),
    };
    let result = ana.ping_mesh(ping()).await.unwrap();
    assert!(result.connected);
    assert_eq!((result.status, result.peers, result.mesh.as_str()), (PeerStatus::Idle, 2, "lab"));
    assert_eq!(result.legs.len(), 3);
    for leg in &result.legs[..2] {
        assert!(leg.accepted_ms.is_some() && leg.round_trip_ms.is_some(), "{leg:?}");
        assert_eq!((leg.stage, &leg.note), (Some(DeliveryStage::Read), &None));
    }
    let low = &result.legs[2];
    assert_eq!((low.priority, low.round_trip_ms, low.stage), (Priority::Low, None, Some(DeliveryStage::Accepted)));
    assert!(low.note.is_some());
    set_status(&ana, PeerStatus::Working).await;
    let result = ana.ping_mesh(ping()).await.unwrap();
    let came: Vec<_> = result.legs.iter().map(|leg| leg.round_trip_ms.is_some()).collect();
    assert_eq!(came, [true, false, false]);
    // Test messages are nobody's mail.
    set_status(&ana, PeerStatus::Idle).await;
    assert!(ana.check_messages().await.unwrap().messages.is_empty());
    assert_eq!(ana.waiting(), 0);
    for seat in [&ben, &cara] {
        assert!(seat.pull(&Priority::ALL, true).await.unwrap().messages.is_empty());
        expect_nothing(&lab, &ana, seat).await;
    }
    lab.finish().await;
}

pub async fn the_overview_counts_what_there_is(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let name = GroupName::new("backend/db");
    ben.request(JoinGroup { name, role: None }).await.unwrap();
    let set = SetState {
        key: "a key".to_owned(),
        value: json!(1),
    };
    ben.request(set).await.unwrap();
    let info = ana.request(MeshInfo {}).await.unwrap();
    let identity = &ana.person.identity;
    assert_eq!((info.mesh.as_str(), info.slug.as_deref()), (identity.mesh_id.as_str(), Some("lab")));
    assert_eq!((info.name.as_deref(), info.your_name.as_str()), (Some("Lab"), "ana"));
    assert_eq!((info.peers, info.members), (3, 3));
    assert_eq!((info.groups, info.state_keys), (vec!["@backend/db".to_owned()], vec!["a key".to_owned()]));
    let own = ben.request(MeshInfo {}).await.unwrap();
    assert_eq!(own.your_groups.len(), 1);

    cara.client.close().await;
    eventually("the end of cara's session", || async {
        (ana.request(MeshInfo {}).await.unwrap().peers == 2).then_some(())
    })
    .await;
    let stats = ana.request(MeshStats {}).await.unwrap().members;
    let online: Vec<_> = stats.iter().map(|member| (member.name.as_str(), member.online)).collect();
    assert_eq!(online, [("ana", true), ("ben", true), ("cara", false)]);
    lab.finish().await;
}
