use super::*;
use claudemesh_proto::model::Capability;

fn listed(mesh: &Mesh, viewer: &str) -> Vec<String> {
    mesh.peers_for(&id(viewer))
        .into_iter()
        .map(|peer| peer.presence_id.unwrap().0)
        .collect()
}

/// A mesh with sessions `a1` and hidden `a2` of ann, `b1` of bob, and an observer of bob.
fn busy_mesh() -> Mesh {
    let mut mesh = mesh(&["ann", "bob"]);
    mesh.connect(
        SessionFacts {
            groups: vec![group("open")],
            ..session("a1", "ann")
        },
        1,
    )
    .unwrap();
    let hidden = SessionFacts {
        visible: Some(false),
        groups: vec![group("secret")],
        ..session("a2", "ann")
    };
    mesh.connect(hidden, 2).unwrap();
    mesh.connect(session("b1", "bob"), 3).unwrap();
    mesh.connect(
        SessionFacts {
            observer: true,
            ..session("b2", "bob")
        },
        4,
    )
    .unwrap();
    mesh
}

#[test]
fn hidden_sessions_are_seen_by_their_own_member_only_and_observers_by_nobody() {
    let mesh = busy_mesh();
    assert_eq!(listed(&mesh, "a1"), ["a1", "a2", "b1"]);
    assert_eq!(listed(&mesh, "b1"), ["a1", "b1"]);
    assert_eq!(listed(&mesh, "b2"), ["a1", "b1"], "an observer may look");
    assert!(listed(&mesh, "nobody").is_empty());
}

/// Defect 60: `read` was never checked.
#[test]
fn without_read_a_member_shows_its_name_only() {
    let mut mesh = busy_mesh();
    mesh.set_grants(&member_id("ann"), &[(key("bob"), Some(vec![Capability::Dm]))].into())
        .unwrap();
    assert_eq!(listed(&mesh, "b1"), ["b1"]);
    assert_eq!(
        listed(&mesh, "a1"),
        ["a1", "a2", "b1"],
        "the other direction is bob's to decide"
    );
    let ann = &mesh.member_list(&member_id("bob"))[0];
    assert_eq!(
        (ann.display_name.as_str(), ann.online, ann.session_count),
        ("ann", false, 0)
    );
    assert!(ann.groups.is_empty() && ann.last_seen_at.is_none());
    assert_eq!(mesh.audience_of(&id("a1")), [id("a2")]);
}

/// Defect 99: hidden peers were announced and counted.
#[test]
fn defect_099_hidden_sessions_are_neither_announced_nor_counted() {
    let mut mesh = busy_mesh();
    assert_eq!(mesh.audience_of(&id("a1")), [id("a2"), id("b1")]);
    assert_eq!(mesh.audience_of(&id("a2")), [id("a1")]);
    assert!(mesh.audience_of(&id("b2")).is_empty());
    let seen = mesh.overview_for(&id("b1"));
    assert_eq!(
        (seen.peers, seen.members, seen.groups),
        (2, 2, vec!["@open".to_owned()])
    );
    let own = mesh.overview_for(&id("a2"));
    assert_eq!(
        (own.peers, own.groups),
        (3, vec!["@open".to_owned(), "@secret".to_owned()])
    );
    assert_eq!(own.your_name, "ann");
    let left = mesh.disconnect(&id("a2"), 9).unwrap();
    assert!(left.audience.is_empty());
    assert_eq!(mesh.disconnect(&id("a1"), 9).unwrap().audience, [id("b1")]);
}

#[test]
fn members_are_listed_in_the_order_of_joining_with_what_the_viewer_may_see() {
    let mut mesh = mesh(&[]);
    mesh.upsert_member(
        MemberFacts {
            joined_at_ms: 20,
            ..member("ann")
        },
        None,
    );
    let state = PeerState {
        last_seen_ms: Some(5),
        groups: vec![group("g")],
        ..PeerState::default()
    };
    mesh.upsert_member(
        MemberFacts {
            joined_at_ms: 10,
            ..member("zoe")
        },
        Some(state),
    );
    mesh.connect(
        SessionFacts {
            visible: Some(false),
            ..session("a1", "ann")
        },
        1,
    )
    .unwrap();
    let list = mesh.member_list(&member_id("zoe"));
    assert_eq!(
        list.iter()
            .map(|member| member.display_name.as_str())
            .collect::<Vec<_>>(),
        ["zoe", "ann"]
    );
    assert_eq!(list[0].last_seen_at.unwrap().as_ms(), 5);
    assert_eq!(names(&list[0].groups), ["g"]);
    assert!(!list[1].online, "hidden");
    assert!(mesh.member_list(&member_id("ann"))[1].online, "but not from itself");
    assert!(mesh.stats_list(&member_id("ann"))[1].online);
}

#[test]
fn audiences_leave_out_observers_and_who_may_not_know() {
    let mut mesh = busy_mesh();
    assert_eq!(mesh.everyone(Some(&id("a1"))), [id("a2"), id("b1")]);
    assert_eq!(
        mesh.audience(&member_id("ann"), Capability::StateRead, None),
        [id("a1"), id("a2"), id("b1")]
    );
    mesh.set_grants(&member_id("ann"), &[(key("bob"), Some(vec![]))].into())
        .unwrap();
    assert_eq!(
        mesh.audience(&member_id("ann"), Capability::StateRead, Some(&id("a1"))),
        [id("a2")]
    );
}

#[test]
fn a_peer_shows_both_keys_and_its_members_profile() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(
        SessionFacts {
            session_key: None,
            protocol: 1,
            ..session("p1", "ann")
        },
        1,
    )
    .unwrap();
    mesh.connect(
        SessionFacts {
            display_name: Some("laptop".into()),
            ..session("p2", "ann")
        },
        2,
    )
    .unwrap();
    let peers = mesh.peers_for(&id("p1"));
    assert_eq!((&peers[0].pubkey, peers[0].protocol), (&key("ann"), None));
    assert_eq!((&peers[1].pubkey, peers[1].protocol), (&key("p2"), Some(2)));
    assert_eq!(
        (peers[0].display_name.as_str(), peers[1].display_name.as_str()),
        ("ann", "laptop")
    );
    assert_eq!(peers[1].member_pubkey, Some(key("ann")));
}
