//! Settings of graphs.

use url::Url;

use super::{ConfigError, Secret, Variables, value};
use crate::backends::graph::GraphLimits;

/// A Neo4j server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neo4jSettings {
    /// Where it is (`NEO4J_URL`): `bolt://` or `neo4j://`, with `+s` for TLS.
    pub url: Url,
    /// Its user (`NEO4J_USER`).
    pub user: String,
    /// The user's password (`NEO4J_PASSWORD`); a server without authentication needs none.
    pub password: Option<Secret>,
}

/// Where graphs are, and their bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphSettings {
    /// The server; without it graphs are in files of the data directory.
    pub neo4j: Option<Neo4jSettings>,
    /// Bounds (`GRAPH_TIMEOUT_MS`, `GRAPH_QUOTA_MB`, `GRAPH_MEMORY_MB`, `GRAPH_MAX_OPEN`, `GRAPH_MAX_ELEMENTS`).
    pub limits: GraphLimits,
}

impl GraphSettings {
    pub(super) fn read(&mut self, vars: &Variables<'_>) -> Result<(), ConfigError> {
        let limits = &mut self.limits;
        vars.millis("GRAPH_TIMEOUT_MS", &mut limits.time)?;
        vars.set("GRAPH_MAX_OPEN", 2, 10_000, &mut limits.open)?;
        vars.set("GRAPH_MAX_ELEMENTS", 1, 10_000_000_000, &mut limits.elements)?;
        if let Some(megabytes) = vars.number::<u64>("GRAPH_QUOTA_MB", 1, 1_000_000)? {
            limits.quota = megabytes * 1024 * 1024;
        }
        if let Some(megabytes) = vars.number::<u64>("GRAPH_MEMORY_MB", 64, 1_000_000)? {
            limits.memory = megabytes * 1024 * 1024;
        }
        let Some(text) = vars.text("NEO4J_URL") else {
            return Ok(());
        };
        Variables::needs_feature("NEO4J_URL", "neo4j")?;
        let schemes = ["bolt", "bolt+s", "neo4j", "neo4j+s"];
        let url = Url::parse(text)
            .ok()
            // A password in the address would be in every message about it.
            .filter(|url| schemes.contains(&url.scheme()) && url.has_host() && url.username().is_empty())
            .ok_or_else(|| value("NEO4J_URL", "is no address; write it as bolt://neo4j.example.org:7687"))?;
        self.neo4j = Some(Neo4jSettings {
            url,
            user: vars.text("NEO4J_USER").unwrap_or("neo4j").to_owned(),
            password: vars.text("NEO4J_PASSWORD").map(|text| Secret::from(text.to_owned())),
        });
        Ok(())
    }
}
