//! A rogue member has a good key and can sign anything: what the rules inside do then.

use rand_core::OsRng;

use super::content::{ContentContext, open_group, seal_group};
use super::entry::{EntryBody, HistoryPolicy, LogEntry, Role};
use super::epoch_keys::EpochKeys;
use super::keys::{Change, GroupKeys as _, KeyOutcome, Signer};
use super::roster::EpochId;
use super::seal::{SealFor, commitment, seals_digest};
use super::wire::Secret32;
use super::{DeviceEntry, GroupError, Label, Position};
use crate::{PublicKey, SecretKey};

const NOW: u64 = 1_800_000_000_000;

fn pair() -> (EpochKeys, EpochKeys, SecretKey) {
    let [owner, first, second] = [1, 2, 3].map(|byte| SecretKey::from_seed(&[byte; 32]));
    let (mut a, created) = EpochKeys::create("m", &owner, &first, HistoryPolicy::All, NOW).expect("created");
    let row = DeviceEntry::new("m", &second, &second, Role::Member);
    let admit = a
        .propose(&Change::Admit(row), &Signer::new(&first), NOW)
        .expect("admit");
    let entries: Vec<LogEntry> = created.entries.iter().chain(&admit.entries).cloned().collect();
    let seals: Vec<_> = created.seals.iter().chain(&admit.seals).cloned().collect();
    a.accepted(admit, NOW).expect("accepted");
    let b = EpochKeys::from_log("m", &owner.public(), &entries, &seals, &second, NOW).expect("followed");
    (a, b, second)
}

#[test]
fn a_signed_seal_with_another_key_does_not_fit_the_commitment() {
    let (mut honest, rogue, secret) = pair();
    let head = honest.head();
    let id = EpochId {
        generation: 1,
        epoch: head.epoch + 1,
    };
    let named = Secret32::new([7; 32]);
    let commitment = commitment("m", id, named.bytes());
    let target = SealFor {
        mesh_id: "m",
        id,
        prev: head.hash,
        commitment,
    };
    let row = honest.roster().device(&honest.device()).expect("row").entry.clone();
    let lie = Secret32::new([8; 32]);
    let seals = vec![
        target
            .seal(&lie, row.device, row.seal_key, &secret, &mut OsRng)
            .expect("sealed"),
    ];
    let body = EntryBody::Epoch {
        epoch: id.epoch,
        commitment,
        seals_digest: seals_digest(&seals),
        reason: super::EpochReason::Rotate,
        wrapped_prev: None,
    };
    let at = Position {
        generation: 1,
        index: head.index + 1,
    };
    let entry = LogEntry::sign("m", at, head.hash, body, &secret);
    let applied = honest.apply(&entry, &seals, NOW).expect("the log goes on");
    let error = GroupError::Unreadable;
    assert_eq!(
        applied.key,
        KeyOutcome::Bad {
            author: rogue.device(),
            error
        }
    );
    let sent = seal_group(
        &honest,
        &Label::all(),
        &context(),
        &SecretKey::from_seed(&[2; 32]),
        b"x",
    )
    .map(|_| ());
    assert_eq!(
        sent,
        Err(GroupError::UnknownEpoch {
            generation: 1,
            epoch: 2
        })
    );
    // The next epoch heals, whoever starts it.
    let next = honest.propose_rotate(NOW).expect("proposed");
    assert_eq!(honest.accepted(next, NOW).expect("accepted").key, KeyOutcome::Opened);
}

#[test]
fn a_bad_wrapped_key_is_not_believed() {
    let (mut honest, _, secret) = pair();
    let mut proposal = honest.propose_rotate(NOW).expect("proposed");
    // The same entry, signed by the rogue, with garbage for the key before.
    let mut body = proposal.entries[0].body.clone();
    if let EntryBody::Epoch {
        wrapped_prev: Some(wrapped),
        ..
    } = &mut body
    {
        wrapped.blob[30] ^= 1;
    }
    let at = proposal.entries[0].position();
    let entry = LogEntry::sign("m", at, honest.head().hash, body, &secret);
    honest.keys.clear();
    let record = proposal.keys.remove(0);
    let applied = honest.apply(&entry, &proposal.seals, NOW).expect("applied");
    assert_eq!(applied.key, KeyOutcome::Opened, "honestly sealed by us, to us");
    assert!(
        honest.has_key(record.id)
            && !honest.has_key(EpochId {
                generation: 1,
                epoch: 1
            })
    );
}

#[test]
fn a_member_cannot_speak_for_another() {
    let (honest, rogue, secret) = pair();
    let victim: PublicKey = honest.device();
    // All that the rogue needs to encrypt, it has; it signs with its own key and names the victim.
    let forged =
        super::content::forge(&rogue, &Label::all(), &context(), &secret, victim, b"I owe you").expect("forged");
    let result = open_group(&honest, &forged, &context()).map(|_| ());
    assert_eq!(result, Err(GroupError::BadSignature));
}

fn context() -> ContentContext<'static> {
    ContentContext {
        message_id: "m1",
        seq: 1,
        priority: "next",
        sender_session: SecretKey::from_seed(&[9; 32]).public(),
    }
}
