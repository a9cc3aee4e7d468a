use super::*;
use crate::mesh::session::is_in_group;
use crate::mesh::{Resolved, TargetRequest, resolve};
use claudemesh_proto::model::{Capability, TargetKind};
use claudemesh_proto::{ErrorCode, ErrorFrame};

fn send(mesh: &Mesh, sender: &str, spec: &str) -> Result<Resolved, ErrorFrame> {
    let sender = member_id(sender);
    resolve(
        mesh,
        &TargetRequest {
            sender: &sender,
            spec,
            session_hint: None,
            allow_names: false,
        },
    )
}

fn by_name(mesh: &Mesh, spec: &str) -> Result<Resolved, ErrorFrame> {
    let sender = member_id("ann");
    resolve(
        mesh,
        &TargetRequest {
            sender: &sender,
            spec,
            session_hint: None,
            allow_names: true,
        },
    )
}

fn recipients(resolved: &Resolved) -> Vec<&str> {
    resolved
        .recipients
        .iter()
        .map(|recipient| recipient.member.as_str())
        .collect()
}

#[test]
fn defect_068_sub_e_27_groups_include_those_below_as_in_the_originals_vectors() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/group_targets.json")).unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let groups: Vec<GroupName> = serde_json::from_value(case["groups"].clone()).unwrap();
        let mut mesh = mesh(&["ann", "bob"]);
        let facts = SessionFacts {
            groups: groups
                .iter()
                .map(|name| Group {
                    name: name.clone(),
                    role: None,
                })
                .collect(),
            ..session("b1", "bob")
        };
        mesh.connect(facts, 0).unwrap();
        let expected: Vec<String> = serde_json::from_value(case["targets"].clone()).unwrap();
        for target in &expected {
            assert_eq!(recipients(&send(&mesh, "ann", target).unwrap()), ["bob"], "{target}");
        }
        for target in ["@backend/db", "@back", "@a/b/c", "@flexicar/core/backend", "@a/c", "@b"] {
            let reached = send(&mesh, "ann", target).is_ok();
            assert_eq!(
                reached,
                expected.iter().any(|have| have == target),
                "{target} of {groups:?}"
            );
        }
    }
    assert!(!is_in_group(&[GroupName::new("backend")], "back"));
}

#[test]
fn a_member_key_or_a_live_session_key_in_any_case() {
    let mut mesh = mesh(&["ann", "bob"]);
    mesh.connect(session("b1", "bob"), 0).unwrap();
    let direct = send(&mesh, "ann", &key("bob").0.to_uppercase()).unwrap();
    assert_eq!(
        (direct.target.kind, direct.target.spec.as_str()),
        (TargetKind::Direct, key("bob").as_str())
    );
    assert_eq!(direct.recipients[0].session_hint, None);
    let session = send(&mesh, "ann", key("b1").as_str()).unwrap();
    assert_eq!(
        (recipients(&session), session.recipients[0].session_hint.clone()),
        (vec!["bob"], Some(key("b1")))
    );

    mesh.disconnect(&id("b1"), 1);
    let gone = send(&mesh, "ann", key("b1").as_str()).unwrap_err();
    assert_eq!(
        (gone.code, gone.field.as_deref()),
        (ErrorCode::NoSuchPeer, Some("/targetSpec")),
        "defect 65"
    );
    assert_eq!(
        recipients(&send(&mesh, "ann", key("bob").as_str()).unwrap()),
        ["bob"],
        "offline members get theirs later"
    );
}

#[test]
fn the_senders_hint_is_kept_and_its_own_keys_are_allowed() {
    let mut mesh = mesh(&["ann"]);
    mesh.connect(session("a1", "ann"), 0).unwrap();
    let (sender, hint) = (member_id("ann"), key("later"));
    let spec = key("ann").0;
    let request = TargetRequest {
        sender: &sender,
        spec: &spec,
        session_hint: Some(&hint),
        allow_names: false,
    };
    let own = resolve(&mesh, &request).unwrap();
    assert_eq!(
        (recipients(&own), own.recipients[0].session_hint.as_ref()),
        (vec!["ann"], Some(&hint))
    );
    assert_eq!(recipients(&send(&mesh, "ann", key("a1").as_str()).unwrap()), ["ann"]);
}

