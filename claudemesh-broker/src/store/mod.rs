//! The relational store.
