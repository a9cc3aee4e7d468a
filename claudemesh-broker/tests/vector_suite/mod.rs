//! What vectors promise, wherever they are kept.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod exact;
mod rules;

pub use rules::{
    a_collection_ends_with_its_last_vector, an_id_names_one_vector, limits_are_kept_and_told,
    who_may_not_changes_nothing,
};

pub use exact::{filters_and_hidden_members_leave_the_true_nearest, recall_at_10_is_at_least_99_of_100};

use claudemesh_broker::backends::vector::{
    Actor, Filter, Hit, Metadata, NewVector, Query, Stored, UnitVector, VectorBackend, VectorError, VectorLimits, tags,
};
use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Vectors, and how to open them again.
pub struct Lab {
    pub engine: &'static str,
    pub open: Box<dyn Fn(VectorLimits) -> Arc<dyn VectorBackend> + Send + Sync>,
}

/// The vectors of one mesh.
#[derive(Clone)]
pub struct Vectors {
    pub backend: Arc<dyn VectorBackend>,
    pub mesh: MeshId,
}

pub fn patient() -> VectorLimits {
    VectorLimits {
        time: Duration::from_secs(60),
        ..VectorLimits::default()
    }
}

impl Lab {
    pub fn vectors(&self) -> Vectors {
        self.vectors_with(patient())
    }

    /// A mesh that nobody has used.
    pub fn vectors_with(&self, limits: VectorLimits) -> Vectors {
        Vectors {
            backend: (self.open)(limits),
            mesh: MeshId::from(claudemesh_crypto::random_id()),
        }
    }

    /// The same vectors as another process would find them.
    pub async fn again(&self, vectors: &Vectors, limits: VectorLimits) -> Vectors {
        vectors.backend.close().await;
        Vectors {
            backend: (self.open)(limits),
            mesh: vectors.mesh.clone(),
        }
    }
}

pub fn member(name: &str) -> Actor {
    Actor {
        member: MemberId::from(name),
        manages: false,
        hidden: Vec::new(),
    }
}

pub fn unit(values: &[f32]) -> UnitVector {
    UnitVector::new(values.to_vec()).unwrap()
}

pub fn metadata(value: Value) -> Metadata {
    serde_json::from_value(value).unwrap()
}

pub fn new_vector(values: &[f32], text: &str, about: Value) -> NewVector {
    let metadata = metadata(about);
    NewVector {
        id: uuid::Builder::from_random_bytes(claudemesh_crypto::random_bytes()).into_uuid(),
        is_chosen: false,
        vector: unit(values),
        text: text.to_owned(),
        tags: tags(&metadata).unwrap(),
        metadata,
        by_name: "ana".to_owned(),
        at: Timestamp::from_ms(1_700_000_000_123),
    }
}

pub fn with_id(id: Uuid, new: NewVector) -> NewVector {
    NewVector {
        id,
        is_chosen: true,
        ..new
    }
}

pub fn query(values: &[f32], limit: usize) -> Query {
    Query {
        vector: unit(values),
        limit,
        filter: Filter::default(),
        hidden: Vec::new(),
    }
}

impl Vectors {
    pub async fn store(&self, collection: &str, new: NewVector, by: &Actor) -> Result<Stored, VectorError> {
        self.backend.store(&self.mesh, collection, new, by).await
    }

    pub async fn put(&self, collection: &str, values: &[f32], text: &str) -> Uuid {
        let new = new_vector(values, text, json!({}));
        let id = new.id;
        assert!(!self.store(collection, new, &member("ana")).await.unwrap().replaced);
        id
    }

    pub async fn search(&self, collection: &str, query: Query) -> Result<Vec<Hit>, VectorError> {
        self.backend.search(&self.mesh, collection, query).await
    }

    pub async fn texts(&self, collection: &str, values: &[f32], limit: usize) -> Vec<String> {
        let hits = self.search(collection, query(values, limit)).await.unwrap();
        hits.into_iter().map(|hit| hit.text).collect()
    }

    pub async fn delete(&self, collection: &str, id: Uuid, by: &Actor) -> Result<(), VectorError> {
        self.backend.delete(&self.mesh, collection, id, by).await
    }

    /// Names, dimensions and numbers of vectors.
    pub async fn list(&self) -> Vec<(String, u32, u64)> {
        let listed = self.backend.collections(&self.mesh, &[]).await.unwrap();
        let listed = listed.into_iter();
        listed
            .map(|found| (found.name, found.dimensions, found.vectors))
            .collect()
    }
}

