//! Bytes of shared files.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use claudemesh_proto::http::PartTaken;
use claudemesh_proto::model::{MeshId, Timestamp};
use claudemesh_proto::{ErrorCode, RateClass};
use serde::Deserialize;

use super::common::limit_member;
use super::error::Failure;
use super::transfer::{self, Transfers};
use crate::Broker;
use crate::backends::blob::{BlobError, Part};
use crate::broker::now_ms;
use crate::files::{Ticket, is_targeted, place_of};
use crate::gateway::Gateway;
use crate::mesh::MemberState;
use crate::ops::{blob_failure, busy};
use crate::security::signed::{Signed, read_head};
use crate::store::FileRow;

/// Where a part of an upload belongs.
#[derive(Debug, Deserialize)]
pub(super) struct PartPlace {
    mesh: Option<String>,
    file: Option<String>,
    offset: Option<u64>,
}

/// `POST /upload?mesh=…&file=…&offset=…`, signed by the member that began the upload. The signature covers the body's
/// SHA-256, which the header `X-Content-SHA256` announces, so that nothing of a stranger is read.
pub(super) async fn upload(
    State(gateway): State<Arc<Gateway>>,
    Extension(transfers): Extension<Transfers>,
    Query(place): Query<PartPlace>,
    request: Request,
) -> Result<Json<PartTaken>, Failure> {
    let broker = &gateway.broker;
    let (parts, body) = request.into_parts();
    let (signed, digest) = read_head(&parts)?;
    let (Some(mesh), Some(file), Some(offset)) = (place.mesh, place.file, place.offset) else {
        return Err(Failure::of(
            ErrorCode::InvalidRequest,
            "mesh, file and offset are required in the query: begin_upload gives the file its id and says where to start",
        ));
    };
    let caller = signed.member(broker, &mesh).await?;
    limit_member(broker, &caller, RateClass::Write)?;
    let owner = &caller.member.facts.id;
    let row = own_upload(broker, &caller.mesh.id, &file, owner).await?;
    let _claim = broker.files.claim(&row.blob).ok_or_else(|| Failure::from(busy()))?;
    // Again, now that nobody else changes it.
    let row = own_upload(broker, &caller.mesh.id, &file, owner).await?;
    let part = part_at(broker, &row, offset, &parts.headers)?;
    let upload = row.upload.as_deref().unwrap_or_default();
    let bytes = transfer::checked(body, digest, transfers.begin());
    let blobs = &broker.files.blobs;
    match blobs.write(&place_of(&row), upload, part, bytes).await {
        Ok(()) => {}
        Err(BlobError::Incomplete(error)) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Failure::of(ErrorCode::BadSignature, error.to_string()));
        }
        Err(error) => return Err(blob_failure(&error).into()),
    }
    let received = offset + part.length;
    let deadline = Timestamp::from_ms(now_ms().saturating_add(broker.config.files.upload_ms));
    let store = &broker.store;
    if !store
        .advance_upload(&row.mesh_id, &row.id, offset, received, deadline)
        .await?
    {
        // Its row went while the part came: nothing else knows the blob any more.
        if let Err(error) = blobs.remove(&place_of(&row), row.upload.as_deref()).await {
            tracing::warn!(%error, "the blob of a removed upload was not removed");
        }
        return Err(no_upload());
    }
    Ok(Json(PartTaken {
        ok: true,
        file_id: row.id,
        received,
    }))
}

async fn own_upload(
    broker: &Broker,
    mesh: &MeshId,
    file: &str,
    owner: &claudemesh_proto::model::MemberId,
) -> Result<FileRow, Failure> {
    let row = broker.store.file(mesh, file).await?;
    row.filter(|row| row.owner_member == *owner && row.shared_at.is_none() && row.upload.is_some())
        .ok_or_else(no_upload)
}

fn no_upload() -> Failure {
    Failure::of(ErrorCode::NotFound, "no such upload of yours; begin_upload begins one")
}

