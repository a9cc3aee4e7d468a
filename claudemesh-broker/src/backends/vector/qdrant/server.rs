//! Requests to the server, each with what its answers mean.

use std::collections::HashMap;
use std::time::Duration;

use qdrant_client::qdrant::{
    CountPointsBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, DeleteCollectionBuilder,
    DeletePointsBuilder, Distance, FieldType, Filter, GetPointsBuilder, PayloadIncludeSelector, PointStruct,
    PointsIdsList, PointsOperationResponse, Query, QueryPointsBuilder, ScoredPoint, SearchParamsBuilder, UpdateStatus,
    UpsertPointsBuilder, Value, VectorParamsBuilder, vectors_config,
};
use qdrant_client::{Qdrant, QdrantError};
use tokio::time::sleep;
use uuid::Uuid;

use super::known::Known;
use super::points::{INDEXED, point_id};
use crate::backends::vector::{UnitVector, VectorError};
use crate::config::QdrantSettings;

/// How many candidates the server's index looks at: the usual 128 misses more than one in a hundred of the nearest ten.
const CANDIDATES: u64 = 512;
/// How often a collection that another one creates at this moment is asked for.
const LOOKS: u32 = 6;
/// How long before the second look; each time twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Connections to the server.
const CONNECTIONS: usize = 4;

/// Status codes of gRPC.
mod code {
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such collection.
    NoCollection,
    /// Anything else.
    Other(VectorError),
}

impl From<VectorError> for Failure {
    fn from(error: VectorError) -> Self {
        Self::Other(error)
    }
}

impl From<QdrantError> for Failure {
    fn from(error: QdrantError) -> Self {
        let status = match error {
            QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => status,
            error => return Self::Other(VectorError::Unavailable(error.to_string())),
        };
        match i32::from(status.code()) {
            code::NOT_FOUND => Self::NoCollection,
            code::RESOURCE_EXHAUSTED | code::DEADLINE_EXCEEDED => {
                tracing::debug!(message = status.message(), "Qdrant is busy");
                Self::Other(VectorError::Busy)
            }
            code::UNAUTHENTICATED | code::PERMISSION_DENIED => Self::Other(VectorError::Unavailable(
                "Qdrant refuses the broker's key; check QDRANT_API_KEY".to_owned(),
            )),
            _ => Self::Other(VectorError::Unavailable(format!(
                "Qdrant: {:?}: {}",
                status.code(),
                status.message()
            ))),
        }
    }
}

impl From<Failure> for VectorError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoCollection => {
                Self::Unavailable("Qdrant does not know a collection that it has listed".to_owned())
            }
            Failure::Other(error) => error,
        }
    }
}

/// A collection as the server describes it.
#[derive(Debug)]
pub(super) struct Info {
    /// What counts for vectors.
    pub(super) known: Known,
    /// Fields that should have an index and have none.
    pub(super) not_indexed: Vec<&'static str>,
}

/// The server.
pub(super) struct Server {
    client: Qdrant,
    /// How long the server may take for a change, in seconds.
    seconds: u64,
}

impl Server {
    pub(super) fn new(settings: &QdrantSettings, time: Duration) -> Result<Self, VectorError> {
        let key = settings.api_key.as_ref().map(|key| key.expose());
        let mut config = Qdrant::from_url(settings.url.as_str())
            .api_key(key)
            .timeout(time)
            .connect_timeout(time)
            // It would ask the server now, and print to the standard output.
            .skip_compatibility_check();
        config.set_pool_size(CONNECTIONS);
        let client = config
            .build()
            .map_err(|error| VectorError::Unavailable(error.to_string()))?;
        Ok(Self {
            client,
            seconds: time.as_secs().max(1),
        })
    }

    /// Names of all collections on the server.
    pub(super) async fn names(&self) -> Result<Vec<String>, VectorError> {
        let listed = self.client.list_collections().await.map_err(Failure::from)?;
        Ok(listed
            .collections
            .into_iter()
            .map(|collection| collection.name)
            .collect())
    }

    /// A collection; `None` if there is none.
    pub(super) async fn collection(&self, name: &str) -> Result<Option<Info>, VectorError> {
        let answer = match self.client.collection_info(name).await.map_err(Failure::from) {
            Ok(answer) => answer,
            Err(Failure::NoCollection) => return Ok(None),
            Err(Failure::Other(error)) => return Err(error),
        };
        let foreign = || VectorError::Unavailable(format!("the Qdrant collection {name} was not made by the broker"));
        let info = answer.result.ok_or_else(foreign)?;
        let vectors = info.config.and_then(|config| config.params?.vectors_config?.config);
        let Some(vectors_config::Config::Params(vectors)) = vectors else {
            return Err(foreign());
        };
        if vectors.distance != i32::from(Distance::Cosine) {
            return Err(foreign());
        }
        let not_indexed = INDEXED
            .into_iter()
            .filter(|field| !info.payload_schema.contains_key(*field));
        Ok(Some(Info {
            known: Known {
                dimensions: usize::try_from(vectors.size).unwrap_or(usize::MAX),
            },
            not_indexed: not_indexed.collect(),
        }))
    }

