//! Keys of group encryption: the broker judges and orders the signed log and passes sealed keys on. It never has a key.

use claudemesh_crypto::PublicKey;
use claudemesh_crypto::group::{EntryBody, EpochLog, GroupLog as _, Head, LogEntry, LogState, Refusal, Seal};
use claudemesh_proto::frame::{GroupEpoch, KeyGrantForward, KeyRequestForward, ServerFrame};
use claudemesh_proto::hello::caps;
use claudemesh_proto::model::{EpochHead, HexHash, KeyHex, Timestamp};
use claudemesh_proto::ops::{
    GroupCommit, GroupCommitted, GroupInfo, GroupInfoResult, GroupLog, GroupLogResult, GroupStatus, GroupStatusNoted,
    KeyGrant, KeyGranted, KeyRequest, KeyRequested, LogRecord,
};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use serde_json::json;

use super::OrFrame as _;
use crate::Broker;
use crate::context::{Context, Handle, Session};
use crate::hub::LiveState;
use crate::store::{AppendGroup, Appended, GroupCursor, GroupEntryRow, SealFilter};

/// Entries in one answer to `group_log` when the caller does not say.
const DEFAULT_LIMIT: u32 = 200;

/// Grants that are kept for a device that is not connected.
const MAX_GRANTS: usize = 16;

/// A head of the log as frames carry it.
#[must_use]
pub(crate) fn epoch_head(head: &Head) -> EpochHead {
    EpochHead {
        generation: head.generation,
        index: head.index,
        epoch: head.epoch,
        hash: HexHash(head.hash.to_string()),
    }
}

fn refused(refusal: &Refusal) -> ErrorFrame {
    let code = match refusal {
        Refusal::Gap { .. } | Refusal::Stale | Refusal::Fork => ErrorCode::StaleEpoch,
        Refusal::NotOnRoster(_) => ErrorCode::NotOnRoster,
        Refusal::NotAllowed(_) => ErrorCode::Forbidden,
        Refusal::InviteNotValid => ErrorCode::InviteExpired,
        Refusal::Clock => ErrorCode::TimestampSkew,
        Refusal::Duplicate => ErrorCode::Conflict,
        _ => ErrorCode::InvalidCommit,
    };
    ErrorFrame::new(code, format!("the group log refuses this: {refusal}")).at("/entries")
}

fn invalid(text: impl Into<String>, field: &str) -> ErrorFrame {
    ErrorFrame::new(ErrorCode::InvalidCommit, text).at(field)
}

/// A commit that the log takes, if its head is still that of `before`.
struct Checked {
    before: Option<Head>,
    after: LogState,
    entries: Vec<LogEntry>,
}

/// Judges a commit on the log as it is now.
fn check(state: &LiveState, cx: &Context, request: &GroupCommit) -> Result<Checked, ErrorFrame> {
    let entries: Vec<LogEntry> = request
        .entries
        .iter()
        .map(|entry| LogEntry::from_json(entry.to_string().as_bytes()).map_err(|refusal| refused(&refusal)))
        .collect::<Result<_, _>>()?;
    let seals: Vec<Seal> = request
        .seals
        .iter()
        .map(|record| {
            let seal = Seal::from_json(record.seal.to_string().as_bytes())
                .map_err(|error| invalid(format!("a seal cannot be read: {error}"), "/seals"))?;
            let id = seal.id();
            let named = (id.generation, id.epoch, seal.to.to_string());
            if named != (record.generation, record.epoch, record.to.0.clone()) {
                return Err(invalid(
                    "a seal is for another epoch or device than its record says",
                    "/seals",
                ));
            }
            Ok(seal)
        })
        .collect::<Result<_, _>>()?;
    let now = u64::try_from(cx.now_ms).unwrap_or_default();
    let (start, rest) = match &state.group {
        Some(log) => (log.clone(), entries.as_slice()),
        None => {
            let (first, rest) = entries.split_first().ok_or_else(|| invalid("no entries", "/entries"))?;
            let owner = state
                .mesh
                .facts()
                .owner_key
                .as_ref()
                .and_then(|key| key.as_str().parse::<PublicKey>().ok());
            let owner = owner.ok_or_else(|| invalid("this mesh has no owner key", "/entries"))?;
            let started = EpochLog.start(cx.session.mesh_id().as_str(), &owner, first, now);
            (started.map_err(|refusal| refused(&refusal))?, rest)
        }
    };
    let after = EpochLog
        .check_batch(&start, rest, &seals, now)
        .map_err(|refusal| refused(&refusal))?;
    Ok(Checked {
        before: state.group.as_ref().map(LogState::head),
        after,
        entries,
    })
}