/// Defect 57: members that were offline never got group and broadcast messages.
#[test]
fn everybody_is_every_other_member_that_does_not_hide() {
    let mut mesh = mesh(&["ann", "bob", "cat", "dan"]);
    let hidden = PeerState {
        visible: false,
        ..PeerState::default()
    };
    mesh.upsert_member(member("eve"), Some(hidden));
    mesh.connect(session("a1", "ann"), 0).unwrap();
    mesh.connect(session("a2", "ann"), 0).unwrap();
    mesh.connect(session("b1", "bob"), 0).unwrap();
    mesh.connect(
        SessionFacts {
            visible: Some(false),
            ..session("b2", "bob")
        },
        0,
    )
    .unwrap();
    mesh.connect(
        SessionFacts {
            visible: Some(false),
            ..session("c1", "cat")
        },
        0,
    )
    .unwrap();
    for spec in ["*", "@all"] {
        let all = send(&mesh, "ann", spec).unwrap();
        assert_eq!(
            recipients(&all),
            ["bob", "dan"],
            "not cat and eve, who hide, and not the sender"
        );
        assert_eq!(
            (all.target.kind, all.target.spec.as_str()),
            (TargetKind::Broadcast, spec)
        );
    }
    mesh.connect(
        SessionFacts {
            observer: true,
            ..session("c2", "cat")
        },
        0,
    )
    .unwrap();
    assert_eq!(
        recipients(&send(&mesh, "ann", "*").unwrap()),
        ["bob", "dan"],
        "an observer does not show cat"
    );
    assert!(
        send(&super::mesh(&["ann"]), "ann", "*").unwrap().recipients.is_empty(),
        "alone in the mesh"
    );
}

#[test]
fn a_group_is_who_is_in_it_or_left_in_it() {
    let mut mesh = mesh(&["ann", "bob"]);
    let left = PeerState {
        groups: vec![group("backend/db")],
        ..PeerState::default()
    };
    mesh.upsert_member(member("cat"), Some(left));
    mesh.upsert_member(
        MemberFacts {
            default_groups: vec![group("backend")],
            ..member("dan")
        },
        None,
    );
    mesh.connect(
        SessionFacts {
            groups: vec![group("backend")],
            ..session("a1", "ann")
        },
        0,
    )
    .unwrap();
    mesh.connect(session("b1", "bob"), 0).unwrap();
    assert_eq!(recipients(&send(&mesh, "ann", "@backend").unwrap()), ["cat", "dan"]);
    assert_eq!(recipients(&send(&mesh, "ann", "@backend/db").unwrap()), ["cat"]);
    mesh.connect(
        SessionFacts {
            groups: vec![group("other")],
            ..session("c1", "cat")
        },
        0,
    )
    .unwrap();
    assert_eq!(
        recipients(&send(&mesh, "ann", "@backend").unwrap()),
        ["dan"],
        "a live session decides"
    );
    let hidden = SessionFacts {
        groups: vec![group("backend")],
        visible: Some(false),
        ..session("c2", "cat")
    };
    mesh.connect(hidden, 0).unwrap();
    assert_eq!(
        recipients(&send(&mesh, "ann", "@backend").unwrap()),
        ["dan"],
        "the session in the group hides"
    );
}

