//! What a hostile broker, a rogue member and a removed member try: the rows of the threat table that can be noticed.
#![allow(missing_docs)]

mod group_support;

use claudemesh_crypto::group::*;
use claudemesh_crypto::{SecretKey, Signature};
use group_support::*;

fn resign(entry: &LogEntry, author: &SecretKey, body: EntryBody) -> LogEntry {
    LogEntry::sign(&entry.mesh_id, entry.position(), entry.prev, body, author)
}

fn next_position(state: &LogState) -> Position {
    let at = state.head().position();
    Position {
        generation: at.generation,
        index: at.index + 1,
    }
}

/// An entry on the head of the broker, by anybody.
fn forge(world: &World, author: &SecretKey, body: EntryBody) -> LogEntry {
    LogEntry::sign(
        MESH,
        next_position(&world.broker.state),
        world.broker.state.head().hash,
        body,
        author,
    )
}

/// Broker and members refuse for the same reason.
fn refused(world: &mut World, entry: &LogEntry) -> Refusal {
    let refusal = EpochLog
        .check(&world.broker.state, entry, NOW)
        .expect_err("must be refused");
    let before = world.members[0].head();
    assert_eq!(
        world.members[0].apply(entry, &[], NOW),
        Err(GroupError::from(refusal.clone()))
    );
    assert_eq!(world.members[0].head(), before);
    refusal
}

fn admit_row(seed: u8, role: Role) -> DeviceEntry {
    DeviceEntry::new(MESH, &key(seed), &key(seed), role)
}

#[test]
fn changed_entries_and_swapped_authors() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let entry = world.propose(0, &Change::Rotate).expect("proposed").entries.remove(0);
    let mut swapped = entry.clone();
    swapped.author = world.members[1].device();
    assert_eq!(refused(&mut world, &swapped), Refusal::BadSignature);
    let mut changed = entry.clone();
    if let EntryBody::Epoch { commitment, .. } = &mut changed.body {
        *commitment = Digest::from_bytes([7; 32]);
    }
    assert_eq!(refused(&mut world, &changed), Refusal::BadSignature);
    let mut other = entry.clone();
    other.mesh_id = "mesh-2".to_owned();
    assert!(matches!(refused(&mut world, &other), Refusal::Malformed(_)));
    let mut version = entry.clone();
    version.v = 2;
    assert!(matches!(refused(&mut world, &version), Refusal::Malformed(_)));
    let stranger = resign(&entry, &key(90), entry.body.clone());
    assert_eq!(refused(&mut world, &stranger), Refusal::NotOnRoster(key(90).public()));
}

#[test]
fn replayed_dropped_and_reordered_entries() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let old = world.broker.log[1].clone();
    assert_eq!(refused(&mut world, &old), Refusal::Stale);
    let mut behind = world.follow(&key(2));
    world.change(0, &Change::Rotate);
    world.change(0, &Change::Rotate);
    let newest = world.broker.log.last().expect("entry").clone();
    assert!(matches!(behind.apply(&newest, &[], NOW), Err(GroupError::Gap { .. })));
    let far = forge(&world, &key(1), EntryBody::Checkpoint { at_ms: NOW });
    let far = LogEntry::sign(
        MESH,
        Position {
            index: u64::MAX,
            ..far.position()
        },
        far.prev,
        far.body,
        &key(1),
    );
    assert!(matches!(refused(&mut world, &far), Refusal::Gap { .. }));
}

