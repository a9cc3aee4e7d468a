//! Vectors. Everybody finds what its author lets them `state-read`; the author and those who manage the mesh replace and
//! delete.

use claudemesh_crypto::random_bytes;
use claudemesh_proto::limits::{
    DEFAULT_VECTOR_RESULTS, MAX_COLLECTION_NAME_BYTES, MAX_VECTOR_METADATA_BYTES, MAX_VECTOR_TEXT_BYTES,
};
use claudemesh_proto::model::{Capability, MemberId, Timestamp};
use claudemesh_proto::ops::{
    Ack, CollectionList, EmbedderInfo, ListCollections, VectorDelete, VectorDeleted, VectorMatch, VectorResults,
    VectorSearch, VectorStore, VectorStored,
};
use claudemesh_proto::{ErrorCode, ErrorFrame, Permission};
use serde_json::json;
use uuid::Uuid;

use super::author_name;
use super::text::{not_blank, within_answer};
use crate::Broker;
use crate::backends::vector::{Actor, Filter, Hit, Metadata, NewVector, Query, UnitVector, VectorError, tags};
use crate::context::{Context, Handle};

/// Names that are offered instead of one that is unknown.
const SUGGESTED: usize = 20;

fn invalid(field: &str, text: impl Into<String>) -> ErrorFrame {
    ErrorFrame::new(ErrorCode::InvalidRequest, text).at(field)
}

fn too_large(field: &str, what: &str, bytes: usize, limit: usize, next: &str) -> ErrorFrame {
    let text = format!("{what} has {bytes} bytes, the limit is {limit}; {next}");
    ErrorFrame::new(ErrorCode::TooLarge, text).at(field)
}

fn check_name(name: &str) -> Result<(), ErrorFrame> {
    let field = "/collection";
    if name.len() > MAX_COLLECTION_NAME_BYTES {
        let next = "use a shorter one";
        return Err(too_large(
            field,
            "the name",
            name.len(),
            MAX_COLLECTION_NAME_BYTES,
            next,
        ));
    }
    if name.trim() != name || name.is_empty() || name.chars().any(char::is_control) {
        let text = "a collection's name has no control characters, and no white space at its ends";
        return Err(invalid(field, text));
    }
    Ok(())
}

fn check_id(id: &str) -> Result<Uuid, ErrorFrame> {
    let text = "an id of a vector is a UUID, such as 67e55044-10b1-426f-9247-bb680e5fe0c8";
    Uuid::try_parse(id).map_err(|_| invalid("/id", text))
}

fn hidden(cx: &Context) -> Vec<MemberId> {
    let state = cx.session.mesh.lock();
    state.mesh.hidden_from(&cx.session.member, Capability::StateRead)
}

fn actor(cx: &Context) -> Actor {
    let hidden = hidden(cx);
    let state = cx.session.mesh.lock();
    Actor {
        member: cx.session.member.clone(),
        manages: state.mesh.permission(&cx.session.member, Permission::Manage),
        hidden,
    }
}

/// The caller's vector, else the embedder's for the text.
async fn direction(cx: &Context, given: Option<Vec<f32>>, text: &str, field: &str) -> Result<UnitVector, ErrorFrame> {
    if let Some(given) = given {
        return UnitVector::new(given).map_err(|problem| invalid("/vector", problem));
    }
    let Some(embedder) = &cx.broker.embedder else {
        let text = "no embedder is configured on this broker, so texts get no vectors: send `vector`, or ask the operator to \
                    set EMBEDDINGS_URL and EMBEDDINGS_MODEL";
        return Err(ErrorFrame::new(ErrorCode::VectorError, text).at("/vector"));
    };
    let values = embedder.embed(text).await.map_err(|error| error.to_frame().at(field))?;
    UnitVector::new(values).map_err(|problem| {
        tracing::warn!(problem, "the embedder's vector cannot be used");
        ErrorFrame::new(
            ErrorCode::VectorError,
            format!("the embedder made no usable vector: {problem}"),
        )
        .at(field)
    })
}

/// The error as its caller may know it; with the names that there are if the collection is unknown.
async fn told(cx: &Context, error: VectorError) -> ErrorFrame {
    let frame = error.to_frame();
    if !matches!(error, VectorError::NoCollection(_)) {
        return frame;
    }
    let known = cx.broker.vectors.collections(cx.session.mesh_id(), &hidden(cx)).await;
    let names = known.unwrap_or_default().into_iter().map(|collection| collection.name);
    frame.suggest(names.take(SUGGESTED))
}

