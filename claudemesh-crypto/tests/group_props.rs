//! Random histories: all members agree, removed members are out, broker and clients judge alike.
#![allow(missing_docs)]

mod group_support;

use std::collections::BTreeMap;

use claudemesh_crypto::group::*;
use claudemesh_crypto::{PublicKey, SecretKey};
use group_support::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Admit(u8),
    Invite(u8),
    Join(u8),
    Remove(u8),
    Leave(u8),
    Rotate(u8),
    Reseal(u8),
    Promote(u8),
    Reset,
    Restart(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..8).prop_map(Step::Admit),
        1 => (0_u8..3).prop_map(Step::Invite),
        2 => (0_u8..8).prop_map(Step::Join),
        3 => (0_u8..8).prop_map(Step::Remove),
        1 => (0_u8..8).prop_map(Step::Leave),
        2 => (0_u8..8).prop_map(Step::Rotate),
        1 => (0_u8..8).prop_map(Step::Reseal),
        1 => (0_u8..8).prop_map(Step::Promote),
        1 => Just(Step::Reset),
        1 => (0_u8..8).prop_map(Step::Restart),
    ]
}

fn history() -> impl Strategy<Value = HistoryPolicy> {
    prop_oneof![Just(HistoryPolicy::All), Just(HistoryPolicy::SinceJoin)]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    }
}

struct Run {
    world: World,
    gone: Vec<EpochKeys>,
    next_seed: u8,
    invites: Vec<InviteKeys>,
    /// Who came in with which link.
    links: Vec<(PublicKey, InviteKeys)>,
    /// What each epoch's key is, as the members say.
    keys: BTreeMap<EpochId, [u8; 32]>,
}

impl Run {
    fn pick(&self, number: u8) -> usize {
        usize::from(number) % self.world.members.len()
    }

    fn fresh(&mut self) -> SecretKey {
        self.next_seed += 1;
        key(self.next_seed)
    }

    fn take_out(&mut self) {
        let (stay, gone) = std::mem::take(&mut self.world.members)
            .into_iter()
            .partition(EpochKeys::is_member);
        self.world.members = stay;
        self.gone.extend::<Vec<_>>(gone);
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Admit(by) => {
                let secret = self.fresh();
                let row = DeviceEntry::new(MESH, &secret, &secret, Role::Member);
                let by = self.pick(*by);
                let admin =
                    self.world.broker.state.roster().role(&self.world.members[by].device()) == Some(Role::Admin);
                match self.world.propose(by, &Change::Admit(row)) {
                    Ok(proposed) => {
                        assert!(admin);
                        self.world.commit(by, proposed);
                        let joined = self.world.follow(&secret);
                        self.world.members.push(joined);
                    }
                    Err(error) => assert!(!admin && matches!(error, GroupError::Refused(Refusal::NotAllowed(_)))),
                }
            }
            Step::Invite(uses) => {
                let count = u8::try_from(self.invites.len()).expect("few");
                let secret = [100 + count; 32];
                let invite = InviteKeys::from_link_secret(MESH, &secret);
                let terms = invite_terms(u32::from(*uses) + 1);
                let proposed =
                    self.world.members[0].propose_invite(&invite, &terms, &Signer::new(&self.world.owner), NOW);
                if let Ok(proposed) = proposed {
                    self.world.commit(0, proposed);
                    self.invites.push(invite);
                }
            }
            Step::Join(number) => {
                let state = &self.world.broker.state;
                let open: Vec<&InviteKeys> = self
                    .invites
                    .iter()
                    .filter(|i| state.roster().invite(&i.invite_key()).is_some())
                    .collect();
                if open.is_empty() {
                    return;
                }
                let invite = open[usize::from(*number) % open.len()].clone();
                let secret = self.fresh();
                let mut keys = self.world.follow(&secret);
                for seal in self
                    .world
                    .broker
                    .seals
                    .iter()
                    .filter(|seal| seal.to == invite.invite_key())
                {
                    keys.open_with_invite(&invite, seal).expect("invite seal");
                }
                let join = keys.propose_admit_by_invite(&invite, &secret, NOW).expect("join");
                self.links.push((secret.public(), invite));
                self.world.members.push(keys);
                let at = self.world.members.len() - 1;
                self.world.commit(at, join);
            }
            Step::Remove(number) => {
                let target = self.pick(*number);
                let target = self.world.members[target].device();
                if target != key(1).public() {
                    self.world.change_as_owner(&Change::Remove {
                        members: vec![target],
                        devices: vec![],
                    });
                }
            }
            Step::Leave(number) => {
                let by = self.pick(*number);
                let me = self.world.members[by].device();
                if me != key(1).public() {
                    let applied = self.world.change(
                        by,
                        &Change::Remove {
                            members: vec![],
                            devices: vec![me],
                        },
                    );
                    assert!(applied.removed_me && applied.rekey_needed);
                    self.take_out();
                    self.world.change(0, &Change::Rotate);
                }
            }
            Step::Rotate(number) => {
                let by = self.pick(*number);
                self.world.change(by, &Change::Rotate);
            }
            Step::Reseal(number) => {
                let by = self.pick(*number);
                self.world.change(by, &Change::Reseal);
            }
            Step::Promote(number) => {
                let member = self.pick(*number);
                let member = self.world.members[member].device();
                self.world.change_as_owner(&Change::Role {
                    member,
                    role: Role::Admin,
                });
            }
            Step::Reset => {
                self.world.change(0, &Change::Reset);
            }
            Step::Restart(number) => {
                let at = self.pick(*number);
                let me = key(seed_of(&self.world.members[at]));
                let snapshot = self.world.members[at].snapshot().expect("snapshot");
                self.world.members[at] = EpochKeys::restore(&snapshot, &me).expect("restored");
            }
        }
        self.take_out();
    }

    fn check(&mut self) {
        self.world.assert_agreement();
        let id = self.world.broker.state.epoch_id();
        let newest = self.world.members[0].key(id.epoch, &Label::all()).expect("key");
        self.keys.insert(id, *newest.as_bytes());
        for gone in &mut self.gone {
            // With everything that the broker has.
            let me = key((1..=255)
                .find(|seed| key(*seed).public() == gone.device())
                .expect("a test key"));
            let mut again = self.world.follow(&me);
            let device = gone.device();
            for seal in &self.world.broker.seals {
                let _ = gone.apply_seal(seal);
                let _ = again.apply_seal(seal);
                for (_, link) in self.links.iter().filter(|(holder, _)| *holder == device) {
                    let _ = gone.open_with_invite(link, seal);
                }
            }
            assert!(
                !gone.has_key(id) && !again.has_key(id),
                "a removed member has the newest key"
            );
        }
    }
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn members_agree_and_removed_members_are_out(history in history(), steps in prop::collection::vec(step(), 1..14)) {
        let world = World::new(history);
        let mut run = Run { world, gone: vec![], next_seed: 1, invites: vec![], links: vec![], keys: BTreeMap::new() };
        run.check();
        for step in &steps {
            run.play(step);
            run.check();
        }
        // Whoever was in an epoch has the same key for it; under `All` everybody has all of them.
        for (id, expected) in &run.keys {
            for member in &run.world.members {
                match member.key_at(*id, &Label::all()) {
                    Some(found) => prop_assert_eq!(found.as_bytes(), expected),
                    None => prop_assert_eq!(history, HistoryPolicy::SinceJoin),
                }
            }
        }
    }
}

