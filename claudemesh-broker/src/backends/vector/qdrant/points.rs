//! Between vectors and the server's points. A point's id is the vector's UUID: the server takes UUIDs and integers only.

use std::collections::HashMap;

use claudemesh_proto::model::{MemberId, MeshId, Timestamp};
use qdrant_client::Payload;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{Condition, Filter as ServerFilter, PointId, PointStruct, ScoredPoint, Value};
use uuid::Uuid;

use crate::backends::vector::{Actor, Filter, Hit, NewVector, VectorError};

/// Whole id of the mesh.
pub(super) const MESH: &str = "mesh_id";
/// Id of the member that stored it.
pub(super) const AUTHOR: &str = "stored_by";
/// Name of that member.
pub(super) const AUTHOR_NAME: &str = "stored_by_name";
/// What searches filter by.
pub(super) const TAGS: &str = "tags";
const TEXT: &str = "text";
const METADATA: &str = "metadata";
const AT: &str = "stored_at";

/// The fields that searches look at: each has an index.
pub(super) const INDEXED: [&str; 3] = [MESH, AUTHOR, TAGS];

/// The point of a vector. Metadata is JSON in a text, so that numbers come back as they were.
pub(super) fn point(mesh: &MeshId, new: &NewVector, actor: &Actor) -> Result<PointStruct, VectorError> {
    let metadata = serde_json::to_string(&new.metadata).map_err(|error| VectorError::Unavailable(error.to_string()))?;
    let mut payload = Payload::new();
    payload.insert(MESH, mesh.as_str());
    payload.insert(AUTHOR, actor.member.as_str());
    payload.insert(AUTHOR_NAME, new.by_name.as_str());
    payload.insert(AT, new.at.to_string());
    payload.insert(TEXT, new.text.as_str());
    payload.insert(METADATA, metadata);
    payload.insert(TAGS, new.tags.clone());
    Ok(PointStruct::new(point_id(new.id), new.vector.as_slice(), payload))
}

/// The id of a point.
pub(super) fn point_id(id: Uuid) -> PointId {
    PointId::from(id.to_string())
}

/// A text of a point.
pub(super) fn text<'a>(payload: &'a HashMap<String, Value>, key: &str) -> Option<&'a str> {
    match payload.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The vector of a point. `None` if the broker has not written the point.
pub(super) fn hit(point: &ScoredPoint) -> Option<Hit> {
    let id = match point.id.as_ref()?.point_id_options.as_ref()? {
        PointIdOptions::Uuid(id) => Uuid::try_parse(id).ok()?,
        PointIdOptions::Num(_) => return None,
    };
    let payload = &point.payload;
    Some(Hit {
        id,
        score: point.score.clamp(-1.0, 1.0),
        text: text(payload, TEXT)?.to_owned(),
        metadata: serde_json::from_str(text(payload, METADATA)?).ok()?,
        by_member: MemberId::from(text(payload, AUTHOR)?.to_owned()),
        by_name: text(payload, AUTHOR_NAME)?.to_owned(),
        at: text(payload, AT)?.parse::<Timestamp>().ok()?,
    })
}

/// Whether a field has one of these values. A list, also for one value: a single text with white space would be taken for
/// words to search for.
fn is_one_of(field: &str, values: Vec<String>) -> Condition {
    Condition::matches(field, values)
}

/// What a mesh's member may find.
pub(super) fn visible(mesh: &MeshId, filter: &Filter, hidden: &[MemberId]) -> ServerFilter {
    let fields = filter.all.iter().map(|any| is_one_of(TAGS, any.clone()));
    let mut conditions = ServerFilter::must(std::iter::once(of_mesh(mesh)).chain(fields));
    if !hidden.is_empty() {
        let hidden = hidden.iter().map(|member| member.as_str().to_owned());
        conditions.must_not.push(is_one_of(AUTHOR, hidden.collect()));
    }
    conditions
}

fn of_mesh(mesh: &MeshId) -> Condition {
    is_one_of(MESH, vec![mesh.as_str().to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::vector::UnitVector;
    use qdrant_client::qdrant::condition::ConditionOneOf;
    use qdrant_client::qdrant::r#match::MatchValue;

    #[test]
    fn a_vector_comes_back_from_its_point_as_it_was() {
        let metadata: crate::backends::vector::Metadata =
            serde_json::from_str(r#"{"n":18446744073709551615,"x":1.0,"a.b":[1,null,{"c":"d"}]}"#).unwrap();
        let new = NewVector {
            id: Uuid::from_bytes([7; 16]),
            is_chosen: false,
            vector: UnitVector::new(vec![3.0, 4.0]).unwrap(),
            text: "a \u{0} text".to_owned(),
            tags: Vec::new(),
            metadata: metadata.clone(),
            by_name: "ana".to_owned(),
            at: Timestamp::from_ms(1_700_000_000_123),
        };
        let actor = Actor {
            member: "m1".into(),
            manages: false,
            hidden: Vec::new(),
        };
        let point = point(&"mesh".into(), &new, &actor).unwrap();
        let scored = ScoredPoint {
            id: point.id,
            payload: point.payload,
            score: 1.000_001,
            ..ScoredPoint::default()
        };
        let hit = hit(&scored).unwrap();
        assert_eq!((hit.id, hit.score, hit.at), (new.id, 1.0, new.at));
        assert_eq!((hit.text, hit.metadata, hit.by_name), (new.text, metadata, new.by_name));
    }

    #[test]
    fn values_are_compared_as_a_whole() {
        let filter = Filter {
            all: vec![vec!["two words".to_owned()]],
        };
        let conditions = visible(&"m".into(), &filter, &["h".into()]);
        let all = conditions.must.iter().chain(&conditions.must_not);
        for condition in all {
            let Some(ConditionOneOf::Field(field)) = &condition.condition_one_of else {
                panic!("{condition:?}");
            };
            let value = field.r#match.as_ref().unwrap().match_value.as_ref().unwrap();
            assert!(
                matches!(value, MatchValue::Keywords(list) if list.strings.len() == 1),
                "{value:?}"
            );
        }
        assert_eq!((conditions.must.len(), conditions.must_not.len()), (2, 1));
    }
}
