//! Sealing a local file and uploading it.

use super::journal::{Journal, Resumed, Subject};
use super::parts::{PartError, SealedPart, Source};
use super::{interrupted, local, progress};
use crate::http::BrokerHttp;
use crate::identity::key_hex;
use crate::{ClientError, MeshClient, Resolved};
use claudemesh_crypto::{FileKey, FileProofText, PublicKey, encode_base64, sealed_file_bytes};
use claudemesh_proto::model::{Base64, HexSignature, Member};
use claudemesh_proto::ops::{BeginUpload, FileProof, FinishUpload, ListMembers, UploadBegun, WrappedFileKey};
use claudemesh_proto::tools::{ShareFile, SharedFile};
use claudemesh_proto::{ErrorCode, ErrorFrame};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::bytes::Bytes;

/// How long an upload goes on trying without getting any further.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest name of a file, in bytes.
const MAX_NAME: usize = 255;

/// What is known of the file before anything is sent.
struct Plan {
    path: PathBuf,
    size: u64,
    name: String,
    target: String,
    shown_target: String,
    recipients: Vec<PublicKey>,
    request: ShareFile,
}

impl MeshClient {
    /// The tool `share_file`. With a [transfer directory](crate::MeshClientBuilder::transfer_directory) an upload that was
    /// interrupted goes on where it stopped, also in another process. Memory: about three parts (24 MiB).
    ///
    /// # Errors
    /// [`ClientError::InvalidArgument`] for a path that is no readable file, or one that changes meanwhile; those of
    /// [`MeshClient::resolve`] and of the requests; `too_large` above the broker's limits.
    pub async fn share_file(&self, request: ShareFile) -> Result<SharedFile, ClientError> {
        let plan = self.plan(request).await?;
        match self.upload(&plan, true).await {
            // What was begun before cannot be gone on with.
            Err(Failed::StartAnew) => match self.upload(&plan, false).await {
                Err(Failed::StartAnew) => Err(changed(&plan.path)),
                Err(Failed::Error(error)) => Err(error),
                Ok(shared) => Ok(shared),
            },
            Err(Failed::Error(error)) => Err(error),
            Ok(shared) => Ok(shared),
        }
    }

    async fn plan(&self, request: ShareFile) -> Result<Plan, ClientError> {
        let path =
            std::path::absolute(&request.path).map_err(|error| local(Path::new(&request.path), "path", &error))?;
        let metadata = tokio::fs::metadata(&path)
            .await
            .map_err(|error| local(&path, "path", &error))?;
        if !metadata.is_file() {
            let text = format!("{} is no file; pack a directory into an archive first", path.display());
            return Err(ClientError::invalid("path", text));
        }
        let own_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = clean_name(request.name.as_deref().or(own_name.as_deref()).unwrap_or("file"));
        let (target, shown_target, recipients) = self.recipients(request.to.as_deref().unwrap_or("*"), "to").await?;
        Ok(Plan {
            size: metadata.len(),
            path,
            name,
            target,
            shown_target,
            recipients,
            request,
        })
    }

    /// The keys of everybody that a target means, without the caller's own; how the wire and a person call it.
    pub(super) async fn recipients(
        &self,
        target: &str,
        field: &str,
    ) -> Result<(String, String, Vec<PublicKey>), ClientError> {
        let own = self.identity().public();
        let resolved = self.resolve(target).await?;
        let spec = match &resolved {
            Resolved::Direct { key, name, .. } => {
                let others = [*key].into_iter().filter(|key| *key != own).collect();
                return Ok((key.to_string(), name.clone(), others));
            }
            Resolved::Multicast { spec } => spec.clone(),
        };
        let members = self.request(ListMembers {}).await?.members;
        let everybody = matches!(spec.as_str(), "*" | "@all");
        let chosen = members.iter().filter(|member| everybody || is_in(member, &spec));
        let mut keys = BTreeSet::new();
        let mut found = false;
        for member in chosen {
            found = true;
            keys.extend(
                member
                    .pubkey
                    .as_str()
                    .parse::<PublicKey>()
                    .ok()
                    .filter(|key| *key != own),
            );
        }
        if !found {
            let message = format!("nobody is in {spec}: look at the groups in mesh_info");
            return Err(ErrorFrame::new(ErrorCode::NoSuchPeer, message)
                .at(format!("/{field}"))
                .into());
        }
        let shown = if everybody {
            "everybody".to_owned()
        } else {
            spec.clone()
        };
        Ok((spec, shown, keys.into_iter().collect()))
    }

