//! A file for each mesh, served by graphdblite: openCypher on SQLite.

mod engine;
mod json;

use std::path::{Path, PathBuf};

use claudemesh_proto::model::MeshId;
use claudemesh_proto::ops::GraphResult;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::hosts::{Hosts, Place};
use super::{Cypher, GraphError, GraphLimits, GraphStore};
use crate::backends::mesh_file;

pub(super) use engine::FileEngine;

/// The graphs in a directory.
#[derive(Debug)]
pub struct GraphFiles {
    directory: PathBuf,
    hosts: Hosts,
}

impl GraphFiles {
    /// Graphs in `directory`, which is created.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn new(directory: impl Into<PathBuf>, limits: GraphLimits) -> std::io::Result<Self> {
        let directory = directory.into();
        mesh_file::make_directory(&directory)?;
        Ok(Self {
            directory,
            hosts: Hosts::new(limits),
        })
    }

    /// The engines run in processes of this program, which calls [`serve_if_asked`](super::serve_if_asked).
    #[must_use]
    pub fn served_by(mut self, program: &Path) -> Self {
        self.hosts.served_by(program);
        self
    }

    async fn run(&self, mesh: &MeshId, cypher: Cypher, writes: bool) -> Result<GraphResult, GraphError> {
        let place = || Place::File(mesh_file::path(&self.directory, mesh));
        self.hosts.run(mesh, place, cypher, writes).await
    }
}

impl GraphStore for GraphFiles {
    fn query<'a>(&'a self, mesh: &'a MeshId, cypher: Cypher) -> BoxFuture<'a, Result<GraphResult, GraphError>> {
        self.run(mesh, cypher, false).boxed()
    }

    fn execute<'a>(&'a self, mesh: &'a MeshId, cypher: Cypher) -> BoxFuture<'a, Result<GraphResult, GraphError>> {
        self.run(mesh, cypher, true).boxed()
    }

    fn sweep(&self) {
        self.hosts.sweep();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async { self.hosts.close() }.boxed()
    }
}
