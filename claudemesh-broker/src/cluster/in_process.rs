//! Streams of one broker: the past is in memory, and ends with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use claudemesh_crypto::random_id;
use claudemesh_proto::limits::{MAX_REPLAY_BYTES, MAX_REPLAY_EVENTS, MAX_STREAM_EVENT_BYTES};
use claudemesh_proto::model::MeshId;
use claudemesh_proto::ops::{StreamData, StreamPlace};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use super::fanout::{Draft, Event, Fanout, FanoutError, Past, PastEvents, Placed, Register, Sink, StreamKey};

/// How long an event is kept, in milliseconds: one hour.
const KEPT_MS: i64 = 3_600_000;
/// Most bytes of past events of one mesh.
const MESH_BYTES: usize = 16 * 1024 * 1024;
/// Most bytes of past events of all meshes. Above that a mesh keeps nothing but what it published last.
const TOTAL_BYTES: usize = 256 * 1024 * 1024;
/// What an event takes beside its data.
const OVERHEAD: usize = 256;

/// Streams of one broker.
#[derive(Debug)]
pub struct InProcess {
    sink: Arc<dyn Sink>,
    /// Numbers start anew with every process.
    incarnation: String,
    meshes: Mutex<HashMap<MeshId, Arc<Mutex<MeshLog>>>>,
    kept_bytes: AtomicUsize,
}

/// The pasts of a mesh's streams.
#[derive(Debug, Default)]
struct MeshLog {
    streams: HashMap<String, Log>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Log {
    last: u64,
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
}

impl InProcess {
    /// Streams that hand their events to `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            incarnation: random_id().chars().take(12).collect(),
            meshes: Mutex::default(),
            kept_bytes: AtomicUsize::new(0),
        }
    }

    fn mesh(&self, mesh: &MeshId) -> Arc<Mutex<MeshLog>> {
        let mut meshes = self.meshes.lock().unwrap_or_else(PoisonError::into_inner);
        meshes.entry(mesh.clone()).or_default().clone()
    }

    fn place(&self, stream: StreamKey, draft: Draft) -> Result<Placed, FanoutError> {
        let StreamKey { mesh, name } = stream;
        let size = draft.data.to_string().len();
        if size > MAX_STREAM_EVENT_BYTES {
            let text = format!(
                "the event has {size} bytes of JSON, the limit is {MAX_STREAM_EVENT_BYTES}; put large content into a file"
            );
            let error = ErrorFrame::new(ErrorCode::TooLarge, text).at("/data");
            return Err(FanoutError::Refused(Box::new(error)));
        }
        let log = self.mesh(&mesh);
        // Held until the event is with the sink: the order of the numbers is the order of delivery.
        let mut log = lock(&log);
        let oldest = draft.at.as_ms().saturating_sub(KEPT_MS);
        let stream = log.streams.entry(name.clone()).or_default();
        stream.last += 1;
        let event = Arc::new(Event {
            body: StreamData {
                stream: name.clone(),
                data: draft.data,
                published_by: draft.name,
                publisher: Some(draft.member_key),
                seq: stream.last,
                incarnation: self.incarnation.clone(),
                published_at: Some(draft.at),
            },
            member: draft.member,
            session: draft.session,
        });
        let seq = stream.last;
        let size = size + OVERHEAD;
        stream.events.push_back((event.clone(), size));
        stream.bytes += size;
        log.bytes += size;
        self.kept_bytes.fetch_add(size, Ordering::Relaxed);
        let freed = log.trim(&name, oldest);
        self.kept_bytes.fetch_sub(freed, Ordering::Relaxed);
        if self.kept_bytes.load(Ordering::Relaxed) > TOTAL_BYTES {
            let freed = log.forget_all_but(&name, seq);
            self.kept_bytes.fetch_sub(freed, Ordering::Relaxed);
        }
        let receivers = self.sink.deliver(&mesh, &event);
        Ok(Placed { seq, receivers })
    }

    fn past(&self, stream: &StreamKey, past: &PastEvents, register: Register) -> Past {
        let log = self.mesh(&stream.mesh);
        let log = lock(&log);
        register();
        let place = |seq| StreamPlace {
            incarnation: self.incarnation.clone(),
            seq,
        };
        let Some(stream) = log.streams.get(&stream.name) else {
            let missed = match past {
                PastEvents::After(after) if after.incarnation != self.incarnation => None,
                _ => Some(0),
            };
            return Past {
                place: place(0),
                events: Vec::new(),
                missed,
            };
        };
        let events = stream.events.iter().map(|(event, _)| event.clone());
        let (events, missed): (Vec<_>, _) = match past {
            PastEvents::Last(count) => {
                let skipped = stream.events.len().saturating_sub(*count);
                (events.skip(skipped).collect(), Some(0))
            }
            PastEvents::After(after) if after.incarnation == self.incarnation => {
                let events: Vec<_> = events.filter(|event| event.body.seq > after.seq).collect();
                let wanted = stream.last.saturating_sub(after.seq);
                let missed = wanted.saturating_sub(u64::try_from(events.len()).unwrap_or(u64::MAX));
                (events, Some(missed))
            }
            // Of this numbering the subscriber has seen nothing.
            PastEvents::After(_) => (events.collect(), None),
        };
        Past {
            place: place(stream.last),
            events,
            missed,
        }
    }
}

