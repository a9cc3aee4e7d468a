//! Files of original clients against the original's vectors.

mod support;

use claudemesh_crypto::{FileError, FileKey, decode_base64, open_secretbox_file};
use support::{array, bytes, key, list, text, vectors};

#[test]
fn files_of_original_clients_open() {
    let file = vectors("file_encryption");
    let blob = bytes(&file, "/uploaded_blob_hex");
    let file_key = FileKey::from_bytes(array(&file, "/file_key_hex"));
    let content = bytes(&file, "/plaintext_hex");
    assert_eq!(
        open_secretbox_file(&file_key, &blob).expect("it opens").as_slice(),
        content
    );
    let empty = bytes(&file, "/empty_file/uploaded_blob_hex");
    assert!(open_secretbox_file(&file_key, &empty).expect("it opens").is_empty());
    for recipient in list(&file, "/sealed_keys") {
        let ours = key(text(recipient, "/recipient"));
        assert_eq!(ours.public().to_string(), text(recipient, "/peerPubkey"));
        let wrapped = decode_base64(text(recipient, "/sealedKey")).expect("base64");
        // The right key among several.
        let unwrapped = FileKey::unwrap_with(&[&key("owner"), &ours], &wrapped).expect("it opens");
        assert_eq!(
            open_secretbox_file(&unwrapped, &blob).expect("it opens").as_slice(),
            content
        );
        assert!(matches!(
            FileKey::unwrap_with(&[&key("owner")], &wrapped),
            Err(FileError::Key(_))
        ));
    }
    let mut altered = blob.clone();
    altered[50] ^= 1;
    assert!(open_secretbox_file(&file_key, &altered).is_err());
    assert_eq!(
        open_secretbox_file(&file_key, &blob[..39]).err(),
        Some(FileError::Header)
    );
}
