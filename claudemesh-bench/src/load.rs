//! Load on a mesh: what each peer sends, and the count of what arrives.
//!
//! Everything runs on one thread, so that counting needs no locks and the driver's CPU time is small.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, stream};
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_tungstenite::tungstenite::Message;

use crate::wire::{self, Member, Received, Wire};

/// Most acknowledgements in one frame: the protocol's limit.
const MAX_ACKS: usize = 256;
/// How long what is under way at the end may take to arrive.
pub(crate) const DRAIN: Duration = Duration::from_secs(20);
/// Connections that are opened beside each other.
const CONNECTING: usize = 32;

/// Whom a peer sends to.
#[derive(Clone, Debug, Default)]
pub(crate) enum To {
    /// Nobody.
    #[default]
    Nobody,
    /// One peer, by its place.
    One(usize),
    /// Any of the first so many peers.
    Random(usize),
    /// A member that has no session here, by its key.
    Absent(String),
    /// Everybody.
    All,
}

/// What one peer does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Whom it sends to.
    pub(crate) to: To,
    /// Most messages of its own that are not on disk yet.
    pub(crate) window: usize,
    /// Answers each message with one to `to`; with `kick` it sends the first.
    pub(crate) pong: bool,
    /// Sends one message at the start.
    pub(crate) kick: bool,
    /// Time between two messages, for a load that does not wait: latency counts from when a message was due.
    pub(crate) every: Option<Duration>,
}

/// A load.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The peers; each is the member at its place.
    pub(crate) peers: Vec<Peer>,
    /// Bytes of a ciphertext, before base64.
    pub(crate) payload: usize,
    /// Delivery classes, in turn.
    pub(crate) priorities: &'static [&'static str],
    /// Not measured.
    pub(crate) warm_up: Duration,
    /// Measured.
    pub(crate) time: Duration,
    /// Ends after so many messages.
    pub(crate) most: Option<u64>,
}

impl Plan {
    /// Short messages of class `now` for so many seconds.
    pub(crate) fn new(peers: Vec<Peer>, seconds: f64) -> Self {
        Self {
            peers,
            payload: 256,
            priorities: &["now"],
            warm_up: Duration::from_millis(500),
            time: Duration::from_secs_f64(seconds),
            most: None,
        }
    }
}

/// What came of a load.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Messages on disk per second, over the measured time.
    pub(crate) accepted_per_second: f64,
    /// Deliveries whose acknowledgement is on disk per second, over the measured time.
    pub(crate) delivered_per_second: f64,
    /// From sending (or when it was due) to arrival, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// From sending to the broker's acknowledgement, in nanoseconds.
    pub(crate) stored: Histogram<u64>,
    /// Accepted and not arrived.
    pub(crate) lost: u64,
    /// Arrived more than once.
    pub(crate) twice: u64,
    /// Arrived after a later one of the same sender and class.
    pub(crate) disordered: u64,
    /// Refusals.
    pub(crate) refused: u64,
    /// CPU time of the broker and its store for each delivery, in the measured time.
    pub(crate) broker_cpu: Duration,
    /// CPU time of the driver for each delivery.
    pub(crate) driver_cpu: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Load,
    Drain,
    End,
}

/// What one recipient has of one sender.
#[derive(Default)]
struct Pair {
    newest: [Option<usize>; 2],
    seen: Vec<u64>,
}

struct Sender {
    /// When each message was sent or due, since the start, in nanoseconds.
    sent: Vec<u64>,
}

struct Run {
    tag: String,
    start: Instant,
    measured_from: u64,
    measured_until: Cell<u64>,
    senders: RefCell<Vec<Sender>>,
    pairs: RefCell<Vec<HashMap<usize, Pair>>>,
    latency: RefCell<Histogram<u64>>,
    stored: RefCell<Histogram<u64>>,
    sent: Cell<u64>,
    settled: Cell<u64>,
    expected: Cell<u64>,
    arrived: Cell<u64>,
    acked: Cell<u64>,
    twice: Cell<u64>,
    disordered: Cell<u64>,
    refused: Cell<u64>,
    refusal: RefCell<Option<String>>,
    keys: Vec<String>,
    body: String,
    plan: Plan,
}

