//! Downloading a shared file and opening it.

use super::share::{PATIENCE, may_pass};
use super::target::Target;
use super::{interrupted, is_proven_member, progress};
use crate::http::BrokerHttp;
use crate::{ClientError, MeshClient};
use claudemesh_crypto::{
    FILE_CHUNK_BYTES, FILE_HEADER_BYTES, FileKey, FileOpener, FileProofText, PublicKey, SEALED_CHUNK_BYTES, Signature,
    decode_base64, file_chunks, file_content_bytes, open_secretbox_file,
};
use claudemesh_proto::ErrorCode;
use claudemesh_proto::ops::{FileUrl, GetFile};
use claudemesh_proto::tools::{FetchFile, FetchedFile};
use reqwest::Response;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Longest silence in the middle of a download.
const SILENCE: Duration = Duration::from_secs(30);
/// Content that is collected before it is written.
const WRITE_BYTES: usize = 16 * FILE_CHUNK_BYTES;
/// Largest file of an original client: it can only be opened in one piece.
const MAX_SECRETBOX_BYTES: u64 = 100 * 1024 * 1024;

/// In which form the bytes come.
enum Form {
    /// In chunks, with this many bytes of content.
    Chunks(FileKey, u64),
    /// In one piece, from an original client.
    Secretbox(FileKey),
    /// As they are.
    Clear,
}

impl MeshClient {
    /// The tool `get_file`: downloads a shared file, checks and opens it, and writes it to `save_to`. What an interrupted
    /// download left is gone on with. Memory: a few chunks; for files of original clients the whole file (at most 100 MiB).
    ///
    /// # Errors
    /// `not_found`, `forbidden`; `conflict` when `save_to` exists; [`ClientError::Crypto`] for a file that was altered.
    pub async fn fetch_file(&self, request: FetchFile) -> Result<FetchedFile, ClientError> {
        let asked = GetFile {
            file_id: request.id.clone(),
            key_only: false,
        };
        let url = self.get_file(asked.clone()).await?;
        let mut warnings = Vec::new();
        let (form, authenticated) = self.form_of(&url, &mut warnings).await?;
        let target = {
            let (save_to, name, id) = (request.save_to.clone(), url.name.clone(), request.id.clone());
            let open = move || Target::open(&save_to, &name, &id, request.overwrite);
            let opened = tokio::task::spawn_blocking(open).await.map_err(interrupted)?;
            opened.map_err(|error| unwritable(&request.save_to, &error))?
        };
        let download = Download {
            client: self,
            http: BrokerHttp::new(&self.identity().broker_url)?,
            asked,
            save_to: request.save_to,
            target: Some(target),
        };
        let (path, size) = match form {
            Form::Chunks(key, content) => download.chunks(&url, &key, content).await?,
            Form::Secretbox(key) => download.secretbox(&url, &key).await?,
            Form::Clear => download.clear(&url).await?,
        };
        Ok(FetchedFile {
            id: url.file_id,
            name: url.name,
            path,
            size,
            encrypted: url.encrypted,
            authenticated,
            from: url.uploaded_by,
            from_pubkey: url.owner_pubkey,
            warnings,
        })
    }

    /// Unwraps the key, and checks what the owner states. Tells also whether the owner is proven.
    async fn form_of(&self, url: &FileUrl, warnings: &mut Vec<String>) -> Result<(Form, bool), ClientError> {
        if !url.encrypted {
            warnings.push("the file was not encrypted: the broker could read and change it".to_owned());
            return Ok((Form::Clear, false));
        }
        let key = self.unwrap_key(url)?;
        let (Some(proof), Some(owner)) = (&url.proof, &url.owner_pubkey) else {
            warnings.push("an original client shared the file: nothing proves who it was".to_owned());
            return Ok((Form::Secretbox(key), false));
        };
        let owner: PublicKey = owner.as_str().parse().map_err(ClientError::crypto)?;
        let signature: Signature = proof.signature.as_str().parse().map_err(ClientError::crypto)?;
        let text = FileProofText {
            mesh_id: self.identity().mesh_id.as_str(),
            file_id: &url.file_id,
            name: &url.name,
            size: proof.size,
        };
        text.verify(&owner, &key, &signature).map_err(ClientError::crypto)?;
        if url
            .size
            .is_some_and(|size| file_content_bytes(size) != Some(proof.size))
        {
            return Err(ClientError::crypto(claudemesh_crypto::FileError::Proof));
        }
        let on_roster = is_proven_member(self.inner(), &owner).await == Some(true);
        if !on_roster {
            let text = "who shared the file is not, or no longer, on the mesh's signed list of members";
            warnings.push(text.to_owned());
        }
        Ok((Form::Chunks(key, proof.size), on_roster))
    }

