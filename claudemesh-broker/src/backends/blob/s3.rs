//! Blobs in an object store that speaks S3: a bucket per mesh, one multipart upload per blob.
//!
//! The broker signs addresses and sends plain HTTP requests to them. Parts go through it without being held: the
//! client's request is the body of the broker's.

use std::io;
use std::ops::Range;
use std::time::Duration;

use axum::body::Bytes;
use claudemesh_proto::model::MeshId;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use reqwest::header::{CONTENT_LENGTH, RANGE};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use rusty_s3::actions::{CreateMultipartUpload, ListParts};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use url::Url;

use super::{BlobError, BlobPlace, BlobStore, Bytestream, Part, PartSizes, plain};
use crate::backends::http_client::http_client;
use crate::config::S3Settings;

/// How long an address that the broker uses itself is good.
const OWN_ADDRESS: Duration = Duration::from_secs(900);
/// How long a request without a body may take.
const REQUEST: Duration = Duration::from_secs(60);
/// How long a part may take.
const TRANSFER: Duration = Duration::from_secs(900);
/// Smallest part but the last, by the protocol. Parts are numbered by it: 10,000 parts are 48 GiB at least.
const MIN_PART: u64 = 5 * 1024 * 1024;
const MAX_PART: u64 = 8 * 1024 * 1024;

/// Blobs in an object store.
pub struct S3Blobs {
    client: Client,
    settings: S3Settings,
    credentials: Credentials,
}

impl std::fmt::Debug for S3Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Blobs")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn failed(error: impl std::fmt::Display) -> BlobError {
    BlobError::Failed(error.to_string())
}

/// Without the address, which is signed.
fn unreachable(error: reqwest::Error) -> BlobError {
    failed(error.without_url())
}

impl S3Blobs {
    /// Keeps blobs at this store.
    ///
    /// # Errors
    /// [`BlobError::Failed`] if TLS cannot be set up.
    pub fn new(settings: S3Settings) -> Result<Self, BlobError> {
        let client = http_client().map_err(BlobError::Failed)?;
        let credentials = Credentials::new(settings.access_key.clone(), settings.secret_key.expose());
        Ok(Self {
            client,
            settings,
            credentials,
        })
    }

    fn bucket_at(&self, endpoint: &Url, mesh: &MeshId) -> Result<Bucket, BlobError> {
        let name = bucket_name(mesh);
        Bucket::new(endpoint.clone(), UrlStyle::Path, name, self.settings.region.clone()).map_err(failed)
    }

    fn bucket(&self, mesh: &MeshId) -> Result<Bucket, BlobError> {
        self.bucket_at(&self.settings.endpoint, mesh)
    }