#[test]
fn forks_show() {
    let mut left = World::with(HistoryPolicy::All, 3);
    let mut right = World {
        owner: left.owner.clone(),
        broker: left.broker.clone(),
        members: vec![left.follow(&key(1)), left.follow(&key(2)), left.follow(&key(3))],
    };
    left.change(0, &Change::Rotate);
    right.change(1, &Change::Rotate);
    // At the fork itself, and after it.
    let first = right.broker.log.last().expect("entry").clone();
    assert_eq!(
        left.members[0].apply(&first, &right.broker.seals, NOW),
        Err(GroupError::Fork)
    );
    right.change(1, &Change::Rotate);
    let second = right.broker.log.last().expect("entry").clone();
    assert_eq!(
        left.members[0].apply(&second, &right.broker.seals, NOW),
        Err(GroupError::Fork)
    );
    // A forged sibling proves nothing.
    let mut forged = first.clone();
    forged.signature = Signature::from_bytes([1; 64]);
    assert_eq!(left.members[0].apply(&forged, &[], NOW), Err(GroupError::BadSignature));
    // In a direct message or `hello`.
    left.change(0, &Change::Rotate);
    assert_eq!(
        left.members[0].state().compare(&right.members[1].head()),
        HeadRelation::Fork
    );
    assert_eq!(
        left.members[0].state().compare(&left.members[1].head()),
        HeadRelation::Same
    );
    // In a message, and in a request.
    let text = seal_group(&right.members[1], &Label::all(), &context("m", 1), &key(2), b"x").expect("sealed");
    assert_eq!(
        open_group(&left.members[0], &text, &context("m", 1)).map(|_| ()),
        Err(GroupError::Fork)
    );
    let request = right.members[1].request(RequestReason::Missed, NOW);
    assert_eq!(left.members[0].answer(&request), Err(GroupError::Fork));
}

#[test]
fn ghosts_do_not_get_in() {
    let mut world = World::with(HistoryPolicy::All, 3);
    let ghost = admit_row(91, Role::Member);
    for by in [AdmitBy::Owner, AdmitBy::Admin, AdmitBy::Member, AdmitBy::Invite] {
        for author in [key(91), key(2)] {
            let body = EntryBody::Admit {
                device: ghost.clone(),
                by,
                at_ms: NOW,
            };
            let entry = forge(&world, &author, body);
            let refusal = refused(&mut world, &entry);
            let fits = matches!(
                refusal,
                Refusal::NotOnRoster(_) | Refusal::NotAllowed(_) | Refusal::InviteNotValid
            );
            assert!(fits, "{by:?}: {refusal}");
        }
    }
    // An admin cannot make up members either, nor swap the key that keys are sealed to.
    let mut made_up = ghost.clone();
    made_up.member = key(92).public();
    let entry = forge(
        &world,
        &key(1),
        EntryBody::Admit {
            device: made_up,
            by: AdmitBy::Admin,
            at_ms: NOW,
        },
    );
    assert_eq!(refused(&mut world, &entry), Refusal::BadSignature);
    let mut swapped = ghost;
    swapped.seal_key = SealKey::from_bytes([9; 32]);
    let entry = forge(
        &world,
        &key(1),
        EntryBody::Admit {
            device: swapped,
            by: AdmitBy::Admin,
            at_ms: NOW,
        },
    );
    assert_eq!(refused(&mut world, &entry), Refusal::BadSignature);
    // Nor more admins.
    let admin = admit_row(93, Role::Admin);
    let entry = forge(
        &world,
        &key(1),
        EntryBody::Admit {
            device: admin,
            by: AdmitBy::Admin,
            at_ms: NOW,
        },
    );
    assert!(matches!(refused(&mut world, &entry), Refusal::NotAllowed(_)));
    // A device row from another mesh.
    let foreign = DeviceEntry::new("mesh-2", &key(94), &key(94), Role::Member);
    let entry = forge(
        &world,
        &key(1),
        EntryBody::Admit {
            device: foreign,
            by: AdmitBy::Admin,
            at_ms: NOW,
        },
    );
    assert_eq!(refused(&mut world, &entry), Refusal::BadSignature);
    // A log by another owner.
    let (_, fake) = EpochKeys::create(MESH, &key(95), &key(1), HistoryPolicy::All, NOW).expect("created");
    let owner = world.owner.public();
    assert!(EpochKeys::from_log(MESH, &owner, &fake.entries, &fake.seals, &key(2), NOW).is_err());
}

