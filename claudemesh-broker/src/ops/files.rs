//! Shared files.

use claudemesh_crypto::random_id;
use claudemesh_proto::limits::MAX_FILE_LIFE_SECS;
use claudemesh_proto::model::{Capability, KeyHex, Timestamp};
use claudemesh_proto::ops::{
    Ack, BeginUpload, CancelUpload, DeleteFile, FileAccess, FileAccessGranted, FileDeleted, FileEntry, FileList,
    FileRecipient, FileStatus, FileStatusResult, FileUrl, FinishUpload, GetFile, GrantFileAccess, ListFiles,
    UploadBegun, UploadCancelled, UploadFinished, WrappedFileKey,
};
use claudemesh_proto::{ErrorCode, ErrorFrame, Permission};
use serde_json::json;

use super::OrFrame as _;
use crate::Broker;
use crate::backends::blob::BlobError;
use crate::context::{Context, Handle, Session};
use crate::files::{self, Ticket, is_targeted, place_of};
use crate::hub::{LiveState, system_event};
use crate::store::{FileAccessRow, FileGrant, FileQuery, FileRow, UploadLimits};

/// Most recipients of one file.
const MAX_RECIPIENTS: u64 = 5_000;
/// Files in one answer when the caller names no limit.
const PAGE: usize = 100;

fn not_found() -> ErrorFrame {
    ErrorFrame::new(
        ErrorCode::NotFound,
        "file not found in this mesh; list_files shows what there is",
    )
    .at("/fileId")
}

fn no_upload() -> ErrorFrame {
    ErrorFrame::new(
        ErrorCode::NotFound,
        "no such upload of yours: it was given up, or its time is over; begin it again",
    )
    .at("/fileId")
}

/// What a caller may know of a failed blob store.
pub(crate) fn blob_failure(error: &BlobError) -> ErrorFrame {
    match error {
        BlobError::NotFound => ErrorFrame::new(ErrorCode::NotFound, "the file's bytes are gone; share it again"),
        BlobError::Incomplete(_) => ErrorFrame::new(
            ErrorCode::Malformed,
            "the part did not come as announced; send it again",
        ),
        BlobError::Length { found, expected } => ErrorFrame::new(
            ErrorCode::Conflict,
            format!("{found} of {expected} bytes are here; begin the upload again and send the rest"),
        ),
        BlobError::Full => {
            tracing::error!("the disk for files is full");
            ErrorFrame::new(
                ErrorCode::Unavailable,
                "the broker's disk for files is full; tell its operator",
            )
            .retry_after(60_000)
        }
        BlobError::Failed(reason) => {
            tracing::error!(reason, "the blob store failed");
            ErrorFrame::new(
                ErrorCode::Unavailable,
                "the broker's store for files does not work; try again later",
            )
            .retry_after(5_000)
        }
    }
}

/// The keys that files may have been wrapped for, the member's first.
fn keys_of(session: &Session) -> Vec<&KeyHex> {
    std::iter::once(&session.member_key)
        .chain(session.session_key.as_ref())
        .collect()
}

/// Whether the owner of a file has not shut the caller out. An owner that has left shuts nobody out.
pub(crate) fn is_open_to(state: &LiveState, owner: &claudemesh_proto::model::MemberId, session: &Session) -> bool {
    let allows = |capability| state.mesh.allows(owner, &session.member, capability);
    state.mesh.member(owner).is_none() || allows(Capability::Read) || allows(Capability::FileRead)
}

fn member_name(state: &LiveState, session: &Session) -> String {
    let member = state.mesh.member(&session.member);
    member.map(|member| member.facts.name.clone()).unwrap_or_default()
}

impl Context {
    /// A shared file whose time is not over.
    async fn shared_file(&self, id: &str) -> Result<FileRow, ErrorFrame> {
        let row = self.broker.store.file(self.session.mesh_id(), id).await.or_frame()?;
        let is_here =
            |row: &FileRow| row.shared_at.is_some() && row.expires_at.is_none_or(|until| until.as_ms() > self.now_ms);
        row.filter(is_here).ok_or_else(not_found)
    }

    /// An upload of the caller.
    async fn own_upload(&self, id: &str) -> Result<FileRow, ErrorFrame> {
        let row = self.broker.store.file(self.session.mesh_id(), id).await.or_frame()?;
        row.filter(|row| row.owner_member == self.session.member)
            .ok_or_else(no_upload)
    }

