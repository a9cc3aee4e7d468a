//! What a session set outlives its process and the broker's; what it took back stays gone.

use super::kit::*;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{GroupName, KeyHex, Peer, Priority, Profile, Stats};
use claudemesh_client::proto::ops::{JoinGroup, LeaveGroup, MeshStats, SetProfile, SetStats, SetSummary, SetVisible};
use claudemesh_client::{ClientEvent, EventStream, MeshClient};
use claudemesh_crypto::PublicKey;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The session as the broker lists it to this client.
async fn listed(client: &MeshClient, session: &PublicKey) -> Option<Peer> {
    let session = session.to_string();
    let peers = peers(client).await;
    peers.into_iter().find(|peer| peer.pubkey.as_str() == session)
}

async fn own(client: &MeshClient) -> Peer {
    listed(client, &client.session_key()).await.expect("its own session")
}

async fn stats_of(client: &MeshClient, key: &KeyHex) -> Stats {
    let members = client.request(MeshStats {}).await.unwrap().members;
    let member = members.into_iter().find(|member| member.pubkey == *key);
    Stats {
        uptime: 0,
        ..member.expect("a member").stats
    }
}

/// The next news of one session.
async fn news(events: &mut EventStream, name: &str) -> &'static str {
    event(events, "news of a peer", |event| {
        let (kind, peer) = match event {
            ClientEvent::PeerJoined(peer) => ("joined", peer),
            ClientEvent::PeerReturned(peer) => ("returned", peer),
            ClientEvent::PeerLeft(peer) => ("left", peer),
            ClientEvent::PeerVisible(peer) => ("visible", peer),
            ClientEvent::PeerHidden(peer) => ("hidden", peer),
            _ => return None,
        };
        (peer.name == name).then_some(kind)
    })
    .await
}

async fn join_group(client: &MeshClient, name: &str) {
    let request = JoinGroup {
        name: GroupName::new(name),
        role: Some("lead".to_owned()),
    };
    client.request(request).await.unwrap();
}

async fn summarise(client: &MeshClient, summary: &str) {
    let summary = summary.to_owned();
    client.request(SetSummary { summary }).await.unwrap();
}

async fn show(client: &MeshClient, visible: bool) {
    client.request(SetVisible { visible }).await.unwrap();
}

pub async fn who_hides_stays_hidden(database: Database) {
    let (
        mut lab,
        Three {
            ana,
            mut ben,
            cara: _cara,
        },
    ) = Lab::with_three(database).await;
    let mut events = ana.events();
    join_group(&ben, "backend").await;
    summarise(&ben, "not for everybody").await;
    show(&ben, false).await;
    assert_eq!(news(&mut events, "ben").await, "hidden");
    ben.restart().await;
    assert_eq!(ben.hello().unwrap().visible, Some(false));
    assert_eq!(own(&ben).await.visible, Some(false));
    assert_eq!(peer_names(&ana).await, ["ana", "cara"]);
    // Neither the end of the old process nor the beginning of the new one was told.
    show(&ben, true).await;
    assert_eq!(news(&mut events, "ben").await, "visible");
    show(&ben, false).await;
    assert_eq!(news(&mut events, "ben").await, "hidden");

    // The process that goes on, and then a fresh one, at a fresh broker.
    lab.restart().await;
    for round in 0..2 {
        let seen = eventually("the restored session", || async {
            listed(&ben, &ben.session_key())
                .await
                .filter(|peer| peer.summary.is_some())
        })
        .await;
        assert_eq!(seen.visible, Some(false), "round {round}");
        assert_eq!(seen.groups.len(), 1);
        eventually("the return of the others", || async {
            (peer_names(&ana).await == ["ana", "cara"]).then_some(())
        })
        .await;
        // A group that it alone is in is nobody to the others.
        let text = lab.text("to whom it shows");
        let refused = ana.send_text("@backend", &text, Priority::Now).await;
        assert_eq!(code(refused.map(|sent| sent.recipients)), ErrorCode::NoSuchPeer);
        expect_nothing(&lab, &ana, &ben).await;
        ben.restart().await;
    }
    // Shown again, all of it is there.
    show(&ben, true).await;
    let seen = listed(&ana, &ben.session_key()).await.expect("it is shown");
    assert_eq!(seen.summary.as_deref(), Some("not for everybody"));
    assert_eq!(seen.groups[0].name.as_str(), "backend");
    lab.finish().await;
}