#[test]
fn ordinary_members_have_no_rights_over_others() {
    let mut world = World::with(HistoryPolicy::All, 3);
    let (first, third) = (world.members[0].device(), world.members[2].device());
    let owner_member = first;
    let bodies = [
        EntryBody::Remove {
            members: vec![third],
            devices: vec![],
        },
        EntryBody::Remove {
            members: vec![],
            devices: vec![owner_member],
        },
        EntryBody::Role {
            member: key(2).public(),
            role: Role::Admin,
        },
        EntryBody::Checkpoint { at_ms: NOW },
        EntryBody::RevokeInvite {
            invite_key: key(5).public(),
        },
        EntryBody::Reseal {
            device: third,
            seal_key: SealKey::from_bytes([9; 32]),
            seal_signature: Signature::from_bytes([0; 64]),
        },
    ];
    for body in bodies {
        let entry = forge(&world, &key(2), body);
        assert!(matches!(refused(&mut world, &entry), Refusal::NotAllowed(_)));
    }
    let roster = Box::new(world.broker.state.roster().clone());
    let at = Position {
        generation: 2,
        index: 0,
    };
    let reset = LogEntry::sign(
        MESH,
        at,
        world.broker.state.head().hash,
        EntryBody::Reset { roster },
        &key(2),
    );
    assert!(matches!(refused(&mut world, &reset), Refusal::NotAllowed(_)));

    // Admins: not against each other or the owner.
    world.change_as_owner(&Change::Role {
        member: key(2).public(),
        role: Role::Admin,
    });
    for target in [owner_member, key(2).public()] {
        let author = if target == owner_member { key(2) } else { key(1) };
        let entry = forge(
            &world,
            &author,
            EntryBody::Remove {
                members: vec![target],
                devices: vec![],
            },
        );
        assert!(matches!(refused(&mut world, &entry), Refusal::NotAllowed(_)));
    }
    let entry = forge(
        &world,
        &key(2),
        EntryBody::Role {
            member: third,
            role: Role::Admin,
        },
    );
    assert!(matches!(refused(&mut world, &entry), Refusal::NotAllowed(_)));
    // An admin's reset cannot change the roster.
    let mut other = world.follow(&key(1));
    let change = Change::Remove {
        members: vec![third],
        devices: vec![],
    };
    let removal = other.propose(&change, &Signer::new(&key(1)), NOW).expect("proposed");
    other.accepted(removal, NOW).expect("accepted");
    let roster = Box::new(other.roster().clone());
    let reset = LogEntry::sign(
        MESH,
        at,
        world.broker.state.head().hash,
        EntryBody::Reset { roster },
        &key(2),
    );
    assert!(matches!(refused(&mut world, &reset), Refusal::NotAllowed(_)));
}