/// The part that a request brings: it starts where the upload stands, and has a length that the backend takes.
fn part_at(broker: &Broker, row: &FileRow, offset: u64, headers: &HeaderMap) -> Result<Part, Failure> {
    if offset != row.received {
        let text = format!(
            "the upload stands at byte {}, not at {offset}; go on from there",
            row.received
        );
        return Err(Failure::of(ErrorCode::Conflict, text));
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let Some(length) = length else {
        return Err(Failure::of(ErrorCode::InvalidRequest, "Content-Length is required"));
    };
    let sizes = broker.files.blobs.part_sizes();
    let left = row.size - row.received;
    if length == 0 {
        return Err(Failure::of(ErrorCode::InvalidRequest, "empty body"));
    }
    if length > sizes.max {
        let text = format!("a part has at most {} bytes; send the rest in another one", sizes.max);
        return Err(Failure::of(ErrorCode::TooLarge, text));
    }
    if length > left {
        let text = format!("{left} bytes of the file are left, the part has {length}");
        return Err(Failure::of(ErrorCode::TooLarge, text));
    }
    if length < sizes.min && length < left {
        let text = format!("only the last part may have less than {} bytes", sizes.min);
        return Err(Failure::of(ErrorCode::InvalidRequest, text));
    }
    Ok(Part { offset, length })
}

/// What an address of `get_file` says.
#[derive(Debug, Deserialize)]
pub(super) struct TicketQuery {
    mesh: Option<String>,
    member: Option<String>,
    expires: Option<i64>,
    sig: Option<String>,
}

/// `GET /download/:fileId?mesh=…&member=…&expires=…&sig=…`: an address of `get_file`; or only `?mesh=…`, signed by a
/// member that may read the file. One range may be asked for.
pub(super) async fn download(
    State(gateway): State<Arc<Gateway>>,
    Extension(transfers): Extension<Transfers>,
    Path(file): Path<String>,
    Query(query): Query<TicketQuery>,
    request: Request,
) -> Result<Response, Failure> {
    let broker = &gateway.broker;
    let Some(mesh) = query.mesh else {
        return Err(Failure::of(ErrorCode::InvalidRequest, "fileId and ?mesh= required"));
    };
    let headers = request.headers().clone();
    let row = match (query.member, query.expires, query.sig) {
        (Some(member), Some(until), Some(signature)) => {
            let ticket = Ticket {
                mesh: mesh.into(),
                file,
                member: member.into(),
                until,
            };
            by_ticket(broker, &ticket, &signature).await?
        }
        _ => by_signature(&gateway, &mesh, &file, request).await?,
    };
    serve(broker, &row, &headers, &transfers).await
}

fn not_found() -> Failure {
    Failure::of(ErrorCode::NotFound, "file not found")
}

async fn by_ticket(broker: &Arc<Broker>, ticket: &Ticket, signature: &str) -> Result<FileRow, Failure> {
    if !broker.files.is_ours(ticket, signature) {
        return Err(Failure::of(
            ErrorCode::BadSignature,
            "this address was not made by this broker",
        ));
    }
    if ticket.until < now_ms() {
        return Err(Failure::of(
            ErrorCode::Forbidden,
            "this address is too old; get_file gives a new one",
        ));
    }
    let live = broker.hub.mesh(broker, &ticket.mesh).await?.ok_or_else(not_found)?;
    let is_member = {
        let state = live.lock();
        !state.archived && state.mesh.member(&ticket.member).is_some()
    };
    if !is_member {
        return Err(Failure::of(ErrorCode::Revoked, "this member was removed from the mesh"));
    }
    shared(broker, &ticket.mesh, &ticket.file).await
}

async fn by_signature(gateway: &Arc<Gateway>, mesh: &str, file: &str, request: Request) -> Result<FileRow, Failure> {
    use axum::extract::FromRequest as _;
    let broker = &gateway.broker;
    let signed = Signed::from_request(request, gateway).await?;
    let caller = signed.member(broker, mesh).await?;
    limit_member(broker, &caller, RateClass::Read)?;
    let row = shared(broker, &caller.mesh.id, file).await?;
    if may_read(broker, &row, &caller.member).await? {
        Ok(row)
    } else {
        Err(Failure::of(ErrorCode::Forbidden, "this file was not shared with you"))
    }
}

async fn may_read(broker: &Broker, row: &FileRow, member: &MemberState) -> Result<bool, Failure> {
    let facts = &member.facts;
    if row.owner_member == facts.id {
        return Ok(true);
    }
    if !row.encrypted {
        return Ok(is_targeted(row, &[&facts.key]));
    }
    Ok(broker
        .store
        .file_key(&row.mesh_id, &row.id, &[&facts.key])
        .await?
        .is_some())
}

async fn shared(broker: &Broker, mesh: &MeshId, file: &str) -> Result<FileRow, Failure> {
    let row = broker.store.file(mesh, file).await?;
    let now = now_ms();
    row.filter(|row| row.shared_at.is_some() && row.expires_at.is_none_or(|until| until.as_ms() > now))
        .ok_or_else(not_found)
}

async fn serve(
    broker: &Broker,
    row: &FileRow,
    headers: &HeaderMap,
    transfers: &Transfers,
) -> Result<Response, Failure> {
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, range) = match asked.and_then(|text| range_of(text, row.size)) {
        None => (StatusCode::OK, 0..row.size),
        Some(Some(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(None) => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            set(
                response.headers_mut(),
                header::CONTENT_RANGE,
                &format!("bytes */{}", row.size),
            );
            return Ok(response);
        }
    };
    let bytes = broker.files.blobs.read(&place_of(row), range.clone()).await;
    let bytes = bytes.map_err(|error| Failure::from(blob_failure(&error)))?;
    let mut response = (status, transfer::outgoing(bytes, transfers.begin())).into_response();
    let headers = response.headers_mut();
    let mime = row
        .mime
        .as_deref()
        .filter(|_| !row.encrypted)
        .unwrap_or("application/octet-stream");
    set(headers, header::CONTENT_TYPE, mime);
    set(headers, header::CONTENT_LENGTH, &(range.end - range.start).to_string());
    set(headers, header::CONTENT_DISPOSITION, &disposition(&row.name));
    set(headers, header::CACHE_CONTROL, "private, no-store");
    set(headers, header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{}", range.start, range.end - 1, row.size);
        set(headers, header::CONTENT_RANGE, &text);
    }
    Ok(response)
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// One range of `bytes=…`; `None`: serve everything; `Some(None)`: it lies outside.
fn range_of(text: &str, size: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if last >= first => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return None,
    };
    Some((range.start < range.end).then_some(range))
}

/// The name for a browser: letters that need no quoting, and the whole name in RFC 5987's form.
fn disposition(name: &str) -> String {
    use std::fmt::Write as _;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii() && is_plain(c as u8) { c } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(range_of("bytes=0-4", 10), Some(Some(0..5)));
        assert_eq!(range_of("bytes=5-", 10), Some(Some(5..10)));
        assert_eq!(range_of("bytes=-3", 10), Some(Some(7..10)));
        assert_eq!(range_of("bytes=5-99", 10), Some(Some(5..10)));
        assert_eq!(range_of("bytes=10-", 10), Some(None));
        for text in ["bytes=4-2", "items=0-1", "bytes=a-b", "bytes=0-1,3-4", "bytes=-"] {
            assert_eq!(range_of(text, 10), None, "{text}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(
            disposition("plan.pdf"),
            "attachment; filename=\"plan.pdf\"; filename*=UTF-8''plan.pdf"
        );
        let odd = disposition("a\"b\r\nX: ü.txt");
        assert!(HeaderValue::from_str(&odd).is_ok() && !odd.contains('\r'), "{odd}");
    }
}