fn arbitrary_body() -> impl Strategy<Value = (u8, EntryBody)> {
    let any_key = (1_u8..8).prop_map(|seed| key(seed).public());
    let role = prop_oneof![Just(Role::Admin), Just(Role::Member)];
    let by = prop_oneof![
        Just(AdmitBy::Owner),
        Just(AdmitBy::Admin),
        Just(AdmitBy::Member),
        Just(AdmitBy::Invite)
    ];
    let device =
        (1_u8..8, 1_u8..8, role.clone()).prop_map(|(m, d, role)| DeviceEntry::new(MESH, &key(m), &key(d), role));
    let body = prop_oneof![
        (device, by, NOW - 1000..NOW + 2 * MAX_SKEW_MS).prop_map(|(device, by, at_ms)| EntryBody::Admit {
            device,
            by,
            at_ms
        }),
        (
            prop::collection::vec(any_key.clone(), 0..3),
            prop::collection::vec(any_key.clone(), 0..3)
        )
            .prop_map(|(members, devices)| EntryBody::Remove { members, devices }),
        (any_key.clone(), role).prop_map(|(member, role)| EntryBody::Role { member, role }),
        any_key.prop_map(|invite_key| EntryBody::RevokeInvite { invite_key }),
        (0_u64..5).prop_map(|epoch| EntryBody::Epoch {
            epoch,
            commitment: Digest::from_bytes([1; 32]),
            seals_digest: Digest::ZERO,
            reason: EpochReason::Rotate,
            wrapped_prev: None,
        }),
        (NOW - 1000..NOW + 2 * MAX_SKEW_MS).prop_map(|at_ms| EntryBody::Checkpoint { at_ms }),
    ];
    // 200 is the owner.
    (prop_oneof![4 => 1_u8..8, 1 => Just(200_u8)], body)
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn broker_and_clients_accept_the_same(bodies in prop::collection::vec((arbitrary_body(), 0_u64..8), 1..8)) {
        let mut world = World::with(HistoryPolicy::All, 3);
        for ((author, body), shift) in bodies {
            let head = world.broker.state.head();
            // Mostly the next place, sometimes another one.
            let index = if shift < 6 { head.index + 1 } else { head.index + shift - 6 };
            let at = Position { generation: head.generation, index };
            let entry = LogEntry::sign(MESH, at, head.hash, body, &key(author));
            let broker = EpochLog.check(&world.broker.state, &entry, NOW);
            for member in &mut world.members {
                let before = member.head();
                match (member.apply(&entry, &[], NOW), &broker) {
                    (Ok(applied), Ok(state)) => {
                        prop_assert_eq!(applied.head, state.head());
                        prop_assert_eq!(member.state(), state);
                    }
                    (Err(_), Err(_)) => prop_assert_eq!(member.head(), before),
                    (Err(GroupError::Removed), Ok(_)) => {}
                    (client, broker) => prop_assert!(false, "{:?} against {:?}", client, broker),
                }
            }
            if let Ok(state) = broker {
                world.broker.state = state;
            }
        }
    }

    #[test]
    fn a_flipped_byte_of_an_entry_is_refused(position in 0_usize..4000, bit in 0_u8..7) {
        let world = World::with(HistoryPolicy::All, 1);
        let proposed = world.propose(0, &Change::Rotate).expect("proposed");
        let mut json = serde_json::to_vec(&proposed.entries[0]).expect("json");
        let position = position % json.len();
        json[position] ^= 1 << bit;
        // Upper-case hexadecimal is the same entry.
        if let Ok(entry) = LogEntry::from_json(&json)
            && entry != proposed.entries[0]
        {
            prop_assert!(EpochLog.check(&world.broker.state, &entry, NOW).is_err());
        }
    }
}
