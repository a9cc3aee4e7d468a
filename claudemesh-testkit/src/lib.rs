//! What the tests of several crates share. Not published, and no part of the product.

pub mod postgres;
