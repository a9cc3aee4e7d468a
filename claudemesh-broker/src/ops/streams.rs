//! Streams: live events for everybody who subscribed.

use claudemesh_crypto::random_id;
use claudemesh_proto::limits::{MAX_STREAMS, MAX_SUBSCRIPTIONS_PER_SESSION};
use claudemesh_proto::model::Timestamp;
use claudemesh_proto::ops::{
    CreateStream, ListStreams, Publish, Published, StreamCreated, StreamInfo, StreamList, Subscribe, Subscribed,
    Unsubscribe, Unsubscribed,
};
use claudemesh_proto::{ErrorCode, ErrorFrame, PROTOCOL_VERSION, Permission};
use serde_json::json;

use super::{OrFrame as _, author_name};
use crate::Broker;
use crate::cluster::{Draft, FanoutError, PastEvents, StreamKey};
use crate::context::{Context, Handle};
use crate::store::StreamRow;

impl From<FanoutError> for ErrorFrame {
    fn from(error: FanoutError) -> Self {
        match error {
            FanoutError::Refused(frame) => *frame,
        }
    }
}

/// Creates the stream, or finds it.
async fn create(cx: &Context, name: &str) -> Result<(StreamRow, bool), ErrorFrame> {
    let new = StreamRow {
        id: random_id(),
        name: name.to_owned(),
        created_by_member: cx.session.member.clone(),
        created_by_name: author_name(cx),
        created_at: Timestamp::from_ms(cx.now_ms),
    };
    let audit = cx.audit_event::<CreateStream>(json!({ "stream": name }));
    let mesh = cx.session.mesh.clone();
    let add = move |row: &StreamRow| mesh.lock().streams.add(row.clone());
    let store = &cx.broker.store;
    store
        .create_stream(cx.session.mesh_id(), new, MAX_STREAMS, audit, add)
        .await
        .or_frame()
}

impl Handle<CreateStream> for Broker {
    async fn handle(cx: Context, request: CreateStream) -> Result<StreamCreated, ErrorFrame> {
        let (row, created) = create(&cx, &request.name).await?;
        Ok(StreamCreated {
            id: row.id,
            name: row.name,
            created,
        })
    }
}

impl Handle<Publish> for Broker {
    async fn handle(cx: Context, request: Publish) -> Result<Published, ErrorFrame> {
        let Publish { stream, data } = request;
        {
            let state = cx.session.mesh.lock();
            if !state.streams.contains(&stream) {
                if cx.session.protocol < PROTOCOL_VERSION {
                    // Its streams need not be created, and an error would pass for the answer to something else.
                    return Ok(Published {
                        stream,
                        seq: 0,
                        receivers: 0,
                    });
                }
                return Err(state.streams.unknown(&stream));
            }
        }
        let key = StreamKey {
            mesh: cx.session.mesh_id().clone(),
            name: stream.clone(),
        };
        let draft = Draft {
            data,
            member: cx.session.member.clone(),
            member_key: cx.session.member_key.clone(),
            name: author_name(&cx),
            session: cx.session.presence.clone(),
            at: Timestamp::from_ms(cx.now_ms),
        };
        let placed = cx.broker.fanout.publish(key, draft).await?;
        cx.broker.metrics.routed_event();
        Ok(Published {
            stream,
            seq: placed.seq,
            receivers: u32::try_from(placed.receivers).unwrap_or(u32::MAX),
        })
    }
}

impl Handle<Subscribe> for Broker {
    async fn handle(cx: Context, request: Subscribe) -> Result<Subscribed, ErrorFrame> {
        let Subscribe { stream, replay, after } = request;
        let session = cx.session.clone();
        let missing = {
            let state = session.mesh.lock();
            let streams = &state.streams;
            if !streams.is_subscribed(&stream, &session.presence)
                && streams.subscriptions(&session.presence) >= MAX_SUBSCRIPTIONS_PER_SESSION
            {
                let text = format!("a session subscribes to at most {MAX_SUBSCRIPTIONS_PER_SESSION} streams");
                return Err(ErrorFrame::new(ErrorCode::TooLarge, text).at("/stream"));
            }
            // For an original client a stream need not exist before somebody subscribes.
            let creates =
                session.protocol < PROTOCOL_VERSION && state.mesh.permission(&session.member, Permission::WriteState);
            match streams.contains(&stream) {
                true => false,
                false if creates => true,
                false => return Err(streams.unknown(&stream)),
            }
        };
        if missing {
            create(&cx, &stream).await?;
        }
        let past = match after {
            Some(after) => PastEvents::After(after),
            None => PastEvents::Last(replay.and_then(|count| usize::try_from(count).ok()).unwrap_or_default()),
        };
        let key = StreamKey {
            mesh: session.mesh_id().clone(),
            name: stream.clone(),
        };
        let subscriber = session.clone();
        let name = stream.clone();
        let register = move || subscriber.mesh.lock().subscribe(&name, &subscriber.presence);
        let past = cx.broker.fanout.join(key, past, Box::new(register)).await?;
        let state = session.mesh.lock();
        let events = past
            .events
            .iter()
            .filter(|event| event.session != session.presence && state.may_hear(&event.member, &session.member));
        Ok(Subscribed {
            stream,
            seq: past.place.seq,
            incarnation: past.place.incarnation,
            events: events.map(|event| event.body.clone()).collect(),
            missed: past.missed,
        })
    }
}

impl Handle<Unsubscribe> for Broker {
    async fn handle(cx: Context, request: Unsubscribe) -> Result<Unsubscribed, ErrorFrame> {
        let mut state = cx.session.mesh.lock();
        let was_subscribed = state.streams.unsubscribe(&request.stream, &cx.session.presence);
        Ok(Unsubscribed {
            stream: request.stream,
            was_subscribed,
        })
    }
}

impl Handle<ListStreams> for Broker {
    async fn handle(cx: Context, _: ListStreams) -> Result<StreamList, ErrorFrame> {
        let state = cx.session.mesh.lock();
        let streams = state.streams.list().into_iter().map(|stream| StreamInfo {
            id: stream.row.id.clone(),
            name: stream.row.name.clone(),
            created_by: stream.row.created_by_name.clone(),
            created_at: stream.row.created_at,
            subscriber_count: u32::try_from(stream.subscriber_count()).unwrap_or(u32::MAX),
        });
        Ok(StreamList {
            streams: streams.collect(),
        })
    }
}
