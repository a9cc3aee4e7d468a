use super::*;
use claudemesh_proto::model::{KeyHex, MemberId, PresenceId, Timestamp};
use serde_json::{Value, json};

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<u64>>);

impl Sink for Heard {
    fn deliver(&self, _: &MeshId, event: &Event) -> usize {
        self.0.lock().unwrap().push(event.body.seq);
        1
    }
}

fn key(name: &str) -> StreamKey {
    StreamKey {
        mesh: "m".into(),
        name: name.to_owned(),
    }
}

fn draft(data: Value, at: i64) -> Draft {
    Draft {
        data,
        member: MemberId::from("ana"),
        member_key: KeyHex("ab".repeat(32)),
        name: "ana".to_owned(),
        session: PresenceId::from("s"),
        at: Timestamp::from_ms(at),
    }
}

fn seqs(past: &Past) -> Vec<u64> {
    past.events.iter().map(|event| event.body.seq).collect()
}

fn join(bus: &InProcess, name: &str, past: &PastEvents) -> Past {
    bus.past(&key(name), past, Box::new(|| {}))
}

#[test]
fn numbers_are_in_order_and_the_past_is_bounded() {
    let heard = Arc::new(Heard::default());
    let bus = InProcess::new(heard.clone());
    for number in 0..300 {
        bus.place(key("a"), draft(json!(number), 0)).unwrap();
    }
    assert_eq!(*heard.0.lock().unwrap(), (1..=300).collect::<Vec<_>>());
    let past = join(&bus, "a", &PastEvents::Last(1_000));
    assert_eq!(seqs(&past), (45..=300).collect::<Vec<_>>());
    assert_eq!(seqs(&join(&bus, "a", &PastEvents::Last(2))), [299, 300]);
    let after = |seq| {
        PastEvents::After(StreamPlace {
            seq,
            ..past.place.clone()
        })
    };
    let some = join(&bus, "a", &after(297));
    assert_eq!((seqs(&some), some.missed), (vec![298, 299, 300], Some(0)));
    assert_eq!(join(&bus, "a", &after(40)).missed, Some(4));
    let foreign = PastEvents::After(StreamPlace::default());
    assert_eq!(join(&bus, "a", &foreign).missed, None);
    assert_eq!(join(&bus, "b", &PastEvents::Last(5)).place.seq, 0);
}

#[test]
fn large_and_old_events_are_not_kept_for_long() {
    let bus = InProcess::new(Arc::new(Heard::default()));
    let large = json!("x".repeat(60_000));
    for _ in 0..100 {
        bus.place(key("a"), draft(large.clone(), 0)).unwrap();
    }
    let kept = join(&bus, "a", &PastEvents::Last(1_000)).events.len();
    assert_eq!(kept, MAX_REPLAY_BYTES / (60_002 + OVERHEAD));
    bus.place(key("a"), draft(json!(1), KEPT_MS + 1)).unwrap();
    assert_eq!(seqs(&join(&bus, "a", &PastEvents::Last(1_000))), [101]);
    // Twenty streams of a MiB each are more than a mesh may keep.
    for stream in 0..20 {
        for _ in 0..20 {
            bus.place(key(&format!("s{stream}")), draft(large.clone(), 0)).unwrap();
        }
    }
    let kept = bus.kept_bytes.load(Ordering::Relaxed);
    assert!(kept <= MESH_BYTES && kept > MESH_BYTES / 2, "{kept}");
    assert_eq!(kept, lock(&bus.mesh(&"m".into())).bytes);
    let too_large = bus.place(key("a"), draft(json!("x".repeat(65_535)), 0)).unwrap_err();
    let FanoutError::Refused(error) = too_large;
    assert_eq!(
        (error.code, error.field.as_deref()),
        (ErrorCode::TooLarge, Some("/data"))
    );
}
