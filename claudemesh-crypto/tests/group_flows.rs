//! What honest members do.
#![allow(missing_docs)]

mod group_support;

use claudemesh_crypto::group::*;
use claudemesh_crypto::{SecretKey, random_bytes};
use group_support::*;

fn say(keys: &EpochKeys, text: &str) -> GroupEnvelope {
    let label = Label::group("backend").expect("label");
    seal_group(keys, &label, &context("m1", 1), &key(seed_of(keys)), text.as_bytes()).expect("sealed")
}

fn hear(keys: &EpochKeys, envelope: &GroupEnvelope) -> Result<String, GroupError> {
    let json = serde_json::to_vec(envelope).expect("json");
    let envelope = GroupEnvelope::from_json(&json)?;
    let opened = open_group(keys, &envelope, &context("m1", 1))?;
    Ok(String::from_utf8(opened.plaintext.to_vec()).expect("text"))
}

#[test]
fn create_admit_talk_remove() {
    let mut world = World::with(HistoryPolicy::All, 3);
    world.assert_agreement();
    let first = say(&world.members[1], "hello");
    assert_eq!(hear(&world.members[0], &first).expect("opened"), "hello");
    assert_eq!(hear(&world.members[2], &first).expect("opened"), "hello");

    let gone = world.members[2].device();
    let applied = world.change(
        0,
        &Change::Remove {
            members: vec![gone],
            devices: vec![],
        },
    );
    assert_eq!(applied.removed, vec![gone]);
    assert_eq!(applied.key, KeyOutcome::Opened);
    world.assert_agreement();
    let second = say(&world.members[1], "without you");
    assert_eq!(hear(&world.members[0], &second).expect("opened"), "without you");
    assert!(hear(&world.members[2], &second).is_err());
    assert_eq!(
        hear(&world.members[2], &first).expect("what was before stays readable"),
        "hello"
    );
    assert_eq!(
        world.members[2].apply(&world.broker.log[0], &[], NOW),
        Err(GroupError::Removed)
    );
}

#[test]
fn join_with_the_link_secret_while_nobody_is_online() {
    for history in [HistoryPolicy::All, HistoryPolicy::SinceJoin] {
        let mut world = World::with(history, 2);
        let secret = random_bytes::<32>();
        let invite = InviteKeys::from_link_secret(MESH, &secret);
        let me = key(1);
        let made = world.members[0]
            .propose_invite(&invite, &invite_terms(2), &Signer::new(&me), NOW)
            .expect("invite");
        world.commit(0, made);
        // Epochs go on; the invite gets each key where joiners may read the past.
        let rotated = world.members[1].propose_rotate(NOW).expect("rotate");
        world.commit(1, rotated);
        let before = say(&world.members[0], "before");

        let joiner = key(50);
        let mut keys = world.follow(&joiner);
        assert!(!keys.is_member());
        let newest = keys.epoch_id();
        let mut seals = world.broker.seals.iter().filter(|seal| seal.to == invite.invite_key());
        match history {
            HistoryPolicy::All => {
                let seal = seals.find(|seal| seal.id() == newest).expect("seal");
                keys.open_with_invite(&invite, seal).expect("opened");
            }
            HistoryPolicy::SinceJoin => assert!(seals.next().is_none(), "a link opens nothing before it is used"),
        }
        let join = keys
            .propose_admit_by_invite(&invite, &joiner, NOW + 1000)
            .expect("join");
        let join = Proposed::from_bytes(&join.to_bytes().expect("stored")).expect("read back");
        world.broker.submit(&join, NOW + 1000).expect("submitted");
        for member in &mut world.members {
            for entry in &join.entries {
                member.apply(entry, &join.seals, NOW + 1000).expect("applied");
            }
        }
        let applied = keys.accepted(join, NOW + 1000).expect("accepted");
        assert_eq!(applied.admitted, vec![joiner.public()]);
        world.members.push(keys);
        world.assert_agreement();
        let text = say(&world.members[2], "I am here");
        assert_eq!(hear(&world.members[1], &text).expect("opened"), "I am here");
        if history == HistoryPolicy::SinceJoin {
            assert!(!world.members[2].has_key(newest), "nothing from before");
        } else {
            assert_eq!(hear(&world.members[2], &before).expect("history"), "before");
            assert!(world.members[2].missing_epochs().is_empty(), "all epochs unwrap");
        }
        // After a crash that loses everything but the key, the log and the seals are enough.
        let again = world.follow(&joiner);
        assert_eq!(hear(&again, &text).expect("opened"), "I am here");
    }
}