/// Defect 66: whatever could not be resolved was acknowledged and lost.
#[test]
fn defect_066_cli_17_an_unknown_target_is_an_error_with_near_matches() {
    let mut mesh = mesh(&["ann", "bob", "bobby"]);
    mesh.connect(
        SessionFacts {
            groups: vec![group("backend/db")],
            ..session("b1", "bob")
        },
        0,
    )
    .unwrap();
    mesh.connect(
        SessionFacts {
            groups: vec![group("mine")],
            ..session("a1", "ann")
        },
        0,
    )
    .unwrap();
    let error = send(&mesh, "ann", "@backned").unwrap_err();
    assert_eq!(
        (error.code, error.suggestions),
        (ErrorCode::NoSuchPeer, vec!["@backend".to_owned()])
    );
    let error = send(&mesh, "ann", "@mine").unwrap_err();
    assert!(error.message.contains("nobody else"), "{}", error.message);
    for spec in ["Bob", "#bob", "bob"] {
        let error = send(&mesh, "ann", spec).unwrap_err();
        assert_eq!(error.code, ErrorCode::NoSuchPeer);
        assert_eq!(error.suggestions, ["bob", "bobby"], "{spec}");
    }
    assert!(send(&mesh, "ann", "tag:urgent").is_err());
    assert!(send(&mesh, "ann", "@").is_err());
    assert!(send(&mesh, "ann", "").is_err());
    assert_eq!(
        send(&mesh, "ann", &"ab".repeat(32)).unwrap_err().code,
        ErrorCode::NoSuchPeer
    );
}

#[test]
fn names_and_key_prefixes_where_they_are_allowed() {
    let mut mesh = mesh(&["ann", "bob"]);
    mesh.upsert_member(
        MemberFacts {
            name: "Bob".into(),
            ..member("other-bob")
        },
        None,
    );
    mesh.connect(
        SessionFacts {
            display_name: Some("Laptop".into()),
            ..session("a1", "ann")
        },
        0,
    )
    .unwrap();
    let hidden = SessionFacts {
        display_name: Some("Ghost".into()),
        visible: Some(false),
        ..session("b1", "bob")
    };
    mesh.connect(hidden, 0).unwrap();

    let ann = by_name(&mesh, "ANN").unwrap();
    assert_eq!(
        (recipients(&ann), ann.target.spec.as_str()),
        (vec!["ann"], key("ann").as_str())
    );
    let laptop = by_name(&mesh, "laptop").unwrap();
    assert_eq!(
        (recipients(&laptop), laptop.recipients[0].session_hint.clone()),
        (vec!["ann"], Some(key("a1")))
    );
    assert!(
        by_name(&mesh, "Ghost").is_err(),
        "the name of a hidden session is not known"
    );

    let many = by_name(&mesh, "bob").unwrap_err();
    assert_eq!(
        (many.code, many.suggestions),
        (ErrorCode::AmbiguousTarget, vec![key("bob").0, key("other-bob").0])
    );
    assert_eq!(
        recipients(&by_name(&mesh, &key("other-bob").0[..8]).unwrap()),
        ["other-bob"]
    );
    assert!(by_name(&mesh, &key("other-bob").0[..7]).is_err(), "too short");
}

/// Defects 58 and 59.
#[test]
fn defect_059_cli_41_grants_mark_recipients_by_the_senders_member_key() {
    let mut mesh = mesh(&["ann", "bob", "cat"]);
    mesh.set_grants(&member_id("bob"), &[(key("ann"), Some(vec![Capability::Dm]))].into())
        .unwrap();
    mesh.set_grants(
        &member_id("cat"),
        &[(key("ann"), Some(vec![Capability::Broadcast]))].into(),
    )
    .unwrap();
    let refused = |spec: &str| -> Vec<_> {
        send(&mesh, "ann", spec)
            .unwrap()
            .recipients
            .into_iter()
            .map(|recipient| recipient.refused)
            .collect()
    };
    assert_eq!(refused("*"), [Some(Capability::Broadcast), None]);
    assert_eq!(refused(key("bob").as_str()), [None]);
    assert_eq!(refused(key("cat").as_str()), [Some(Capability::Dm)]);
}