impl Handle<GroupCommit> for Broker {
    async fn handle(cx: Context, request: GroupCommit) -> Result<GroupCommitted, ErrorFrame> {
        let mesh = cx.session.mesh.clone();
        let Checked { before, after, entries } = check(&mesh.lock(), &cx, &request)?;
        let head = epoch_head(&after.head());
        let records: Vec<LogRecord> = entries
            .iter()
            .zip(&request.entries)
            .map(|(entry, body)| LogRecord {
                generation: entry.generation,
                index: entry.index,
                entry: body.clone(),
            })
            .collect();
        let append = AppendGroup {
            expected: before.as_ref().map(epoch_head),
            entries: entries
                .iter()
                .zip(&request.entries)
                .map(|(entry, body)| GroupEntryRow {
                    generation: entry.generation,
                    index: entry.index,
                    epoch: head.epoch,
                    hash: HexHash(entry.hash().to_string()),
                    author: KeyHex(entry.author.to_string()),
                    body: body.clone(),
                })
                .collect(),
            seals: request.seals.clone(),
            new_head: head.clone(),
            new_state: String::from_utf8_lossy(&after.to_json()).into_owned(),
        };
        let audit = cx.audit_event::<GroupCommit>(json!({ "epoch": head.epoch, "entries": entries.len() }));
        match cx
            .broker
            .store
            .append_group(cx.session.mesh_id(), append, audit)
            .await
            .or_frame()?
        {
            Appended::Ok(_) => {}
            Appended::Stale(_) => {
                let text = "another device changed the group log first; fetch it and build the entry again";
                return Err(ErrorFrame::new(ErrorCode::StaleEpoch, text).at("/entries"));
            }
        }
        for entry in &entries {
            if let EntryBody::Admit { device, .. } = &entry.body {
                let device = KeyHex(device.device.to_string());
                cx.broker
                    .store
                    .delete_key_request(cx.session.mesh_id(), &device)
                    .await
                    .or_frame()?;
            }
        }
        let mut state = mesh.lock();
        // Commits of different sockets may get here in another order than on disk; the newest stays.
        let newest = state
            .group
            .as_ref()
            .is_none_or(|log| log.head().position() < after.head().position());
        if newest {
            state.group = Some(after);
        }
        for session in state.sessions().filter(|session| session.has_cap(caps::EPOCH_1)) {
            let own = request
                .seals
                .iter()
                .filter(|seal| seal.to == session.member_key)
                .cloned()
                .collect();
            let frame = GroupEpoch {
                entries: records.clone(),
                seals: own,
                head: head.clone(),
            };
            if session.presence != cx.session.presence {
                state.send([&session.presence], &ServerFrame::GroupEpoch(Box::new(frame)));
            }
        }
        Ok(GroupCommitted { head })
    }
}

impl Handle<GroupLog> for Broker {
    async fn handle(cx: Context, request: GroupLog) -> Result<GroupLogResult, ErrorFrame> {
        let head = cx.session.mesh.lock().head();
        let Some(head) = head else {
            return Ok(GroupLogResult {
                entries: Vec::new(),
                seals: Vec::new(),
                head: None,
                more: false,
            });
        };
        let generation = request.generation.unwrap_or(head.generation);
        let limit = request.limit.unwrap_or(DEFAULT_LIMIT) as usize;
        let mesh = cx.session.mesh_id();
        let store = &cx.broker.store;
        let mut rows = store
            .group_entries(mesh, generation, request.from_index, limit + 1)
            .await
            .or_frame()?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let own = [cx.session.member_key.clone()];
        let filter = SealFilter::Epochs {
            generation,
            from: 0,
            to: i64::MAX.unsigned_abs(),
        };
        let seals = store.group_seals(mesh, &own, filter).await.or_frame()?;
        let entries = rows.into_iter().map(|row| LogRecord {
            generation: row.generation,
            index: row.index,
            entry: row.body,
        });
        Ok(GroupLogResult {
            entries: entries.collect(),
            seals,
            head: Some(head),
            more,
        })
    }
}

