//! What every blob store must do: the same tests for the directory and for an object store.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io;

use axum::body::Bytes;
use claudemesh_broker::backends::blob::{BlobError, BlobPlace, BlobStore, Bytestream, DirectoryBlobs, Part};
use claudemesh_crypto::random_id;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

fn place(mesh: &str) -> BlobPlace {
    BlobPlace {
        mesh: mesh.into(),
        blob: random_id(),
    }
}

/// The content in pieces, then an error if there is one.
fn bytes(content: &[u8], end: Option<io::ErrorKind>) -> Bytestream {
    let pieces: Vec<io::Result<Bytes>> = content
        .chunks(100_000)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .chain(end.map(|kind| Err(kind.into())))
        .collect();
    stream::iter(pieces).boxed()
}

fn content(length: u64, seed: u64) -> Vec<u8> {
    (0..length)
        .map(|n| (n.wrapping_mul(31).wrapping_add(seed) >> 3) as u8)
        .collect()
}

async fn read(store: &dyn BlobStore, place: &BlobPlace, range: std::ops::Range<u64>) -> Result<Vec<u8>, BlobError> {
    let pieces: Vec<Bytes> = store.read(place, range).await?.try_collect().await?;
    Ok(pieces.concat())
}

async fn write(store: &dyn BlobStore, place: &BlobPlace, upload: &str, offset: u64, content: &[u8]) {
    let part = Part {
        offset,
        length: content.len() as u64,
    };
    store.write(place, upload, part, bytes(content, None)).await.unwrap();
}

/// The contract.
async fn contract(store: &dyn BlobStore) {
    let mesh = random_id();
    let sizes = store.part_sizes();
    let first = content(sizes.min.max(300_000) + 1000, 1);
    let last = content(12_345, 2);
    let whole = [first.as_slice(), &last].concat();
    let size = whole.len() as u64;
    let place = place(&mesh);
    assert!(matches!(read(store, &place, 0..1).await, Err(BlobError::NotFound)));

    let upload = store.begin(&place).await.unwrap();
    write(store, &place, &upload, 0, &first).await;
    let part = Part {
        offset: first.len() as u64,
        length: last.len() as u64,
    };
    // Tries that fail leave what was there.
    let broken = store.write(
        &place,
        &upload,
        part,
        bytes(&last[..500], Some(io::ErrorKind::InvalidData)),
    );
    match broken.await {
        Err(BlobError::Incomplete(error)) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
        other => panic!("{other:?}"),
    }
    assert!(
        store
            .write(&place, &upload, part, bytes(&last[..500], None))
            .await
            .is_err()
    );
    let wrong = content(12_345, 9);
    let lie = store.write(&place, &upload, part, bytes(&wrong, Some(io::ErrorKind::InvalidData)));
    assert!(lie.await.is_err());
    assert!(
        matches!(read(store, &place, 0..1).await, Err(BlobError::NotFound)),
        "it is not whole"
    );
    write(store, &place, &upload, part.offset, &last).await;
    store.finish(&place, &upload, size).await.unwrap();
    store.finish(&place, &upload, size).await.unwrap();
    assert!(store.finish(&place, &upload, size + 1).await.is_err());

    assert!(read(store, &place, 0..size).await.unwrap() == whole);
    let (start, end) = (part.offset - 5, part.offset + 7);
    assert_eq!(
        read(store, &place, start..end).await.unwrap(),
        whole[start as usize..end as usize]
    );
    assert!(read(store, &place, 3..3).await.unwrap().is_empty());
    let elsewhere = BlobPlace {
        mesh: random_id().into(),
        ..place.clone()
    };
    assert!(
        matches!(read(store, &elsewhere, 0..1).await, Err(BlobError::NotFound)),
        "meshes are apart"
    );

    // An empty one, one that is given up, and what is removed twice.
    let empty = self::place(&mesh);
    let upload = store.begin(&empty).await.unwrap();
    store.finish(&empty, &upload, 0).await.unwrap();
    assert!(read(store, &empty, 0..0).await.unwrap().is_empty());
    let given_up = self::place(&mesh);
    let upload = store.begin(&given_up).await.unwrap();
    write(store, &given_up, &upload, 0, &last).await;
    for (place, upload) in [(&given_up, Some(upload.as_str())), (&place, None), (&empty, None)] {
        store.remove(place, upload).await.unwrap();
        store.remove(place, upload).await.unwrap();
        assert!(matches!(read(store, place, 0..1).await, Err(BlobError::NotFound)));
    }
    // Names that would lead elsewhere.
    for blob in ["../x", "", "a/b", "."] {
        let odd = BlobPlace {
            mesh: mesh.as_str().into(),
            blob: blob.to_owned(),
        };
        assert!(store.begin(&odd).await.is_err(), "{blob:?}");
    }
}

#[tokio::test]
async fn a_directory() {
    let directory = tempfile::tempdir().unwrap();
    contract(&DirectoryBlobs::new(directory.path().join("files"))).await;
    let left = std::fs::read_dir(directory.path().join("files")).unwrap();
    for mesh in left.flatten() {
        assert_eq!(std::fs::read_dir(mesh.path()).unwrap().count(), 0, "something is left");
    }
}

#[cfg(feature = "s3")]
#[tokio::test]
#[ignore = "set CLAUDEMESH_TEST_S3_ENDPOINT, CLAUDEMESH_TEST_S3_ACCESS_KEY and CLAUDEMESH_TEST_S3_SECRET_KEY"]
async fn an_object_store() {
    use claudemesh_broker::backends::blob::S3Blobs;
    use claudemesh_broker::config::{S3Secret, S3Settings};
    let variable = |name: &str| std::env::var(format!("CLAUDEMESH_TEST_S3_{name}")).expect(name);
    let endpoint: url::Url = variable("ENDPOINT").parse().unwrap();
    let settings = S3Settings {
        public_endpoint: Some(endpoint.clone()),
        endpoint,
        region: "us-east-1".to_owned(),
        access_key: variable("ACCESS_KEY"),
        secret_key: S3Secret::from(variable("SECRET_KEY")),
    };
    contract(&S3Blobs::new(settings).unwrap()).await;
}