fn lock(log: &Mutex<MeshLog>) -> MutexGuard<'_, MeshLog> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MeshLog {
    /// Takes out what is too old or too much, the last event excepted. Gives the number of bytes.
    fn trim(&mut self, name: &str, oldest_ms: i64) -> usize {
        let mut freed = 0;
        let most = usize::try_from(MAX_REPLAY_EVENTS).unwrap_or(usize::MAX);
        if let Some(stream) = self.streams.get_mut(name) {
            while stream.events.len() > 1
                && (stream.events.len() > most || stream.bytes > MAX_REPLAY_BYTES || stream.is_older(oldest_ms))
            {
                freed += stream.drop_oldest();
            }
        }
        while self.bytes - freed > MESH_BYTES {
            // Other streams first: what nobody publishes to any more goes before what is in use.
            let largest = self
                .streams
                .iter_mut()
                .filter(|(other, stream)| *other != name && !stream.events.is_empty())
                .max_by_key(|(_, stream)| stream.bytes);
            let dropped = match largest {
                Some((_, stream)) => stream.drop_oldest(),
                None => match self.streams.get_mut(name).filter(|stream| stream.events.len() > 1) {
                    Some(stream) => stream.drop_oldest(),
                    None => break,
                },
            };
            freed += dropped;
        }
        self.bytes -= freed;
        freed
    }

    fn forget_all_but(&mut self, name: &str, seq: u64) -> usize {
        let mut freed = 0;
        for (other, stream) in &mut self.streams {
            let is_kept = |event: &Event| other == name && event.body.seq == seq;
            stream.events.retain(|(event, size)| {
                let keep = is_kept(event);
                if !keep {
                    freed += size;
                    stream.bytes -= size;
                }
                keep
            });
        }
        self.bytes -= freed;
        freed
    }
}

impl Log {
    fn is_older(&self, oldest_ms: i64) -> bool {
        self.events
            .front()
            .and_then(|(event, _)| event.body.published_at)
            .is_some_and(|at| at.as_ms() < oldest_ms)
    }

    fn drop_oldest(&mut self) -> usize {
        let size = self.events.pop_front().map(|(_, size)| size).unwrap_or_default();
        self.bytes -= size;
        size
    }
}

impl Fanout for InProcess {
    fn publish(&self, stream: StreamKey, event: Draft) -> BoxFuture<'_, Result<Placed, FanoutError>> {
        ready(self.place(stream, event)).boxed()
    }

    fn join(
        &self,
        stream: StreamKey,
        past: PastEvents,
        register: Register,
    ) -> BoxFuture<'_, Result<Past, FanoutError>> {
        ready(Ok(self.past(&stream, &past, register))).boxed()
    }
}

#[cfg(test)]
#[path = "in_process_tests.rs"]
mod tests;
