//! Vectors in SQLite files.
#![allow(clippy::unwrap_used)]

mod vector_suite;

use claudemesh_broker::backends::vector::{SqliteVectors, VectorError, VectorLimits};
use serde_json::json;
use std::sync::Arc;
use tempfile::TempDir;
use vector_suite::{Lab, Vectors, member, new_vector, patient, query};

async fn lab() -> Lab {
    lab_in(Arc::new(tempfile::tempdir().unwrap()))
}

/// The directory is removed with the lab.
fn lab_in(directory: Arc<TempDir>) -> Lab {
    Lab {
        engine: "sqlite",
        open: Box::new(move |limits| Arc::new(SqliteVectors::new(directory.path().join("vectors"), limits).unwrap())),
    }
}

vector_suite::suite!([] lab);

/// Bytes of memory for so many vectors of two dimensions.
fn memory_for(vectors: u64) -> u64 {
    vectors * (2 * 4 + 64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_all_is_found() {
    let lab = lab().await;
    // Room for two of eight collections.
    let vectors = lab.vectors_with(VectorLimits {
        memory: memory_for(100),
        ..patient()
    });
    for name in 0..8_u8 {
        for number in 0..40_u8 {
            let text = format!("{name} {number}");
            vectors
                .put(
                    &name.to_string(),
                    &[f32::from(number) + 1.0, f32::from(name) + 1.0],
                    &text,
                )
                .await;
        }
    }
    let searching: Vec<_> = (0..8_u8)
        .map(|task| {
            let vectors = vectors.clone();
            tokio::spawn(async move {
                for number in (0..40_u8).step_by(13) {
                    let name = (task + number) % 8;
                    let values = [f32::from(number) + 1.0, f32::from(name) + 1.0];
                    let found = vectors.texts(&name.to_string(), &values, 1).await;
                    assert_eq!(found, [format!("{name} {number}")]);
                }
            })
        })
        .collect();
    for task in searching {
        task.await.unwrap();
    }
    // One that could never be searched is not stored.
    for number in 40..100_u8 {
        vectors.put("0", &[f32::from(number), 1.0], "more").await;
    }
    let refused = vectors
        .store("0", new_vector(&[1.0, 0.0], "x", json!({})), &member("ana"))
        .await;
    assert!(
        matches!(&refused, Err(VectorError::Limit(text)) if text.contains("VECTOR_MEMORY_MB")),
        "{refused:?}"
    );
    assert_eq!(vectors.texts("0", &[1.0, 0.0], 200).await.len(), 100);
    // An operator who takes memory away is told in the answer.
    let less = lab
        .again(
            &vectors,
            VectorLimits {
                memory: memory_for(50),
                ..patient()
            },
        )
        .await;
    let refused = less.search("0", query(&[1.0, 0.0], 1)).await;
    assert!(
        matches!(&refused, Err(VectorError::Limit(text)) if text.contains("VECTOR_MEMORY_MB")),
        "{refused:?}"
    );
    assert_eq!(less.texts("1", &[1.0, 0.0], 200).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_files_are_open_and_all_is_kept() {
    let lab = lab().await;
    let limits = VectorLimits { open: 4, ..patient() };
    let first = lab.vectors_with(limits);
    let meshes: Vec<Vectors> = (0..10)
        .map(|number| Vectors {
            mesh: format!("mesh{number}").into(),
            ..first.clone()
        })
        .collect();
    for round in 0..3_u8 {
        for mesh in &meshes {
            mesh.put("docs", &[1.0, f32::from(round)], &round.to_string()).await;
            assert_eq!(mesh.texts("docs", &[1.0, 0.0], 10).await.len(), usize::from(round) + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_has_its_part_of_the_disk() {
    let lab = lab().await;
    let vectors = lab.vectors_with(VectorLimits {
        quota: 1024 * 1024,
        ..patient()
    });
    let text = "x".repeat(30_000);
    let mut stored = 0_usize;
    let full = loop {
        match vectors
            .store("docs", new_vector(&[1.0, 0.0], &text, json!({})), &member("ana"))
            .await
        {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "there is no limit");
    };
    assert!(
        matches!(&full, VectorError::Limit(text) if text.contains("1 MiB")),
        "{full:?}"
    );
    assert!(stored > 10);
    assert_eq!(
        vectors.texts("docs", &[1.0, 0.0], 100).await.len(),
        stored,
        "what was confirmed, and nothing else"
    );
    let hits = vectors.search("docs", query(&[1.0, 0.0], 1)).await.unwrap();
    vectors.delete("docs", hits[0].id, &member("ana")).await.unwrap();
    vectors.put("docs", &[1.0, 0.0], "small").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_an_error_and_no_empty_answer() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let lab = lab_in(directory.clone());
    let vectors = lab.vectors();
    vectors.put("docs", &[1.0, 0.0], "one").await;
    vectors.backend.close().await;
    for file in std::fs::read_dir(directory.path().join("vectors")).unwrap().flatten() {
        std::fs::write(file.path(), vec![0xA5; 20_000]).unwrap();
    }
    let vectors = lab.again(&vectors, patient()).await;
    let searched = vectors.search("docs", query(&[1.0, 0.0], 1)).await;
    assert!(matches!(searched, Err(VectorError::Unavailable(_))), "{searched:?}");
    let listed = vectors.backend.collections(&vectors.mesh, &[]).await;
    assert!(matches!(listed, Err(VectorError::Unavailable(_))), "{listed:?}");
    let stored = vectors
        .store("docs", new_vector(&[1.0, 0.0], "x", json!({})), &member("ana"))
        .await;
    assert!(matches!(stored, Err(VectorError::Unavailable(_))), "{stored:?}");
}
