//! Settings of the broker: lines of `NAME=value`.
#![no_main]

use claudemesh_broker::config::{Config, DatabaseUrl};
use claudemesh_broker::security::origin::Origin;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let variables = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let _ = Config::from_variables(&variables);
    let _ = DatabaseUrl::from(text).to_string();
    let _ = text.parse::<Origin>();
});
