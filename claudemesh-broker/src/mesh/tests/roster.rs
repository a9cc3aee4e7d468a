use super::*;
use crate::mesh::Now;
use claudemesh_proto::Permission;
use claudemesh_proto::limits::MAX_GROUPS_PER_SESSION;
use claudemesh_proto::model::{Capability, PeerStatus, Profile, Role, Stats, StatusSource};
use claudemesh_proto::ops::SetProfile;
use claudemesh_proto::{ErrorCode, model::Permissions};

fn stats(messages_in: u64, uptime: u64) -> Stats {
    Stats {
        messages_in,
        uptime,
        ..Stats::default()
    }
}

#[test]
fn groups_are_those_asked_for_else_those_left_with_else_the_default_ones() {
    let mut mesh = mesh(&[]);
    mesh.upsert_member(
        MemberFacts {
            default_groups: vec![group("default")],
            ..member("ann")
        },
        None,
    );
    let first = mesh.connect(session("p1", "ann"), 1).unwrap();
    assert_eq!(names(&first.groups), ["default"]);
    assert!(!first.groups_restored && !first.restored);
    mesh.disconnect(&id("p1"), 2);

    let asking = SessionFacts {
        groups: vec![group("a"), group("b"), group("@a")],
        ..session("p2", "ann")
    };
    let second = mesh.connect(asking, 3).unwrap();
    assert_eq!(names(&second.groups), ["a", "b"], "repetitions are dropped");
    mesh.leave_group(&id("p2"), &GroupName::new("a")).unwrap();
    let saved = mesh.disconnect(&id("p2"), 4).unwrap().save.unwrap();
    assert_eq!(names(&saved.groups), ["b"]);

    let third = mesh.connect(session("p3", "ann"), 5).unwrap();
    assert_eq!(names(&third.groups), ["b"]);
    assert!(third.groups_restored && third.restored);
}

/// Defects 96 and 97: the summary was announced and not put in force, and sessions overwrote each other's state.
#[test]
fn defect_096_a_member_that_comes_back_finds_its_state_and_a_second_session_is_no_return() {
    let profile = Profile {
        title: Some("Lead".to_owned()),
        ..Profile::default()
    };
    let state = PeerState {
        summary: "writing docs".to_owned(),
        visible: false,
        profile: profile.clone(),
        last_seen_ms: Some(7),
        ..PeerState::default()
    };
    let mut mesh = mesh_with_state("ann", state);
    mesh.upsert_member(member("bob"), None);
    mesh.connect(session("other", "bob"), 9).unwrap();

    let back = mesh.connect(session("p1", "ann"), 10).unwrap();
    assert!(back.restored && back.returned);
    assert_eq!(
        (back.summary.as_str(), back.visible, back.last_seen_ms),
        ("writing docs", false, Some(7))
    );
    assert_eq!(back.profile, profile);
    assert_eq!(mesh.session(&id("p1")).unwrap().summary, "writing docs");
    assert!(back.audience.is_empty(), "a hidden session is not announced");

    let beside = mesh
        .connect(
            SessionFacts {
                visible: Some(true),
                ..session("p2", "ann")
            },
            11,
        )
        .unwrap();
    assert!(beside.restored && !beside.returned);
    assert_eq!(beside.summary, "", "the summary is the other session's");
    assert_eq!(beside.audience, [id("other"), id("p1")]);
}

#[test]
fn what_is_saved_is_what_the_last_session_had() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(
        SessionFacts {
            groups: vec![group("one")],
            ..session("p1", "ann")
        },
        1,
    )
    .unwrap();
    mesh.connect(
        SessionFacts {
            groups: vec![group("two")],
            ..session("p2", "ann")
        },
        2,
    )
    .unwrap();
    mesh.set_summary(&id("p2"), "second").unwrap();
    assert_eq!(names(&mesh.groups_of(&member_id("ann"))), ["one", "two"]);

    let first = mesh.disconnect(&id("p1"), 3).unwrap();
    assert!(!first.last_of_member);
    let saved = first.save.unwrap();
    assert_eq!(
        (names(&saved.groups), saved.summary.as_str(), saved.last_seen_ms),
        (vec!["two"], "second", None)
    );

    let last = mesh.disconnect(&id("p2"), 4).unwrap();
    assert!(last.last_of_member);
    assert_eq!(last.save.unwrap().last_seen_ms, Some(4));
    assert!(mesh.disconnect(&id("p2"), 5).is_none());
    mesh.invariants();
}

