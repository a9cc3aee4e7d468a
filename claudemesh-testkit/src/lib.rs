//! What the tests of several crates and the development tasks share. Not published, and no part of the product.

#[cfg(feature = "databases")]
pub mod postgres;
pub mod postgres_server;
