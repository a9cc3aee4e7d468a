//! The claudemesh protocol: types, the operation table, the tool table and their JSON schemas.
//!
//! Nothing here does I/O. A wire frame is one JSON object; its `type` names what it is:
//!
//! * a client's **request** is an [`Operation`] of the table [`for_each_operation!`] plus an optional `_reqId`;
//! * the broker's **reply** is that operation's response, or an [`ErrorFrame`], with the same `_reqId`;
//! * an unasked frame from the broker is a [`ServerFrame`](frame::ServerFrame): a message, an event, a receipt.
//!
//! What an agent or a program calls is a **tool** of the table [`for_each_tool!`]. Schemas, client methods, MCP tools,
//! reference pages and the broker's dispatch are all derived from the two tables.

pub mod error;
pub mod frame;
pub mod hello;
pub mod http;
pub mod limits;
pub mod model;
mod operation;
pub mod ops;
pub mod schema;
mod table;
pub mod tool;
pub mod tools;

pub use error::{ErrorCode, ErrorFrame};
pub use operation::{
    Family, Operation, OperationMeta, Ordering, Permission, RateClass, ReplyWhen, Visibility, operation_by_type,
    operations,
};
pub use tool::{MeshScope, Safety, Tool, ToolMeta, tool_by_name};

/// The protocol version that this crate speaks. Version 1 is the original's: no client acknowledgement, no receipts.
pub const PROTOCOL_VERSION: u32 = 2;
