//! Who may do what, and how often: rate limits, used proofs, origins, signed requests.

pub mod broker_key;
pub mod origin;
pub mod rate_limit;
pub mod replay;
pub mod signed;
