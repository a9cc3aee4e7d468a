//! Vectors in a Qdrant server.
#![cfg(feature = "qdrant")]
#![allow(clippy::unwrap_used)]

mod vector_suite;

use claudemesh_broker::backends::vector::QdrantVectors;
use claudemesh_broker::config::{QdrantSettings, Secret};
use std::sync::Arc;
use vector_suite::Lab;

/// Each test works in meshes of its own; what they leave at the server is small.
async fn lab() -> Lab {
    let url = std::env::var("QDRANT_URL").expect("QDRANT_URL");
    let key = std::env::var("QDRANT_API_KEY").ok().map(Secret::from);
    let settings = QdrantSettings::new(&url, key).unwrap();
    Lab {
        engine: "qdrant",
        open: Box::new(move |limits| Arc::new(QdrantVectors::new(&settings, limits).unwrap())),
    }
}

vector_suite::suite!([ignore = "set QDRANT_URL (and QDRANT_API_KEY) to run on a Qdrant server"] lab);