fn bump(cell: &Cell<u64>, by: u64) {
    cell.set(cell.get() + by);
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A histogram from a microsecond to two minutes.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 120_000_000_000, 3).expect("invariant: the bounds are valid")
}

/// Adds how long something took.
pub(crate) fn record(took: &mut Histogram<u64>, duration: Duration) {
    took.saturating_record(nanos(duration));
}

/// Connects so many sessions, in the order of `members`.
pub(crate) async fn connect_all(address: SocketAddr, members: &[Member]) -> anyhow::Result<Vec<Wire>> {
    let all = stream::iter(members.iter().map(|member| wire::connect(address, member)));
    all.buffered(CONNECTING).collect::<Vec<_>>().await.into_iter().collect()
}

/// Runs a load. `cpu` gives the CPU time of the broker with its store. Call it within a `LocalSet`.
pub(crate) async fn run(
    address: SocketAddr,
    members: &[Member],
    plan: Plan,
    cpu: impl Fn() -> Duration,
) -> anyhow::Result<Measured> {
    let count = plan.peers.len();
    if members.len() < count {
        bail!("{count} peers and {} members", members.len());
    }
    let wires = connect_all(address, &members[..count]).await?;
    let tag = format!(
        "{:06x}",
        u32::from_le_bytes(claudemesh_crypto::random_bytes()) & 0xff_ffff
    );
    let run = Rc::new(Run {
        tag,
        start: Instant::now(),
        measured_from: nanos(plan.warm_up),
        measured_until: Cell::new(u64::MAX),
        senders: RefCell::new((0..count).map(|_| Sender { sent: Vec::new() }).collect()),
        pairs: RefCell::new((0..count).map(|_| HashMap::new()).collect()),
        latency: RefCell::new(histogram()),
        stored: RefCell::new(histogram()),
        sent: Cell::new(0),
        settled: Cell::new(0),
        expected: Cell::new(0),
        arrived: Cell::new(0),
        acked: Cell::new(0),
        twice: Cell::new(0),
        disordered: Cell::new(0),
        refused: Cell::new(0),
        refusal: RefCell::default(),
        keys: members.iter().map(|member| member.key.clone()).collect(),
        body: body(plan.payload),
        plan,
    });
    let (phase, watch) = watch::channel(Phase::Load);
    let peers: Vec<_> = wires
        .into_iter()
        .zip(&members[..count])
        .enumerate()
        .map(|(place, (wire, member))| {
            tokio::task::spawn_local(peer(place, wire, member.key.clone(), run.clone(), watch.clone()))
        })
        .collect();

    tokio::time::sleep(run.plan.warm_up).await;
    let at = |run: &Run| {
        (
            run.start.elapsed(),
            run.settled.get(),
            run.acked.get(),
            cpu(),
            crate::process::cpu(std::process::id()),
        )
    };
    let before = at(&run);
    let end = run.start + run.plan.warm_up + run.plan.time;
    while Instant::now() < end && run.plan.most.is_none_or(|most| run.sent.get() < most) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let after = at(&run);
    run.measured_until.set(nanos(run.start.elapsed()));
    phase.send_replace(Phase::Drain);
    let patience = Instant::now() + DRAIN;
    let is_done = |run: &Run| run.settled.get() >= run.sent.get() && run.acked.get() >= run.expected.get();
    while !is_done(&run) && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What comes twice may come late.
    tokio::time::sleep(Duration::from_millis(100)).await;
    phase.send_replace(Phase::End);
    for peer in peers {
        peer.await.context("a peer of the driver")??;
    }
    if let Some(refusal) = run.refusal.take() {
        eprintln!("bench: {} refusals, the first: {refusal}", run.refused.get());
    }
    let seconds = (after.0 - before.0).as_secs_f64();
    let deliveries = (after.2 - before.2).max(after.1 - before.1).max(1);
    let each = |total: Duration| total.div_f64(deliveries as f64);
    let latency = run.latency.borrow().clone();
    let stored = run.stored.borrow().clone();
    Ok(Measured {
        accepted_per_second: (after.1 - before.1) as f64 / seconds,
        delivered_per_second: (after.2 - before.2) as f64 / seconds,
        latency,
        stored,
        lost: run.expected.get().saturating_sub(run.arrived.get()),
        twice: run.twice.get(),
        disordered: run.disordered.get(),
        refused: run.refused.get(),
        broker_cpu: each(after.3.saturating_sub(before.3)),
        driver_cpu: each(after.4.saturating_sub(before.4)),
    })
}

