//! Ids, rights, limits, and the end of collections.

use claudemesh_broker::backends::vector::{Actor, Filter, Query, Stored, VectorError, VectorLimits};
use claudemesh_proto::model::{MemberId, MeshId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Lab, Vectors, member, metadata, new_vector, patient, query, with_id};

pub async fn an_id_names_one_vector(lab: &Lab) {
    let vectors = lab.vectors();
    let id = Uuid::from_bytes([9; 16]);
    let put = async |values: &[f32], text: &str, about: Value| {
        let new = with_id(id, new_vector(values, text, about));
        vectors.store("docs", new, &member("ana")).await.unwrap().replaced
    };
    assert!(!put(&[1.0, 0.0], "one", json!({ "v": 1 })).await);
    assert!(
        put(&[1.0, 0.0], "one", json!({ "v": 1 })).await,
        "again is no second one"
    );
    vectors.put("docs", &[0.6, 0.8], "other").await;
    assert!(put(&[0.0, 1.0], "two", json!({ "v": 2 })).await);
    assert_eq!(vectors.texts("docs", &[1.0, 0.0], 5).await, ["other", "two"]);
    assert_eq!(vectors.list().await, [("docs".to_owned(), 2, 2)]);
    let with = |value: i32| Query {
        filter: Filter::new(&metadata(json!({ "v": value }))).unwrap(),
        ..query(&[1.0, 0.0], 5)
    };
    assert_eq!(vectors.search("docs", with(1)).await.unwrap(), []);
    assert_eq!(vectors.search("docs", with(2)).await.unwrap().len(), 1);
    // Two at once with one id of their own: one vector.
    let racing = [1.0, -1.0].map(|x| {
        let vectors = vectors.clone();
        let new = with_id(Uuid::from_bytes([8; 16]), new_vector(&[x, 0.0], "race", json!({})));
        tokio::spawn(async move { vectors.store("docs", new, &member("ana")).await.unwrap().replaced })
    });
    let mut replaced = Vec::new();
    for racer in racing {
        replaced.push(racer.await.unwrap());
    }
    replaced.sort_unstable();
    assert_eq!(
        (replaced.as_slice(), vectors.list().await[0].2),
        ([false, true].as_slice(), 3)
    );
}

pub async fn who_may_not_changes_nothing(lab: &Lab) {
    let vectors = lab.vectors();
    let id = Uuid::from_bytes([7; 16]);
    let mine = |text: &str| with_id(id, new_vector(&[1.0, 0.0], text, json!({})));
    vectors.store("docs", mine("ana's"), &member("ana")).await.unwrap();
    let ben = member("ben");
    let refused = VectorError::NotYours {
        by_name: "ana".to_owned(),
    };
    assert_eq!(vectors.store("docs", mine("ben's"), &ben).await.unwrap_err(), refused);
    assert_eq!(vectors.delete("docs", id, &ben).await.unwrap_err(), refused);
    // Of whom it must not learn: there is nothing, and the name is not told.
    let blind = Actor {
        hidden: vec![MemberId::from("ana")],
        ..member("ben")
    };
    assert_eq!(
        vectors.delete("docs", id, &blind).await.unwrap_err(),
        VectorError::NoVector
    );
    let taken = vectors.store("docs", mine("ben's"), &blind).await.unwrap_err();
    assert!(
        matches!(&taken, VectorError::NotYours { by_name } if by_name != "ana"),
        "{taken:?}"
    );
    assert_eq!(vectors.texts("docs", &[1.0, 0.0], 5).await, ["ana's"]);
    assert_eq!(
        vectors
            .backend
            .collections(&vectors.mesh, &[MemberId::from("ana")])
            .await
            .unwrap(),
        []
    );
    let admin = Actor {
        manages: true,
        ..member("cara")
    };
    assert!(vectors.store("docs", mine("cara's"), &admin).await.unwrap().replaced);
    assert_eq!(vectors.texts("docs", &[1.0, 0.0], 5).await, ["cara's"]);
    vectors.delete("docs", id, &admin).await.unwrap();
    assert_eq!(vectors.list().await, []);
}

pub async fn a_collection_ends_with_its_last_vector(lab: &Lab) {
    let vectors = lab.vectors();
    for dimensions in [2_usize, 3, 2] {
        let values = vec![1.0; dimensions];
        let one = vectors.put("docs", &values, "one").await;
        let two = vectors.put("docs", &values, "two").await;
        assert_eq!(vectors.texts("docs", &values, 5).await.len(), 2);
        for id in [two, one] {
            assert_eq!(vectors.list().await[0].1 as usize, dimensions);
            vectors.delete("docs", id, &member("ana")).await.unwrap();
        }
        assert_eq!(vectors.list().await, []);
        let missing = vectors.search("docs", query(&values, 5)).await.unwrap_err();
        assert_eq!(missing, VectorError::NoCollection("docs".to_owned()));
    }
    // While the last one goes and others come, nothing that was confirmed is lost.
    for round in 0..10 {
        let first = vectors.put("busy", &[1.0, 0.0], "first").await;
        let (going, coming) = (vectors.clone(), vectors.clone());
        let going = tokio::spawn(async move { going.delete("busy", first, &member("ana")).await.unwrap() });
        let coming = tokio::spawn(async move { coming.put("busy", &[0.0, 1.0], "second").await });
        going.await.unwrap();
        let second = coming.await.unwrap();
        assert_eq!(vectors.texts("busy", &[1.0, 0.0], 5).await, ["second"], "{round}");
        vectors.delete("busy", second, &member("ana")).await.unwrap();
    }
}

pub async fn limits_are_kept_and_told(lab: &Lab) {
    let limits = VectorLimits {
        mesh_vectors: 4,
        mesh_collections: 2,
        ..patient()
    };
    let vectors = lab.vectors_with(limits);
    let first = vectors.put("a", &[1.0, 0.0], "1").await;
    vectors.put("b", &[1.0, 0.0], "2").await;
    let limit = |result: Result<Stored, VectorError>, setting: &str| match result {
        Err(VectorError::Limit(text)) => assert!(text.contains(setting), "{text}"),
        other => panic!("{other:?}"),
    };
    let new = || new_vector(&[0.0, 1.0], "more", json!({}));
    limit(
        vectors.store("c", new(), &member("ana")).await,
        "MAX_VECTOR_COLLECTIONS_PER_MESH",
    );
    vectors.put("a", &[1.0, 1.0], "3").await;
    vectors.put("b", &[1.0, 1.0], "4").await;
    limit(vectors.store("a", new(), &member("ana")).await, "MAX_VECTORS_PER_MESH");
    // Replacing takes no room, and deleting gives some.
    let again = with_id(first, new_vector(&[0.5, 1.0], "1 again", json!({})));
    assert!(vectors.store("a", again, &member("ana")).await.unwrap().replaced);
    vectors.delete("a", first, &member("ana")).await.unwrap();
    vectors.put("a", &[0.0, 1.0], "5").await;
    limit(vectors.store("b", new(), &member("ana")).await, "MAX_VECTORS_PER_MESH");
    // Another mesh has room of its own.
    let other = Vectors {
        mesh: MeshId::from(claudemesh_crypto::random_id()),
        ..vectors.clone()
    };
    other.put("a", &[1.0], "1").await;
}