    async fn make_bucket(&self, bucket: &Bucket) -> Result<(), BlobError> {
        let url = bucket.create_bucket(&self.credentials).sign(OWN_ADDRESS);
        let response = self
            .client
            .put(url)
            .timeout(REQUEST)
            .send()
            .await
            .map_err(unreachable)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            // It is there already.
            StatusCode::CONFLICT => Ok(()),
            _ => Err(refused("making a bucket", response).await),
        }
    }

    async fn begin_upload(&self, place: &BlobPlace) -> Result<String, BlobError> {
        plain(&place.blob)?;
        let bucket = self.bucket(&place.mesh)?;
        let url = bucket
            .create_multipart_upload(Some(&self.credentials), &place.blob)
            .sign(OWN_ADDRESS);
        let begin = || self.client.post(url.clone()).timeout(REQUEST);
        let mut response = begin().send().await.map_err(unreachable)?;
        if response.status() == StatusCode::NOT_FOUND {
            // The mesh's first file.
            self.make_bucket(&bucket).await?;
            response = begin().send().await.map_err(unreachable)?;
        }
        let text = text_of("beginning an upload", response).await?;
        let parsed = CreateMultipartUpload::parse_response(&text).map_err(failed)?;
        Ok(parsed.upload_id().to_owned())
    }

    async fn write_part(
        &self,
        place: &BlobPlace,
        upload: &str,
        part: Part,
        bytes: Bytestream,
    ) -> Result<(), BlobError> {
        let bucket = self.bucket(&place.mesh)?;
        let number = u16::try_from(part.offset / MIN_PART + 1).map_err(|_| failed("the file has too many parts"))?;
        let url = bucket
            .upload_part(Some(&self.credentials), &place.blob, number, upload)
            .sign(OWN_ADDRESS);
        // An error of the client's own body is told apart from one of the store.
        let broken = std::sync::Arc::new(std::sync::Mutex::new(None::<io::Error>));
        let noted = broken.clone();
        let body = held_back(bytes).map_err(move |error| {
            let again = io::Error::new(error.kind(), error.to_string());
            *noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            again
        });
        let request = self
            .client
            .put(url)
            .timeout(TRANSFER)
            .header(CONTENT_LENGTH, part.length)
            .body(Body::wrap_stream(body));
        let sent = request.send().await;
        if let Some(error) = broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            return Err(BlobError::Incomplete(error));
        }
        text_of("writing a part", sent.map_err(unreachable)?).await.map(drop)
    }

    async fn finish_upload(&self, place: &BlobPlace, upload: &str, size: u64) -> Result<(), BlobError> {
        let bucket = self.bucket(&place.mesh)?;
        if size == 0 {
            let url = bucket
                .put_object(Some(&self.credentials), &place.blob)
                .sign(OWN_ADDRESS);
            let request = self.client.put(url).timeout(REQUEST).header(CONTENT_LENGTH, 0);
            self.ask("writing an empty blob", request).await?;
            return self.abort(place, upload).await;
        }
        let (mut tags, mut marker) = (Vec::new(), None);
        loop {
            let mut list = bucket.list_parts(Some(&self.credentials), &place.blob, upload);
            if let Some(marker) = marker {
                list.set_part_number_marker(marker);
            }
            let request = self.client.get(list.sign(OWN_ADDRESS)).timeout(REQUEST);
            let text = match self.ask("listing parts", request).await {
                Ok(text) => text,
                // It was finished before, and the answer was lost.
                Err(BlobError::NotFound) => return self.check_length(place, size).await,
                Err(error) => return Err(error),
            };
            let listed = ListParts::parse_response(&text).map_err(failed)?;
            tags.extend(listed.parts.iter().map(|part| (part.number, part.etag.clone())));
            marker = listed.next_part_number_marker;
            if marker.is_none() {
                break;
            }
        }
        tags.sort_unstable();
        let complete = bucket.complete_multipart_upload(
            Some(&self.credentials),
            &place.blob,
            upload,
            tags.iter().map(|(_, tag)| tag.as_str()),
        );
        let url = complete.sign(OWN_ADDRESS);
        // The library numbers parts from 1 without gaps; ours have gaps where parts are larger than the smallest.
        let body = completion(&tags);
        let request = self.client.post(url).timeout(TRANSFER).body(body);
        let text = self.ask("finishing an upload", request).await?;
        if text.contains("<Error>") {
            return Err(failed("the store could not put the parts together"));
        }
        self.check_length(place, size).await
    }

    async fn check_length(&self, place: &BlobPlace, expected: u64) -> Result<(), BlobError> {
        let bucket = self.bucket(&place.mesh)?;
        let url = bucket
            .head_object(Some(&self.credentials), &place.blob)
            .sign(OWN_ADDRESS);
        let response = self
            .client
            .head(url)
            .timeout(REQUEST)
            .send()
            .await
            .map_err(unreachable)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(BlobError::NotFound);
        }
        let length = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        match length {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(BlobError::Length { found, expected }),
            None => Err(failed("the store does not tell the length of a blob")),
        }
    }

    async fn abort(&self, place: &BlobPlace, upload: &str) -> Result<(), BlobError> {
        let bucket = self.bucket(&place.mesh)?;
        let url = bucket
            .abort_multipart_upload(Some(&self.credentials), &place.blob, upload)
            .sign(OWN_ADDRESS);
        gone(
            self.ask("giving up an upload", self.client.delete(url).timeout(REQUEST))
                .await,
        )
    }

    async fn read_range(&self, place: &BlobPlace, range: Range<u64>) -> Result<Bytestream, BlobError> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let bucket = self.bucket(&place.mesh)?;
        let url = bucket
            .get_object(Some(&self.credentials), &place.blob)
            .sign(OWN_ADDRESS);
        let request = self
            .client
            .get(url)
            .header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => Ok(response
                .bytes_stream()
                .map_err(|error| io::Error::other(error.without_url()))
                .boxed()),
            StatusCode::NOT_FOUND => Err(BlobError::NotFound),
            _ => Err(refused("reading a blob", response).await),
        }
    }

    async fn ask(&self, what: &str, request: RequestBuilder) -> Result<String, BlobError> {
        text_of(what, request.send().await.map_err(unreachable)?).await
    }
}

