//! Texts that are found by meaning.

use super::enrolment::{patch, permission, permissions};
use super::kit::*;
use super::memory::grant;
use axum::routing::post;
use axum::{Json, Router};
use claudemesh_broker::config::EmbedderSettings;
use claudemesh_client::proto::ErrorCode;
use claudemesh_client::proto::model::{Capability, Permissions, Role};
use claudemesh_client::proto::ops::{
    AuditQuery, CollectionList, ListCollections, MeshInfo, RemoveMember, VectorDelete, VectorResults, VectorSearch,
    VectorStore,
};
use claudemesh_client::{ClientError, MeshClient};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn new(collection: &str, text: &str, vector: &[f32]) -> VectorStore {
    VectorStore {
        collection: collection.to_owned(),
        text: text.to_owned(),
        vector: Some(vector.to_vec()),
        ..VectorStore::default()
    }
}

fn near(collection: &str, vector: &[f32]) -> VectorSearch {
    VectorSearch {
        collection: collection.to_owned(),
        vector: Some(vector.to_vec()),
        ..VectorSearch::default()
    }
}

async fn put(client: &MeshClient, collection: &str, text: &str, vector: &[f32]) -> String {
    client.request(new(collection, text, vector)).await.unwrap().id
}

async fn delete(client: &MeshClient, collection: &str, id: &str) -> Result<String, ClientError> {
    let request = VectorDelete {
        collection: collection.to_owned(),
        id: id.to_owned(),
    };
    Ok(client.request(request).await?.ack.id)
}

fn texts(found: &VectorResults) -> Vec<&str> {
    found.results.iter().map(|result| result.text.as_str()).collect()
}

async fn collections(client: &MeshClient) -> CollectionList {
    client.request(ListCollections {}).await.unwrap()
}

fn fields(value: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(value).unwrap()
}