    pub(super) fn unwrap_key(&self, url: &FileUrl) -> Result<FileKey, ClientError> {
        let sealed = url.sealed_key.as_ref().and_then(|key| decode_base64(key.as_str()));
        let sealed =
            sealed.ok_or_else(|| ClientError::refused(ErrorCode::Forbidden, "no decryption key for this file"))?;
        let inner = self.inner();
        FileKey::unwrap_with(&[&inner.identity.member, &inner.session_key], &sealed).map_err(ClientError::crypto)
    }
}

struct Download<'a> {
    client: &'a MeshClient,
    http: BrokerHttp,
    asked: GetFile,
    save_to: String,
    target: Option<Target>,
}

impl Download<'_> {
    async fn chunks(mut self, url: &FileUrl, key: &FileKey, content: u64) -> Result<(String, u64), ClientError> {
        let count = file_chunks(content);
        let mut sealed: Vec<u8> = Vec::with_capacity(2 * SEALED_CHUNK_BYTES);
        let mut opened: Vec<u8> = Vec::with_capacity(WRITE_BYTES);
        let mut lines = Lines::new(self.client, &self.http, &self.asked, url);
        let opener = loop {
            sealed.clear();
            lines.open(0, Some(FILE_HEADER_BYTES as u64)).await?;
            match lines.fill(&mut sealed, FILE_HEADER_BYTES).await {
                Ok(()) => break FileOpener::new(key, content, &sealed).map_err(ClientError::crypto)?,
                Err(error) => lines.failed(error).await?,
            }
        };
        // Whole chunks of an earlier try are kept, except the last one: that the file ends is checked again.
        let kept = (self.length() / FILE_CHUNK_BYTES as u64).min(count - 1);
        self.cut(kept * FILE_CHUNK_BYTES as u64).await?;
        let mut number = kept;
        while number < count {
            sealed.clear();
            let start = FILE_HEADER_BYTES as u64 + number * SEALED_CHUNK_BYTES as u64;
            lines.open(start, None).await?;
            while number < count {
                let left = content - number * FILE_CHUNK_BYTES as u64;
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(FILE_CHUNK_BYTES);
                sealed.clear();
                if let Err(error) = lines
                    .fill(&mut sealed, length + SEALED_CHUNK_BYTES - FILE_CHUNK_BYTES)
                    .await
                {
                    lines.failed(error).await?;
                    break;
                }
                // A chunk's number fits: the opener was made for this size.
                let index = u32::try_from(number).unwrap_or(u32::MAX);
                opener.open(index, &mut sealed).map_err(ClientError::crypto)?;
                opened.extend_from_slice(&sealed);
                number += 1;
                if opened.len() >= WRITE_BYTES {
                    self.write(&mut opened).await?;
                    progress::report(self.length(), content);
                }
                lines.moved();
            }
        }
        self.write(&mut opened).await?;
        progress::report(content, content);
        self.finish().await
    }

    async fn secretbox(mut self, url: &FileUrl, key: &FileKey) -> Result<(String, u64), ClientError> {
        let mut blob = Vec::new();
        let mut lines = Lines::new(self.client, &self.http, &self.asked, url);
        loop {
            blob.clear();
            lines.open(0, None).await?;
            match lines.rest(&mut blob, MAX_SECRETBOX_BYTES).await {
                Ok(()) => break,
                Err(error) => lines.failed(error).await?,
            }
        }
        let mut content = open_secretbox_file(key, &blob).map_err(ClientError::crypto)?.to_vec();
        self.cut(0).await?;
        self.write(&mut content).await?;
        self.finish().await
    }

    async fn clear(mut self, url: &FileUrl) -> Result<(String, u64), ClientError> {
        let total = url.size.unwrap_or_default();
        // An original broker tells no length and serves no ranges.
        let kept = if url.size.is_some() && self.length() < total {
            self.length()
        } else {
            0
        };
        self.cut(kept).await?;
        let mut lines = Lines::new(self.client, &self.http, &self.asked, url);
        loop {
            let at = if url.size.is_some() { self.length() } else { 0 };
            self.cut(at).await?;
            if url.size.is_some() && at >= total {
                break;
            }
            lines.open(at, None).await?;
            let failure = loop {
                match lines.chunk().await {
                    Ok(Some(mut bytes)) => {
                        self.write(&mut bytes).await?;
                        lines.moved();
                        progress::report(self.length(), total.max(self.length()));
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            match failure {
                Some(error) => lines.failed(error).await?,
                None if url.size.is_none_or(|size| self.length() == size) => break,
                None => lines.failed(cut_off()).await?,
            }
        }
        self.finish().await
    }

    fn length(&self) -> u64 {
        self.target.as_ref().map_or(0, Target::length)
    }

    async fn cut(&mut self, length: u64) -> Result<(), ClientError> {
        self.on_disk(move |target| target.cut(length)).await
    }

    async fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), ClientError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let taken = std::mem::take(bytes);
        self.on_disk(move |target| target.write(&taken)).await
    }

    async fn on_disk(
        &mut self,
        work: impl FnOnce(&mut Target) -> io::Result<()> + Send + 'static,
    ) -> Result<(), ClientError> {
        let Some(mut target) = self.target.take() else {
            return Err(unwritable(&self.save_to, &io::Error::other("it was closed")));
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut target);
            (target, done)
        });
        let (target, done) = done.await.map_err(interrupted)?;
        self.target = Some(target);
        done.map_err(|error| unwritable(&self.save_to, &error))
    }

    async fn finish(mut self) -> Result<(String, u64), ClientError> {
        let size = self.length();
        let Some(target) = self.target.take() else {
            return Err(unwritable(&self.save_to, &io::Error::other("it was closed")));
        };
        let done = tokio::task::spawn_blocking(move || target.finish())
            .await
            .map_err(interrupted)?;
        let path = done.map_err(|error| unwritable(&self.save_to, &error))?;
        Ok((path.to_string_lossy().into_owned(), size))
    }
}

