//! A mesh in memory: a broker that orders and checks without secrets, and members.
#![allow(dead_code, unreachable_pub, missing_docs)]

use claudemesh_crypto::group::*;
use claudemesh_crypto::{PublicKey, SecretKey};

pub const MESH: &str = "mesh-1";
pub const NOW: u64 = 1_800_000_000_000;
pub const DAY: u64 = 86_400_000;

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// What the broker has: the log, the seals, the state.
#[derive(Clone)]
pub struct Broker {
    pub state: LogState,
    pub log: Vec<LogEntry>,
    pub seals: Vec<Seal>,
}

impl Broker {
    pub fn create(owner: &PublicKey, created: &Proposed) -> Self {
        let state = EpochLog.start(MESH, owner, &created.entries[0], NOW).expect("genesis");
        let state = EpochLog
            .check_batch(&state, &created.entries[1..], &created.seals, NOW)
            .expect("first epoch");
        Self {
            state,
            log: created.entries.clone(),
            seals: created.seals.clone(),
        }
    }

    /// Compare-and-set.
    pub fn submit(&mut self, proposed: &Proposed, now: u64) -> Result<(), Refusal> {
        if proposed.base != Some(self.state.head()) {
            return Err(Refusal::Stale);
        }
        // Through JSON, as over the network.
        let entries: Vec<LogEntry> = proposed
            .entries
            .iter()
            .map(|entry| LogEntry::from_json(&serde_json::to_vec(entry).expect("json")))
            .collect::<Result<_, _>>()?;
        let seals: Vec<Seal> = proposed
            .seals
            .iter()
            .map(|seal| Seal::from_json(&serde_json::to_vec(seal).expect("json")).expect("seal"))
            .collect();
        let state = EpochLog.check_batch(&self.state, &entries, &seals, now)?;
        self.state = LogState::from_json(&state.to_json()).expect("stored state");
        self.log.extend(entries);
        self.seals.extend(seals);
        Ok(())
    }
}

pub struct World {
    pub owner: SecretKey,
    pub broker: Broker,
    pub members: Vec<EpochKeys>,
}

impl World {
    /// A mesh whose first member has `key(1)`.
    pub fn new(history: HistoryPolicy) -> Self {
        let owner = key(200);
        let (keys, created) = EpochKeys::create(MESH, &owner, &key(1), history, NOW).expect("created");
        let broker = Broker::create(&owner.public(), &created);
        Self {
            owner,
            broker,
            members: vec![keys],
        }
    }

    /// The same with more members, `key(2)` and so on, admitted by the first.
    pub fn with(history: HistoryPolicy, members: u8) -> Self {
        let mut world = Self::new(history);
        for seed in 2..=members {
            world.admit(seed);
        }
        world
    }

    pub fn follow(&self, me: &SecretKey) -> EpochKeys {
        EpochKeys::from_log(
            MESH,
            &self.owner.public(),
            &self.broker.log,
            &self.broker.seals,
            me,
            NOW,
        )
        .expect("log")
    }

    pub fn propose(&self, by: usize, change: &Change) -> Result<Proposed, GroupError> {
        let me = key(seed_of(&self.members[by]));
        self.members[by].propose(change, &Signer::new(&me), NOW)
    }

    /// Proposes, submits, and lets everybody follow.
    pub fn change(&mut self, by: usize, change: &Change) -> Applied {
        let proposed = self.propose(by, change).expect("proposed");
        self.commit(by, proposed)
    }

    pub fn change_as_owner(&mut self, change: &Change) -> Applied {
        let proposed = self.members[0]
            .propose(change, &Signer::new(&self.owner), NOW)
            .expect("proposed");
        self.commit(0, proposed)
    }

    pub fn commit(&mut self, by: usize, proposed: Proposed) -> Applied {
        self.broker.submit(&proposed, NOW).expect("submitted");
        for (at, member) in self.members.iter_mut().enumerate() {
            if at == by {
                continue;
            }
            for entry in &proposed.entries {
                match member.apply(entry, &proposed.seals, NOW) {
                    Ok(_) | Err(GroupError::Removed) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        self.members[by].accepted(proposed, NOW).expect("accepted")
    }

    /// Lets the first member admit `key(seed)`.
    pub fn admit(&mut self, seed: u8) {
        let secret = key(seed);
        self.change(
            0,
            &Change::Admit(DeviceEntry::new(MESH, &secret, &secret, Role::Member)),
        );
        let joined = self.follow(&secret);
        self.members.push(joined);
    }

    pub fn assert_agreement(&self) {
        let head = self.broker.state.head();
        for member in self.members.iter().filter(|member| member.is_member()) {
            assert_eq!(member.head(), head);
            assert_eq!(member.roster(), self.broker.state.roster());
            let mine = member.key(head.epoch, &Label::all()).map(|key| *key.as_bytes());
            let first = self.members[0]
                .key(head.epoch, &Label::all())
                .map(|key| *key.as_bytes());
            assert!(mine.is_some());
            if self.members[0].is_member() {
                assert_eq!(mine, first);
            }
        }
    }
}

pub fn seed_of(keys: &EpochKeys) -> u8 {
    (1..=255)
        .find(|seed| key(*seed).public() == keys.device())
        .expect("a test key")
}

pub fn context(id: &str, seq: u64) -> ContentContext<'_> {
    ContentContext {
        message_id: id,
        seq,
        priority: "next",
        sender_session: key(99).public(),
    }
}

pub fn invite_terms(max_uses: u32) -> InviteTerms {
    InviteTerms {
        role: Role::Member,
        expires_at_ms: NOW + DAY,
        max_uses,
        code_hint: Some("abc123".to_owned()),
    }
}