#[test]
fn swapped_missing_and_broken_seals_hurt_only_until_a_grant() {
    let mut world = World::with(HistoryPolicy::All, 3);
    let rotated = world.propose(0, &Change::Rotate).expect("proposed");
    let entry = &rotated.entries[0];
    let mine = |seals: &[Seal]| {
        seals
            .iter()
            .find(|seal| seal.to == key(2).public())
            .expect("seal")
            .clone()
    };
    let good = mine(&rotated.seals);
    // Ours, with the box of somebody else; with a key of the broker's choice; by another author; of another epoch.
    let mut swapped = good.clone();
    swapped.blob = rotated
        .seals
        .iter()
        .find(|seal| seal.to == key(3).public())
        .expect("seal")
        .blob
        .clone();
    let mut chosen = good.clone();
    let seal_key = world.members[0]
        .roster()
        .device(&key(2).public())
        .expect("row")
        .entry
        .seal_key;
    chosen.blob = claudemesh_crypto::seal_to_box(&seal_key.to_box_key(), &[42; 32]).expect("sealed");
    let mut claimed = good.clone();
    claimed.author = key(3).public();
    let mut stranger = good.clone();
    stranger.author = key(90).public();
    let mut short = good.clone();
    short.blob.truncate(79);
    for bad in [swapped, chosen, claimed, stranger, short] {
        let mut member = world.follow(&key(2));
        let applied = member.apply(entry, &[bad], NOW).expect("the log goes on");
        assert!(
            matches!(&applied.key, KeyOutcome::Bad { author, .. } if *author == key(1).public()),
            "{applied:?}"
        );
        assert!(member.key(applied.head.epoch, &Label::all()).is_none());
    }
    // The broker's own check sees what is not as signed.
    let mut missing = rotated.clone();
    missing.seals.retain(|seal| seal.to != key(2).public());
    assert!(world.broker.submit(&missing, NOW).is_err());
    let mut doubled = rotated.clone();
    doubled.seals.push(good.clone());
    assert!(world.broker.submit(&doubled, NOW).is_err());

    let mut member = world.follow(&key(2));
    assert_eq!(member.apply(entry, &[], NOW).expect("applied").key, KeyOutcome::Missing);
    world.commit(0, rotated.clone());
    member.apply_seal(&good).expect("fetched later");
    assert!(member.has_key(member.epoch_id()));
}

#[test]
fn grants_with_other_keys_authors_or_receivers() {
    let mut world = World::with(HistoryPolicy::All, 3);
    world.change(0, &Change::Rotate);
    world.broker.seals.clear();
    let receiver = || world.follow(&key(2));
    let good = world.members[0].grant_for(&key(2).public(), None).expect("grant");
    assert!(receiver().apply_grant(&good).is_ok());
    let mut changed = good.clone();
    changed.keys[60] ^= 1;
    assert_eq!(receiver().apply_grant(&changed), Err(GroupError::BadSignature));
    let mut shifted = good.clone();
    (shifted.from_epoch, shifted.to_epoch) = (shifted.from_epoch + 1, shifted.to_epoch + 1);
    assert_eq!(receiver().apply_grant(&shifted), Err(GroupError::BadSignature));
    let mut endless = good.clone();
    endless.to_epoch = u64::MAX;
    assert!(matches!(receiver().apply_grant(&endless), Err(GroupError::Refused(_))));
    let mut stranger = good.clone();
    stranger.author = key(90).public();
    assert_eq!(
        receiver().apply_grant(&stranger),
        Err(GroupError::NotOnRoster(key(90).public()))
    );
    let mut redirected = good.clone();
    redirected.to = key(3).public();
    assert!(receiver().apply_grant(&redirected).is_err());
    let other = world.members[0].grant_for(&key(3).public(), None).expect("grant");
    assert_eq!(receiver().apply_grant(&other), Err(GroupError::Unreadable));
    assert!(world.members[0].grant_for(&key(90).public(), None).is_err());
    // Requests by strangers, or altered.
    let request = receiver().request(RequestReason::Restored, NOW);
    let mut altered = request.clone();
    altered.need_epoch = 1;
    altered.reason = RequestReason::Joined;
    assert_eq!(world.members[0].answer(&altered), Err(GroupError::BadSignature));
    let mut stranger = request;
    stranger.device = key(90).public();
    assert_eq!(
        world.members[0].answer(&stranger),
        Err(GroupError::NotOnRoster(key(90).public()))
    );
}

#[test]
fn a_rogue_member_cannot_give_other_keys_than_the_log_commits_to() {
    // The rogue follows a log of its own making with the same epoch number, and grants from there.
    let world = World::with(HistoryPolicy::All, 3);
    let mut rogue = world.follow(&key(3));
    let fork = rogue.propose_rotate(NOW).expect("proposed");
    rogue.accepted(fork, NOW).expect("accepted");
    let mut world = world;
    world.change(0, &Change::Rotate);
    world.broker.seals.clear();
    let grant = rogue
        .grant_for(&key(2).public(), Some(rogue.epoch_id()))
        .expect("grant");
    let mut receiver = world.follow(&key(2));
    assert_eq!(receiver.apply_grant(&grant), Err(GroupError::Unreadable));
    assert!(receiver.missing_epochs().contains(&receiver.epoch_id()));
}