#[test]
fn join_without_the_link_secret_needs_an_admin_and_a_grant() {
    let mut world = World::with(HistoryPolicy::SinceJoin, 2);
    let joiner = key(60);
    let row = DeviceEntry::new(MESH, &joiner, &joiner, Role::Member);
    assert!(matches!(
        world.propose(1, &Change::Admit(row.clone())),
        Err(GroupError::Refused(Refusal::NotAllowed(_)))
    ));
    let old = world.members[0].epoch_id();
    world.change(0, &Change::Admit(row));
    // The broker lost the seals: ask.
    world.broker.seals.clear();
    let mut keys = world.follow(&joiner);
    assert_eq!(keys.missing_epochs(), vec![keys.epoch_id()]);
    let request = keys.request(RequestReason::Joined, NOW);
    let request = KeyRequest::from_json(&serde_json::to_vec(&request).expect("json")).expect("request");
    let grant = world.members[1].answer(&request).expect("grant");
    let grant = KeyGrant::from_json(&serde_json::to_vec(&grant).expect("json")).expect("grant");
    let applied = keys.apply_grant(&grant).expect("applied");
    assert_eq!(
        applied,
        GrantApplied {
            learned: 1,
            author_head: HeadRelation::Same
        }
    );
    assert!(!keys.has_key(old), "nothing from before");
    let everything = world.members[0]
        .grant_for(&joiner.public(), Some(old))
        .expect("clipped");
    assert_eq!(everything.from_epoch, keys.epoch_id().epoch);
    world.members.push(keys);
    world.assert_agreement();
}

#[test]
fn one_grant_of_the_newest_key_opens_the_history() {
    let mut world = World::with(HistoryPolicy::All, 2);
    for _ in 0..5 {
        world.change(0, &Change::Rotate);
    }
    world.broker.seals.clear();
    let mut keys = world.follow(&key(2));
    assert_eq!(keys.missing_epochs().len(), 6);
    let grant = world.members[0]
        .grant_for(&key(2).public(), Some(keys.epoch_id()))
        .expect("grant");
    assert_eq!((grant.from_epoch, grant.to_epoch), (6, 6));
    assert_eq!(keys.apply_grant(&grant).expect("applied").learned, 6);
    keys.forget_before(EpochId {
        generation: 1,
        epoch: 4,
    });
    assert!(keys.missing_epochs().is_empty());
    assert_eq!(keys.apply_grant(&grant).expect("applied").learned, 0);
}

#[test]
fn a_lost_race_is_built_again_and_catching_up_replays_the_log() {
    let mut world = World::with(HistoryPolicy::All, 3);
    let late = world.members.pop().expect("member");
    let loser = world.propose(1, &Change::Rotate).expect("proposed");
    world.change(0, &Change::Rotate);
    assert_eq!(world.broker.submit(&loser, NOW), Err(Refusal::Stale));
    assert_eq!(world.members[1].accepted(loser, NOW), Err(GroupError::Stale));
    world.change(1, &Change::Rotate);

    let mut late = EpochKeys::restore(&late.snapshot().expect("snapshot"), &key(3)).expect("restored");
    let newest = world.broker.log.last().expect("entry");
    let have = late.head().position();
    assert_eq!(
        late.apply(newest, &[], NOW),
        Err(GroupError::Gap {
            have,
            got: newest.position()
        })
    );
    for entry in world.broker.log.iter().filter(|entry| entry.position() > have) {
        assert_eq!(
            late.apply(entry, &world.broker.seals, NOW).expect("applied").key,
            KeyOutcome::Opened
        );
    }
    world.members.push(late);
    world.assert_agreement();
}

#[test]
fn seal_keys_rotate_and_the_old_one_is_deleted() {
    let mut world = World::with(HistoryPolicy::SinceJoin, 2);
    assert!(world.members[1].first_seal_key_in_use());
    world.change(1, &Change::Reseal);
    assert!(!world.members[1].first_seal_key_in_use());
    world.change(0, &Change::Rotate);
    world.assert_agreement();
    // Somebody with the device key alone, and all that the broker has, opens nothing of what came after.
    let thief = world.follow(&key(2));
    assert!(!thief.seal_key_known());
    assert!(!thief.has_key(thief.epoch_id()));
    let snapshot = world.members[1].snapshot().expect("snapshot");
    let restored = EpochKeys::restore(&snapshot, &key(2)).expect("restored");
    assert!(restored.seal_key_known());
    assert!(EpochKeys::restore(&snapshot, &key(3)).is_err());
    let json: serde_json::Value = serde_json::from_slice(&snapshot).expect("json");
    assert_eq!(
        json["sealSecrets"].as_array().expect("list").len(),
        1,
        "the first one is gone"
    );
}

