//! Committed vectors: a mesh with fixed seeds and a fixed stream of randomness, byte for byte.
//!
//! Write them anew (after a deliberate change of the format only) with
//! `CLAUDEMESH_WRITE_VECTORS=1 cargo test -p claudemesh-crypto group::vector_tests`.

use std::path::PathBuf;

use rand_core::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::content::{ContentContext, GroupEnvelope, open_group, seal_group_with};
use super::entry::{Head, HistoryPolicy, Invite, LogEntry, Role};
use super::epoch_keys::EpochKeys;
use super::grant::KeyGrant;
use super::keys::{Change, GroupKeys as _, Proposed, Signer};
use super::roster::EpochId;
use super::seal::Seal;
use super::{DeviceEntry, Digest, InviteKeys, Label, RequestReason};
use crate::SecretKey;

const MESH: &str = "mesh-vectors";
const NOW: u64 = 1_800_000_000_000;

/// SHA-256 in counter mode.
struct Stream(u64);

impl RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block = Sha256::digest([b"claudemesh vectors".as_slice(), &self.0.to_be_bytes()].concat());
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.0 += 1;
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Stream {}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    about: String,
    mesh_id: String,
    now_ms: u64,
    owner_seed: Digest,
    first_seed: Digest,
    second_seed: Digest,
    link_secret: Digest,
    entries: Vec<LogEntry>,
    signed_bytes: Vec<String>,
    hashes: Vec<Digest>,
    roster_digest: Digest,
    head: Head,
    seals: Vec<Seal>,
    epoch_keys: Vec<Digest>,
    content_key_all: Digest,
    content_key_group_backend: Digest,
    message_id: String,
    priority: String,
    session_seed: Digest,
    plaintext: String,
    envelope: GroupEnvelope,
    grant: KeyGrant,
    request: Value,
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_seed(&[byte; 32])
}

fn context() -> ContentContext<'static> {
    ContentContext {
        message_id: "message-1",
        seq: 1,
        priority: "next",
        sender_session: secret(5).public(),
    }
}

fn build() -> Vectors {
    let rng = &mut Stream(0);
    let (owner, first, second) = (secret(1), secret(2), secret(3));
    let (mut keys, created) =
        EpochKeys::create_with(MESH, &owner, &first, HistoryPolicy::All, NOW, rng).expect("created");
    let (mut entries, mut seals) = (created.entries, created.seals);
    let invite = InviteKeys::from_link_secret(MESH, &[4; 32]);
    let terms = Invite {
        invite_key: invite.invite_key(),
        seal_key: invite.seal_key(),
        role: Role::Member,
        expires_at_ms: NOW + 86_400_000,
        max_uses: 3,
        code_hint: Some("abcdef".to_owned()),
    };
    let row = DeviceEntry::new(MESH, &second, &second, Role::Member);
    let third = secret(6);
    let extra = DeviceEntry::new(MESH, &third, &third, Role::Member);
    let steps: [(Change, &SecretKey); 10] = [
        (Change::Invite(terms), &first),
        (Change::Admit(row), &invite.signing),
        (Change::Admit(extra), &owner),
        (
            Change::Role {
                member: third.public(),
                role: Role::Admin,
            },
            &owner,
        ),
        (Change::Rotate, &first),
        (Change::Reseal, &first),
        (
            Change::Remove {
                members: vec![third.public()],
                devices: vec![],
            },
            &owner,
        ),
        (Change::Checkpoint, &first),
        (Change::RevokeInvite(invite.invite_key()), &first),
        (Change::Reset, &owner),
    ];
    for (change, author) in steps {
        let proposed: Proposed = keys
            .propose_with(&change, &Signer::new(author), NOW, rng)
            .expect("proposed");
        entries.extend(proposed.entries.clone());
        seals.extend(proposed.seals.clone());
        keys.accepted(proposed, NOW).expect("accepted");
    }
    let label = Label::group("backend").expect("label");
    let envelope = seal_group_with(&keys, &label, &context(), &first, b"hello backend", rng).expect("sealed");
    let grant = keys
        .grant_with(
            &second.public(),
            Some(EpochId {
                generation: 1,
                epoch: 2,
            }),
            rng,
        )
        .expect("grant");
    let content = |label: &Label| Digest::from_bytes(*keys.key(keys.head().epoch, label).expect("key").as_bytes());
    let request = keys.request(RequestReason::Missed, NOW);
    Vectors {
        about:
            "scheme epoch/1: genesis, invite, admissions, role, epochs, reseal, removal, checkpoint, revocation, reset"
                .to_owned(),
        mesh_id: MESH.to_owned(),
        now_ms: NOW,
        owner_seed: Digest::from_bytes([1; 32]),
        first_seed: Digest::from_bytes([2; 32]),
        second_seed: Digest::from_bytes([3; 32]),
        link_secret: Digest::from_bytes([4; 32]),
        signed_bytes: entries.iter().map(|entry| hex::encode(entry.signed_bytes())).collect(),
        hashes: entries.iter().map(LogEntry::hash).collect(),
        roster_digest: keys.roster().digest(),
        head: keys.head(),
        entries,
        seals,
        epoch_keys: keys.keys.values().map(|key| Digest::from_bytes(*key.bytes())).collect(),
        content_key_all: content(&Label::all()),
        content_key_group_backend: content(&label),
        message_id: context().message_id.to_owned(),
        priority: context().priority.to_owned(),
        session_seed: Digest::from_bytes([5; 32]),
        plaintext: "hello backend".to_owned(),
        envelope,
        grant,
        request: serde_json::to_value(request).expect("json"),
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/group_epoch1.json")
}

#[test]
fn group_vectors_are_reproduced_byte_for_byte() {
    let built = serde_json::to_string_pretty(&build()).expect("json") + "\n";
    if std::env::var_os("CLAUDEMESH_WRITE_VECTORS").is_some() {
        std::fs::write(path(), &built).expect("written");
    }
    let committed = std::fs::read_to_string(path()).expect("vectors");
    assert!(built == committed, "the format has changed");
}

#[test]
fn group_vectors_open_with_the_public_interface() {
    let vectors: Vectors = serde_json::from_str(&std::fs::read_to_string(path()).expect("vectors")).expect("vectors");
    let seed = |digest: &Digest| SecretKey::from_seed(digest.as_bytes());
    let (owner, second) = (seed(&vectors.owner_seed), seed(&vectors.second_seed));
    let follow = |seals: &[Seal]| {
        EpochKeys::from_log(
            &vectors.mesh_id,
            &owner.public(),
            &vectors.entries,
            seals,
            &second,
            vectors.now_ms,
        )
        .expect("log")
    };
    let keys = follow(&vectors.seals);
    assert_eq!(keys.head(), vectors.head);
    assert_eq!(keys.roster().digest(), vectors.roster_digest);
    let known: Vec<Digest> = keys.keys.values().map(|key| Digest::from_bytes(*key.bytes())).collect();
    assert_eq!(known, vectors.epoch_keys);
    let session = seed(&vectors.session_seed).public();
    let context = ContentContext {
        message_id: &vectors.message_id,
        seq: vectors.envelope.seq,
        priority: &vectors.priority,
        sender_session: session,
    };
    let opened = open_group(&keys, &vectors.envelope, &context).expect("opened");
    assert_eq!(opened.plaintext.as_slice(), vectors.plaintext.as_bytes());
    let mut without = follow(&[]);
    let learned = without.apply_grant(&vectors.grant).expect("granted").learned;
    assert!(learned >= vectors.grant.commitments.len());
}