#[test]
fn epochs_must_follow_and_wrap_what_was_before() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let entry = world.propose(0, &Change::Rotate).expect("proposed").entries.remove(0);
    for (number, wrapped_epoch) in [(3, 1), (1, 1), (0, 1), (u64::MAX, 1), (2, 2), (2, 7)] {
        let mut body = entry.body.clone();
        if let EntryBody::Epoch {
            epoch,
            wrapped_prev: Some(wrapped),
            ..
        } = &mut body
        {
            (*epoch, wrapped.epoch) = (number, wrapped_epoch);
        }
        let bad = resign(&entry, &key(1), body);
        assert!(matches!(refused(&mut world, &bad), Refusal::Malformed(_)));
    }
    let mut since = World::with(HistoryPolicy::SinceJoin, 2);
    let at = since.members[0].epoch_id().epoch + 1;
    let mut body = entry.body;
    if let EntryBody::Epoch {
        epoch,
        wrapped_prev: Some(wrapped),
        ..
    } = &mut body
    {
        (*epoch, wrapped.epoch) = (at, at - 1);
    }
    let bad = forge(&since, &key(1), body);
    assert!(matches!(refused(&mut since, &bad), Refusal::NotAllowed(_)));
}

#[test]
fn invites_are_counted_timed_and_withdrawn() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let invite = InviteKeys::from_link_secret(MESH, &[5; 32]);
    let make = |world: &World, uses| {
        world.members[0]
            .propose_invite(&invite, &invite_terms(uses), &Signer::new(&key(1)), NOW)
            .expect("invite")
    };
    let made = make(&world, 1);
    world.commit(0, made);
    let body = |seed, at_ms| EntryBody::Admit {
        device: admit_row(seed, Role::Member),
        by: AdmitBy::Invite,
        at_ms,
    };
    // Expired, or dated by a clock that the broker invents.
    for at_ms in [NOW + DAY + 1, NOW + MAX_SKEW_MS + 1] {
        let entry = forge(&world, &invite.signing, body(30, at_ms));
        assert!(matches!(refused(&mut world, &entry), Refusal::Clock));
    }
    let late = forge(&world, &invite.signing, body(30, NOW + DAY + 1));
    assert_eq!(
        EpochLog.check(&world.broker.state, &late, NOW + 2 * DAY),
        Err(Refusal::InviteNotValid)
    );
    // A role that it was not made for.
    let admin = EntryBody::Admit {
        device: admit_row(30, Role::Admin),
        by: AdmitBy::Invite,
        at_ms: NOW,
    };
    let entry = forge(&world, &invite.signing, admin);
    assert!(matches!(refused(&mut world, &entry), Refusal::NotAllowed(_)));
    // Once, not twice.
    let join = forge(&world, &invite.signing, body(30, NOW));
    let base = Some(world.broker.state.head());
    let keys = world.follow(&key(30));
    let proposed = keys.propose_admit_by_invite(&invite, &key(30), NOW).expect("join");
    assert_eq!((proposed.base, &proposed.entries[0]), (base, &join));
    world.broker.submit(&proposed, NOW).expect("submitted");
    world.members[0].apply(&join, &[], NOW).expect("applied");
    let entry = forge(&world, &invite.signing, body(31, NOW));
    assert_eq!(refused(&mut world, &entry), Refusal::InviteNotValid);
}

