//! Settings, read from the environment once at start. A bad value is an error that names its variable.

mod files;
mod graph;
mod secret;
mod vectors;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use files::{FileSettings, S3Secret, S3Settings};
pub use graph::{GraphSettings, Neo4jSettings};
pub use secret::Secret;
pub use vectors::{EmbedderSettings, QdrantSettings, VectorSettings};

use claudemesh_proto::RateClass;
use claudemesh_proto::limits::MAX_FRAME_BYTES;
use thiserror::Error;

use crate::backends::sql::SqlLimits;
use crate::features::FEATURES;
use crate::security::broker_key::EncryptionKey;
use crate::security::origin::Origin;
use crate::security::rate_limit::Limit;

/// Why the settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A variable has a value that cannot be used.
    #[error("{variable}: {problem}")]
    Value {
        /// Name of the variable.
        variable: &'static str,
        /// What is wrong, and what is expected. Never contains the value of a secret.
        problem: String,
    },
    /// A setting is for a backend that this build does not have.
    #[error(
        "{variable} is set, but this program was built without the feature `{feature}`; build it with \
         `--features {feature}`, or unset the variable"
    )]
    Feature {
        /// Name of the variable.
        variable: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },
    /// Two settings exclude each other.
    #[error("{0}")]
    Conflict(String),
}

/// Address of the relational store. It may contain a password: `Debug` and `Display` do not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The address, password included: for the database driver only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl DatabaseUrl {
    /// Whether it is a Postgres database.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        ["postgres:", "postgresql:"]
            .iter()
            .any(|scheme| self.0.starts_with(scheme))
    }
}

impl From<&str> for DatabaseUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str(self.0.split_once(':').map_or("…", |(scheme, _)| scheme));
        };
        // A query may carry a password as well.
        let rest = rest.split_once('?').map_or(rest, |(address, _)| address);
        match rest.rsplit_once('@') {
            Some((_, host)) => write!(f, "{scheme}://…@{host}"),
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// Where the shared SQL databases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedSqlEngine {
    /// In files of the data directory.
    Sqlite,
    /// In the broker's own Postgres database.
    Postgres,
}

/// Limits per member, one for each class of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Reads.
    pub read: Limit,
    /// Small writes.
    pub write: Limit,
    /// Messages and acknowledgements.
    pub message: Limit,
    /// Costly operations.
    pub heavy: Limit,
}