    /// Creates a collection. If somebody else does at the same time, the one that is there in the end counts.
    pub(super) async fn create(&self, name: &str, dimensions: usize) -> Result<Known, VectorError> {
        let size = u64::try_from(dimensions).unwrap_or(u64::MAX);
        let request = CreateCollectionBuilder::new(name)
            .vectors_config(VectorParamsBuilder::new(size, Distance::Cosine))
            .timeout(self.seconds);
        let created = self.client.create_collection(request).await.map_err(Failure::from);
        // Whatever the answer is: after a refusal there may be one, and after a lost answer as well.
        let mut wait = FIRST_WAIT;
        let mut last = None;
        for _ in 0..LOOKS {
            match self.collection(name).await {
                Ok(Some(info)) => {
                    self.index(name, &info.not_indexed).await?;
                    return Ok(info.known);
                }
                Ok(None) if created.is_err() => break,
                Ok(None) => {}
                // Another one's collection cannot be read before its shards are there.
                Err(error) => last = Some(error),
            }
            sleep(wait).await;
            wait *= 2;
        }
        match (created, last) {
            (Err(failure), _) => Err(failure.into()),
            (Ok(_), Some(error)) => Err(error),
            (Ok(_), None) => Err(VectorError::Unavailable(
                "Qdrant has created a collection, and does not show it".to_owned(),
            )),
        }
    }

    /// Makes indexes for fields. Making one again is no error.
    pub(super) async fn index(&self, name: &str, fields: &[&'static str]) -> Result<(), VectorError> {
        for field in fields {
            let request = CreateFieldIndexCollectionBuilder::new(name, *field, FieldType::Keyword)
                .wait(true)
                .timeout(self.seconds);
            let done = self.client.create_field_index(request).await.map_err(Failure::from)?;
            completed(done)?;
        }
        Ok(())
    }

    /// Ends a collection with all that is in it.
    pub(super) async fn end(&self, name: &str) -> Result<(), VectorError> {
        let request = DeleteCollectionBuilder::new(name).timeout(self.seconds);
        match self.client.delete_collection(request).await.map_err(Failure::from) {
            Ok(_) | Err(Failure::NoCollection) => Ok(()),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// The exact number of points; `None` without the collection.
    pub(super) async fn count(&self, name: &str, filter: Option<Filter>) -> Result<Option<u64>, VectorError> {
        let mut request = CountPointsBuilder::new(name).exact(true).timeout(self.seconds);
        if let Some(filter) = filter {
            request = request.filter(filter);
        }
        match self.client.count(request).await.map_err(Failure::from) {
            Ok(counted) => Ok(Some(counted.result.map(|result| result.count).unwrap_or_default())),
            Err(Failure::NoCollection) => Ok(None),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// Fields of a point; `None` without it.
    pub(super) async fn payload(
        &self,
        name: &str,
        id: Uuid,
        fields: &[&str],
    ) -> Result<Option<HashMap<String, Value>>, Failure> {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let request = GetPointsBuilder::new(name, vec![point_id(id)])
            .with_payload(PayloadIncludeSelector::from(fields))
            .with_vectors(false)
            .timeout(self.seconds);
        let found = self.client.get_points(request).await?;
        Ok(found.result.into_iter().next().map(|point| point.payload))
    }

    /// Writes a point, over the one with its id. The next search finds it.
    pub(super) async fn upsert(&self, name: &str, point: PointStruct) -> Result<(), Failure> {
        let request = UpsertPointsBuilder::new(name, vec![point])
            .wait(true)
            .timeout(self.seconds);
        completed(self.client.upsert_points(request).await?)
    }

    /// Deletes a point. No search finds it any more.
    pub(super) async fn delete(&self, name: &str, id: Uuid) -> Result<(), Failure> {
        let ids = PointsIdsList {
            ids: vec![point_id(id)],
        };
        let request = DeletePointsBuilder::new(name)
            .points(ids)
            .wait(true)
            .timeout(self.seconds);
        completed(self.client.delete_points(request).await?)
    }

    /// The points closest to the query, closest first.
    pub(super) async fn nearest(
        &self,
        name: &str,
        query: &UnitVector,
        filter: Filter,
        most: usize,
    ) -> Result<Vec<ScoredPoint>, Failure> {
        let request = QueryPointsBuilder::new(name)
            .query(Query::new_nearest(query.as_slice().to_vec()))
            .filter(filter)
            .limit(u64::try_from(most).unwrap_or(u64::MAX))
            .params(SearchParamsBuilder::default().hnsw_ef(CANDIDATES))
            .with_payload(true)
            .with_vectors(false)
            .timeout(self.seconds);
        Ok(self.client.query(request).await?.result)
    }
}

/// Whether a change is in force. One that the server only took note of may still fail.
fn completed(response: PointsOperationResponse) -> Result<(), Failure> {
    let status = response.result.map(|result| result.status);
    match status {
        Some(status) if status == i32::from(UpdateStatus::Completed) => Ok(()),
        status => Err(Failure::Other(VectorError::Unavailable(format!(
            "Qdrant has not confirmed a change (status {status:?}); it may be in force later"
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdrant_client::qdrant::UpdateResult;

    #[test]
    fn only_what_is_in_force_is_confirmed() {
        let answer = |status: Option<UpdateStatus>| PointsOperationResponse {
            result: status.map(|status| UpdateResult {
                operation_id: None,
                status: status.into(),
            }),
            ..PointsOperationResponse::default()
        };
        assert!(completed(answer(Some(UpdateStatus::Completed))).is_ok());
        for status in [None, Some(UpdateStatus::Acknowledged), Some(UpdateStatus::WaitTimeout)] {
            assert!(completed(answer(status)).is_err(), "{status:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error_without_the_key() {
        // The port was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let settings =
            QdrantSettings::new(&format!("http://127.0.0.1:{port}"), Some("hunter2".to_owned().into())).unwrap();
        let server = Server::new(&settings, Duration::from_secs(5)).unwrap();
        let error = server.names().await.unwrap_err();
        assert!(
            matches!(&error, VectorError::Unavailable(text) if !text.contains("hunter2")),
            "{error:?}"
        );
        let error = VectorError::from(server.upsert("x", PointStruct::default()).await.unwrap_err());
        assert!(matches!(error, VectorError::Unavailable(_)), "{error:?}");
    }
}
