//! What the tool table says about a tool.

use crate::Family;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Something that an agent or a program calls: one typed method of the client.
pub trait Tool {
    /// The arguments.
    type Params: Serialize + DeserializeOwned + JsonSchema;
    /// The result, per mesh.
    type Output: Serialize + DeserializeOwned + JsonSchema;
    /// The tool's row in the table.
    const META: &'static ToolMeta;
}

/// A row of the tool table.
#[derive(Clone, Copy, Debug)]
pub struct ToolMeta {
    /// Name of the tool and of the client's method.
    pub name: &'static str,
    /// What it belongs to.
    pub family: Family,
    /// What it may do.
    pub safety: Safety,
    /// Which of several joined meshes it works on.
    pub scope: MeshScope,
    /// The command for it, after `claudemesh`.
    pub command: &'static str,
}

/// Hints for a host program about what a tool may do (the annotations of MCP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safety {
    /// Changes nothing.
    pub read_only: bool,
    /// May destroy something.
    pub destructive: bool,
    /// Calling it twice is like calling it once.
    pub idempotent: bool,
    /// Reaches people or systems outside of this session.
    pub open_world: bool,
}

impl Safety {
    /// Changes nothing.
    pub const READ_ONLY: Self = Self {
        read_only: true,
        destructive: false,
        idempotent: true,
        open_world: false,
    };
    /// Changes nothing, and asks other people's machines.
    pub const READ_ONLY_OPEN: Self = Self {
        open_world: true,
        ..Self::READ_ONLY
    };
    /// Adds something each time.
    pub const ADDITIVE: Self = Self {
        read_only: false,
        destructive: false,
        idempotent: false,
        open_world: false,
    };
    /// Adds something each time, and other people see it.
    pub const ADDITIVE_OPEN: Self = Self {
        open_world: true,
        ..Self::ADDITIVE
    };
    /// May destroy something, each time something else.
    pub const DESTRUCTIVE_EACH_TIME: Self = Self {
        destructive: true,
        ..Self::ADDITIVE
    };
    /// Removes something; calling it twice is like calling it once.
    pub const DESTRUCTIVE: Self = Self {
        destructive: true,
        ..Self::IDEMPOTENT
    };
    /// Sets something.
    pub const IDEMPOTENT: Self = Self {
        read_only: false,
        destructive: false,
        idempotent: true,
        open_world: false,
    };
}

/// Which of several joined meshes a tool works on when the caller names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshScope {
    /// The first mesh of the configuration.
    First,
    /// Every mesh.
    All,
    /// The mesh that the target belongs to.
    Resolved,
    /// The first mesh that knows the id.
    Any,
}

macro_rules! implement_tools {
    ($( { $name:ident, $params:ty => $output:ty, $family:ident, $safety:ident, $scope:ident, $command:literal } )+) => {
        /// One type per tool, named like the tool: the key under which params, output and row are found.
        #[allow(non_camel_case_types)]
        pub mod by_name {
            $(
                #[doc = concat!("The tool `", stringify!($name), "`.")]
                #[derive(Clone, Copy, Debug)]
                pub struct $name;
            )+
        }

        $(
            impl Tool for by_name::$name {
                type Params = $params;
                type Output = $output;
                const META: &'static ToolMeta = &ToolMeta {
                    name: stringify!($name),
                    family: Family::$family,
                    safety: Safety::$safety,
                    scope: MeshScope::$scope,
                    command: $command,
                };
            }
        )+

        static TOOLS: &[&ToolMeta] = &[$( <by_name::$name as Tool>::META, )+];
    };
}

use crate::ops::*;
use crate::tools::*;
crate::for_each_tool!(implement_tools);

/// Every row of the tool table, in the order in which tools are listed.
#[must_use]
pub fn tools() -> &'static [&'static ToolMeta] {
    TOOLS
}

/// The tool of this name.
#[must_use]
pub fn tool_by_name(name: &str) -> Option<&'static ToolMeta> {
    TOOLS.iter().find(|meta| meta.name == name).copied()
}