#[test]
fn members_have_several_devices() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let (member, laptop) = (key(2), key(70));
    let row = DeviceEntry::new(MESH, &member, &laptop, Role::Member);
    world.change(1, &Change::Admit(row));
    let joined = world.follow(&laptop);
    world.members.push(joined);
    world.assert_agreement();
    assert_eq!(world.members[0].roster().members().len(), 2);
    assert_eq!(world.members[0].members().len(), 3);
    let text = say(&world.members[2], "from the laptop");
    let opened = open_group(&world.members[0], &text, &context("m1", 1)).expect("opened");
    assert_eq!(
        (opened.member, opened.device, opened.former),
        (member.public(), laptop.public(), false)
    );
    let applied = world.change(
        0,
        &Change::Remove {
            members: vec![member.public()],
            devices: vec![],
        },
    );
    assert_eq!(applied.removed.len(), 2);
}

#[test]
fn leaving_asks_the_others_for_an_epoch() {
    let mut world = World::with(HistoryPolicy::All, 3);
    let me = world.members[2].device();
    let applied = world.change(
        2,
        &Change::Remove {
            members: vec![me],
            devices: vec![],
        },
    );
    assert!(applied.removed_me && applied.rekey_needed);
    let sealed = seal_group(&world.members[0], &Label::all(), &context("m", 1), &key(1), b"x");
    assert_eq!(sealed.map(|_| ()), Err(GroupError::RekeyNeeded));
    world.change(1, &Change::Rotate);
    assert!(!world.members[0].rekey_needed());
    world.assert_agreement();
}

#[test]
fn owner_changes_roles_checkpoints_and_resets() {
    let mut world = World::with(HistoryPolicy::All, 3);
    let admin = world.members[1].device();
    world.change_as_owner(&Change::Role {
        member: admin,
        role: Role::Admin,
    });
    assert_eq!(world.members[2].roster().role(&admin), Some(Role::Admin));
    world.change(1, &Change::Checkpoint);
    assert_eq!(world.members[2].state().checkpoint_ms(), NOW);
    let old = say(&world.members[0], "old");
    let applied = world.change(1, &Change::Reset);
    assert_eq!(applied.reset, Some(ResetKind::Continued));
    assert_eq!(
        (applied.head.generation, applied.head.index, applied.head.epoch),
        (2, 1, 1)
    );
    world.assert_agreement();
    assert_eq!(hear(&world.members[2], &old).expect("old generation"), "old");
    // An owner's reset is a start of its own: the log before it may be pruned.
    world.change_as_owner(&Change::Reset);
    world.broker.log.retain(|entry| entry.generation == 3);
    let fresh = world.follow(&key(3));
    assert_eq!(fresh.head(), world.broker.state.head());
    assert!(fresh.has_key(fresh.epoch_id()));
}

#[test]
fn own_entries_are_recognised_after_a_crash() {
    let mut world = World::with(HistoryPolicy::All, 2);
    let lost = world.propose(1, &Change::Rotate).expect("proposed");
    world.broker.submit(&lost, NOW).expect("submitted");
    drop(lost.to_bytes().expect("never read again"));
    let applied = world.members[1]
        .apply(&lost.entries[0], &lost.seals, NOW)
        .expect("own entry");
    assert_eq!(applied.key, KeyOutcome::Opened);
}

#[test]
fn secrets_are_not_printed() {
    let world = World::new(HistoryPolicy::All);
    let keys = &world.members[0];
    let printed = format!(
        "{keys:?} {:?} {:?}",
        keys.key(1, &Label::all()),
        keys.propose_rotate(NOW).expect("proposed")
    );
    assert!(printed.contains("redacted"));
    let content = hex::encode(keys.key(1, &Label::all()).expect("key").as_bytes());
    assert!(!printed.contains(&content));
    let invite = InviteKeys::from_link_secret(MESH, &[9; 32]);
    assert!(!format!("{invite:?}").contains(&*SecretKey::to_hex(&invite.signing)));
}