/// A ciphertext in base64.
pub(crate) fn body(bytes: usize) -> String {
    let letters = bytes.div_ceil(3) * 4;
    "bWVzaCBu".chars().cycle().take(letters).collect()
}

struct Sending {
    place: usize,
    seal: String,
    window: usize,
    outstanding: usize,
    /// Answers to be sent.
    owed: usize,
    next_due: Option<Instant>,
    random: u64,
}

async fn peer(
    place: usize,
    wire: Wire,
    device: String,
    run: Rc<Run>,
    mut phase: watch::Receiver<Phase>,
) -> anyhow::Result<()> {
    let Wire {
        mut socket,
        session,
        head,
    } = wire;
    let me = run.plan.peers[place].clone();
    let seal = format!(
        r#","sealed":{{"scheme":"epoch/1","generation":{},"epoch":{},"label":"bench","keyId":"k","device":"{device}","session":"{session}","seq":1}}"#,
        head["generation"].as_u64().unwrap_or(0),
        head["epoch"].as_u64().unwrap_or(0),
    );
    let mut sending = Sending {
        place,
        seal,
        window: me.window,
        outstanding: 0,
        owed: usize::from(me.kick),
        next_due: me
            .every
            .map(|every| Instant::now() + every.mul_f64((place as f64 * 0.618).fract())),
        random: 0x9e37_79b9_7f4a_7c15 ^ (place as u64 + 1),
    };
    let mut to_ack: Vec<String> = Vec::new();
    let mut acks_under_way = false;
    loop {
        let now = *phase.borrow_and_update();
        if now == Phase::End {
            // The broker notices by itself.
            return Ok(());
        }
        let mut wrote = false;
        if now == Phase::Load {
            while let Some(frame) = next_send(&run, &me, &mut sending) {
                socket.feed(Message::text(frame)).await?;
                wrote = true;
            }
        }
        if !acks_under_way && !to_ack.is_empty() {
            let batch = to_ack.len().min(MAX_ACKS);
            socket.feed(Message::text(ack_frame(to_ack.drain(..batch)))).await?;
            acks_under_way = true;
            wrote = true;
        }
        if wrote {
            socket.flush().await?;
        }
        let due = sending.next_due.filter(|_| now == Phase::Load);
        let first = tokio::select! {
            message = socket.next() => Some(message.context("the broker closed the connection")??),
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => None,
            _ = phase.changed() => None,
        };
        let mut message = first;
        while let Some(received) = message {
            if let Message::Text(text) = &received {
                match wire::read(text) {
                    Received::Push(id) => {
                        if arrived(&run, place, id) {
                            to_ack.push(id.to_owned());
                            sending.owed += usize::from(me.pong);
                        }
                    }
                    Received::Sent(id, recipients) => {
                        stored(&run, id, recipients);
                        sending.outstanding -= 1;
                    }
                    Received::Acked(count) => {
                        bump(&run.acked, count);
                        acks_under_way = false;
                    }
                    Received::Error(text) => {
                        bump(&run.refused, 1);
                        bump(&run.settled, 1);
                        sending.outstanding = sending.outstanding.saturating_sub(1);
                        run.refusal.borrow_mut().get_or_insert_with(|| text.to_owned());
                    }
                    Received::Other => {}
                }
            }
            message = match socket.next().now_or_never() {
                Some(next) => Some(next.context("the broker closed the connection")??),
                None => None,
            };
        }
    }
}

