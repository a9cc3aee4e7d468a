//! What a mesh keeps outside of the broker's own tables: each kind has a trait, an embedded half and a server half.

pub mod sql;