    async fn upload(&self, plan: &Plan, resume: bool) -> Result<SharedFile, Failed> {
        let identity = self.identity();
        let (mut journal, resumed) = self.journal(plan, resume).await?;
        let Resumed {
            file,
            key,
            header,
            parts,
        } = resumed;
        let begin = self.begin(plan, &file, &key)?;
        let begun = self.request(begin.clone()).await?;
        let opened = {
            let (path, size, key, max_part) = (plan.path.clone(), plan.size, key.clone(), begun.max_part);
            let clear = plan.request.clear;
            let open = move || {
                let source = File::open(&path).map_err(PartError::Read)?;
                match clear {
                    true => Ok(Source::clear(source, size, max_part)),
                    false => Source::sealed(source, size, &key, header, max_part),
                }
            };
            tokio::task::spawn_blocking(open).await.map_err(interrupted)?
        };
        let source = opened.map_err(|error| plan.failed(error))?;
        if let Some(journal) = &mut journal
            && header.is_none()
        {
            let noted = journal.set_header(source.header());
            noted.map_err(|error| local(&plan.path, "path", &error))?;
        }
        let resumed_at = begun.received;
        if !begun.done {
            let mut sending = Sending {
                client: self,
                http: BrokerHttp::new(&identity.broker_url)?,
                plan,
                begin,
                known: parts,
                journal,
                total: source.upload_bytes(),
            };
            sending.run(source, &begun).await?;
            journal = sending.journal;
        }
        let finished = retrying(|| self.request(FinishUpload { file_id: file.clone() })).await;
        let finished = finished?;
        if let Some(journal) = journal {
            journal.remove();
        }
        Ok(SharedFile {
            id: file,
            name: plan.name.clone(),
            size: plan.size,
            to: plan.shown_target.clone(),
            recipients: u32::try_from(plan.recipients.len()).unwrap_or(u32::MAX),
            expires_at: finished.expires_at,
            resumed_at,
        })
    }

    async fn journal(&self, plan: &Plan, resume: bool) -> Result<(Option<Journal>, Resumed), Failed> {
        let Some(directory) = self.inner().options.transfer_directory.clone() else {
            return Ok((None, Resumed::new()));
        };
        let ShareFile {
            tags,
            persistent,
            expires_in,
            clear,
            ..
        } = &plan.request;
        let request = format!(
            "{}\n{}\n{tags:?}\n{persistent}\n{expires_in:?}\n{clear}",
            plan.name, plan.target
        );
        let (mesh, path, size) = (self.identity().mesh_id.clone(), plan.path.clone(), plan.size);
        let own = self.identity().member.clone();
        let open = move || {
            let subject = Subject {
                mesh: mesh.as_str(),
                path: &path,
                request: &request,
            };
            if !resume && let Some((journal, _)) = Journal::open(&directory, &subject, size, &own) {
                journal.remove();
            }
            Journal::open(&directory, &subject, size, &own)
        };
        let opened = tokio::task::spawn_blocking(open).await.map_err(interrupted)?;
        Ok(match opened {
            Some((journal, resumed)) => (Some(journal), resumed),
            None => (None, Resumed::new()),
        })
    }

    fn begin(&self, plan: &Plan, file: &str, key: &FileKey) -> Result<BeginUpload, ClientError> {
        let identity = self.identity();
        let clear = plan.request.clear;
        let wrap = |recipient: &PublicKey| {
            let wrapped = key.wrap_for(recipient).map_err(ClientError::crypto)?;
            Ok(WrappedFileKey {
                peer_pubkey: key_hex(recipient),
                sealed_key: Base64(encode_base64(&wrapped)),
            })
        };
        let own = identity.public();
        let keys = match clear {
            true => Vec::new(),
            false => std::iter::once(&own)
                .chain(&plan.recipients)
                .map(wrap)
                .collect::<Result<_, ClientError>>()?,
        };
        let proof = FileProofText {
            mesh_id: identity.mesh_id.as_str(),
            file_id: file,
            name: &plan.name,
            size: plan.size,
        };
        let proof = FileProof {
            size: plan.size,
            signature: HexSignature(proof.sign(&identity.member, key).to_string()),
        };
        Ok(BeginUpload {
            file_id: file.to_owned(),
            name: plan.name.clone(),
            size: if clear { plan.size } else { sealed_file_bytes(plan.size) },
            tags: plan.request.tags.clone(),
            mime: None,
            persistent: plan.request.persistent && plan.request.expires_in.is_none(),
            expires_in: plan.request.expires_in,
            target: Some(plan.target.clone()),
            encrypted: !clear,
            keys,
            proof: (!clear).then_some(proof),
        })
    }
}

/// Why an upload ended.
enum Failed {
    /// What was begun cannot be gone on with, but a new one may succeed.
    StartAnew,
    Error(ClientError),
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

impl Plan {
    fn failed(&self, error: PartError) -> Failed {
        match error {
            PartError::Read(error) => local(&self.path, "path", &error).into(),
            PartError::Changed => Failed::StartAnew,
            PartError::Seal(error) => ClientError::crypto(error).into(),
        }
    }
}

fn changed(path: &Path) -> ClientError {
    ClientError::invalid(
        "path",
        format!(
            "{} changes while it is shared; share it when it is complete",
            path.display()
        ),
    )
}

/// The parts of one upload on their way.
struct Sending<'a> {
    client: &'a MeshClient,
    http: BrokerHttp,
    plan: &'a Plan,
    begin: BeginUpload,
    known: Vec<[u8; 32]>,
    journal: Option<Journal>,
    total: u64,
}