impl Handle<GroupInfo> for Broker {
    async fn handle(cx: Context, request: GroupInfo) -> Result<GroupInfoResult, ErrorFrame> {
        let (head, owner) = {
            let state = cx.session.mesh.lock();
            (state.head(), state.mesh.facts().owner_key.clone().unwrap_or_default())
        };
        // A seal is of use only to whoever holds the key that it names, so anybody in the mesh may fetch an invite's.
        let to: Vec<_> = [Some(cx.session.member_key.clone()), request.invite_key]
            .into_iter()
            .flatten()
            .collect();
        let seals = cx
            .broker
            .store
            .group_seals(cx.session.mesh_id(), &to, SealFilter::All)
            .await
            .or_frame()?;
        Ok(GroupInfoResult {
            head,
            seals,
            owner_pubkey: owner,
        })
    }
}

impl Handle<GroupStatus> for Broker {
    async fn handle(cx: Context, request: GroupStatus) -> Result<GroupStatusNoted, ErrorFrame> {
        let cursor = GroupCursor {
            device: cx.session.member_key.clone(),
            head: request.head,
            problem: request.problem,
            updated_at: Timestamp::from_ms(cx.now_ms),
        };
        cx.broker
            .store
            .set_group_cursor(cx.session.mesh_id(), cursor)
            .await
            .or_frame()?;
        Ok(GroupStatusNoted {})
    }
}

impl Handle<KeyRequest> for Broker {
    /// Kept for devices that connect later, and passed to every live one that follows the log.
    async fn handle(cx: Context, request: KeyRequest) -> Result<KeyRequested, ErrorFrame> {
        let mesh = cx.session.mesh_id();
        let device = &cx.session.member_key;
        cx.broker
            .store
            .put_key_request(mesh, device, &request.request, Timestamp::from_ms(cx.now_ms))
            .await
            .or_frame()?;
        let state = cx.session.mesh.lock();
        let others: Vec<_> = state
            .sessions()
            .filter(|session| session.has_cap(caps::EPOCH_1) && session.member_key != *device)
            .map(|session| session.presence.clone())
            .collect();
        let frame = ServerFrame::KeyRequest(Box::new(KeyRequestForward {
            request: request.request,
        }));
        state.send(&others, &frame);
        Ok(KeyRequested {
            forwarded: u32::try_from(others.len()).unwrap_or(u32::MAX),
        })
    }
}

impl Handle<KeyGrant> for Broker {
    async fn handle(cx: Context, request: KeyGrant) -> Result<KeyGranted, ErrorFrame> {
        let mesh = cx.session.mesh_id();
        let known = cx.session.mesh.lock().mesh.member_by_key(request.to.as_str()).is_some();
        if !known {
            return Err(ErrorFrame::new(ErrorCode::NotFound, "no member of this mesh has this key").at("/to"));
        }
        cx.broker.store.delete_key_request(mesh, &request.to).await.or_frame()?;
        let delivered = {
            let state = cx.session.mesh.lock();
            let to: Vec<_> = state
                .sessions_of_key(&request.to)
                .filter(|session| session.has_cap(caps::EPOCH_1))
                .map(|session| session.presence.clone())
                .collect();
            let frame = KeyGrantForward {
                grant: request.grant.clone(),
            };
            state.send(&to, &ServerFrame::KeyGrant(Box::new(frame)));
            !to.is_empty()
        };
        if !delivered {
            let at = Timestamp::from_ms(cx.now_ms);
            cx.broker
                .store
                .put_grant(mesh, &request.to, &request.grant, at, MAX_GRANTS)
                .await
                .or_frame()?;
        }
        Ok(KeyGranted { delivered })
    }
}

/// What waits for a device that has just connected: grants for it, and requests that it may answer.
pub(crate) async fn catch_up(broker: &Broker, session: &Session) {
    if !session.has_cap(caps::EPOCH_1) {
        return;
    }
    let store = &broker.store;
    let mesh = session.mesh_id();
    let grants = store.take_grants(mesh, &session.member_key).await.unwrap_or_default();
    let requests = store.key_requests(mesh).await.unwrap_or_default();
    let state = session.mesh.lock();
    for grant in grants {
        let frame = ServerFrame::KeyGrant(Box::new(KeyGrantForward { grant: grant.grant }));
        state.send([&session.presence], &frame);
    }
    for request in requests
        .into_iter()
        .filter(|request| request.device != session.member_key)
    {
        let frame = ServerFrame::KeyRequest(Box::new(KeyRequestForward {
            request: request.request,
        }));
        state.send([&session.presence], &frame);
    }
}