impl Handle<VectorStore> for Broker {
    async fn handle(cx: Context, request: VectorStore) -> Result<VectorStored, ErrorFrame> {
        let VectorStore {
            collection,
            text,
            metadata,
            vector,
            id,
        } = request;
        check_name(&collection)?;
        let bytes = text.len();
        if bytes > MAX_VECTOR_TEXT_BYTES {
            let next = "store it in parts, each with a vector of its own";
            return Err(too_large("/text", "the text", bytes, MAX_VECTOR_TEXT_BYTES, next));
        }
        not_blank(&text, "/text")?;
        let metadata: Metadata = metadata.unwrap_or_default();
        let size = json!(metadata).to_string().len();
        if size > MAX_VECTOR_METADATA_BYTES {
            let next = "keep what is large in a file, and its id here";
            return Err(too_large(
                "/metadata",
                "the metadata",
                size,
                MAX_VECTOR_METADATA_BYTES,
                next,
            ));
        }
        let tags = tags(&metadata).map_err(|problem| ErrorFrame::new(ErrorCode::TooLarge, problem).at("/metadata"))?;
        let is_chosen = id.is_some();
        let id = match &id {
            Some(id) => check_id(id)?,
            None => uuid::Builder::from_random_bytes(random_bytes()).into_uuid(),
        };
        let vector = direction(&cx, vector, &text, "/text").await?;
        let dimensions = vector.dimensions();
        let new = NewVector {
            id,
            is_chosen,
            vector,
            text,
            metadata,
            tags,
            by_name: author_name(&cx),
            at: Timestamp::from_ms(cx.now_ms),
        };
        let (mesh, actor) = (cx.session.mesh_id(), actor(&cx));
        let stored = match cx.broker.vectors.store(mesh, &collection, new, &actor).await {
            Ok(stored) => stored,
            Err(error) => return Err(told(&cx, error).await),
        };
        // Metadata only: the log is for ever, a vector is not.
        let payload = json!({
            "collection": collection, "vectorId": id.to_string(), "bytes": bytes, "dimensions": dimensions, "replaced": stored.replaced,
        });
        cx.record(cx.audit_event::<VectorStore>(payload)).await?;
        Ok(VectorStored {
            id: id.to_string(),
            replaced: stored.replaced,
            dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
        })
    }
}

impl Handle<VectorSearch> for Broker {
    async fn handle(cx: Context, request: VectorSearch) -> Result<VectorResults, ErrorFrame> {
        check_name(&request.collection)?;
        let filter = Filter::new(&request.filter)
            .map_err(|error| invalid(&format!("/filter{}", error.field), error.problem.clone()))?;
        if request.vector.is_none() {
            if request.query.len() > MAX_VECTOR_TEXT_BYTES {
                let next = "ask with fewer words";
                let bytes = request.query.len();
                return Err(too_large("/query", "the query", bytes, MAX_VECTOR_TEXT_BYTES, next));
            }
            not_blank(&request.query, "/query")?;
        }
        let vector = direction(&cx, request.vector, &request.query, "/query").await?;
        let limit = request.limit.and_then(|limit| usize::try_from(limit).ok());
        let query = Query {
            vector,
            limit: limit.unwrap_or(DEFAULT_VECTOR_RESULTS),
            filter,
            hidden: hidden(&cx),
        };
        let found = cx
            .broker
            .vectors
            .search(cx.session.mesh_id(), &request.collection, query)
            .await;
        let hits = match found {
            Ok(hits) => hits,
            Err(error) => return Err(told(&cx, error).await),
        };
        let size = |hit: &Hit| hit.text.len() + json!(hit.metadata).to_string().len();
        let (hits, truncated) = within_answer(hits, size);
        let results = hits.into_iter().map(|hit| VectorMatch {
            id: hit.id.to_string(),
            text: hit.text,
            // More digits say nothing.
            score: (f64::from(hit.score) * 1e6).round() / 1e6,
            metadata: hit.metadata,
            stored_by: Some(hit.by_name),
            stored_by_id: Some(hit.by_member),
            stored_at: Some(hit.at),
        });
        Ok(VectorResults {
            results: results.collect(),
            truncated,
        })
    }
}

impl Handle<VectorDelete> for Broker {
    async fn handle(cx: Context, request: VectorDelete) -> Result<VectorDeleted, ErrorFrame> {
        let VectorDelete { collection, id } = request;
        check_name(&collection)?;
        let uuid = check_id(&id)?;
        let (mesh, actor) = (cx.session.mesh_id(), actor(&cx));
        if let Err(error) = cx.broker.vectors.delete(mesh, &collection, uuid, &actor).await {
            return Err(told(&cx, error).await);
        }
        let payload = json!({ "collection": collection, "vectorId": uuid.to_string() });
        cx.record(cx.audit_event::<VectorDelete>(payload)).await?;
        Ok(VectorDeleted {
            ack: Ack {
                id: id.clone(),
                message_id: id,
                queued: false,
            },
        })
    }
}

impl Handle<ListCollections> for Broker {
    async fn handle(cx: Context, _: ListCollections) -> Result<CollectionList, ErrorFrame> {
        let listed = cx.broker.vectors.collections(cx.session.mesh_id(), &hidden(&cx)).await;
        let details = listed.map_err(|error| error.to_frame())?;
        let embedder = cx.broker.embedder.as_ref().map(|embedder| EmbedderInfo {
            model: embedder.model().to_owned(),
            dimensions: u32::try_from(embedder.dimensions()).unwrap_or(u32::MAX),
        });
        Ok(CollectionList {
            collections: details.iter().map(|collection| collection.name.clone()).collect(),
            details,
            embedder,
        })
    }
}
