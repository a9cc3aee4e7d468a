//! Questions of one member to another for files in its shared directories, and their answers: sealed end to end, signed by
//! both sides, each answer bound to its question.
//!
//! A question is signed by the asking member and sealed to the answering one. It brings a fresh key for the answer, so
//! that an answer cannot be read with any long-lived key, and opens for this question only.

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    BoxPublicKey, BoxSecretKey, PublicKey, SecretKey, Signature, open_sealed, random_bytes, seal_to, seal_to_box,
};

const ASK_DOMAIN: &[u8] = b"claudemesh/peer-files/ask/1";
const ANSWER_DOMAIN: &[u8] = b"claudemesh/peer-files/answer/1";
const VERSION: u8 = 1;
/// Largest difference between the clocks of the two sides, in milliseconds.
pub const PEER_ASK_SKEW_MS: i64 = 120_000;
/// Version, asking key, id, time, key for the answer, signature.
const ASK_HEAD: usize = 1 + 32 + 16 + 8 + 32 + 64;
/// Version, signature.
const ANSWER_HEAD: usize = 1 + 64;

/// Why a question or an answer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeerAskError {
    /// The other side's key is not usable.
    #[error("the peer's key is not usable; resolve the peer again")]
    Key,
    /// It does not open with our key, or is not in the form of this version.
    #[error("it does not open: altered, sealed for another key, or of another version of claudemesh")]
    Unreadable,
    /// It was not signed by the member that it names, or not for us, this mesh or this question.
    #[error("its signature does not verify for this member, mesh and question; do not trust it")]
    BadSignature,
    /// It was made too long ago, or the clocks differ.
    #[error("it was made {difference_ms} ms away from this machine's clock (120000 allowed); set the clocks")]
    Skew {
        /// Distance, in milliseconds.
        difference_ms: u64,
    },
}

/// A question that waits for its answer.
pub struct PeerAsk {
    mesh_id: String,
    target: PublicKey,
    hash: [u8; 32],
    reply: BoxSecretKey,
}

impl PeerAsk {
    /// Seals a question of `asker` (a member key) to the member `target`. Gives what waits for the answer, and the sealed
    /// question.
    ///
    /// # Errors
    /// [`PeerAskError::Key`].
    pub fn seal(
        asker: &SecretKey,
        target: &PublicKey,
        mesh_id: &str,
        now_ms: i64,
        question: &[u8],
    ) -> Result<(Self, Vec<u8>), PeerAskError> {
        let reply = BoxSecretKey::from(random_bytes::<32>());
        let mut text = Vec::with_capacity(ASK_HEAD + question.len());
        text.push(VERSION);
        text.extend_from_slice(asker.public().as_bytes());
        text.extend_from_slice(&random_bytes::<16>());
        text.extend_from_slice(&now_ms.to_be_bytes());
        text.extend_from_slice(reply.public_key().as_bytes());
        let signature = asker.sign(&ask_text(mesh_id, target, &text, question));
        text.extend_from_slice(signature.as_bytes());
        text.extend_from_slice(question);
        let hash = Sha256::digest(&text).into();
        let sealed = seal_to(target, &text).map_err(|_| PeerAskError::Key)?;
        let ask = Self {
            mesh_id: mesh_id.to_owned(),
            target: *target,
            hash,
            reply,
        };
        Ok((ask, sealed))
    }

    /// Opens the answer to this question.
    ///
    /// # Errors
    /// [`PeerAskError::Unreadable`], [`PeerAskError::BadSignature`].
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, PeerAskError> {
        let text = open_sealed(&self.reply, sealed).map_err(|_| PeerAskError::Unreadable)?;
        if text.len() < ANSWER_HEAD || text[0] != VERSION {
            return Err(PeerAskError::Unreadable);
        }
        let (head, answer) = text.split_at(ANSWER_HEAD);
        let signature = signature(&head[1..])?;
        self.target
            .verify(&answer_text(&self.mesh_id, &self.hash, answer), &signature)
            .map_err(|_| PeerAskError::BadSignature)?;
        Ok(Zeroizing::new(answer.to_vec()))
    }
}

impl std::fmt::Debug for PeerAsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerAsk")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A question that came.
pub struct PeerAsked {
    /// The member that asks, proven by its signature. Whether it may is for the caller to know.
    pub asker: PublicKey,
    /// Identifies the question: one that was seen is not answered again.
    pub id: [u8; 16],
    /// When it was made, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The question.
    pub question: Vec<u8>,
    mesh_id: String,
    hash: [u8; 32],
    reply: BoxPublicKey,
}