    /// How many files the caller may read.
    pub(super) async fn file_count(&self) -> Result<u64, ErrorFrame> {
        let query = FileQuery {
            keys: keys_of(&self.session).into_iter().cloned().collect(),
            ..FileQuery::default()
        };
        let now = Timestamp::from_ms(self.now_ms);
        let store = &self.broker.store;
        store.file_count(self.session.mesh_id(), &query, now).await.or_frame()
    }

    fn is_manager(&self) -> bool {
        self.session.mesh.may(&self.session.member, Permission::Manage)
    }

    /// The caller's wrapped key of a file that it may read; `None` for a file that is not encrypted.
    async fn key_of(&self, row: &FileRow) -> Result<Option<claudemesh_proto::model::Base64>, ErrorFrame> {
        let session = &self.session;
        let forbidden = |text: &str| Err(ErrorFrame::new(ErrorCode::Forbidden, text));
        let is_owner = row.owner_member == session.member;
        if !is_owner && !is_open_to(&session.mesh.lock(), &row.owner_member, session) {
            return forbidden("the owner of this file has blocked you");
        }
        let keys = keys_of(session);
        if !row.encrypted {
            if !is_owner && !is_targeted(row, &keys) {
                return forbidden("file not targeted at you; ask its owner to share it with you");
            }
            return Ok(None);
        }
        let key = self
            .broker
            .store
            .file_key(session.mesh_id(), &row.id, &keys)
            .await
            .or_frame()?;
        match key {
            Some(key) => Ok(Some(key)),
            None => {
                let owner = &row.owner_name;
                forbidden(&format!(
                    "no decryption key for this file; ask {owner} to run grant_file_access for you"
                ))
            }
        }
    }
}

fn check_upload(cx: &Context, request: &BeginUpload) -> Result<(), ErrorFrame> {
    let most = cx.broker.config.files.max_bytes;
    if request.size > most {
        let text = format!(
            "the file has {} bytes, the limit is {most}; ask the operator to raise MAX_FILE_BYTES",
            request.size
        );
        return Err(ErrorFrame::new(ErrorCode::TooLarge, text).at("/size"));
    }
    let invalid = |text: &str, field: &str| Err(ErrorFrame::new(ErrorCode::InvalidRequest, text).at(field));
    if !request.encrypted {
        return match request.keys.is_empty() && request.proof.is_none() {
            true => Ok(()),
            false => invalid("a file that is not encrypted has no keys and no proof", "/encrypted"),
        };
    }
    if request.proof.is_none() {
        return invalid("an encrypted file needs its owner's proof", "/proof");
    }
    // Otherwise the owner could neither read it nor grant access after a restart.
    if !request.keys.iter().any(|key| key.peer_pubkey == cx.session.member_key) {
        return invalid("the key must also be wrapped for your own member key", "/keys");
    }
    Ok(())
}