impl RateLimits {
    /// The limit of a class.
    #[must_use]
    pub fn of(&self, class: RateClass) -> Limit {
        match class {
            RateClass::Read => self.read,
            RateClass::Write => self.write,
            RateClass::Message => self.message,
            RateClass::Heavy => self.heavy,
        }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            read: Limit::per_second(200, 1_000),
            write: Limit::per_second(100, 500),
            message: Limit::per_second(5_000, 10_000),
            heavy: Limit::per_second(5, 20),
        }
    }
}

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address to listen on (`BROKER_HOST`).
    pub host: IpAddr,
    /// Port to listen on (`BROKER_PORT`, else `PORT`); 0 takes a free one.
    pub port: u16,
    /// Directory of everything that the broker keeps in files (`BROKER_DATA_DIR`).
    pub data_dir: PathBuf,
    /// The relational store (`DATABASE_URL`); a SQLite file in `data_dir` if absent.
    pub database_url: Option<DatabaseUrl>,
    /// Addresses under which clients reach the broker (`BROKER_PUBLIC_URL`, separated by commas). The first is shown in
    /// links. A `hello` of protocol 2 must name one of them; see `security::origin`.
    pub public_origins: Vec<Origin>,
    /// Key under which the broker keeps secrets (`BROKER_ENCRYPTION_KEY`); one in `data_dir` if absent.
    pub encryption_key: Option<EncryptionKey>,
    /// How many proxies stand before the broker (`TRUSTED_PROXIES`): so many entries of `X-Forwarded-For`, counted from
    /// the right, are believed.
    pub trusted_proxies: usize,
    /// Most live connections of one mesh (`MAX_CONNECTIONS_PER_MESH`).
    pub max_connections_per_mesh: usize,
    /// Most sockets that have not said `hello` yet, and most plain HTTP connections (`MAX_UNAUTHENTICATED_SOCKETS`).
    pub max_unauthenticated: usize,
    /// The same for one address (`MAX_UNAUTHENTICATED_PER_IP`; 0: no limit). Loopback is exempt: a proxy may be there.
    pub max_unauthenticated_per_ip: usize,
    /// How long a socket may stay without `hello`, and a connection without a whole head of a request
    /// (`HELLO_TIMEOUT_MS`).
    pub hello_timeout: Duration,
    /// How long `working` lasts without news (`STATUS_TTL_SECONDS`), in milliseconds.
    pub status_ttl_ms: i64,
    /// How long a hook's word outranks other sources (`HOOK_FRESH_WINDOW_SECONDS`), in milliseconds.
    pub hook_fresh_window_ms: i64,
    /// Status reports of hooks per member, directory and process (`HOOK_RATE_LIMIT_PER_MIN`).
    pub hook_rate: Limit,
    /// Meshes and joins per address (`ENROL_RATE_LIMIT_PER_MIN`).
    pub enrol_rate: Limit,
    /// Largest frame that is accepted, in bytes (`MAX_MESSAGE_BYTES`).
    pub max_message_bytes: usize,
    /// How long a delivered message waits for its acknowledgement before it is delivered again (`DELIVERY_LEASE_MS`).
    pub lease_ms: i64,
    /// How long finished messages are kept (`MESSAGE_RETENTION_HOURS`), in milliseconds.
    pub retention_ms: i64,
    /// How long a task stays claimed if the claim is not repeated (`TASK_CLAIM_SECONDS`), in milliseconds.
    pub task_claim_ms: i64,
    /// Where the shared SQL databases are (`SHARED_SQL`: `sqlite` or `postgres`); with the broker's own store if absent.
    pub shared_sql: Option<SharedSqlEngine>,
    /// Limits of shared SQL (`SHARED_SQL_TIMEOUT_MS`, `SHARED_SQL_QUOTA_MB`, `SHARED_SQL_MAX_OPEN`).
    pub shared_sql_limits: SqlLimits,
    /// Limits per member (`RATE_LIMIT_READ_PER_SEC`, `…_WRITE_…`, `…_MESSAGE_…`, `…_HEAVY_…`).
    pub rate_limits: RateLimits,
    /// Shared files.
    pub files: FileSettings,
    /// Vectors.
    pub vectors: VectorSettings,
    /// Graphs.
    pub graph: GraphSettings,
    /// How often clients are pinged (`PING_INTERVAL_MS`).
    pub ping_interval: Duration,
    /// How long a client may be silent, pongs included (`PONG_TIMEOUT_MS`).
    pub pong_timeout: Duration,
    /// Longest graceful stop (`SHUTDOWN_TIMEOUT_MS`).
    pub shutdown_timeout: Duration,
    /// Commit that the broker was built from (`GIT_SHA`).
    pub git_sha: String,
}