/// Defect 96: the last session to leave wiped out the summary of another one.
#[test]
fn defect_096_a_session_that_said_nothing_keeps_what_another_said() {
    let mut mesh = mesh(&["ann"]);
    let back = |mesh: &mut Mesh, now| mesh.connect(session("back", "ann"), now).unwrap().summary;
    mesh.connect(session("p1", "ann"), 1).unwrap();
    mesh.connect(session("p2", "ann"), 2).unwrap();
    mesh.set_summary(&id("p1"), "writing docs").unwrap();
    mesh.disconnect(&id("p1"), 3).unwrap();
    let last = mesh.disconnect(&id("p2"), 4).unwrap();
    assert_eq!(last.save.unwrap().summary, "writing docs");
    assert_eq!(back(&mut mesh, 5), "writing docs");
    // What is taken back stays so, and of two the one that left last counts.
    mesh.set_summary(&id("back"), "").unwrap();
    assert_eq!(mesh.disconnect(&id("back"), 6).unwrap().save.unwrap().summary, "");
    mesh.connect(session("p1", "ann"), 7).unwrap();
    mesh.connect(session("p2", "ann"), 8).unwrap();
    mesh.set_summary(&id("p1"), "first").unwrap();
    mesh.set_summary(&id("p2"), "second").unwrap();
    mesh.disconnect(&id("p2"), 9).unwrap();
    assert_eq!(mesh.disconnect(&id("p1"), 10).unwrap().save.unwrap().summary, "first");
    mesh.invariants();
}

#[test]
fn cli_53_observers_leave_no_trace() {
    let mut mesh = mesh(&["ann", "bob"]);
    mesh.connect(session("listener", "bob"), 1).unwrap();
    let observer = SessionFacts {
        observer: true,
        groups: vec![group("g")],
        ..session("o", "ann")
    };
    let connected = mesh.connect(observer, 2).unwrap();
    assert!(connected.audience.is_empty() && !connected.restored && !connected.returned);
    mesh.set_visible(&id("o"), false);
    mesh.set_summary(&id("o"), "x");
    assert!(!mesh.is_online(&member_id("ann")));
    assert!(mesh.session_by_key(key("o").as_str()).is_none());
    assert!(mesh.hook_match(&member_id("ann"), "", None, None).is_none());
    assert_eq!(mesh.connection_count(), 2);
    assert_eq!(mesh.peer_state(&member_id("ann")), Some(&PeerState::default()));
    let gone = mesh.disconnect(&id("o"), 3).unwrap();
    assert!(gone.save.is_none() && gone.audience.is_empty() && !gone.last_of_member);
    assert!(
        !mesh.connect(session("p", "ann"), 4).unwrap().restored,
        "an observer is not a visit"
    );
}

/// Defect 95: totals doubled with every reconnect.
#[test]
fn stats_count_what_each_session_did_once() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(session("p1", "ann"), 1).unwrap();
    assert_eq!(mesh.set_stats(&id("p1"), stats(5, 10)), Some(stats(5, 10)));
    assert_eq!(
        mesh.set_stats(&id("p1"), stats(5, 20)),
        Some(stats(5, 20)),
        "a repetition adds nothing"
    );
    assert_eq!(mesh.set_stats(&id("p1"), stats(7, 30)), Some(stats(7, 30)));

    let base = mesh.connect(session("p2", "ann"), 2).unwrap().stats_base;
    assert_eq!(base.messages_in, 7);
    assert_eq!(mesh.set_stats(&id("p2"), stats(7 + 3, 1)).unwrap().messages_in, 10);
    assert_eq!(
        mesh.set_stats(&id("p1"), stats(8, 40)).unwrap().messages_in,
        11,
        "sessions side by side add up"
    );
    assert_eq!(
        mesh.set_stats(&id("p1"), stats(2, 50)).unwrap().messages_in,
        11,
        "a counter that fell back"
    );
    mesh.disconnect(&id("p1"), 3);
    assert_eq!(
        mesh.disconnect(&id("p2"), 4).unwrap().save.unwrap().stats.messages_in,
        11
    );

    let again = mesh.connect(session("p3", "ann"), 5).unwrap().stats_base;
    assert_eq!(again.messages_in, 11);
    assert_eq!(mesh.set_stats(&id("p3"), again).unwrap().messages_in, 11);
    let huge = Stats {
        messages_in: u64::MAX,
        ..again
    };
    assert_eq!(mesh.set_stats(&id("p3"), huge).unwrap().messages_in, u64::MAX);
}