macro_rules! suite {
    ($attributes:tt $lab:ident) => {
        vector_suite::suite! { @all $attributes $lab
            defect_036_037_sub_e_13_vectors_are_stored_found_by_direction_and_deleted
            all_is_there_after_a_restart
            the_first_vector_fixes_the_dimension
            of_two_first_vectors_exactly_one_counts
            two_members_store_at_once
            an_id_names_one_vector
            who_may_not_changes_nothing
            meshes_are_apart
            names_are_told_apart
            a_collection_ends_with_its_last_vector
            limits_are_kept_and_told
            recall_at_10_is_at_least_99_of_100
            filters_and_hidden_members_leave_the_true_nearest
        }
    };
    (@all $attributes:tt $lab:ident $($name:ident)+) => { $( vector_suite::suite!(@one $attributes $lab $name); )+ };
    (@one [$($attribute:meta)?] $lab:ident $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])?
        async fn $name() {
            vector_suite::$name(&$lab().await).await;
        }
    };
}
pub(crate) use suite;

pub async fn defect_036_037_sub_e_13_vectors_are_stored_found_by_direction_and_deleted(lab: &Lab) {
    let vectors = lab.vectors();
    assert_eq!(vectors.backend.engine(), lab.engine);
    assert_eq!(vectors.list().await, []);
    let missing = vectors.search("docs", query(&[1.0, 0.0], 5)).await.unwrap_err();
    assert_eq!(missing, VectorError::NoCollection("docs".to_owned()));
    let about =
        json!({ "n": 18_446_744_073_709_551_615_u64, "x": 1.0, "deep": { "a": [1, null] }, "odd.key[0]": "é\"" });
    let new = new_vector(&[30.0, 40.0, 0.0], "right up", about.clone());
    let id = new.id;
    assert!(!vectors.store("docs", new, &member("ana")).await.unwrap().replaced);
    vectors.put("docs", &[1.0, 0.0, 0.0], "right").await;
    vectors.put("docs", &[-1.0, 0.0, 0.0], "left").await;

    let hits = vectors.search("docs", query(&[6.0, 8.0, 0.0], 10)).await.unwrap();
    let texts: Vec<_> = hits.iter().map(|hit| hit.text.as_str()).collect();
    assert_eq!(texts, ["right up", "right", "left"]);
    for (hit, cosine) in hits.iter().zip([1.0, 0.6, -0.6]) {
        assert!((hit.score - cosine).abs() < 1e-5, "{hit:?}");
    }
    let first = &hits[0];
    assert_eq!((first.id, first.metadata.clone()), (id, metadata(about)));
    assert_eq!((first.by_member.as_str(), first.by_name.as_str()), ("ana", "ana"));
    assert_eq!(first.at, Timestamp::from_ms(1_700_000_000_123));
    assert_eq!(vectors.texts("docs", &[0.0, 1.0, 0.0], 1).await, ["right up"]);
    assert_eq!(vectors.list().await, [("docs".to_owned(), 3, 3)]);

    vectors.delete("docs", id, &member("ana")).await.unwrap();
    assert_eq!(vectors.texts("docs", &[6.0, 8.0, 0.0], 10).await, ["right", "left"]);
    let gone = vectors.delete("docs", id, &member("ana")).await.unwrap_err();
    assert_eq!(gone, VectorError::NoVector);
    let missing = vectors.delete("none", id, &member("ana")).await.unwrap_err();
    assert_eq!(missing, VectorError::NoCollection("none".to_owned()));
}

pub async fn all_is_there_after_a_restart(lab: &Lab) {
    let mut vectors = lab.vectors();
    let one = vectors.put("docs", &[1.0, 0.0], "one").await;
    vectors.put("docs", &[0.0, 1.0], "two").await;
    vectors.put("other", &[1.0], "else").await;
    for _ in 0..2 {
        vectors = lab.again(&vectors, patient()).await;
        assert_eq!(vectors.texts("docs", &[1.0, 0.1], 5).await, ["one", "two"]);
        assert_eq!(
            vectors.list().await,
            [("docs".to_owned(), 2, 2), ("other".to_owned(), 1, 1)]
        );
    }
    vectors = lab.again(&vectors, patient()).await;
    // Without a search before, nothing of it is in memory.
    vectors.delete("docs", one, &member("ana")).await.unwrap();
    vectors.put("docs", &[1.0, 1.0], "three").await;
    vectors = lab.again(&vectors, patient()).await;
    assert_eq!(vectors.texts("docs", &[1.0, 0.1], 5).await, ["three", "two"]);
}

pub async fn the_first_vector_fixes_the_dimension(lab: &Lab) {
    let vectors = lab.vectors();
    for dimensions in [1_usize, 2, 17, 768, 1536, 4096] {
        let name = format!("d{dimensions}");
        let mut values = vec![0.25; dimensions];
        vectors.put(&name, &values, "first").await;
        values.push(1.0);
        values.truncate(4096);
        if values.len() > dimensions {
            let wrong = VectorError::Dimension {
                collection: name.clone(),
                expected: dimensions,
                found: dimensions + 1,
            };
            let refused = vectors
                .store(&name, new_vector(&values, "no", json!({})), &member("ana"))
                .await;
            assert_eq!(refused.unwrap_err(), wrong);
            assert_eq!(vectors.search(&name, query(&values, 1)).await.unwrap_err(), wrong);
        }
        assert_eq!(vectors.texts(&name, &vec![0.5; dimensions], 5).await, ["first"]);
    }
}

