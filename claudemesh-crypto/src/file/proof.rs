//! What the owner of a file states about it.
//!
//! A wrapped key says nothing about who wrapped it: without a statement, whoever stores the file could put another one in
//! its place, with another key that it wraps itself. The commitment ties the statement to one key, the key to one content.

use super::{FileError, FileKey};
use crate::{PublicKey, SecretKey, Signature};

const DOMAIN: &[u8] = b"claudemesh/file/proof/1";

/// The statement of a file's owner.
#[derive(Clone, Copy, Debug)]
pub struct FileProofText<'a> {
    /// The mesh that it is shared in.
    pub mesh_id: &'a str,
    /// Its id.
    pub file_id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Length of its content, in bytes.
    pub size: u64,
}

impl FileProofText<'_> {
    /// Signs domain `claudemesh/file/proof/1`, mesh id, file id and name (each a text: length as 4 bytes big endian, then
    /// the bytes), the size (8 bytes big endian) and the key's commitment.
    #[must_use]
    pub fn sign(&self, owner: &SecretKey, key: &FileKey) -> Signature {
        owner.sign(&self.text(&key.commitment()))
    }

    /// Checks the owner's signature for the key that opened.
    ///
    /// # Errors
    /// [`FileError::Proof`].
    pub fn verify(&self, owner: &PublicKey, key: &FileKey, signature: &Signature) -> Result<(), FileError> {
        owner
            .verify(&self.text(&key.commitment()), signature)
            .map_err(|_| FileError::Proof)
    }

    fn text(&self, commitment: &[u8; 32]) -> Vec<u8> {
        let mut text = DOMAIN.to_vec();
        for part in [self.mesh_id, self.file_id, self.name] {
            // Texts of the wire are far shorter than 4 GiB.
            text.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        text.extend_from_slice(&self.size.to_be_bytes());
        text.extend_from_slice(commitment);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_one_file_only() {
        let (ana, ben) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let key = FileKey::from_bytes([7; 32]);
        let text = FileProofText {
            mesh_id: "m",
            file_id: "f",
            name: "plan.pdf",
            size: 9,
        };
        let signature = text.sign(&ana, &key);
        assert_eq!(text.verify(&ana.public(), &key, &signature), Ok(()));
        for wrong in [
            FileProofText {
                name: "plan.exe",
                ..text
            },
            FileProofText { size: 8, ..text },
            FileProofText { file_id: "g", ..text },
            FileProofText { mesh_id: "n", ..text },
            // The lengths keep the parts apart.
            FileProofText {
                mesh_id: "mf",
                file_id: "",
                ..text
            },
        ] {
            assert_eq!(wrong.verify(&ana.public(), &key, &signature), Err(FileError::Proof));
        }
        assert_eq!(text.verify(&ben.public(), &key, &signature), Err(FileError::Proof));
        let other = FileKey::from_bytes([8; 32]);
        assert_eq!(text.verify(&ana.public(), &other, &signature), Err(FileError::Proof));
    }
}