#[test]
fn backdating_an_admission_is_bounded_by_checkpoints() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let invite = InviteKeys::from_link_secret(MESH, &[5; 32]);
    let terms = invite_terms(5);
    let made = world.members[0]
        .propose_invite(&invite, &terms, &Signer::new(&key(1)), NOW)
        .expect("invite");
    world.commit(0, made);
    let later = NOW + 3 * DAY;
    let checkpoint = world.members[0]
        .propose(&Change::Checkpoint, &Signer::new(&key(1)), later)
        .expect("proposed");
    let mut state = world.broker.state.clone();
    state = EpochLog
        .check(&state, &checkpoint.entries[0], later)
        .expect("checkpoint");
    let body = EntryBody::Admit {
        device: admit_row(30, Role::Member),
        by: AdmitBy::Invite,
        at_ms: NOW + DAY,
    };
    let at = next_position(&state);
    let entry = LogEntry::sign(MESH, at, state.head().hash, body, &invite.signing);
    assert_eq!(EpochLog.check(&state, &entry, later), Err(Refusal::Clock));
}

#[test]
fn a_removed_member_does_not_read_through_an_invite() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let invite = InviteKeys::from_link_secret(MESH, &[5; 32]);
    let other = InviteKeys::from_link_secret(MESH, &[6; 32]);
    for keys in [&invite, &other] {
        let made = world.members[0]
            .propose_invite(keys, &invite_terms(9), &Signer::new(&key(1)), NOW)
            .expect("invite");
        world.commit(0, made);
    }
    let mut joined = world.follow(&key(40));
    let join = joined.propose_admit_by_invite(&invite, &key(40), NOW).expect("join");
    world.broker.submit(&join, NOW).expect("submitted");
    for member in &mut world.members {
        member.apply(&join.entries[0], &join.seals, NOW).expect("applied");
    }
    joined.accepted(join, NOW).expect("accepted");
    world.members.push(joined);
    let removal = world.members[0]
        .propose_remove(&key(40).public(), &Signer::new(&key(1)), NOW)
        .expect("removal");
    assert!(
        removal
            .seals
            .iter()
            .all(|seal| seal.to != invite.invite_key() && seal.to != key(40).public())
    );
    assert!(
        removal.seals.iter().any(|seal| seal.to == other.invite_key()),
        "other invites go on"
    );
    world.commit(0, removal.clone());
    // Neither by any seal, nor by coming back with the link or with another one.
    let mut gone = world.follow(&key(40));
    for seal in &removal.seals {
        assert!(gone.open_with_invite(&invite, seal).is_err() && gone.apply_seal(seal).is_err());
    }
    assert!(gone.propose_admit_by_invite(&invite, &key(40), NOW).is_err());
    let back = gone.propose_admit_by_invite(&other, &key(40), NOW);
    assert!(matches!(back, Err(GroupError::Refused(Refusal::NotAllowed(_)))));
    assert!(matches!(gone.propose_rotate(NOW), Err(GroupError::NotOnRoster(_))));
    // Only whoever may admit brings the member back.
    world.change(0, &Change::Admit(admit_row(40, Role::Member)));
    assert!(world.broker.state.roster().contains(&key(40).public()));
}

