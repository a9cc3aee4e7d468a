use super::*;
use claudemesh_proto::model::{Priority, Timestamp};
use claudemesh_proto::ops::SendEnvelope;
use claudemesh_proto::tools::{MessageKind, ReceivedMessage};
use proptest::prelude::*;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

fn identity() -> Identity {
    identity_of(SecretKey::generate())
}

fn identity_of(member: SecretKey) -> Identity {
    Identity {
        mesh_id: "mesh1".into(),
        member_id: "member1".into(),
        slug: "crew".to_owned(),
        name: "Crew".to_owned(),
        member,
        broker_url: "ws://127.0.0.1:1/ws".to_owned(),
        owner_pubkey: None,
        owner: None,
        display_name: None,
    }
}

fn queued(id: &str, number: u64) -> Queued {
    Queued {
        envelope: SendEnvelope {
            target_spec: "peer".to_owned(),
            priority: Priority::Next,
            nonce: String::new().into(),
            ciphertext: "aGk=".into(),
            id: Some(id.to_owned()),
            meta: None,
            sealed: None,
            session_hint: None,
            ttl_ms: None,
            subtype: None,
        },
        number,
        text: Some(Text(Zeroizing::new(b"the secret plan".to_vec()))),
    }
}

fn taken(id: &str) -> Taken {
    Taken {
        received: ReceivedMessage {
            message_id: id.into(),
            mesh: "crew".to_owned(),
            from: "ana".to_owned(),
            from_pubkey: None,
            kind: MessageKind::Direct,
            target: None,
            priority: Priority::Next,
            text: Some("the secret answer".to_owned()),
            authenticated: true,
            subtype: None,
            warnings: Vec::new(),
            sent_at: Timestamp::from_ms(1),
        },
        sender_session: None,
    }
}

fn ack(id: &str, stage: ClientStage) -> MessageAck {
    MessageAck {
        message_id: id.into(),
        stage,
        adapter: None,
    }
}

/// What a restart finds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Summary {
    outgoing: Vec<String>,
    number: Option<u64>,
    unconfirmed: Vec<String>,
    acks: BTreeSet<(String, ClientStage)>,
    known: Vec<String>,
}

impl From<Restored> for Summary {
    fn from(restored: Restored) -> Self {
        let acks = restored.acks.into_iter().map(|ack| (ack.message_id.0, ack.stage));
        let ids = |taken: Taken| taken.received.message_id.0;
        Self {
            outgoing: restored
                .outgoing
                .into_iter()
                .filter_map(|queued| queued.envelope.id)
                .collect(),
            number: restored.numbers.first().map(|(_, _, number)| *number),
            unconfirmed: restored.unconfirmed.into_iter().map(ids).collect(),
            acks: acks.collect(),
            known: restored.known.into_iter().map(|id| id.0).collect(),
        }
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Queue,
    /// The first that is on its way.
    Accept,
    Take,
    /// The first that is not confirmed.
    Confirm,
    /// The last that was taken.
    Read,
    /// Everything that is to be told was told.
    Settle,
    Rewrite,
}

/// The same, the simple way.
#[derive(Clone, Default)]
struct Model {
    now: Summary,
    /// The last number of the session, which a restart goes on from if something is unsent.
    number: u64,
    count: usize,
}

impl Model {
    fn step(&mut self, journal: &Journal, step: Step) {
        self.count += 1;
        let id = format!("m{}", self.count);
        let now = &mut self.now;
        match step {
            Step::Queue => {
                self.number += 1;
                journal.queued(queued(&id, self.number)).unwrap();
                now.outgoing.push(id);
            }
            Step::Accept if !now.outgoing.is_empty() => journal.sent(&now.outgoing.remove(0)),
            Step::Take => {
                journal.taken(taken(&id)).unwrap();
                now.acks.insert((id.clone(), ClientStage::Delivered));
                now.known.push(id.clone());
                now.unconfirmed.push(id);
            }
            Step::Confirm if !now.unconfirmed.is_empty() => {
                let id = now.unconfirmed.remove(0);
                assert!(journal.confirmed(&id.as_str().into()));
                assert!(!journal.confirmed(&id.as_str().into()));
            }
            Step::Read => {
                if let Some(last) = now.known.last() {
                    journal.acked(ack(last, ClientStage::Read));
                    now.acks.insert((last.clone(), ClientStage::Read));
                }
            }
            Step::Settle => {
                let acks: Vec<_> = now.acks.iter().map(|(id, stage)| ack(id, *stage)).collect();
                journal.settled(&acks);
                now.acks.clear();
            }
            Step::Rewrite => {
                lock(&journal.state).rewrite_at = 0;
                journal.sync().unwrap();
            }
            Step::Accept | Step::Confirm => {}
        }
        now.number = (!now.outgoing.is_empty()).then_some(self.number);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Queue),
        2 => Just(Step::Accept),
        3 => Just(Step::Take),
        2 => Just(Step::Confirm),
        1 => Just(Step::Read),
        1 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 0..24)
}