/// The answers that bring one file, one after the other when they break.
struct Lines<'a> {
    client: &'a MeshClient,
    http: BrokerHttp,
    asked: GetFile,
    url: FileUrl,
    response: Option<Response>,
    /// What came and was not taken yet.
    spare: Vec<u8>,
    moved: Instant,
}

impl<'a> Lines<'a> {
    fn new(client: &'a MeshClient, http: &BrokerHttp, asked: &GetFile, url: &FileUrl) -> Self {
        Self {
            client,
            http: http.clone(),
            asked: asked.clone(),
            url: url.clone(),
            response: None,
            spare: Vec::new(),
            moved: Instant::now(),
        }
    }

    /// Asks for the bytes from `start` on, `length` of them or all that follow.
    async fn open(&mut self, start: u64, length: Option<u64>) -> Result<(), ClientError> {
        self.spare.clear();
        loop {
            match self
                .http
                .download(&self.url.url, self.url.via_broker, start, length)
                .await
            {
                Ok(response) => {
                    self.response = Some(response);
                    return Ok(());
                }
                Err(error) => self.failed(error).await?,
            }
        }
    }

    /// Something came: patience begins anew.
    fn moved(&mut self) {
        self.moved = Instant::now();
    }

    /// Gets a new address after a failure, unless trying again is of no use.
    async fn failed(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.response = None;
        // An address that is too old is refused; a new one may serve.
        let renewable = matches!(
            error.code(),
            ErrorCode::Forbidden | ErrorCode::Unauthorized | ErrorCode::NotFound
        );
        if self.moved.elapsed() > PATIENCE || !(may_pass(&error) || renewable) {
            return Err(error);
        }
        tracing::debug!(%error, "a download goes on");
        sleep(Duration::from_millis(500)).await;
        match self.client.get_file(self.asked.clone()).await {
            Ok(url) => self.url.url = url.url,
            Err(error) if may_pass(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(response) = &mut self.response else {
            return Ok(None);
        };
        let next = timeout(SILENCE, response.chunk()).await;
        let next = next.map_err(|_| ClientError::Timeout {
            what: "download".to_owned(),
            after: SILENCE,
        })?;
        let next = next.map_err(|error| ClientError::Http {
            status: None,
            message: format!("the download broke off: {error}"),
        })?;
        Ok(next.map(Vec::from))
    }

    /// Appends exactly `length` bytes.
    async fn fill(&mut self, to: &mut Vec<u8>, length: usize) -> Result<(), ClientError> {
        let wanted = to.len() + length;
        loop {
            let taken = self.spare.len().min(wanted - to.len());
            to.extend(self.spare.drain(..taken));
            if to.len() == wanted {
                return Ok(());
            }
            self.spare = self.chunk().await?.ok_or_else(cut_off)?;
        }
    }

    /// Appends all that follows, at most `limit` bytes.
    async fn rest(&mut self, to: &mut Vec<u8>, limit: u64) -> Result<(), ClientError> {
        while let Some(bytes) = self.chunk().await? {
            if (to.len() + bytes.len()) as u64 > limit {
                let text =
                    format!("a file of an original client is opened whole, and this one has more than {limit} bytes");
                return Err(ClientError::refused(ErrorCode::TooLarge, text));
            }
            to.extend_from_slice(&bytes);
        }
        Ok(())
    }
}

fn cut_off() -> ClientError {
    ClientError::Http {
        status: None,
        message: "the download ended before the file did".to_owned(),
    }
}

fn unwritable(save_to: &str, error: &io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let text = format!("{save_to} exists; choose another place, or ask for it to be replaced (overwrite)");
            ClientError::refused(ErrorCode::Conflict, text)
        }
        io::ErrorKind::ResourceBusy => ClientError::refused(
            ErrorCode::Conflict,
            "another download of this file to the same place is under way",
        ),
        _ => ClientError::invalid("save_to", format!("{save_to} cannot be written: {error}")),
    }
}