impl BlobStore for S3Blobs {
    fn part_sizes(&self) -> PartSizes {
        PartSizes {
            min: MIN_PART,
            max: MAX_PART,
        }
    }

    fn begin<'a>(&'a self, place: &'a BlobPlace) -> BoxFuture<'a, Result<String, BlobError>> {
        self.begin_upload(place).boxed()
    }

    fn write<'a>(
        &'a self,
        place: &'a BlobPlace,
        upload: &'a str,
        part: Part,
        bytes: Bytestream,
    ) -> BoxFuture<'a, Result<(), BlobError>> {
        self.write_part(place, upload, part, bytes).boxed()
    }

    fn finish<'a>(&'a self, place: &'a BlobPlace, upload: &'a str, size: u64) -> BoxFuture<'a, Result<(), BlobError>> {
        self.finish_upload(place, upload, size).boxed()
    }

    fn read<'a>(&'a self, place: &'a BlobPlace, range: Range<u64>) -> BoxFuture<'a, Result<Bytestream, BlobError>> {
        self.read_range(place, range).boxed()
    }

    fn remove<'a>(&'a self, place: &'a BlobPlace, upload: Option<&'a str>) -> BoxFuture<'a, Result<(), BlobError>> {
        async move {
            if let Some(upload) = upload {
                self.abort(place, upload).await?;
            }
            let bucket = self.bucket(&place.mesh)?;
            let url = bucket
                .delete_object(Some(&self.credentials), &place.blob)
                .sign(OWN_ADDRESS);
            gone(
                self.ask("removing a blob", self.client.delete(url).timeout(REQUEST))
                    .await,
            )
        }
        .boxed()
    }

    fn signed_url(&self, place: &BlobPlace, life: Duration) -> Option<String> {
        let public = self.settings.public_endpoint.as_ref()?;
        let bucket = self.bucket_at(public, &place.mesh).ok()?;
        Some(
            bucket
                .get_object(Some(&self.credentials), &place.blob)
                .sign(life)
                .to_string(),
        )
    }
}

/// The same bytes, each piece once the next one or a good end is there: a request ends with its last byte, so that an error
/// behind it would not be seen.
fn held_back(bytes: Bytestream) -> Bytestream {
    let state = (bytes, None::<Bytes>);
    stream::try_unfold(state, |(mut bytes, mut held)| async move {
        loop {
            match (bytes.try_next().await?, held.take()) {
                (Some(next), Some(last)) => return Ok(Some((last, (bytes, Some(next))))),
                (Some(next), None) => held = Some(next),
                (None, Some(last)) => return Ok(Some((last, (stream::empty().boxed(), None)))),
                (None, None) => return Ok(None),
            }
        }
    })
    .boxed()
}

/// `mesh-<id>`: lower case, with `-` for every other character.
fn bucket_name(mesh: &MeshId) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    };
    format!("mesh-{}", mesh.as_str().chars().map(plain).collect::<String>())
}

fn completion(tags: &[(u16, String)]) -> String {
    use std::fmt::Write as _;
    let mut body = String::from("<CompleteMultipartUpload>");
    for (number, tag) in tags {
        let tag = tag.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        // Writing to a string cannot fail.
        let _ = write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
    }
    body.push_str("</CompleteMultipartUpload>");
    body
}

/// What is not there need not be removed.
fn gone(result: Result<String, BlobError>) -> Result<(), BlobError> {
    match result {
        Ok(_) | Err(BlobError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn text_of(what: &str, response: Response) -> Result<String, BlobError> {
    match response.status() {
        status if status.is_success() => response.text().await.map_err(unreachable),
        StatusCode::NOT_FOUND => Err(BlobError::NotFound),
        StatusCode::INSUFFICIENT_STORAGE => Err(BlobError::Full),
        _ => Err(refused(what, response).await),
    }
}

/// The store's own reason, cut short: it is for the log.
async fn refused(what: &str, response: Response) -> BlobError {
    let status = response.status();
    let text: String = response.text().await.unwrap_or_default().chars().take(300).collect();
    failed(format!("{what}: {status} {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_has_its_bucket() {
        assert_eq!(bucket_name(&MeshId::from("aB3_é")), "mesh-ab3--");
    }

    #[test]
    fn parts_keep_their_numbers() {
        let body = completion(&[(1, "\"a\"".to_owned()), (3, "b".to_owned())]);
        assert!(body.contains("<PartNumber>3</PartNumber><ETag>b</ETag>") && body.contains("&quot;a&quot;"));
    }
}