impl Handle<BeginUpload> for Broker {
    async fn handle(cx: Context, request: BeginUpload) -> Result<UploadBegun, ErrorFrame> {
        check_upload(&cx, &request)?;
        let settings = &cx.broker.config.files;
        let session = &cx.session;
        let (owner_name, keys) = {
            let state = session.mesh.lock();
            let is_known = |key: &WrappedFileKey| {
                let key = key.peer_pubkey.as_str();
                state.mesh.member_by_key(key).is_some() || state.mesh.session_by_key(key).is_some()
            };
            // Who left in the meantime needs no key.
            let keys: Vec<_> = request.keys.into_iter().filter(is_known).collect();
            (member_name(&state, session), keys)
        };
        let keep_ms = match request.expires_in {
            Some(seconds) => i64::try_from(seconds.min(MAX_FILE_LIFE_SECS) * 1_000).ok(),
            None => (!request.persistent).then_some(settings.ephemeral_ms),
        };
        let expires_at = Timestamp::from_ms(cx.now_ms.saturating_add(settings.upload_ms));
        let row = FileRow {
            mesh_id: session.mesh_id().clone(),
            id: request.file_id,
            blob: random_id(),
            upload: None,
            name: request.name,
            tags: request.tags,
            mime: request.mime,
            size: request.size,
            received: 0,
            persistent: keep_ms.is_none(),
            keep_ms,
            encrypted: request.encrypted,
            target: request.target,
            proof: request.proof,
            owner_member: session.member.clone(),
            owner_key: session.member_key.clone(),
            owner_name,
            begun_at: Timestamp::from_ms(cx.now_ms),
            shared_at: None,
            expires_at: Some(expires_at),
        };
        let limits = UploadLimits {
            mesh_bytes: settings.mesh_bytes,
            mesh_files: settings.mesh_files,
            member_uploads: settings.member_uploads,
        };
        let row = cx.broker.store.begin_upload(row, keys, limits).await.or_frame()?;
        if row.shared_at.is_none() && row.upload.is_none() {
            // Prepared once: of two that begin the same upload, one waits for the other.
            let Some(_claim) = cx.broker.files.claim(&row.blob) else {
                return Err(busy());
            };
            let upload = cx.broker.files.blobs.begin(&place_of(&row)).await;
            let upload = upload.map_err(|error| blob_failure(&error))?;
            cx.broker
                .store
                .set_upload(&row.mesh_id, &row.id, &upload)
                .await
                .or_frame()?;
        }
        let sizes = cx.broker.files.blobs.part_sizes();
        Ok(UploadBegun {
            file_id: row.id,
            received: row.received,
            max_part: sizes.max,
            min_part: sizes.min,
            expires_at: row.expires_at.unwrap_or(expires_at),
            done: row.shared_at.is_some(),
        })
    }
}

/// Somebody else works on the same blob.
pub(crate) fn busy() -> ErrorFrame {
    let text = "another request of this upload is under way; wait for its end, or begin again in a moment";
    ErrorFrame::new(ErrorCode::Unavailable, text).retry_after(500)
}

impl Handle<FinishUpload> for Broker {
    async fn handle(cx: Context, request: FinishUpload) -> Result<UploadFinished, ErrorFrame> {
        let row = cx.own_upload(&request.file_id).await?;
        let _claim = cx.broker.files.claim(&row.blob).ok_or_else(busy)?;
        // Again, now that nobody else changes it.
        let row = cx.own_upload(&request.file_id).await?;
        let store = &cx.broker.store;
        if row.shared_at.is_none() {
            if row.received < row.size {
                return Err(blob_failure(&BlobError::Length {
                    found: row.received,
                    expected: row.size,
                }));
            }
            let upload = row.upload.as_deref().unwrap_or_default();
            let finished = cx.broker.files.blobs.finish(&place_of(&row), upload, row.size).await;
            finished.map_err(|error| blob_failure(&error))?;
        }
        let audit = cx.audit_event::<FinishUpload>(json!({
            "fileId": row.id, "bytes": row.size, "encrypted": row.encrypted,
        }));
        let shared = store
            .share_file(&row.mesh_id, &row.id, Timestamp::from_ms(cx.now_ms), audit)
            .await
            .or_frame()?;
        if row.shared_at.is_none() {
            announce(&cx, &shared).await;
        }
        Ok(UploadFinished {
            file_id: shared.id,
            expires_at: shared.expires_at,
        })
    }
}

/// Tells those who may read a new file that it is there.
async fn announce(cx: &Context, row: &FileRow) {
    let keys = match cx.broker.store.file_keys(&row.mesh_id, &row.id).await {
        Ok(keys) => keys,
        Err(error) => return tracing::debug!(%error, "a new file was not announced"),
    };
    let state = cx.session.mesh.lock();
    let may_read = |session: &Session| {
        let own = keys_of(session);
        let has_key = keys.iter().any(|key| own.contains(&&key.peer_key));
        let is_meant = if row.encrypted { has_key } else { is_targeted(row, &own) };
        is_meant && is_open_to(&state, &row.owner_member, session)
    };
    let audience: Vec<_> = state
        .sessions()
        .filter(|session| session.member != row.owner_member && !session.observer && may_read(session))
        .map(|session| session.presence.clone())
        .collect();
    let data = json!({ "fileId": row.id, "name": row.name, "by": row.owner_name, "tags": row.tags });
    state.send(&audience, &system_event(&row.mesh_id, "file_shared", data));
}

