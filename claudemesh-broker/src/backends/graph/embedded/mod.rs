//! A file for each mesh, served by graphdblite: openCypher on SQLite.

mod engine;
mod json;

use std::path::{Path, PathBuf};

use claudemesh_proto::model::MeshId;

use super::GraphLimits;
use super::hosts::{Hosted, Hosts, Place};
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
}

impl Hosted for GraphFiles {
    fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    fn place(&self, mesh: &MeshId) -> Place {
        Place::File(mesh_file::path(&self.directory, mesh))
    }
}