pub async fn defect_036_037_texts_are_found_by_meaning(database: Database) {
    let (mut lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    assert_eq!(collections(&ana).await, CollectionList::default());
    // More than the hundred that were looked at, and the one that fits comes last.
    for number in 0..120_u8 {
        put(&ana, "docs", &format!("text {number}"), &[-1.0, f32::from(number) / 120.0, 0.0]).await;
    }
    let best = VectorStore {
        metadata: Some(fields(json!({ "lang": "rust", "year": 2024 }))),
        ..new("docs", "the one that fits", &[3.0, 4.0, 0.0])
    };
    let id = ben.request(best).await.unwrap();
    assert_eq!((id.replaced, id.dimensions), (false, 3));
    let found = cara.request(near("docs", &[0.6, 0.8, 0.0])).await.unwrap();
    assert_eq!((found.results.len(), found.truncated), (10, false));
    let first = &found.results[0];
    assert_eq!((&first.id, first.text.as_str(), first.score), (&id.id, "the one that fits", 1.0));
    assert_eq!(first.metadata, fields(json!({ "lang": "rust", "year": 2024 })));
    assert_eq!((first.stored_by.as_deref(), &first.stored_by_id), (Some("ben"), &Some(ben.person.identity.member_id.clone())));
    assert!(first.stored_at.is_some());
    assert!(found.results.is_sorted_by(|a, b| a.score >= b.score), "the score is the cosine, not always 1");
    assert!(found.results[1].score < 0.9);
    let filtered = VectorSearch {
        filter: fields(json!({ "lang": ["go", "rust"], "year": 2024.0 })),
        ..near("docs", &[-1.0, 0.0, 0.0])
    };
    assert_eq!(texts(&cara.request(filtered).await.unwrap()), ["the one that fits"]);
    let tool = json!({ "collection": "docs", "query": "", "vector": [3, 4, 0], "limit": 1 });
    let found = cara.call_tool("vector_search", tool).await.unwrap();
    assert_eq!((&found["results"][0]["text"], &found["results"][0]["score"]), (&json!("the one that fits"), &json!(1.0)));

    let listed = collections(&cara).await;
    assert_eq!((listed.collections, listed.embedder), (vec!["docs".to_owned()], None));
    assert_eq!((listed.details[0].dimensions, listed.details[0].vectors), (3, 121));
    assert_eq!(cara.request(MeshInfo {}).await.unwrap().collections, ["docs"]);
    lab.restart().await;
    let found = within("the connection", cara.request(near("docs", &[0.6, 0.8, 0.0]))).await.unwrap();
    assert_eq!(found.results[0].id, id.id);
    assert_eq!(delete(&ben, "docs", &id.id).await.unwrap(), id.id);
    let found = cara.request(near("docs", &[0.6, 0.8, 0.0])).await.unwrap();
    assert!(!texts(&found).contains(&"the one that fits"));
    assert_eq!(code(delete(&ben, "docs", &id.id).await), ErrorCode::NotFound);

    // Another mesh has collections of its own.
    let olga = lab.mesh("Other", "olga").await;
    assert_eq!(collections(&olga).await, CollectionList::default());
    let Err(ClientError::Refused(frame)) = olga.request(near("docs", &[0.6, 0.8, 0.0])).await else {
        panic!("it is another mesh's");
    };
    assert_eq!((frame.code, frame.suggestions), (ErrorCode::NotFound, Vec::new()));
    let Err(ClientError::Refused(frame)) = cara.request(near("dosc", &[0.6, 0.8, 0.0])).await else {
        panic!("there is no such collection");
    };
    assert_eq!((frame.code, frame.suggestions), (ErrorCode::NotFound, vec!["docs".to_owned()]));
    lab.finish().await;
}

/// A service with the API of an embedder: a dimension for each of a few words, and one for all others.
async fn embedder() -> String {
    const WORDS: [&str; 5] = ["cat", "dog", "deploy", "release", "bread"];
    let embed = async |Json(request): Json<Value>| {
        let mut vector = [0.01_f32; WORDS.len() + 1];
        for word in request["input"].as_str().unwrap().split_whitespace() {
            vector[WORDS.iter().position(|known| *known == word).unwrap_or(WORDS.len())] += 1.0;
        }
        Json(json!({ "data": [{ "object": "embedding", "index": 0, "embedding": vector }], "model": request["model"] }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/embeddings", post(embed));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

pub async fn an_embedder_makes_the_vectors(database: Database) {
    let url = embedder().await;
    let (lab, Three { ana, ben, .. }) = Lab::with_three_and(database, |config| {
        let settings = EmbedderSettings::new(&url, "words-1").unwrap();
        config.vectors.embedder = Some(EmbedderSettings { dimensions: 6, ..settings });
    })
    .await;
    let store = async |text: &str| {
        let request = json!({ "collection": "notes", "text": text });
        ana.call_tool("vector_store", request).await.unwrap()
    };
    assert_eq!(store("the cat sat").await["dimensions"], 6);
    store("deploy from main").await;
    store("bread and butter").await;
    let search = VectorSearch {
        collection: "notes".to_owned(),
        query: "when do we deploy".to_owned(),
        limit: Some(1),
        ..VectorSearch::default()
    };
    assert_eq!(texts(&ben.request(search.clone()).await.unwrap()), ["deploy from main"]);
    let embedder = collections(&ben).await.embedder.unwrap();
    assert_eq!((embedder.model.as_str(), embedder.dimensions), ("words-1", 6));
    // An own vector goes before the embedder's, and must be as long as the others.
    let own = VectorSearch {
        vector: Some(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ..search
    };
    assert_eq!(texts(&ben.request(own).await.unwrap()), ["the cat sat"]);
    assert_eq!(refusal(ben.request(new("notes", "x", &[1.0])).await), (ErrorCode::VectorError, Some("/vector".to_owned())));
    put(&ben, "others", "three", &[1.0, 2.0, 3.0]).await;
    let request = json!({ "collection": "others", "text": "six" });
    assert_eq!(code(ana.call_tool("vector_store", request).await), ErrorCode::VectorError);
    lab.finish().await;
}

pub async fn who_may_not_is_refused_and_nothing_is_changed(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let id = put(&ben, "docs", "ben's", &[1.0, 0.0]).await;
    put(&ana, "docs", "ana's", &[0.0, 1.0]).await;
    let over = |client: &MeshClient, text: &str| {
        let request = VectorStore {
            id: Some(id.clone()),
            ..new("docs", text, &[1.0, 0.0])
        };
        let client = client.clone();
        async move { client.request(request).await }
    };
    assert_eq!(refusal(delete(&cara, "docs", &id).await), (ErrorCode::Forbidden, Some("/id".to_owned())));
    assert_eq!(refusal(over(&cara, "cara's").await), (ErrorCode::Forbidden, Some("/id".to_owned())));
    assert!(over(&ben, "ben's again").await.unwrap().replaced);
    let all = async |client: &MeshClient| {
        let found = client.request(near("docs", &[1.0, 0.1])).await.unwrap();
        found.results.into_iter().map(|result| result.text).collect::<Vec<_>>()
    };
    assert_eq!(all(&cara).await, ["ben's again", "ana's"]);

    // Whom ben does not let read, that one does not learn of it.
    grant(&ben, cara.key(), &[Capability::Read, Capability::Dm]).await;
    assert_eq!(all(&cara).await, ["ana's"]);
    assert_eq!(code(delete(&cara, "docs", &id).await), ErrorCode::NotFound);
    assert_eq!(collections(&cara).await.details[0].vectors, 1);
    let alone = put(&ben, "ben's own", "secret", &[1.0]).await;
    assert_eq!(collections(&cara).await.collections, ["docs"]);
    assert_eq!(cara.request(MeshInfo {}).await.unwrap().collections, ["docs"]);
    assert_eq!(all(&ana).await, ["ben's again", "ana's"]);

    let nothing = Permissions {
        can_write_state: Some(false),
        ..Permissions::default()
    };
    patch(&lab, &ana, &ben, permissions(nothing)).await.unwrap();
    assert_eq!(code(over(&ben, "no").await), ErrorCode::Forbidden);
    assert_eq!(code(delete(&ben, "docs", &id).await), ErrorCode::Forbidden);
    assert_eq!(all(&ben).await.len(), 2, "reading is free");
    // What a removed member stored stays, and admins delete it.
    let member_id = ben.person.identity.member_id.clone();
    ana.request(RemoveMember { member_id }).await.unwrap();
    assert!(ben.request(near("docs", &[1.0, 0.1])).await.is_err());
    assert_eq!(all(&cara).await, ["ben's again", "ana's"]);
    patch(&lab, &ana, &cara, permission(Role::Admin)).await.unwrap();
    delete(&cara, "docs", &id).await.unwrap();
    delete(&ana, "ben's own", &alone).await.unwrap();
    assert_eq!(collections(&ana).await.collections, ["docs"]);
    // On record without its content.
    let audited = AuditQuery {
        event_type: Some("vector_deleted".to_owned()),
        ..AuditQuery::default()
    };
    let entries = ana.request(audited).await.unwrap().entries;
    let collections: Vec<_> = entries.iter().map(|entry| entry.payload["collection"].as_str().unwrap()).collect();
    assert_eq!((collections.len(), collections.contains(&"ben's own")), (2, true));
    lab.finish().await;
}

pub async fn what_does_not_fit_is_refused_with_its_field(database: Database) {
    let (lab, Three { ana, .. }) = Lab::with_three(database).await;
    let none = VectorStore {
        vector: None,
        ..new("docs", "x", &[])
    };
    let Err(ClientError::Refused(frame)) = ana.request(none).await else {
        panic!("there is no embedder");
    };
    assert_eq!((frame.code, frame.field.as_deref()), (ErrorCode::VectorError, Some("/vector")));
    assert!(frame.message.contains("EMBEDDINGS_URL") && frame.message.contains("`vector`"), "{}", frame.message);
    put(&ana, "docs", &"x".repeat(32_768), &vec![0.5; 1536]).await;
    let wide = json!({ "collection": "docs", "text": "x", "vector": vec![0.5; 1536] });
    let with = |pointer: &str, value: Value| {
        let mut request = wide.clone();
        request[pointer] = value;
        request
    };
    let many: serde_json::Map<_, _> = (0..300).map(|number| (number.to_string(), json!(number))).collect();
    for (request, expected, field) in [
        (with("vector", json!(vec![0.5; 768])), ErrorCode::VectorError, "/vector"),
        (with("vector", json!([])), ErrorCode::InvalidRequest, "/vector"),
        (with("vector", json!(vec![0.5; 4097])), ErrorCode::InvalidRequest, "/vector"),
        (with("vector", json!([0, 0, 0])), ErrorCode::InvalidRequest, "/vector"),
        (with("vector", json!([1e300, 1])), ErrorCode::InvalidRequest, "/vector/0"),
        (with("text", json!("語".repeat(11_000))), ErrorCode::TooLarge, "/text"),
        (with("text", json!(" \n")), ErrorCode::InvalidRequest, "/text"),
        (with("collection", json!(" docs")), ErrorCode::InvalidRequest, "/collection"),
        (with("collection", json!("a\nb")), ErrorCode::InvalidRequest, "/collection"),
        (with("collection", json!("語".repeat(22))), ErrorCode::TooLarge, "/collection"),
        (with("metadata", json!({ "a": "x".repeat(17_000) })), ErrorCode::TooLarge, "/metadata"),
        (with("metadata", json!(many)), ErrorCode::TooLarge, "/metadata"),
        (with("id", json!("1234")), ErrorCode::InvalidRequest, "/id"),
    ] {
        let request: VectorStore = serde_json::from_value(request).unwrap();
        let shown = format!("{field} {expected}");
        assert_eq!(refusal(ana.request(request).await), (expected, Some(field.to_owned())), "{shown}");
    }
    let search = |change: &dyn Fn(&mut VectorSearch)| {
        let mut request = near("docs", &vec![0.5; 1536]);
        change(&mut request);
        ana.request(request)
    };
    for (result, expected, field) in [
        (search(&|search| search.vector = Some(vec![1.0; 3])).await, ErrorCode::VectorError, "/vector"),
        (search(&|search| search.vector = None).await, ErrorCode::InvalidRequest, "/query"),
        (search(&|search| search.limit = Some(101)).await, ErrorCode::InvalidRequest, "/limit"),
        (search(&|search| search.filter = fields(json!({ "a": {} }))).await, ErrorCode::InvalidRequest, "/filter/a"),
        (search(&|search| search.filter = fields(json!({ "a": [] }))).await, ErrorCode::InvalidRequest, "/filter/a"),
    ] {
        assert_eq!(refusal(result), (expected, Some(field.to_owned())));
    }
    // A search by text without an embedder is an error too, not an empty list.
    let by_text = search(&|search| (search.vector, search.query) = (None, "x".to_owned())).await;
    assert_eq!(code(by_text), ErrorCode::VectorError);
    assert_eq!(code(delete(&ana, "docs", "0").await), ErrorCode::InvalidRequest);
    assert_eq!(collections(&ana).await.details[0].vectors, 1, "nothing of it was stored");
    // An answer has a size of its own.
    for number in 0..40_u8 {
        put(&ana, "docs", &"y".repeat(32_768), &[vec![0.5; 1535], vec![f32::from(number)]].concat()).await;
    }
    let found = search(&|search| search.limit = Some(100)).await.unwrap();
    assert!(found.truncated && found.results.len() < 41 && found.results.len() > 20);
    lab.finish().await;
}

pub async fn two_members_store_and_create_at_once(database: Database) {
    let (lab, Three { ana, ben, cara }) = Lab::with_three(database).await;
    let first = |client: &MeshClient, dimensions: usize| {
        let client = client.clone();
        tokio::spawn(async move { client.request(new("race", "first", &vec![1.0; dimensions])).await })
    };
    let (one, two) = (first(&ana, 2), first(&ben, 3));
    let results = [within("one", one).await.unwrap(), within("the other", two).await.unwrap()];
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "{results:?}");
    for result in results.into_iter().filter(Result::is_err) {
        assert_eq!(refusal(result), (ErrorCode::VectorError, Some("/vector".to_owned())));
    }
    let add = |client: &MeshClient, sign: f32| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..25_u8 {
                put(&client, "docs", &format!("{sign} {number}"), &[sign, f32::from(number)]).await;
            }
        })
    };
    let (one, two) = (add(&ana, 1.0), add(&ben, -1.0));
    within("ana's vectors", one).await.unwrap();
    within("ben's vectors", two).await.unwrap();
    let every = VectorSearch {
        limit: Some(100),
        ..near("docs", &[1.0, 1.0])
    };
    assert_eq!(cara.request(every).await.unwrap().results.len(), 50);
    lab.finish().await;
}

pub async fn original_clients_use_vectors_as_before(database: Database) {
    let url = embedder().await;
    let (lab, Three { ben, ana: _ana, cara: _cara }) = Lab::with_three_and(database, |config| {
        let settings = EmbedderSettings::new(&url, "words-1").unwrap();
        config.vectors.embedder = Some(EmbedderSettings { dimensions: 6, ..settings });
    })
    .await;
    let (mut old, _) = Socket::v1(&lab, &ben.person, None).await;
    old.send(&json!({ "type": "vector_store", "collection": "notes", "text": "a cat", "metadata": { "k": "v" } })).await;
    let id = old.next_of("vector_stored").await["id"].clone();
    assert!(id.is_string());
    old.send(&json!({ "type": "vector_search", "collection": "notes", "query": "cat" })).await;
    let found = old.next_of("vector_results").await["results"][0].clone();
    assert_eq!((&found["id"], &found["text"], &found["metadata"]), (&id, &json!("a cat"), &json!({ "k": "v" })));
    assert!(found["score"].as_f64().unwrap() > 0.5);
    old.send(&json!({ "type": "list_collections" })).await;
    assert_eq!(old.next_of("collection_list").await["collections"], json!(["notes"]));
    old.send(&json!({ "type": "vector_delete", "collection": "notes", "id": id })).await;
    let ack = old.next_of("ack").await;
    assert_eq!((&ack["id"], &ack["messageId"], &ack["queued"]), (&id, &id, &json!(false)));
    old.send(&json!({ "type": "vector_search", "collection": "notes", "query": "cat" })).await;
    assert_eq!(old.next_of("error").await["code"], "not_found");
    lab.finish().await;
}