fn file_of(directory: &Path) -> PathBuf {
    directory.join("journal")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_file_cut_anywhere_is_what_was_written_before(early in steps(), late in steps(), cut in 0.0..1.0_f64) {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity();
        let (journal, _) = Journal::open(directory.path(), &identity).unwrap();
        let mut model = Model::default();
        for step in early {
            model.step(&journal, step);
        }
        model.step(&journal, Step::Rewrite);
        let length = || std::fs::metadata(file_of(directory.path())).unwrap().len();
        let start = length();
        let mut moments = vec![(start, model.now.clone())];
        for step in late {
            model.step(&journal, step);
            moments.push((length(), model.now.clone()));
        }
        drop(journal);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let cut = start + ((length() - start) as f64 * cut) as u64;
        std::fs::OpenOptions::new().write(true).open(file_of(directory.path())).unwrap().set_len(cut).unwrap();
        let expected = &moments.iter().rev().find(|(length, _)| *length <= cut).unwrap().1;
        // Twice: what was cut off is gone for good, and the file can be written on.
        for _ in 0..2 {
            let (journal, restored) = Journal::open(directory.path(), &identity).unwrap();
            prop_assert!(restored.warnings.is_empty());
            prop_assert_eq!(&Summary::from(restored), expected);
            drop(journal);
        }
        let (journal, _) = Journal::open(directory.path(), &identity).unwrap();
        journal.taken(taken("later")).unwrap();
        drop(journal);
        let (_journal, restored) = Journal::open(directory.path(), &identity).unwrap();
        prop_assert_eq!(restored.unconfirmed.last().unwrap(), &taken("later"));
    }

    #[test]
    fn a_rewritten_file_says_the_same(steps in steps(), more in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity();
        let (journal, _) = Journal::open(directory.path(), &identity).unwrap();
        let mut model = Model::default();
        for step in steps.into_iter().chain([Step::Rewrite]).chain(more).chain([Step::Rewrite, Step::Rewrite]) {
            model.step(&journal, step);
        }
        drop(journal);
        let (_journal, restored) = Journal::open(directory.path(), &identity).unwrap();
        prop_assert_eq!(Summary::from(restored), model.now);
    }

    #[test]
    fn damage_anywhere_invents_nothing(steps in steps(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity();
        let (journal, _) = Journal::open(directory.path(), &identity).unwrap();
        let mut model = Model::default();
        for step in steps {
            model.step(&journal, step);
        }
        drop(journal);
        let mut bytes = std::fs::read(file_of(directory.path())).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(file_of(directory.path()), &bytes).unwrap();
        if let Ok((_journal, restored)) = Journal::open(directory.path(), &identity) {
            let found = Summary::from(restored);
            prop_assert!(found.known.iter().all(|id| model.now.known.contains(id)));
        }
    }
}

#[test]
fn a_damaged_record_in_between_is_left_out_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    let (journal, _) = Journal::open(directory.path(), &identity).unwrap();
    journal.taken(taken("one")).unwrap();
    let place = std::fs::metadata(file_of(directory.path())).unwrap().len();
    journal.taken(taken("two")).unwrap();
    journal.taken(taken("three")).unwrap();
    drop(journal);
    let mut bytes = std::fs::read(file_of(directory.path())).unwrap();
    bytes[usize::try_from(place).unwrap() + 40] ^= 1;
    std::fs::write(file_of(directory.path()), &bytes).unwrap();
    let (_journal, restored) = Journal::open(directory.path(), &identity).unwrap();
    assert!(restored.warnings[0].contains("1 records"), "{:?}", restored.warnings);
    assert_eq!(Summary::from(restored).unconfirmed, ["one", "three"]);
}

#[test]
fn a_directory_has_one_client_of_one_member_in_one_mesh() {
    let directory = tempfile::tempdir().unwrap();
    let ana = identity();
    let (journal, _) = Journal::open(directory.path(), &ana).unwrap();
    let refused = |identity: &Identity| Journal::open(directory.path(), identity).map(drop).unwrap_err();
    let error = refused(&ana);
    assert!(
        error.to_string().contains("another running client") && !error.retryable(),
        "{error}"
    );
    journal.release();
    let error = refused(&identity());
    assert!(error.to_string().contains("another member"), "{error}");
    let elsewhere = Identity {
        mesh_id: "mesh2".into(),
        ..ana.clone()
    };
    assert!(refused(&elsewhere).to_string().contains("another member or mesh"));
    Journal::open(directory.path(), &ana).unwrap();
    std::fs::write(file_of(directory.path()), "something else").unwrap();
    assert!(refused(&ana).to_string().contains("no journal"));
}