/// The next message to send, if it is time.
fn next_send(run: &Run, me: &Peer, sending: &mut Sending) -> Option<String> {
    if run.plan.most.is_some_and(|most| run.sent.get() >= most) {
        return None;
    }
    let at = if let Some(every) = me.every {
        let due = sending.next_due?;
        if due > Instant::now() {
            return None;
        }
        sending.next_due = Some(due + every);
        due
    } else if me.pong {
        sending.owed = sending.owed.checked_sub(1)?;
        Instant::now()
    } else {
        if sending.outstanding >= sending.window || matches!(me.to, To::Nobody) {
            return None;
        }
        Instant::now()
    };
    let sealed = if matches!(me.to, To::All) {
        sending.seal.as_str()
    } else {
        ""
    };
    let target = match &me.to {
        To::Nobody => return None,
        To::One(place) => run.keys[*place].as_str(),
        To::Absent(key) => key,
        To::All => "@all",
        To::Random(peers) => {
            // xorshift: reproducible, and cheap.
            sending.random ^= sending.random << 13;
            sending.random ^= sending.random >> 7;
            sending.random ^= sending.random << 17;
            let mut place = usize::try_from(sending.random % (*peers as u64)).unwrap_or(0);
            if place == sending.place {
                place = (place + 1) % peers;
            }
            run.keys[place].as_str()
        }
    };
    let mut senders = run.senders.borrow_mut();
    let sent = &mut senders[sending.place].sent;
    let number = sent.len();
    sent.push(nanos(at.saturating_duration_since(run.start)));
    bump(&run.sent, 1);
    sending.outstanding += 1;
    let class = number % run.plan.priorities.len();
    let mut frame = String::with_capacity(run.body.len() + 512);
    // Writing to a string cannot fail.
    let _ = write!(
        frame,
        r#"{{"type":"send","id":"{}{:04x}{class:01x}{number:08x}","targetSpec":"{target}","priority":"{}","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","ciphertext":"{}"{sealed}}}"#,
        run.tag, sending.place, run.plan.priorities[class], run.body,
    );
    Some(frame)
}

/// Sender, class and number, if the id is one of this run.
fn parse_id(run: &Run, id: &str) -> Option<(usize, usize, usize)> {
    let rest = id.strip_prefix(run.tag.as_str())?;
    let part = |range: std::ops::Range<usize>| usize::from_str_radix(rest.get(range)?, 16).ok();
    Some((part(0..4)?, part(4..5)?, part(5..13)?))
}

/// Counts a message. `false`: it is none of this run, or one that was here before.
fn arrived(run: &Run, place: usize, id: &str) -> bool {
    let Some((sender, class, number)) = parse_id(run, id) else {
        return false;
    };
    let mut pairs = run.pairs.borrow_mut();
    let pair = pairs[place].entry(sender).or_default();
    let (word, bit) = (number / 64, 1_u64 << (number % 64));
    if pair.seen.len() <= word {
        pair.seen.resize(word + 1, 0);
    }
    if pair.seen[word] & bit != 0 {
        bump(&run.twice, 1);
        return true;
    }
    pair.seen[word] |= bit;
    bump(&run.arrived, 1);
    if let Some(newest) = pair.newest.get_mut(class) {
        if newest.is_some_and(|newest| newest > number) {
            bump(&run.disordered, 1);
        } else {
            *newest = Some(number);
        }
    }
    if let Some(&sent) = run.senders.borrow()[sender].sent.get(number)
        && sent >= run.measured_from
        && sent <= run.measured_until.get()
    {
        let took = nanos(run.start.elapsed()).saturating_sub(sent);
        run.latency.borrow_mut().saturating_record(took);
    }
    true
}

fn stored(run: &Run, id: &str, recipients: u64) {
    bump(&run.settled, 1);
    let Some((sender, _, number)) = parse_id(run, id) else {
        return;
    };
    if matches!(run.plan.peers[sender].to, To::Absent(_)) {
        bump(&run.acked, recipients);
        bump(&run.arrived, recipients);
    }
    let recipients = match run.plan.peers[sender].to {
        // Members of the mesh without a session here get it later.
        To::All => recipients.min(run.plan.peers.len() as u64 - 1),
        _ => recipients,
    };
    bump(&run.expected, recipients);
    if let Some(&sent) = run.senders.borrow()[sender].sent.get(number)
        && sent >= run.measured_from
        && sent <= run.measured_until.get()
    {
        run.stored
            .borrow_mut()
            .saturating_record(nanos(run.start.elapsed()).saturating_sub(sent));
    }
}

fn ack_frame(ids: impl Iterator<Item = String>) -> String {
    let mut frame = String::from(r#"{"type":"ack_messages","_reqId":"a","acks":["#);
    for (at, id) in ids.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(frame, r#"{comma}{{"messageId":"{id}","stage":"delivered"}}"#);
    }
    frame.push_str("]}");
    frame
}