impl Config {
    /// Settings for tests and for a broker on one machine: loopback, a free port, everything under `data_dir`.
    #[must_use]
    pub fn local(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            data_dir: data_dir.into(),
            database_url: None,
            public_origins: Vec::new(),
            encryption_key: None,
            trusted_proxies: 0,
            max_connections_per_mesh: 1_000,
            max_unauthenticated: 1_024,
            max_unauthenticated_per_ip: 64,
            hello_timeout: Duration::from_secs(10),
            status_ttl_ms: 60_000,
            hook_fresh_window_ms: 30_000,
            hook_rate: Limit::per_minute(30, 30),
            enrol_rate: Limit::per_minute(60, 60),
            max_message_bytes: MAX_FRAME_BYTES,
            lease_ms: 30_000,
            retention_ms: 7 * 24 * 3_600_000,
            task_claim_ms: 24 * 3_600_000,
            shared_sql: None,
            shared_sql_limits: SqlLimits::default(),
            rate_limits: RateLimits::default(),
            files: FileSettings::default(),
            vectors: VectorSettings::default(),
            graph: GraphSettings::default(),
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(10),
            git_sha: "unknown".to_owned(),
        }
    }

    /// Settings of the process's environment.
    ///
    /// # Errors
    /// [`ConfigError`] with the first variable that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::from_variables(&variables)
    }

    /// Settings of these variables. An empty value counts as absent.
    ///
    /// # Errors
    /// [`ConfigError`] with the first variable that cannot be used.
    pub fn from_variables(variables: &HashMap<String, String>) -> Result<Self, ConfigError> {
        let vars = Variables(variables);
        let mut config = Self::local(vars.text("BROKER_DATA_DIR").unwrap_or("claudemesh-data"));
        config.host = match vars.text("BROKER_HOST") {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(text) => text.trim_matches(['[', ']']).parse().map_err(|_| {
                value(
                    "BROKER_HOST",
                    format!("`{text}` is no IP address; use 0.0.0.0, 127.0.0.1, :: or another one"),
                )
            })?,
        };
        config.port = match vars.number("BROKER_PORT", 0, 65_535)? {
            Some(port) => port,
            None => vars.number("PORT", 0, 65_535)?.unwrap_or(7_900),
        };
        config.database_url = vars.text("DATABASE_URL").map(database_url).transpose()?;
        if let Some(text) = vars.text("BROKER_PUBLIC_URL") {
            config.public_origins = public_origins(text)?;
        }
        if let Some(text) = vars.text("BROKER_ENCRYPTION_KEY") {
            let key = EncryptionKey::from_hex(text);
            config.encryption_key =
                Some(key.ok_or_else(|| value("BROKER_ENCRYPTION_KEY", "must be 64 hexadecimal characters"))?);
        }
        vars.set("TRUSTED_PROXIES", 0, 16, &mut config.trusted_proxies)?;
        vars.set(
            "MAX_CONNECTIONS_PER_MESH",
            1,
            1_000_000,
            &mut config.max_connections_per_mesh,
        )?;
        vars.set(
            "MAX_UNAUTHENTICATED_SOCKETS",
            1,
            1_000_000,
            &mut config.max_unauthenticated,
        )?;
        vars.set(
            "MAX_UNAUTHENTICATED_PER_IP",
            0,
            1_000_000,
            &mut config.max_unauthenticated_per_ip,
        )?;
        vars.set(
            "MAX_MESSAGE_BYTES",
            1_024,
            64 * 1024 * 1024,
            &mut config.max_message_bytes,
        )?;
        vars.millis("HELLO_TIMEOUT_MS", &mut config.hello_timeout)?;
        vars.millis("PING_INTERVAL_MS", &mut config.ping_interval)?;
        vars.millis("PONG_TIMEOUT_MS", &mut config.pong_timeout)?;
        vars.millis("SHUTDOWN_TIMEOUT_MS", &mut config.shutdown_timeout)?;
        vars.scaled("STATUS_TTL_SECONDS", 86_400, 1_000, &mut config.status_ttl_ms)?;
        vars.scaled(
            "HOOK_FRESH_WINDOW_SECONDS",
            86_400,
            1_000,
            &mut config.hook_fresh_window_ms,
        )?;
        vars.scaled("DELIVERY_LEASE_MS", 3_600_000, 1, &mut config.lease_ms)?;
        vars.scaled(
            "MESSAGE_RETENTION_HOURS",
            24 * 3_650,
            3_600_000,
            &mut config.retention_ms,
        )?;
        vars.scaled("TASK_CLAIM_SECONDS", 365 * 86_400, 1_000, &mut config.task_claim_ms)?;
        config.shared_sql = match vars.text("SHARED_SQL") {
            None => None,
            Some("sqlite") => Some(SharedSqlEngine::Sqlite),
            Some("postgres") => Some(SharedSqlEngine::Postgres),
            Some(other) => return Err(value("SHARED_SQL", format!("`{other}` is neither sqlite nor postgres"))),
        };
        vars.millis("SHARED_SQL_TIMEOUT_MS", &mut config.shared_sql_limits.time)?;
        vars.set("SHARED_SQL_MAX_OPEN", 4, 10_000, &mut config.shared_sql_limits.open)?;
        if let Some(megabytes) = vars.number::<u64>("SHARED_SQL_QUOTA_MB", 1, 1_000_000)? {
            config.shared_sql_limits.quota = megabytes * 1024 * 1024;
        }
        if let Some(rate) = vars.number("HOOK_RATE_LIMIT_PER_MIN", 1, 1_000_000)? {
            config.hook_rate = Limit::per_minute(rate, rate);
        }
        if let Some(rate) = vars.number("ENROL_RATE_LIMIT_PER_MIN", 1, 1_000_000)? {
            config.enrol_rate = Limit::per_minute(rate, rate);
        }
        vars.limit(
            "RATE_LIMIT_READ_PER_SEC",
            "RATE_LIMIT_READ_BURST",
            &mut config.rate_limits.read,
        )?;
        vars.limit(
            "RATE_LIMIT_WRITE_PER_SEC",
            "RATE_LIMIT_WRITE_BURST",
            &mut config.rate_limits.write,
        )?;
        vars.limit(
            "RATE_LIMIT_MESSAGE_PER_SEC",
            "RATE_LIMIT_MESSAGE_BURST",
            &mut config.rate_limits.message,
        )?;
        vars.limit(
            "RATE_LIMIT_HEAVY_PER_SEC",
            "RATE_LIMIT_HEAVY_BURST",
            &mut config.rate_limits.heavy,
        )?;
        config.files.read(&vars)?;
        config.vectors.read(&vars)?;
        config.graph.read(&vars)?;
        if let Some(sha) = vars.text("GIT_SHA") {
            config.git_sha = sha.to_owned();
        }
        config.check()?;
        Ok(config)
    }

    /// Address of the WebSocket endpoint to tell clients: the public one, else the one that is listened on.
    #[must_use]
    pub fn websocket_url(&self, listening: std::net::SocketAddr) -> String {
        match self.public_origins.first() {
            Some(origin) => format!("{}/ws", origin.websocket()),
            None => format!("ws://{}/ws", reachable(listening)),
        }
    }

    /// Base of links to show to people: the public address, else the one that is listened on.
    #[must_use]
    pub fn link_base(&self, listening: std::net::SocketAddr) -> String {
        match self.public_origins.first() {
            Some(origin) => origin.http(),
            None => format!("http://{}", reachable(listening)),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.shared_sql == Some(SharedSqlEngine::Postgres)
            && !self.database_url.as_ref().is_some_and(DatabaseUrl::is_postgres)
        {
            let text = "SHARED_SQL=postgres needs a Postgres database in DATABASE_URL";
            return Err(ConfigError::Conflict(text.to_owned()));
        }
        if self.pong_timeout <= self.ping_interval {
            return Err(ConfigError::Conflict(format!(
                "PONG_TIMEOUT_MS ({}) must be more than PING_INTERVAL_MS ({}): a client answers pings only",
                self.pong_timeout.as_millis(),
                self.ping_interval.as_millis()
            )));
        }
        Ok(())
    }
}

