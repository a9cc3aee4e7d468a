//! Settings and HTTP bodies: any text is read or refused, and nothing panics.
#![allow(missing_docs)]

use std::collections::HashMap;

use claudemesh_broker::config::{Config, DatabaseUrl};
use claudemesh_broker::security::origin::Origin;
use proptest::prelude::*;

/// Every variable that the broker reads.
const VARIABLES: &[&str] = &[
    "BROKER_HOST",
    "BROKER_PORT",
    "PORT",
    "BROKER_DATA_DIR",
    "DATABASE_URL",
    "BROKER_PUBLIC_URL",
    "BROKER_ENCRYPTION_KEY",
    "TRUSTED_PROXIES",
    "MAX_CONNECTIONS_PER_MESH",
    "MAX_UNAUTHENTICATED_SOCKETS",
    "MAX_UNAUTHENTICATED_PER_IP",
    "MAX_MESSAGE_BYTES",
    "HELLO_TIMEOUT_MS",
    "PING_INTERVAL_MS",
    "PONG_TIMEOUT_MS",
    "SHUTDOWN_TIMEOUT_MS",
    "STATUS_TTL_SECONDS",
    "HOOK_FRESH_WINDOW_SECONDS",
    "DELIVERY_LEASE_MS",
    "MESSAGE_RETENTION_HOURS",
    "HOOK_RATE_LIMIT_PER_MIN",
    "ENROL_RATE_LIMIT_PER_MIN",
    "RATE_LIMIT_READ_PER_SEC",
    "RATE_LIMIT_READ_BURST",
    "GIT_SHA",
];

fn setting() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        any::<i128>().prop_map(|number| number.to_string()),
        "[0-9]{1,40}",
        "(ws|wss|http|https|sqlite|postgres)://\\PC{0,30}",
        "[0-9a-f]{60,68}",
        "[0-9.:\\[\\]a-f,]{0,30}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_setting_is_taken_or_named(values in prop::collection::hash_map(prop::sample::select(VARIABLES.to_vec()), setting(), 0..4)) {
        let variables: HashMap<String, String> =
            values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Err(error) = Config::from_variables(&variables) {
            let text = error.to_string();
            prop_assert!(variables.keys().any(|name| text.contains(name.as_str())), "{text}");
        }
    }

    #[test]
    fn a_key_is_never_shown(key in "[0-9a-f]{8,63}") {
        let variables = [("BROKER_ENCRYPTION_KEY".to_owned(), key.clone())].into();
        let error = Config::from_variables(&variables).unwrap_err().to_string();
        prop_assert!(!error.contains(&key), "{error}");
    }

    #[test]
    fn a_password_is_never_shown(user in "[a-z]{1,8}", password in "[A-Z0-9@:/?#%]{4,20}", host in "[a-z]{1,8}") {
        let url = DatabaseUrl::from(format!("postgres://{user}:{password}@{host}/db").as_str());
        for shown in [url.to_string(), format!("{url:?}")] {
            prop_assert!(!shown.contains(&password), "{shown}");
        }
    }

    #[test]
    fn any_origin_is_read_or_refused(text in any::<String>(), host in "\\PC{0,20}", port in any::<u32>()) {
        for text in [text, format!("ws://{host}:{port}"), format!("https://{host}"), format!("wss://[{host}]:{port}/")] {
            let _ = text.parse::<Origin>();
        }
    }
}
