//! A connection for one mesh.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use claudemesh_proto::ops::GraphResult;
use neo4j::driver::auth::AuthToken;
use neo4j::driver::{ConnectionConfig, Driver, DriverConfig, RoutingControl};
use neo4j::error::ServerError;
use neo4j::session::SessionConfig;
use neo4j::transaction::{Transaction, TransactionTimeout};
use neo4j::{Neo4jError, ValueReceive, ValueSend};
use sha2::{Digest as _, Sha256};

use super::cypher::{Rewritten, rewrite};
use super::{Server, json};
use crate::backends::graph::hosts::{Engine, Job};
use crate::backends::graph::records::Records;
use crate::backends::graph::values::{self, RESERVED};
use crate::backends::graph::{GraphError, GraphLimits};

/// How long connecting may take.
const CONNECTING: Duration = Duration::from_secs(5);
/// How many records are fetched at once.
const FETCHED: u64 = 100;

/// The graph of a mesh on a server.
pub(in crate::backends::graph) struct ServerEngine {
    server: Server,
    limits: GraphLimits,
    connected: Option<Connected>,
}

struct Connected {
    driver: Driver,
    database: Arc<String>,
    /// The label of the mesh's nodes, if the database is not the mesh's own.
    label: Option<String>,
}

/// How a transaction ended without an error of the server.
type Ended = Result<GraphResult, GraphError>;

impl Engine for ServerEngine {
    fn run(&mut self, job: &Job) -> Ended {
        let params = values::params(&job.cypher.params)?;
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => Connected::new(&self.server)?,
        };
        let done = connected.run(job, params, self.limits);
        if !matches!(done, Err(GraphError::Unavailable(_))) {
            self.connected = Some(connected);
        }
        done
    }
}

impl ServerEngine {
    /// Connects when there is a query.
    pub(in crate::backends::graph) fn new(server: Server, limits: GraphLimits) -> Self {
        Self {
            server,
            limits,
            connected: None,
        }
    }
}

/// A name that no other mesh has, from an id that may be any text.
fn name(mesh: &str) -> String {
    let is_plain = !mesh.is_empty() && mesh.len() <= 128 && mesh.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match is_plain {
        true => format!("{RESERVED}_{mesh}"),
        false => format!("{RESERVED}x_{}", hash(mesh)),
    }
}

fn hash(mesh: &str) -> String {
    format!("{:x}", Sha256::digest(mesh.as_bytes()))
}

/// A name of a database: lower case only, at most 63 characters.
fn database_name(mesh: &str) -> String {
    format!("mesh-{}", &hash(mesh)[..48])
}

impl Connected {
    fn new(server: &Server) -> Result<Self, GraphError> {
        // With two providers built in, one must be chosen. Another part of the process may have done so.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let unavailable = |text: String| GraphError::Unavailable(text);
        let address: ConnectionConfig = server
            .url
            .parse()
            .map_err(|error| unavailable(format!("NEO4J_URL: {error}")))?;
        let auth = match &server.password {
            Some(password) => AuthToken::new_basic_auth(&server.user, password),
            None => AuthToken::new_none_auth(),
        };
        let config = DriverConfig::new()
            .with_auth(Arc::new(auth))
            .with_max_connection_pool_size(1)
            .with_connection_timeout(CONNECTING)
            .with_connection_acquisition_timeout(CONNECTING)
            .with_telemetry(false);
        let driver = Driver::new(address, config);
        let edition = ask(
            &driver,
            "system",
            "CALL dbms.components() YIELD edition RETURN edition",
            HashMap::new(),
        )?;
        if !matches!(&edition, ValueReceive::String(edition) if edition == "enterprise") {
            return Ok(Self {
                driver,
                database: Arc::new("neo4j".to_owned()),
                label: Some(name(&server.mesh)),
            });
        }
        let database = database_name(&server.mesh);
        let params = HashMap::from([("name".to_owned(), ValueSend::String(database.clone()))]);
        ask(&driver, "system", "CREATE DATABASE $name IF NOT EXISTS WAIT", params)?;
        Ok(Self {
            driver,
            database: Arc::new(database),
            label: None,
        })
    }

    fn run(&self, job: &Job, params: std::collections::BTreeMap<String, values::Param>, limits: GraphLimits) -> Ended {
        let rewritten = rewrite(&job.cypher.text, self.label.as_deref())?;
        let texts = rewritten.texts.iter();
        let texts = texts.map(|(name, text)| (name.clone(), ValueSend::String(text.clone())));
        let params = params.into_iter().map(|(name, value)| (name, json::param(value)));
        let params: HashMap<String, ValueSend> = params.chain(texts).collect();
        let config = SessionConfig::new().with_database(self.database.clone());
        let config = config
            .with_fetch_size(FETCHED)
            .unwrap_or_else(|refused| refused.builder);
        let mut session = self.driver.session(config);
        let time = i64::try_from(limits.time.as_millis())
            .ok()
            .and_then(TransactionTimeout::from_millis);
        let done = session
            .transaction()
            .with_routing_control(if job.writes {
                RoutingControl::Write
            } else {
                RoutingControl::Read
            })
            .with_transaction_timeout(time.unwrap_or_default())
            .run(|transaction| self.within(transaction, job, &rewritten, &params, limits));
        match done {
            Ok(ended) => ended,
            Err(error) => Err(self.explain(&error, job.writes, limits)),
        }
    }

