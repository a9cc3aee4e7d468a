//! Names of collections on the server: `mesh_<mesh id>_<name>`, as the original's, but so that two names are never the same.

use std::fmt::Write as _;

use claudemesh_proto::model::MeshId;

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// What the names of a mesh's collections begin with. As the original's, it does not tell capitals from small letters in
/// the id; ids are random, and every point has the whole id.
pub(super) fn prefix(mesh: &MeshId) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
        _ => '_',
    };
    format!("mesh_{}_", mesh.as_str().chars().map(plain).collect::<String>())
}

/// The server's name for a collection: small letters, digits and `_` are as they are, and what is between them is in
/// hexadecimal between two hyphens. The original made `_` of it, which is the same for many names.
pub(super) fn collection_name(prefix: &str, name: &str) -> String {
    let mut encoded = prefix.to_owned();
    for part in name.as_bytes().chunk_by(|a, b| is_plain(*a) == is_plain(*b)) {
        let plain = part.first().copied().is_some_and(is_plain);
        if !plain {
            encoded.push('-');
        }
        for byte in part {
            // Writing to a string cannot fail.
            let _ = match plain {
                true => write!(encoded, "{}", char::from(*byte)),
                false => write!(encoded, "{byte:02x}"),
            };
        }
        if !plain {
            encoded.push('-');
        }
    }
    encoded
}

/// The collection that has this name on the server; `None` if it is none of this mesh.
pub(super) fn own_name(prefix: &str, encoded: &str) -> Option<String> {
    let rest = encoded.strip_prefix(prefix)?;
    let mut bytes = Vec::new();
    for (index, part) in rest.split('-').enumerate() {
        match index % 2 {
            0 => bytes.extend_from_slice(part.as_bytes()),
            _ => bytes.extend(hex_bytes(part)?),
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    // Spelled as the broker spells it, or it is somebody else's.
    (!name.is_empty() && collection_name(prefix, &name) == encoded).then_some(name)
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() {
        pairs.iter().map(byte).collect()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_the_originals() {
        let prefix = prefix(&MeshId::from("mSh0000000000000000000000000001A"));
        assert_eq!(prefix, "mesh_msh0000000000000000000000000001a_");
        assert_eq!(
            collection_name(&prefix, "docs_2"),
            "mesh_msh0000000000000000000000000001a_docs_2"
        );
    }

    #[test]
    fn every_name_has_one_of_its_own_and_comes_back() {
        let prefix = prefix(&MeshId::from("m"));
        let names = [
            "a b",
            "a-b",
            "a_b",
            "A_b",
            "A_B",
            "a-2d-b",
            "東京",
            "é",
            "-",
            "--",
            "a/../b",
            "\"*?<>|:\\",
            "_",
            "🚀",
            " ",
        ];
        let encoded: Vec<String> = names.iter().map(|name| collection_name(&prefix, name)).collect();
        for (name, encoded) in names.iter().zip(&encoded) {
            assert_eq!(own_name(&prefix, encoded).as_deref(), Some(*name));
            assert!(encoded.bytes().all(|byte| is_plain(byte) || byte == b'-'), "{encoded}");
        }
        let different: std::collections::HashSet<_> = encoded.iter().collect();
        assert_eq!(different.len(), names.len());
        // The longest one: the server takes 255 bytes.
        let id = MeshId::from("x".repeat(32));
        let longest = collection_name(&super::prefix(&id), &"a-".repeat(32));
        assert!(longest.len() <= 255, "{}", longest.len());
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let prefix = prefix(&MeshId::from("m"));
        for foreign in [
            "mesh_m_",
            "mesh_n_a",
            "mesh_m_a-2D-",
            "mesh_m_a-2",
            "mesh_m_a-61-",
            "mesh_m_A",
            "mesh_m_a-ff-",
        ] {
            assert_eq!(own_name(&prefix, foreign), None, "{foreign}");
        }
    }
}