pub async fn of_two_first_vectors_exactly_one_counts(lab: &Lab) {
    let vectors = lab.vectors();
    for round in 0..6 {
        let name = format!("race {round}");
        let store = |dimensions: usize| {
            let (vectors, name) = (vectors.clone(), name.clone());
            tokio::spawn(async move {
                let new = new_vector(&vec![1.0; dimensions], &dimensions.to_string(), json!({}));
                vectors.store(&name, new, &member("ana")).await
            })
        };
        let racing = [store(2), store(3), store(2), store(3)];
        let mut results = Vec::new();
        for racer in racing {
            results.push(racer.await.unwrap());
        }
        let listed = vectors.list().await;
        let (_, dimensions, count) = listed.iter().find(|(found, ..)| *found == name).unwrap();
        assert_eq!(*count, 2, "{results:?}");
        for (result, own) in results.iter().zip([2, 3, 2, 3]) {
            match result {
                Ok(_) => assert_eq!(own, *dimensions),
                Err(VectorError::Dimension { expected, found, .. }) => {
                    assert_eq!((*expected as u32, *found as u32), (*dimensions, own));
                    assert_ne!(own, *dimensions);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

pub async fn two_members_store_at_once(lab: &Lab) {
    let vectors = lab.vectors();
    let add = |name: &'static str| {
        let vectors = vectors.clone();
        tokio::spawn(async move {
            for number in 0..40 {
                let values = [1.0, number as f32, if name == "ana" { 1.0 } else { -1.0 }];
                let new = new_vector(&values, &format!("{name} {number}"), json!({}));
                vectors.store("docs", new, &member(name)).await.unwrap();
                // What is stored is found at once.
                let found = vectors.texts("docs", &values, 1).await;
                assert_eq!(found, [format!("{name} {number}")]);
            }
        })
    };
    let (one, two) = (add("ana"), add("ben"));
    one.await.unwrap();
    two.await.unwrap();
    assert_eq!(vectors.list().await, [("docs".to_owned(), 3, 80)]);
    let mut texts = vectors.texts("docs", &[1.0, 1.0, 1.0], 100).await;
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 80);
}

pub async fn meshes_are_apart(lab: &Lab) {
    let ours = lab.vectors();
    let theirs = Vectors {
        mesh: MeshId::from(claudemesh_crypto::random_id()),
        ..ours.clone()
    };
    let id = Uuid::from_bytes([6; 16]);
    let secret = with_id(id, new_vector(&[1.0, 0.0], "ours", json!({ "k": "v" })));
    ours.store("docs", secret, &member("ana")).await.unwrap();
    assert_eq!(theirs.list().await, []);
    let missing = VectorError::NoCollection("docs".to_owned());
    assert_eq!(theirs.search("docs", query(&[1.0, 0.0], 5)).await.unwrap_err(), missing);
    let everything = Actor {
        manages: true,
        ..member("ana")
    };
    assert_eq!(theirs.delete("docs", id, &everything).await.unwrap_err(), missing);
    let same = with_id(id, new_vector(&[0.0, 1.0, 0.0], "theirs", json!({ "k": "v" })));
    assert!(!theirs.store("docs", same, &member("ana")).await.unwrap().replaced);
    theirs.delete("docs", id, &everything).await.unwrap();
    assert_eq!(ours.texts("docs", &[1.0, 0.0], 5).await, ["ours"]);
    for odd in ["../x", "", "a'; DROP TABLE vector; --", "é"] {
        let odd = Vectors {
            mesh: MeshId::from(format!("{odd}{}", claudemesh_crypto::random_id())),
            ..ours.clone()
        };
        assert_eq!(odd.list().await, []);
        odd.put("docs", &[1.0], "odd").await;
        assert_eq!(odd.texts("docs", &[1.0], 5).await, ["odd"]);
    }
}

pub async fn names_are_told_apart(lab: &Lab) {
    let vectors = lab.vectors();
    let longest = "-a".repeat(32);
    let mut names = vec![
        "docs",
        "Docs",
        "do cs",
        "do-cs",
        "do_cs",
        "do/cs",
        "../docs",
        "東京",
        "é",
        "'; --",
        "\"*?<>|:\\",
        "🚀",
        "-2d-",
        &longest,
    ];
    for name in &names {
        vectors.put(name, &[1.0, 0.0], name).await;
    }
    for name in &names {
        assert_eq!(vectors.texts(name, &[1.0, 0.0], 5).await, [*name]);
    }
    names.sort_unstable();
    let listed = vectors.list().await;
    let listed: Vec<_> = listed.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(listed, names);
}