#[test]
fn altered_moved_and_impersonated_messages() {
    let mut world = World::with(HistoryPolicy::All, 3);
    let sent = seal_group(&world.members[0], &Label::all(), &context("m1", 7), &key(1), b"pay bob").expect("sealed");
    let open = |envelope: &GroupEnvelope, context: ContentContext<'_>| {
        open_group(&world.members[1], envelope, &context).map(|opened| opened.plaintext.to_vec())
    };
    assert_eq!(open(&sent, context("m1", 7)), Ok(b"pay bob".to_vec()));
    let unreadable = Err(GroupError::Unreadable);
    assert_eq!(open(&sent, context("m2", 7)), unreadable, "other id");
    assert_eq!(open(&sent, context("m1", 8)), unreadable, "other number");
    assert_eq!(
        open(
            &sent,
            ContentContext {
                priority: "now",
                ..context("m1", 7)
            }
        ),
        unreadable
    );
    let session = key(98).public();
    assert_eq!(
        open(
            &sent,
            ContentContext {
                sender_session: session,
                ..context("m1", 7)
            }
        ),
        unreadable
    );
    let mut moved = sent.clone();
    moved.label = Label::group("backend").expect("label");
    assert_eq!(open(&moved, context("m1", 7)), unreadable);
    let mut renumbered = sent.clone();
    renumbered.seq = 8;
    assert_eq!(open(&renumbered, context("m1", 8)), unreadable);
    let mut as_other = sent.clone();
    as_other.sender = key(3).public();
    assert_eq!(open(&as_other, context("m1", 7)), unreadable);
    as_other.sender = key(90).public();
    assert_eq!(
        open(&as_other, context("m1", 7)),
        Err(GroupError::NotOnRoster(key(90).public()))
    );
    let mut newer = sent.clone();
    newer.epoch = 9;
    assert_eq!(
        open(&newer, context("m1", 7)),
        Err(GroupError::UnknownEpoch {
            generation: 1,
            epoch: 9
        })
    );
    let mut cut = sent.clone();
    cut.ciphertext.truncate(40);
    assert_eq!(open(&cut, context("m1", 7)), unreadable);
    cut.nonce.clear();
    assert_eq!(open(&cut, context("m1", 7)), unreadable);

    // A removed member, with what it knows, into the new epoch: no. Into the old one: marked.
    world.change(
        0,
        &Change::Remove {
            members: vec![key(3).public()],
            devices: vec![],
        },
    );
    let old = seal_group(
        &world.members[2],
        &Label::all(),
        &context("m3", 1),
        &key(3),
        b"still here",
    );
    assert!(old.is_err(), "an honest client stops by itself");
    let mut lone = World::with(HistoryPolicy::All, 3);
    let old = seal_group(
        &lone.members[2],
        &Label::all(),
        &context("m3", 1),
        &key(3),
        b"still here",
    )
    .expect("sealed");
    lone.change(
        0,
        &Change::Remove {
            members: vec![key(3).public()],
            devices: vec![],
        },
    );
    let opened = open_group(&lone.members[0], &old, &context("m3", 1)).expect("history");
    assert!(opened.former);
    let mut lifted = old;
    lifted.epoch = lone.members[0].head().epoch;
    lifted.key_id = lone.members[0].key_id(lone.members[0].epoch_id()).expect("id");
    let result = open_group(&lone.members[0], &lifted, &context("m3", 1)).map(|_| ());
    assert_eq!(result, Err(GroupError::NotOnRoster(key(3).public())));
}

#[test]
fn hostile_bytes_do_not_panic() {
    let world = World::with(HistoryPolicy::All, 2);
    let entry = serde_json::to_string(&world.broker.log[1]).expect("json");
    for cut in 0..entry.len() {
        assert!(LogEntry::from_json(&entry.as_bytes()[..cut]).is_err());
    }
    let extra = entry.replacen('{', "{\"surprise\":1,", 1);
    assert!(LogEntry::from_json(extra.as_bytes()).is_err());
    let nested = entry.replace("\"commitment\"", "\"surprise\":1,\"commitment\"");
    assert!(LogEntry::from_json(nested.as_bytes()).is_err());
    assert!(LogEntry::from_json(&vec![b' '; MAX_ENTRY_JSON + 1]).is_err());
    for text in ["", "null", "[]", "{}", "\"x\"", "{\"type\":\"reset\"}"] {
        assert!(LogEntry::from_json(text.as_bytes()).is_err());
        assert!(Seal::from_json(text.as_bytes()).is_err());
        assert!(KeyGrant::from_json(text.as_bytes()).is_err());
        assert!(KeyRequest::from_json(text.as_bytes()).is_err());
        assert!(GroupEnvelope::from_json(text.as_bytes()).is_err());
        assert!(LogState::from_json(text.as_bytes()).is_err());
        assert!(Proposed::from_bytes(text.as_bytes()).is_err());
        assert!(EpochKeys::restore(text.as_bytes(), &key(1)).is_err());
    }
    assert!(Label::group("").is_err() && Label::group("a\nb").is_err() && Label::topic(&"x".repeat(500)).is_err());
    let owner = world.owner.public();
    assert!(EpochKeys::from_log(MESH, &owner, &[], &[], &key(1), NOW).is_err());
    assert!(EpochKeys::from_log(MESH, &owner, &world.broker.log[1..], &[], &key(1), NOW).is_err());
}

