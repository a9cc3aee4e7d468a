//! What the broker does with shared files beside knowing them: where their blobs are, who works on one, signed addresses,
//! and removing what nothing refers to any more.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use claudemesh_crypto::{decode_base64_url, encode_base64_url};
use claudemesh_proto::model::{KeyHex, MemberId, MeshId, Timestamp};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::Broker;
use crate::backends::blob::{BlobPlace, BlobStore};
use crate::broker::now_ms;
use crate::store::{FileGarbage, FileRow};

/// Most rows that one step of a sweep touches.
const STEP: usize = 200;

/// Blobs, and the addresses that lead to them.
pub struct Files {
    /// Where blobs are.
    pub blobs: Arc<dyn BlobStore>,
    url_key: [u8; 32],
    link_base: String,
    busy: Arc<Mutex<HashSet<String>>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("blobs", &self.blobs)
            .finish_non_exhaustive()
    }
}

/// The right to change one blob; nobody else has it meanwhile.
#[derive(Debug)]
pub(crate) struct Claim {
    blob: String,
    busy: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.blob);
    }
}

/// What an address allows: one member to read one file until a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) mesh: MeshId,
    pub(crate) file: String,
    pub(crate) member: MemberId,
    /// In milliseconds since the Unix epoch.
    pub(crate) until: i64,
}

impl Files {
    /// `url_key` signs addresses; `link_base` is where they lead when a client's own way to the broker is not known.
    pub fn new(blobs: Arc<dyn BlobStore>, url_key: [u8; 32], link_base: String) -> Self {
        Self {
            blobs,
            url_key,
            link_base,
            busy: Arc::default(),
        }
    }

    /// Takes the right to change a blob; `None` while somebody has it.
    pub(crate) fn claim(&self, blob: &str) -> Option<Claim> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(blob.to_owned()).then(|| Claim {
            blob: blob.to_owned(),
            busy: self.busy.clone(),
        })
    }

    /// The address at the broker that a ticket is good at. `origin` is how the client reaches the broker, if known.
    pub(crate) fn url(&self, ticket: &Ticket, origin: Option<&str>) -> String {
        let base = origin.map_or_else(|| self.link_base.clone(), http_base);
        let Ticket {
            mesh,
            file,
            member,
            until,
        } = ticket;
        let signature = encode_base64_url(&self.mac(ticket).finalize().into_bytes());
        format!("{base}/download/{file}?mesh={mesh}&member={member}&expires={until}&sig={signature}")
    }

    /// Whether this broker signed the ticket. Whether its time is over is for the caller to see.
    pub(crate) fn is_ours(&self, ticket: &Ticket, signature: &str) -> bool {
        decode_base64_url(signature).is_some_and(|signature| self.mac(ticket).verify_slice(&signature).is_ok())
    }

    fn mac(&self, ticket: &Ticket) -> Hmac<Sha256> {
        // Keys of any length are taken.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.url_key).unwrap_or_else(|_| Hmac::new(&Default::default()));
        let until = ticket.until.to_string();
        for part in [ticket.mesh.as_str(), &ticket.file, ticket.member.as_str(), &until] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }
}

/// `wss` becomes `https`.
fn http_base(origin: &str) -> String {
    match origin.split_once("://") {
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(("wss", rest)) => format!("https://{rest}"),
        _ => origin.to_owned(),
    }
}

/// Where a file's blob is.
pub(crate) fn place_of(row: &FileRow) -> BlobPlace {
    BlobPlace {
        mesh: row.mesh_id.clone(),
        blob: row.blob.clone(),
    }
}

/// Whether a file that is not encrypted was shared with the holder of one of these keys.
pub(crate) fn is_targeted(row: &FileRow, keys: &[&KeyHex]) -> bool {
    match row.target.as_deref() {
        None | Some("*" | "@all") => true,
        Some(target) => keys.iter().any(|key| key.as_str() == target),
    }
}

/// Removes a blob that is listed as garbage. What cannot be removed now stays listed.
pub(crate) async fn collect(broker: &Broker, garbage: &FileGarbage) {
    let Some(_claim) = broker.files.claim(&garbage.blob) else {
        return;
    };
    let place = BlobPlace {
        mesh: garbage.mesh_id.clone(),
        blob: garbage.blob.clone(),
    };
    let removed = broker.files.blobs.remove(&place, garbage.upload.as_deref()).await;
    if let Err(error) = removed {
        return tracing::warn!(blob = garbage.blob, %error, "a blob was not removed; the next sweep tries again");
    }
    if let Err(error) = broker.store.forget_garbage(&garbage.blob).await {
        tracing::warn!(%error, "a removed blob is still listed");
    }
}

/// Removes files whose time is over, uploads that were given up, and blobs that are left.
pub(crate) async fn sweep(broker: &Broker) {
    loop {
        match broker
            .store
            .discard_expired_files(Timestamp::from_ms(now_ms()), STEP)
            .await
        {
            Ok(found) if found >= STEP => {}
            Ok(_) => break,
            Err(error) => return tracing::warn!(%error, "files whose time is over were not removed"),
        }
    }
    match broker.store.file_garbage(STEP).await {
        Ok(found) => {
            for garbage in found {
                collect(broker, &garbage).await;
            }
        }
        Err(error) => tracing::warn!(%error, "blobs that are left were not removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::blob::DirectoryBlobs;

    fn files() -> Files {
        Files::new(
            Arc::new(DirectoryBlobs::new("/nowhere".into())),
            [7; 32],
            "http://b".to_owned(),
        )
    }

    #[test]
    fn an_address_is_good_for_what_was_signed() {
        let files = files();
        let ticket = Ticket {
            mesh: "m".into(),
            file: "f".to_owned(),
            member: "a".into(),
            until: 5,
        };
        let url = files.url(&ticket, Some("wss://mesh.example.org"));
        let (start, signature) = url.split_once("&sig=").unwrap();
        assert_eq!(start, "https://mesh.example.org/download/f?mesh=m&member=a&expires=5");
        assert!(files.url(&ticket, None).starts_with("http://b/download/f?"));
        assert!(files.is_ours(&ticket, signature));
        assert!(!files.is_ours(&ticket, ""));
        for other in [
            Ticket {
                until: 6,
                ..ticket.clone()
            },
            Ticket {
                file: "g".to_owned(),
                ..ticket.clone()
            },
            Ticket {
                member: "b".into(),
                ..ticket.clone()
            },
            Ticket {
                mesh: "n".into(),
                ..ticket.clone()
            },
        ] {
            assert!(!files.is_ours(&other, signature));
        }
        let other = Files::new(files.blobs.clone(), [8; 32], String::new());
        assert!(!other.is_ours(&ticket, signature));
    }

    #[test]
    fn one_at_a_time_changes_a_blob() {
        let files = files();
        let first = files.claim("x").unwrap();
        assert!(files.claim("x").is_none() && files.claim("y").is_some());
        drop(first);
        assert!(files.claim("x").is_some());
    }
}