/// An address that a client on this machine can dial: "any address" is none.
fn reachable(listening: std::net::SocketAddr) -> std::net::SocketAddr {
    let mut address = listening;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        });
    }
    address
}

fn value(variable: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        variable,
        problem: problem.into(),
    }
}

fn database_url(text: &str) -> Result<DatabaseUrl, ConfigError> {
    if ["sqlite:", "postgres://", "postgresql://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
    {
        Ok(DatabaseUrl::from(text))
    } else {
        Err(value(
            "DATABASE_URL",
            "must start with sqlite:, postgres:// or postgresql://",
        ))
    }
}

fn public_origins(text: &str) -> Result<Vec<Origin>, ConfigError> {
    text.split(',')
        .map(|part| {
            let part = part.trim();
            // The original's variable holds the address of the WebSocket endpoint.
            let part = part.strip_suffix("/ws").unwrap_or(part);
            part.parse().map_err(|_| {
                value(
                    "BROKER_PUBLIC_URL",
                    format!("`{part}` is no address; write it as https://mesh.example.org"),
                )
            })
        })
        .collect()
}

struct Variables<'a>(&'a HashMap<String, String>);

impl<'a> Variables<'a> {
    fn text(&self, variable: &str) -> Option<&'a str> {
        self.0
            .get(variable)
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
    }

    /// An error if this build cannot do what the variable is for.
    fn needs_feature(variable: &'static str, feature: &'static str) -> Result<(), ConfigError> {
        match FEATURES.contains(&feature) {
            true => Ok(()),
            false => Err(ConfigError::Feature { variable, feature }),
        }
    }

    fn number<T>(&self, variable: &'static str, least: u64, most: u64) -> Result<Option<T>, ConfigError>
    where
        T: TryFrom<u64>,
    {
        let Some(text) = self.text(variable) else {
            return Ok(None);
        };
        u64::from_str(text)
            .ok()
            .filter(|number| (least..=most).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| {
                value(
                    variable,
                    format!("`{text}` is not a whole number from {least} to {most}"),
                )
            })
    }

    fn set<T>(&self, variable: &'static str, least: u64, most: u64, target: &mut T) -> Result<(), ConfigError>
    where
        T: TryFrom<u64>,
    {
        if let Some(number) = self.number(variable, least, most)? {
            *target = number;
        }
        Ok(())
    }

    fn millis(&self, variable: &'static str, target: &mut Duration) -> Result<(), ConfigError> {
        if let Some(ms) = self.number(variable, 10, 3_600_000)? {
            *target = Duration::from_millis(ms);
        }
        Ok(())
    }

    fn scaled(&self, variable: &'static str, most: u64, factor: i64, target: &mut i64) -> Result<(), ConfigError> {
        if let Some(number) = self.number::<i64>(variable, 1, most)? {
            *target = number * factor;
        }
        Ok(())
    }

    fn limit(&self, rate: &'static str, burst: &'static str, target: &mut Limit) -> Result<(), ConfigError> {
        let per_second: Option<u32> = self.number(rate, 1, 1_000_000)?;
        let capacity: Option<u32> = self.number(burst, 1, 1_000_000)?;
        if let Some(per_second) = per_second {
            *target = Limit::per_second(per_second, capacity.unwrap_or(per_second.saturating_mul(2)));
        } else if let Some(capacity) = capacity {
            *target = target.with_burst(capacity);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(
            &variables
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        )
    }

    #[test]
    fn defaults_listen_on_all_addresses_at_7900() {
        let config = config(&[("BROKER_PORT", " ")]).unwrap();
        assert_eq!((config.host.to_string().as_str(), config.port), ("0.0.0.0", 7900));
        assert_eq!(config.max_connections_per_mesh, 1_000);
        assert_eq!(config.max_message_bytes, 2 * 1024 * 1024);
    }

    #[test]
    fn sub_e_31_a_bad_value_names_its_variable() {
        for (variable, text) in [
            ("BROKER_PORT", "70000"),
            ("BROKER_HOST", "nowhere"),
            ("MAX_CONNECTIONS_PER_MESH", "-1"),
            ("STATUS_TTL_SECONDS", "soon"),
            ("BROKER_PUBLIC_URL", "ftp://x"),
            ("RATE_LIMIT_HEAVY_PER_SEC", "0"),
            ("BROKER_ENCRYPTION_KEY", "hunter2"),
            ("DATABASE_URL", "mysql://root:hunter2@db/x"),
            ("NEO4J_URL", "bolt://neo4j:hunter2@db"),
        ] {
            let error = config(&[(variable, text)]).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_object_store_needs_the_feature() {
        for variable in ["S3_ENDPOINT", "MINIO_ENDPOINT"] {
            let config = config(&[
                (variable, "127.0.0.1:9000"),
                ("S3_ACCESS_KEY", "broker"),
                ("S3_SECRET_KEY", "hunter2"),
            ]);
            if FEATURES.contains(&"s3") {
                assert!(config.unwrap().files.s3.is_some());
            } else {
                let feature = "s3";
                assert_eq!(config.unwrap_err(), ConfigError::Feature { variable, feature });
            }
        }
    }

    #[test]
    fn the_database_password_is_never_shown() {
        for url in [
            "postgres://broker:hunter2@db.example/mesh",
            "postgres://db/mesh?password=hunter2",
            "sqlite:hunter2",
        ] {
            let config = config(&[("DATABASE_URL", url)]).unwrap();
            let shown = format!("{config:?} {}", config.database_url.as_ref().unwrap());
            assert!(!shown.contains("hunter2"), "{shown}");
            assert_eq!(config.database_url.unwrap().expose(), url);
        }
    }

    #[test]
    fn a_pong_timeout_below_the_ping_interval_is_refused() {
        let error = config(&[("PONG_TIMEOUT_MS", "1000")]).unwrap_err();
        assert!(error.to_string().contains("PING_INTERVAL_MS"), "{error}");
    }

    #[test]
    fn the_public_address_is_used_in_links() {
        let config = config(&[("BROKER_PUBLIC_URL", "wss://Mesh.example.org/ws, http://10.0.0.1:7900")]).unwrap();
        let listening = "0.0.0.0:7900".parse().unwrap();
        assert_eq!(config.websocket_url(listening), "wss://mesh.example.org/ws");
        assert_eq!(config.link_base(listening), "https://mesh.example.org");
        assert_eq!(Config::local(".").websocket_url(listening), "ws://127.0.0.1:7900/ws");
    }
}