impl PeerAsked {
    /// Opens a question to us.
    ///
    /// # Errors
    /// [`PeerAskError`].
    pub fn open(target: &SecretKey, mesh_id: &str, now_ms: i64, sealed: &[u8]) -> Result<Self, PeerAskError> {
        let text = open_sealed(&target.to_box_key(), sealed).map_err(|_| PeerAskError::Unreadable)?;
        if text.len() < ASK_HEAD || text[0] != VERSION {
            return Err(PeerAskError::Unreadable);
        }
        let (head, question) = text.split_at(ASK_HEAD);
        let (signed, signed_by) = head.split_at(ASK_HEAD - 64);
        let asker = PublicKey::from_bytes(field(&signed[1..33])?);
        let at_ms = i64::from_be_bytes(field(&signed[49..57])?);
        asker
            .verify(
                &ask_text(mesh_id, &target.public(), signed, question),
                &signature(signed_by)?,
            )
            .map_err(|_| PeerAskError::BadSignature)?;
        let difference_ms = now_ms.abs_diff(at_ms);
        if difference_ms > PEER_ASK_SKEW_MS.unsigned_abs() {
            return Err(PeerAskError::Skew { difference_ms });
        }
        Ok(Self {
            asker,
            id: field(&signed[33..49])?,
            at_ms,
            question: question.to_vec(),
            mesh_id: mesh_id.to_owned(),
            hash: Sha256::digest(text.as_slice()).into(),
            reply: BoxPublicKey::from(field::<32>(&signed[57..89])?),
        })
    }

    /// Seals the answer to this question, signed by `target`: the member that was asked.
    ///
    /// # Errors
    /// [`PeerAskError::Key`] when the key that the question brought is not usable.
    pub fn answer(&self, target: &SecretKey, answer: &[u8]) -> Result<Vec<u8>, PeerAskError> {
        let signature = target.sign(&answer_text(&self.mesh_id, &self.hash, answer));
        let mut text = Zeroizing::new(Vec::with_capacity(ANSWER_HEAD + answer.len()));
        text.push(VERSION);
        text.extend_from_slice(signature.as_bytes());
        text.extend_from_slice(answer);
        seal_to_box(&self.reply, &text).map_err(|_| PeerAskError::Key)
    }
}

impl std::fmt::Debug for PeerAsked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerAsked")
            .field("asker", &self.asker)
            .finish_non_exhaustive()
    }
}

fn ask_text(mesh_id: &str, target: &PublicKey, head: &[u8], question: &[u8]) -> Vec<u8> {
    let mut text = start(ASK_DOMAIN, mesh_id);
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(head);
    text.extend_from_slice(&Sha256::digest(question));
    text
}

fn answer_text(mesh_id: &str, question: &[u8; 32], answer: &[u8]) -> Vec<u8> {
    let mut text = start(ANSWER_DOMAIN, mesh_id);
    text.extend_from_slice(question);
    text.extend_from_slice(&Sha256::digest(answer));
    text
}

fn start(domain: &[u8], mesh_id: &str) -> Vec<u8> {
    let mut text = domain.to_vec();
    text.extend_from_slice(&u32::try_from(mesh_id.len()).unwrap_or(u32::MAX).to_be_bytes());
    text.extend_from_slice(mesh_id.as_bytes());
    text
}

fn field<const N: usize>(bytes: &[u8]) -> Result<[u8; N], PeerAskError> {
    bytes.try_into().map_err(|_| PeerAskError::Unreadable)
}

fn signature(bytes: &[u8]) -> Result<Signature, PeerAskError> {
    field(bytes).map(Signature::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_opens_for_its_question_only() {
        let (ana, ben) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let (ask, sealed) = PeerAsk::seal(&ana, &ben.public(), "mesh", 1_000, b"notes.md").unwrap();
        let asked = PeerAsked::open(&ben, "mesh", 2_000, &sealed).unwrap();
        assert_eq!(
            (asked.asker, asked.question.as_slice()),
            (ana.public(), b"notes.md".as_slice())
        );
        let answer = asked.answer(&ben, b"content").unwrap();
        assert_eq!(ask.open(&answer).unwrap().as_slice(), b"content");

        let (other, _) = PeerAsk::seal(&ana, &ben.public(), "mesh", 1_000, b"notes.md").unwrap();
        assert_eq!(other.open(&answer).err(), Some(PeerAskError::Unreadable));
        // Somebody else answers, with the right key for the answer.
        let forged = asked.answer(&ana, b"content").unwrap();
        assert_eq!(ask.open(&forged).err(), Some(PeerAskError::BadSignature));
    }

    #[test]
    fn a_question_is_for_one_member_mesh_and_time() {
        let (ana, ben) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let (_, sealed) = PeerAsk::seal(&ana, &ben.public(), "mesh", 1_000, b"q").unwrap();
        assert!(PeerAsked::open(&ben, "mesh", 121_000, &sealed).is_ok());
        let open = |key, mesh, now| PeerAsked::open(key, mesh, now, &sealed).err();
        assert_eq!(
            open(&ben, "mesh", 121_001),
            Some(PeerAskError::Skew { difference_ms: 120_001 })
        );
        assert_eq!(open(&ben, "other", 1_000), Some(PeerAskError::BadSignature));
        assert_eq!(open(&ana, "mesh", 1_000), Some(PeerAskError::Unreadable));
        let mut altered = sealed.clone();
        altered[60] ^= 1;
        assert!(PeerAsked::open(&ben, "mesh", 1_000, &altered).is_err());
        // Ben passes the question on to cara as if ana had asked her.
        let cara = SecretKey::from_seed(&[3; 32]);
        let text = open_sealed(&ben.to_box_key(), &sealed).unwrap();
        let passed_on = seal_to(&cara.public(), &text).unwrap();
        assert_eq!(
            PeerAsked::open(&cara, "mesh", 1_000, &passed_on).err(),
            Some(PeerAskError::BadSignature)
        );
    }
}