impl Sending<'_> {
    async fn run(&mut self, source: Source, begun: &UploadBegun) -> Result<(), Failed> {
        let Some(mut number) = source.part_at(begun.received) else {
            return Err(Failed::StartAnew);
        };
        let count = source.count();
        progress::report(begun.received, self.total);
        let mut source = Some(source);
        let mut ready = self.make(&mut source, number, count).await?;
        while let Some(part) = ready.take() {
            if let Some(journal) = &mut self.journal {
                let noted = journal.sealed(number, part.content);
                noted.map_err(|error| local(&self.plan.path, "path", &error))?;
            }
            number += 1;
            // One part is sealed while the one before it is sent.
            let known = self.known_part(number);
            let next = make(&mut source, number, count, known);
            let (sent, next) = tokio::join!(self.send(part), next);
            sent?;
            let (back, next) = next.map_err(Failed::Error)?;
            source = back;
            ready = next.map_err(|error| self.plan.failed(error))?;
        }
        Ok(())
    }

    fn known_part(&self, number: u64) -> Option<[u8; 32]> {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.known.get(number).copied())
    }

    async fn make(&self, source: &mut Option<Source>, number: u64, count: u64) -> Result<Option<SealedPart>, Failed> {
        let (back, part) = make(source, number, count, self.known_part(number)).await?;
        *source = back;
        part.map_err(|error| self.plan.failed(error))
    }

    /// Sends a part until the broker has it. The sealed bytes are kept for that: a part is never sealed twice.
    async fn send(&self, part: SealedPart) -> Result<(), Failed> {
        let SealedPart {
            offset, bytes, digest, ..
        } = part;
        let end = offset + bytes.len() as u64;
        let bytes = Bytes::from(bytes);
        let file = &self.begin.file_id;
        let identity = self.client.identity();
        let started = Instant::now();
        let mut wait = PAUSE;
        loop {
            let sent = self
                .http
                .send_part(&identity.member, &identity.mesh_id, file, offset, bytes.clone(), digest)
                .await;
            let error = match sent {
                Ok(taken) if taken.received >= end => break,
                Ok(_) => ClientError::Protocol {
                    message: "a part was taken in part".to_owned(),
                },
                Err(error) => error,
            };
            if started.elapsed() > PATIENCE || !may_pass(&error) {
                return Err(error.into());
            }
            tracing::debug!(%error, offset, "a part is sent again");
            sleep(error.retry_after().unwrap_or(wait).min(PATIENCE)).await;
            wait = (wait * 2).min(Duration::from_secs(8));
            // The answer may have been lost on its way.
            match self.client.request(self.begin.clone()).await {
                Ok(begun) if begun.received >= end || begun.done => break,
                Ok(begun) if begun.received == offset => {}
                Ok(_) => return Err(Failed::StartAnew),
                Err(error) if may_pass(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        progress::report(end, self.total);
        Ok(())
    }
}

/// Makes part `number` in the pool for blocking work, and gives the source back.
async fn make(
    source: &mut Option<Source>,
    number: u64,
    count: u64,
    known: Option<[u8; 32]>,
) -> Result<(Option<Source>, Result<Option<SealedPart>, PartError>), ClientError> {
    let Some(mut taken) = source.take() else {
        return Ok((None, Ok(None)));
    };
    if number >= count {
        return Ok((Some(taken), Ok(None)));
    }
    let work = move || {
        let part = taken.part(number, known);
        (Some(taken), part.map(Some))
    };
    tokio::task::spawn_blocking(work).await.map_err(interrupted)
}

/// Whether the same request may succeed in a moment.
pub(super) fn may_pass(error: &ClientError) -> bool {
    error.retryable() || matches!(error.code(), ErrorCode::Conflict)
}

/// Repeats a request that may be repeated, until it succeeds or patience ends.
pub(super) async fn retrying<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let started = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.retryable() && started.elapsed() < PATIENCE => {
                sleep(error.retry_after().unwrap_or(PAUSE)).await;
            }
            ended => return ended,
        }
    }
}

/// Whether the member is in this group, or one below it.
fn is_in(member: &Member, spec: &str) -> bool {
    let wanted = spec.trim_start_matches('@').to_lowercase();
    member
        .groups
        .iter()
        .any(|group| group.name.with_ancestors().any(|name| name.to_lowercase() == wanted))
}

/// A name that is one on every system: no separators, no control characters, not too long.
pub(super) fn clean_name(name: &str) -> String {
    let mut clean: String = name
        .chars()
        .map(|c| {
            if c.is_control() || c == '/' || c == '\\' {
                '_'
            } else {
                c
            }
        })
        .collect();
    while clean.len() > MAX_NAME {
        clean.pop();
    }
    match clean.trim() {
        "" | "." | ".." => "file".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_everywhere() {
        assert_eq!(clean_name("plan (final) ü.pdf"), "plan (final) ü.pdf");
        assert_eq!(clean_name("../../etc/passwd"), ".._.._etc_passwd");
        assert_eq!(clean_name("a\nb\\c"), "a_b_c");
        for name in ["", " ", ".", ".."] {
            assert_eq!(clean_name(name), "file");
        }
        assert!(clean_name(&"ü".repeat(300)).len() <= 255);
    }
}