#[test]
fn nothing_is_readable_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    let inside = directory.path().join("inside");
    let (journal, _) = Journal::open(&inside, &identity).unwrap();
    let session = SecretKey::generate();
    journal.begin(&session).unwrap();
    journal.queued(queued("m1", 1)).unwrap();
    journal.taken(taken("m2")).unwrap();
    let bytes = std::fs::read(file_of(&inside)).unwrap();
    let has = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    for word in [
        "secret",
        "ana",
        "peer",
        "m1",
        &session.to_hex(),
        &identity.public().to_string(),
    ] {
        assert!(!has(word), "{word} is readable");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inside), mode(&file_of(&inside))), (0o700, 0o600));
        assert_eq!(mode(&inside.join("lock")), 0o600);
    }
}

#[test]
fn the_session_goes_on_only_while_something_is_unsent() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    let first = SecretKey::generate();
    let (journal, _) = Journal::open(directory.path(), &identity).unwrap();
    journal.begin(&first).unwrap();
    journal.queued(queued("m1", 4)).unwrap();
    drop(journal);
    let (journal, restored) = Journal::open(directory.path(), &identity).unwrap();
    assert_eq!(restored.session.unwrap().public(), first.public());
    assert_eq!(restored.numbers, [("peer".to_owned(), Priority::Next, 4)]);
    assert_eq!(
        restored.outgoing[0].text.as_ref().unwrap().0.as_slice(),
        b"the secret plan"
    );
    journal.sent("m1");
    drop(journal);
    let (journal, restored) = Journal::open(directory.path(), &identity).unwrap();
    assert!(restored.session.is_none() && restored.numbers.is_empty());
    journal.begin(&SecretKey::generate()).unwrap();
    journal.queued(queued("m2", 1)).unwrap();
    drop(journal);
    let (_journal, restored) = Journal::open(directory.path(), &identity).unwrap();
    assert_eq!(restored.numbers, [("peer".to_owned(), Priority::Next, 1)]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_and_everything_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    let (journal, _) = Journal::open(directory.path(), &identity).unwrap();
    journal.taken(taken("one")).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let real = lock(&journal.state).log().unwrap().swap_file(full);
    let error = journal.taken(taken("two")).unwrap_err();
    assert!(error.retryable() && error.to_string().contains("has room"), "{error}");
    assert!(journal.queued(queued("m1", 1)).is_err());
    assert!(journal.confirmed(&"one".into()), "this can be written later");
    assert!(journal.sync().is_err());
    let real = real.try_clone().unwrap();
    lock(&journal.state).log().unwrap().swap_file(real);
    journal.sync().unwrap();
    journal.taken(taken("three")).unwrap();
    drop(journal);
    let (_journal, restored) = Journal::open(directory.path(), &identity).unwrap();
    let summary = Summary::from(restored);
    assert_eq!(summary.unconfirmed, ["three"]);
    assert_eq!(summary.known, ["one", "three"]);
}

#[test]
fn acknowledgements_wait_for_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path(), &identity()).unwrap();
    journal.taken(taken("one")).unwrap();
    journal.acked(ack("one", ClientStage::Read));
    let place = journal.queued(queued("m1", 1)).unwrap();
    assert!(journal.due().is_empty() && journal.durable() < place);
    journal.sync().unwrap();
    let due: Vec<_> = journal.due().into_iter().map(|ack| ack.stage).collect();
    assert_eq!(due, [ClientStage::Delivered, ClientStage::Read]);
    assert!(journal.durable() >= place && journal.due().is_empty());
}

#[test]
fn sessions_of_a_member_share_a_directory_and_inherit() {
    let root = tempfile::tempdir().unwrap();
    let identity = identity();
    let open = || open_in_pool(root.path(), &identity).unwrap();
    let ids = |restored: Restored| Summary::from(restored).unconfirmed;
    let (first, _) = open();
    let (second, _) = open();
    let (third, _) = open();
    for (journal, id) in [(&first, "one"), (&second, "two"), (&third, "three")] {
        journal.taken(taken(id)).unwrap();
    }
    third.queued(queued("m1", 1)).unwrap();
    // The first lives on: its journal is nobody else's.
    drop((second, third));
    let (heir, restored) = open();
    assert_eq!(restored.outgoing.len(), 1, "what is unsent comes first");
    assert_eq!(ids(restored), ["three", "two"]);
    let (other, restored) = open();
    assert!(ids(restored).is_empty(), "it was taken over already");
    drop((first, heir, other));
    let (_last, restored) = open();
    let mut all = ids(restored);
    all.sort();
    assert_eq!(all, ["one", "three", "two"]);
    // Other members have other journals.
    let (_journal, restored) = open_in_pool(root.path(), &self::identity()).unwrap();
    assert!(ids(restored).is_empty());
}