#[test]
fn an_owner_cut_heals_a_fork_and_is_reported() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let mut left = world.follow(&key(2));
    let lone = left.propose_rotate(NOW).expect("proposed");
    left.accepted(lone, NOW).expect("a branch that the others never see");
    let reset = world.members[0]
        .propose(&Change::Reset, &Signer::new(&world.owner), NOW)
        .expect("reset");
    let applied = left.apply(&reset.entries[0], &[], NOW).expect("applied");
    assert_eq!(applied.reset, Some(ResetKind::Cut));
    let applied = left.apply(&reset.entries[1], &reset.seals, NOW).expect("applied");
    assert_eq!(applied.key, KeyOutcome::Opened);
    world.commit(0, reset);
    assert_eq!(left.head(), world.members[0].head());
}

#[test]
fn limits_hold_and_expired_invites_make_room() {
    let world = World::new(HistoryPolicy::All);
    let mut state = world.broker.state.clone();
    let invite = |number: usize, expires_at_ms| {
        let keys = InviteKeys::from_link_secret(MESH, &[u8::try_from(number).expect("small"); 32]);
        let invite = Invite {
            invite_key: keys.invite_key(),
            seal_key: keys.seal_key(),
            role: Role::Member,
            expires_at_ms,
            max_uses: 1,
            code_hint: None,
        };
        EntryBody::Invite { invite }
    };
    let next = |state: &LogState, body| LogEntry::sign(MESH, next_position(state), state.head().hash, body, &key(1));
    for number in 0..MAX_INVITES {
        let entry = next(&state, invite(number, NOW + 1000));
        state = EpochLog.check(&state, &entry, NOW).expect("room");
    }
    let one_more = next(&state, invite(MAX_INVITES, NOW + DAY));
    assert_eq!(EpochLog.check(&state, &one_more, NOW), Err(Refusal::Limit));
    let checkpoint = next(&state, EntryBody::Checkpoint { at_ms: NOW + 2000 });
    state = EpochLog.check(&state, &checkpoint, NOW + 2000).expect("checkpoint");
    let one_more = next(&state, invite(MAX_INVITES, NOW + DAY));
    state = EpochLog
        .check(&state, &one_more, NOW + 2000)
        .expect("expired ones are gone");
    assert_eq!(state.roster().invites().len(), 1);
    let no_uses = EntryBody::Invite {
        invite: Invite {
            max_uses: 0,
            ..state.roster().invites()[0].invite.clone()
        },
    };
    assert!(matches!(
        EpochLog.check(&state, &next(&state, no_uses), NOW + 2000),
        Err(Refusal::Malformed(_))
    ));
}

#[test]
fn strangers_cannot_leave_seals_at_the_broker() {
    let world = World::with(HistoryPolicy::All, 3);
    let mut row = world
        .propose(0, &Change::Admit(admit_row(30, Role::Member)))
        .expect("proposed");
    assert!(
        EpochLog
            .check_batch(&world.broker.state, &row.entries, &row.seals, NOW)
            .is_ok()
    );
    let mut other = row.seals[0].clone();
    other.to = key(90).public();
    row.seals.push(other.clone());
    let refusal = EpochLog.check_batch(&world.broker.state, &row.entries, &row.seals, NOW);
    assert_eq!(refusal, Err(Refusal::NotOnRoster(key(90).public())));
    other.to = key(2).public();
    row.seals[1] = other;
    assert_eq!(
        EpochLog.check_batch(&world.broker.state, &row.entries, &row.seals, NOW),
        Err(Refusal::BadSignature)
    );
}