pub async fn what_was_taken_back_stays_gone(database: Database) {
    let (mut lab, Three { ana, mut ben, .. }) = Lab::with_three(database).await;
    for group in ["backend", "frontend/web"] {
        join_group(&ben, group).await;
    }
    summarise(&ben, "for a while").await;
    let profile = SetProfile {
        avatar: Some("🦀".to_owned()),
        title: Some("Lead".to_owned()),
        bio: Some("a line".to_owned()),
        capabilities: Some(vec!["sql".to_owned()]),
    };
    ben.request(profile).await.unwrap();
    ben.request(SetVisible { visible: false }).await.unwrap();
    ben.restart().await;
    let seen = own(&ben).await;
    assert_eq!((seen.groups.len(), seen.summary.as_deref()), (2, Some("for a while")));

    for group in ["backend", "frontend/web"] {
        let name = GroupName::new(group);
        assert!(ben.request(LeaveGroup { name }).await.unwrap().was_member);
    }
    summarise(&ben, "").await;
    let nothing = SetProfile {
        avatar: Some(String::new()),
        title: Some(String::new()),
        bio: Some(String::new()),
        capabilities: Some(Vec::new()),
    };
    assert_eq!(ben.request(nothing).await.unwrap().profile, Profile::default());
    show(&ben, true).await;
    for round in 0..3 {
        let seen = eventually("ben", || async { listed(&ana, &ben.session_key()).await }).await;
        assert!(seen.groups.is_empty(), "round {round}: {:?}", seen.groups);
        assert_eq!(seen.summary.filter(|summary| !summary.is_empty()), None);
        assert_eq!(seen.profile.filter(|profile| !profile.is_empty()), None);
        match round {
            0 => ben.restart().await,
            _ => {
                lab.restart().await;
                within("the connection", ben.request(MeshStats {})).await.unwrap();
            }
        }
        let hello = ben.hello().unwrap();
        assert!(
            hello.restored && hello.restored_groups.is_empty() && hello.last_summary.is_none(),
            "{hello:?}"
        );
    }
    lab.finish().await;
}

pub async fn sessions_side_by_side_add_up(database: Database) {
    let (mut lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let second = ben.person.connect().await;
    let mut expected = Stats::default();
    for round in 0..3 {
        for (session, calls) in [(&ben.client, 2), (&second, 3)] {
            for _ in 0..calls {
                session.count_tool_call(false);
            }
            session.count_tool_call(true);
            expected.tool_calls += calls + 1;
            expected.errors += 1;
        }
        // In turns, and more than once.
        for session in [&ben.client, &second, &second, &ben.client] {
            session.report_stats().await;
        }
        assert_eq!(stats_of(&ana, &ben.key()).await, expected, "round {round}");
        if round == 1 {
            // Counted before the restart, reported after it.
            second.count_tool_call(false);
            expected.tool_calls += 1;
            lab.restart().await;
            for session in [&ben.client, &second] {
                within("the connection", session.request(MeshStats {})).await.unwrap();
            }
        }
    }
    // Closing reports what is left, once.
    second.count_tool_call(false);
    expected.tool_calls += 1;
    second.close().await;
    second.report_stats().await;
    assert_eq!(stats_of(&ana, &ben.key()).await, expected);
    // A report of less than before takes nothing away.
    ben.request(SetStats {
        stats: Stats::default(),
    })
    .await
    .unwrap();
    assert_eq!(stats_of(&ana, &ben.key()).await, expected);
    lab.finish().await;
}

/// A cable that loses what the broker says once it is `muted`, and is cut on demand.
struct Cable {
    port: u16,
    muted: watch::Sender<bool>,
    cut: watch::Sender<u32>,
}

impl Cable {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cable = Self {
            port: listener.local_addr().unwrap().port(),
            muted: watch::Sender::new(false),
            cut: watch::Sender::new(0),
        };
        let (muted, cut) = (cable.muted.subscribe(), cable.cut.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broker = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(client, broker, muted.clone(), cut.clone()));
            }
        });
        cable
    }
}

async fn carry(client: TcpStream, broker: TcpStream, muted: watch::Receiver<bool>, mut cut: watch::Receiver<u32>) {
    cut.mark_unchanged();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let up = tokio::io::copy(&mut from_client, &mut to_broker);
    let down = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(count @ 1..) = from_broker.read(&mut buffer).await {
            if !*muted.borrow() && to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
        _ = cut.changed() => {}
    }
}

pub async fn a_report_whose_answer_is_lost_counts_once(database: Database) {
    let (lab, Three { ana, ben, .. }) = Lab::with_three(database).await;
    let cable = Cable::to(lab.config.port).await;
    let mut identity = ben.person.identity.clone();
    identity.broker_url = format!("ws://127.0.0.1:{}/ws", cable.port);
    let person = Arc::new(lab.person(identity, None));
    ben.client.close().await;
    let client = person.connect().await;
    let mut expected = Stats::default();
    for round in 0..2 {
        client.count_tool_call(false);
        client.count_tool_call(true);
        expected.tool_calls += 2;
        expected.errors += 1;
        cable.muted.send_replace(true);
        let reporting = tokio::spawn({
            let client = client.clone();
            async move { client.report_stats().await }
        });
        eventually("the report", || async {
            (stats_of(&ana, &ben.key()).await == expected).then_some(())
        })
        .await;
        cable.cut.send_modify(|cuts| *cuts += 1);
        cable.muted.send_replace(false);
        within("the end of the report", reporting).await.unwrap();
        within("the connection", client.request(MeshStats {})).await.unwrap();
        client.report_stats().await;
        assert_eq!(stats_of(&ana, &ben.key()).await, expected, "round {round}");
        client.count_tool_call(false);
        expected.tool_calls += 1;
        client.report_stats().await;
        assert_eq!(stats_of(&ana, &ben.key()).await, expected, "round {round}");
    }
    client.close().await;
    assert_eq!(stats_of(&ana, &ben.key()).await, expected);
    lab.finish().await;
}