    /// Runs the query and commits, or gives why not.
    fn within(
        &self,
        transaction: Transaction<'_, '_>,
        job: &Job,
        rewritten: &Rewritten,
        params: &HashMap<String, ValueSend>,
        limits: GraphLimits,
    ) -> Result<Ended, Neo4jError> {
        let before = match job.writes && rewritten.makes {
            true => self.elements(&transaction)?,
            false => 0,
        };
        let mut records = Records::new(limits);
        let mut problem = None;
        let mut stream = transaction.query(&rewritten.text).with_parameters(params).run()?;
        for record in stream.by_ref() {
            let record = record?;
            let values = record
                .entries()
                .map(|(name, value)| Ok(((*name).clone(), json::value(value)?)));
            match values
                .collect::<Result<_, GraphError>>()
                .and_then(|values| records.push(values))
            {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            }
        }
        // The rest is not sent; a statement that changes something is done to its end.
        stream.consume()?;
        let result = match problem {
            // The change stands; what does not fit is only not shown.
            Some(GraphError::TooLarge(_)) if job.writes => Records::none(),
            Some(problem) => {
                transaction.rollback()?;
                return Ok(Err(problem));
            }
            None => records.shown(),
        };
        if job.writes && rewritten.makes {
            let after = self.elements(&transaction)?;
            if after > before && after > limits.elements {
                transaction.rollback()?;
                let limit = format!("{} nodes and relationships", limits.elements);
                return Ok(Err(GraphError::Full(limit)));
            }
        }
        transaction.commit()?;
        Ok(Ok(result))
    }

    /// How many nodes and relationships the mesh has. The server keeps these counts.
    fn elements(&self, transaction: &Transaction<'_, '_>) -> Result<u64, Neo4jError> {
        let label = self
            .label
            .as_ref()
            .map(|label| format!(":`{label}`"))
            .unwrap_or_default();
        let mut sum = 0;
        for query in [
            format!("MATCH (n{label}) RETURN count(n) AS n"),
            format!("MATCH ({label})-[r]->() RETURN count(r) AS n"),
        ] {
            let mut stream = transaction.query(query).run()?;
            for record in stream.by_ref() {
                if let Some(ValueReceive::Integer(count)) = record?.value("n") {
                    sum += u64::try_from(*count).unwrap_or_default();
                }
            }
            stream.consume()?;
        }
        Ok(sum)
    }

    fn explain(&self, error: &Neo4jError, writes: bool, limits: GraphLimits) -> GraphError {
        let Neo4jError::ServerError { error, .. } = error else {
            return GraphError::Unavailable(error.to_string());
        };
        let ServerError { code, .. } = error;
        let has = |part: &str| code.contains(part);
        if has("Statement.AccessMode") && !writes {
            GraphError::read_only()
        } else if has("OutOfMemory") || has("StackOverFlow") {
            GraphError::TooLarge("the query needs more memory than the server gives it; ask for less".to_owned())
        } else if has("TransactionTimedOut") || has("Transaction.Terminated") || has("TransactionMarkedAsFailed") {
            GraphError::Timeout(limits.time)
        } else if has("Neo.TransientError") {
            GraphError::Busy
        } else if has("ClientError.Statement") || has("ClientError.Schema") || has("DatabaseError.Statement") {
            GraphError::Query(self.plain(&error.message))
        } else {
            GraphError::Unavailable(format!("{code}: {}", error.message))
        }
    }

    /// The server's message without the query that it has got.
    fn plain(&self, message: &str) -> String {
        let line = message.lines().next().unwrap_or_default();
        let line = line.split(" (line ").next().unwrap_or_default();
        let line = match &self.label {
            Some(label) => line.replace(label.as_str(), ""),
            None => line.to_owned(),
        };
        line.chars().take(300).collect()
    }
}

/// The first value of a query of ours.
fn ask(
    driver: &Driver,
    database: &str,
    query: &str,
    params: HashMap<String, ValueSend>,
) -> Result<ValueReceive, GraphError> {
    let unavailable = |error: Neo4jError| GraphError::Unavailable(error.to_string());
    let config = SessionConfig::new().with_database(Arc::new(database.to_owned()));
    let mut session = driver.session(config);
    let result = session
        .auto_commit(query)
        .with_parameters(params)
        .run()
        .map_err(unavailable)?;
    let first = result.records.into_iter().next();
    Ok(first
        .and_then(|record| record.into_values().next())
        .unwrap_or(ValueReceive::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mesh_has_a_name_of_its_own() {
        let ids = ["aB3", "ab3", "AB3", "", "a`b", "x_aB3", "é"];
        let names: std::collections::HashSet<_> = ids.into_iter().map(name).collect();
        assert_eq!(names.len(), ids.len());
        assert!(
            names
                .iter()
                .all(|name| !name.contains('`') && name.starts_with(RESERVED))
        );
        for id in ids {
            let name = database_name(id);
            let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= 63 && name.chars().all(is_valid), "{name}");
        }
    }
}