/// Defects 93 and 94: hooks found sessions by a process id that never matched, over all meshes and members.
#[test]
fn defect_093_cli_56_a_hook_finds_its_session_by_id_then_process_then_directory() {
    let mut mesh = mesh(&["ann", "bob"]);
    let at = |presence: &str, member: &str, cwd: &str, pid, session_id: &str| SessionFacts {
        cwd: cwd.to_owned(),
        pid,
        session_id: session_id.to_owned(),
        ..session(presence, member)
    };
    mesh.connect(at("old", "ann", "/work", 1, "s1"), 1).unwrap();
    mesh.connect(at("new", "ann", "/work", 2, "s2"), 2).unwrap();
    mesh.connect(at("bobs", "bob", "/work", 1, "s1"), 3).unwrap();
    let find = |cwd: &str, pid, session_id| {
        let found = mesh.hook_match(&member_id("ann"), cwd, pid, session_id);
        found.map(|session| session.facts.presence.as_str())
    };
    assert_eq!(find("/elsewhere", None, Some("s1")), Some("old"));
    assert_eq!(find("/work", Some(1), Some("unknown")), Some("old"));
    assert_eq!(find("/work", Some(99), Some("")), Some("new"));
    assert_eq!(find("/work", None, None), Some("new"));
    assert_eq!(find("/elsewhere", Some(1), None), None);
}

#[test]
fn status_changes_and_sweeps() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(session("p1", "ann"), 0).unwrap();
    mesh.connect(session("p2", "ann"), 0).unwrap();
    assert_eq!(
        mesh.set_status(&id("p1"), PeerStatus::Dnd, Now::both(1))
            .unwrap()
            .source,
        StatusSource::Manual
    );
    assert_eq!(
        mesh.hook_status(&id("p1"), PeerStatus::Working, Now::both(2))
            .unwrap()
            .status,
        PeerStatus::Dnd
    );
    assert_eq!(
        mesh.hook_status(&id("p2"), PeerStatus::Working, Now::both(2))
            .unwrap()
            .status,
        PeerStatus::Working
    );
    assert!(mesh.set_status(&id("nobody"), PeerStatus::Idle, Now::both(3)).is_none());
    assert_eq!(mesh.sweep(Now::both(60_002)), []);
    assert_eq!(mesh.sweep(Now::both(60_003)), [id("p2")]);
    assert_eq!(mesh.sweep(Now::both(60_004)), []);
    assert_eq!(mesh.session_view(&id("p2")).unwrap().status, PeerStatus::Idle);
}

#[test]
fn joining_again_replaces_the_role_and_groups_are_bounded() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(session("p1", "ann"), 0).unwrap();
    let name = GroupName::new("backend");
    mesh.join_group(&id("p1"), &name, None).unwrap();
    let groups = mesh.join_group(&id("p1"), &name, Some("lead".to_owned())).unwrap();
    assert_eq!(
        groups,
        [Group {
            name: name.clone(),
            role: Some("lead".to_owned())
        }]
    );
    assert!(!mesh.leave_group(&id("p1"), &GroupName::new("other")).unwrap().0);
    for number in 1..MAX_GROUPS_PER_SESSION {
        mesh.join_group(&id("p1"), &GroupName::new(&format!("g{number}")), None)
            .unwrap();
    }
    let error = mesh
        .join_group(&id("p1"), &GroupName::new("one-more"), None)
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::TooLarge);
    assert!(
        mesh.join_group(&id("p1"), &name, None).is_ok(),
        "a change of role is not one more"
    );
    assert!(mesh.leave_group(&id("p1"), &name).unwrap().0);
    assert_eq!(
        mesh.join_group(&id("nobody"), &name, None).unwrap_err().code,
        ErrorCode::NotConnected
    );
}

#[test]
fn profiles_are_changed_field_by_field() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(session("p1", "ann"), 0).unwrap();
    let change = SetProfile {
        title: Some("Lead".into()),
        bio: Some("Hi".into()),
        ..SetProfile::default()
    };
    mesh.set_profile(&id("p1"), &change).unwrap();
    let change = SetProfile {
        bio: Some(String::new()),
        capabilities: Some(vec!["x".into()]),
        ..SetProfile::default()
    };
    let profile = mesh.set_profile(&id("p1"), &change).unwrap();
    assert_eq!((profile.title.as_deref(), profile.bio), (Some("Lead"), None));
    assert_eq!(profile.capabilities, ["x"]);
}