impl Handle<CancelUpload> for Broker {
    async fn handle(cx: Context, request: CancelUpload) -> Result<UploadCancelled, ErrorFrame> {
        let existed = match cx.own_upload(&request.file_id).await {
            Ok(row) if row.shared_at.is_some() => {
                let text = "the file is shared already; delete_file removes it";
                return Err(ErrorFrame::new(ErrorCode::Conflict, text).at("/fileId"));
            }
            Ok(row) => remove(&cx, &row, None).await?,
            Err(error) if error.code == ErrorCode::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(UploadCancelled {
            file_id: request.file_id,
            existed,
        })
    }
}

/// Removes a file's row, then its blob. Tells whether the row was there.
async fn remove(cx: &Context, row: &FileRow, audit: Option<crate::store::AuditEvent>) -> Result<bool, ErrorFrame> {
    let at = Timestamp::from_ms(cx.now_ms);
    let garbage = cx
        .broker
        .store
        .discard_file(&row.mesh_id, &row.id, at, audit)
        .await
        .or_frame()?;
    if let Some(garbage) = &garbage {
        files::collect(&cx.broker, garbage).await;
    }
    Ok(garbage.is_some())
}

impl Handle<GetFile> for Broker {
    async fn handle(cx: Context, request: GetFile) -> Result<FileUrl, ErrorFrame> {
        let row = cx.shared_file(&request.file_id).await?;
        let sealed_key = cx.key_of(&row).await?;
        let mut answer = FileUrl {
            file_id: row.id.clone(),
            url: String::new(),
            url_expires_at: None,
            via_broker: false,
            name: row.name.clone(),
            encrypted: row.encrypted,
            sealed_key,
            size: Some(row.size),
            owner_pubkey: Some(row.owner_key.clone()),
            uploaded_by: Some(row.owner_name.clone()),
            proof: row.proof.clone(),
            expires_at: row.expires_at,
        };
        if request.key_only {
            return Ok(answer);
        }
        let session = &cx.session;
        let life = cx.broker.config.files.url_life;
        let life_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        let access = FileAccessRow {
            peer_key: session.member_key.clone(),
            peer_name: member_name(&session.mesh.lock(), session),
            at: Timestamp::from_ms(cx.now_ms),
        };
        // A download that is resumed is one access.
        let since = Timestamp::from_ms(cx.now_ms.saturating_sub(life_ms));
        cx.broker
            .store
            .note_file_access(session.mesh_id(), &row.id, access, since)
            .await
            .or_frame()?;
        let until = cx.now_ms.saturating_add(life_ms);
        answer.url_expires_at = Some(Timestamp::from_ms(until));
        match cx.broker.files.blobs.signed_url(&place_of(&row), life) {
            Some(url) => answer.url = url,
            None => {
                let ticket = Ticket {
                    mesh: session.mesh_id().clone(),
                    file: row.id,
                    member: session.member.clone(),
                    until,
                };
                answer.url = cx.broker.files.url(&ticket, session.origin.as_deref());
                answer.via_broker = true;
            }
        }
        Ok(answer)
    }
}

impl Handle<ListFiles> for Broker {
    async fn handle(cx: Context, request: ListFiles) -> Result<FileList, ErrorFrame> {
        let session = &cx.session;
        if request.all && !cx.is_manager() {
            let text = "only the owner and admins of the mesh may list every file";
            return Err(ErrorFrame::new(ErrorCode::Forbidden, text).at("/all"));
        }
        let limit = request.limit.map_or(PAGE, |limit| limit as usize);
        let query = FileQuery {
            keys: match request.all {
                true => Vec::new(),
                false => keys_of(session).into_iter().cloned().collect(),
            },
            name: request.query.filter(|text| !text.is_empty()),
            owner: request.from.filter(|text| !text.is_empty()),
            tag: request.tag.filter(|text| !text.is_empty()),
            after: request.after,
            limit: limit + 1,
        };
        let now = Timestamp::from_ms(cx.now_ms);
        let mut rows = cx
            .broker
            .store
            .list_files(session.mesh_id(), &query, now)
            .await
            .or_frame()?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let state = session.mesh.lock();
        if !request.all {
            rows.retain(|row| row.owner_member == session.member || is_open_to(&state, &row.owner_member, session));
        }
        drop(state);
        Ok(FileList {
            files: rows.into_iter().map(|row| entry(row, session)).collect(),
            more,
        })
    }
}

fn entry(row: FileRow, session: &Session) -> FileEntry {
    FileEntry {
        own: row.owner_member == session.member,
        id: row.id,
        name: row.name,
        size: row.proof.map_or(row.size, |proof| proof.size),
        tags: row.tags,
        uploaded_by: row.owner_name,
        uploaded_at: row.shared_at.unwrap_or(row.begun_at),
        persistent: row.persistent,
        encrypted: row.encrypted,
        expires_at: row.expires_at,
        target: row.target,
        owner_pubkey: Some(row.owner_key),
    }
}

impl Handle<FileStatus> for Broker {
    async fn handle(cx: Context, request: FileStatus) -> Result<FileStatusResult, ErrorFrame> {
        let row = cx.shared_file(&request.file_id).await?;
        if !cx.is_manager() {
            cx.key_of(&row).await?;
        }
        let accesses = cx.broker.store.file_accesses(&row.mesh_id, &row.id).await.or_frame()?;
        let keys = cx.broker.store.file_keys(&row.mesh_id, &row.id).await.or_frame()?;
        let state = cx.session.mesh.lock();
        let name_of = |key: &KeyHex| {
            let member = state.mesh.member_by_key(key.as_str());
            member.map(|member| member.facts.name.clone()).unwrap_or_default()
        };
        Ok(FileStatusResult {
            file_id: row.id,
            name: Some(row.name),
            accesses: accesses
                .into_iter()
                .map(|access| FileAccess {
                    peer_name: access.peer_name,
                    accessed_at: access.at,
                    peer_pubkey: Some(access.peer_key),
                })
                .collect(),
            recipients: keys
                .into_iter()
                .map(|key| FileRecipient {
                    name: name_of(&key.peer_key),
                    peer_pubkey: key.peer_key,
                    granted_at: key.granted_at,
                })
                .collect(),
        })
    }
}

impl Handle<GrantFileAccess> for Broker {
    async fn handle(cx: Context, request: GrantFileAccess) -> Result<FileAccessGranted, ErrorFrame> {
        let row = cx.shared_file(&request.file_id).await?;
        if row.owner_member != cx.session.member {
            return Err(ErrorFrame::new(
                ErrorCode::Forbidden,
                "only the file owner can grant access",
            ));
        }
        if !row.encrypted {
            let text = "the file is not encrypted: there is no key to grant; share it again for the peer";
            return Err(ErrorFrame::new(ErrorCode::InvalidRequest, text).at("/fileId"));
        }
        {
            let state = cx.session.mesh.lock();
            let key = request.peer_pubkey.as_str();
            if state.mesh.member_by_key(key).is_none() && state.mesh.session_by_key(key).is_none() {
                let text = "no member or session of this mesh has this key";
                return Err(ErrorFrame::new(ErrorCode::NoSuchPeer, text).at("/peerPubkey"));
            }
        }
        let audit = cx.audit_event::<GrantFileAccess>(json!({ "fileId": row.id, "peerPubkey": request.peer_pubkey }));
        let grant = FileGrant {
            key: WrappedFileKey {
                peer_pubkey: request.peer_pubkey.clone(),
                sealed_key: request.sealed_key,
            },
            by: cx.session.member_key.clone(),
            at: Timestamp::from_ms(cx.now_ms),
        };
        cx.broker
            .store
            .grant_file(&row.mesh_id, &row.id, grant, MAX_RECIPIENTS, audit)
            .await
            .or_frame()?;
        Ok(FileAccessGranted {
            file_id: row.id,
            peer_pubkey: request.peer_pubkey,
        })
    }
}

impl Handle<DeleteFile> for Broker {
    async fn handle(cx: Context, request: DeleteFile) -> Result<FileDeleted, ErrorFrame> {
        let row = cx.shared_file(&request.file_id).await?;
        if row.owner_member != cx.session.member && !cx.is_manager() {
            let text = "only who shared the file, and the owner and admins of the mesh, may delete it";
            return Err(ErrorFrame::new(ErrorCode::Forbidden, text));
        }
        let audit = cx.audit_event::<DeleteFile>(json!({ "fileId": row.id, "owner": row.owner_member }));
        remove(&cx, &row, audit).await?;
        Ok(FileDeleted {
            ack: Ack {
                id: row.id.clone(),
                message_id: row.id,
                queued: false,
            },
        })
    }
}
