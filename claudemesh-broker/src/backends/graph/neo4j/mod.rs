//! Graphs on a Neo4j server.
//!
//! On Enterprise each mesh has a database. On Community there is one, and each node has the label of its mesh: queries are
//! taken apart and written anew so that they reach nodes with this label only; see the module `cypher`.

mod cypher;
mod engine;
mod json;

use std::path::Path;

use claudemesh_proto::model::MeshId;
use serde::{Deserialize, Serialize};

use super::GraphLimits;
use super::hosts::{Hosted, Hosts, Place};
use crate::config::{Neo4jSettings, Secret};

pub(super) use engine::ServerEngine;

/// The server, and which mesh's graph. Not printable: there is a password in it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Server {
    url: String,
    user: String,
    password: Option<String>,
    mesh: String,
}

/// The graphs on a server.
#[derive(Debug)]
pub struct Neo4jGraphs {
    settings: Neo4jSettings,
    hosts: Hosts,
}

impl Neo4jGraphs {
    /// Graphs on the server of these settings. It is asked for the first time when a mesh uses its graph.
    #[must_use]
    pub fn new(settings: Neo4jSettings, limits: GraphLimits) -> Self {
        Self {
            settings,
            hosts: Hosts::new(limits),
        }
    }

    /// Connections are held by processes of this program, which calls [`serve_if_asked`](super::serve_if_asked).
    #[must_use]
    pub fn served_by(mut self, program: &Path) -> Self {
        self.hosts.served_by(program);
        self
    }
}

impl Hosted for Neo4jGraphs {
    fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    fn place(&self, mesh: &MeshId) -> Place {
        Place::Neo4j(Server {
            url: self.settings.url.to_string(),
            user: self.settings.user.clone(),
            password: self.settings.password.as_ref().map(Secret::expose).map(str::to_owned),
            mesh: mesh.as_str().to_owned(),
        })
    }
}