/// Defect 100: live sessions kept a name that was changed over HTTP.
#[test]
fn defect_100_a_changed_row_shows_at_once_and_keeps_the_state() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(session("p1", "ann"), 0).unwrap();
    mesh.set_summary(&id("p1"), "busy").unwrap();
    assert!(!mesh.upsert_member(
        MemberFacts {
            name: "Anna".into(),
            key: key("new"),
            ..member("ann")
        },
        None
    ));
    assert_eq!(mesh.display_name(mesh.session(&id("p1")).unwrap()), "Anna");
    assert_eq!(mesh.peer_state(&member_id("ann")).unwrap().summary, "busy");
    assert!(mesh.member_by_key(key("ann").as_str()).is_none());
    assert!(mesh.member_by_key(key("new").as_str()).is_some());
    mesh.invariants();
}

#[test]
fn removing_a_member_ends_all_of_its_sessions() {
    let mut mesh = mesh(&["ann", "bob"]);
    mesh.connect(session("a1", "ann"), 0).unwrap();
    mesh.connect(
        SessionFacts {
            observer: true,
            ..session("a2", "ann")
        },
        0,
    )
    .unwrap();
    mesh.connect(session("b1", "bob"), 0).unwrap();
    let removed = mesh.remove_member(&member_id("ann")).unwrap();
    assert_eq!(removed.sessions, [id("a1"), id("a2")]);
    assert_eq!(removed.audience, [id("b1")]);
    assert!(mesh.connect(session("a3", "ann"), 1).is_none());
    assert!(!mesh.permission(&member_id("ann"), Permission::Member));
    assert!(mesh.remove_member(&member_id("ann")).is_none());
    mesh.invariants();
}

#[test]
fn a_session_is_registered_once() {
    let mut mesh = mesh(&["ann"]);
    assert!(mesh.connect(session("p1", "ann"), 0).is_some());
    assert!(mesh.connect(session("p1", "ann"), 1).is_none());
    assert!(mesh.connect(session("p2", "nobody"), 1).is_none());
    mesh.invariants();
}

#[test]
fn grants_are_merged_and_removed() {
    let mut mesh = mesh(&["ann", "bob"]);
    let (ann, bob) = (member_id("ann"), member_id("bob"));
    assert!(mesh.allows(&ann, &bob, Capability::Dm));
    mesh.set_grants(&ann, &[(key("bob"), Some(vec![Capability::Read]))].into())
        .unwrap();
    assert!(!mesh.allows(&ann, &bob, Capability::Dm) && mesh.allows(&ann, &bob, Capability::Read));
    let all = mesh
        .set_grants(&ann, &[(key("x"), Some(vec![])), (key("bob"), None)].into())
        .unwrap();
    assert_eq!(all.len(), 1);
    assert!(mesh.allows(&ann, &bob, Capability::Dm));
}

#[test]
fn permissions_of_members_and_admins() {
    let mut mesh = mesh(&["ann"]);
    mesh.upsert_member(
        MemberFacts {
            role: Role::Admin,
            ..member("adm")
        },
        None,
    );
    let muted = Permissions {
        can_send: Some(false),
        ..Permissions::default()
    };
    mesh.upsert_member(
        MemberFacts {
            permissions: muted,
            ..member("mute")
        },
        None,
    );
    assert!(mesh.permission(&member_id("ann"), Permission::Send));
    assert!(!mesh.permission(&member_id("ann"), Permission::Manage));
    assert!(mesh.permission(&member_id("adm"), Permission::Manage));
    assert!(!mesh.permission(&member_id("mute"), Permission::Send));
}

#[test]
fn a_status_ends_after_its_time_when_the_wall_clock_is_set() {
    for by in [3_600_000, -3_600_000] {
        let at = |steady_ms: i64, wall_ms: i64| Now { wall_ms, steady_ms };
        let mut mesh = mesh(&["ann"]);
        mesh.connect(session("p1", "ann"), 0).unwrap();
        mesh.set_status(&id("p1"), PeerStatus::Working, at(1_000, 1_000));
        assert_eq!(mesh.sweep(at(2_000, 2_000 + by)), [], "not at once");
        assert_eq!(mesh.sweep(at(61_000, 61_000 + by)), []);
        assert_eq!(mesh.sweep(at(61_001, 61_001 + by)), [id("p1")], "and not later");
    }
}
