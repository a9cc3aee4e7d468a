//! Counters of the broker. Names that the original had are kept; its unbounded labels are not.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use claudemesh_proto::model::{Capability, DeliveryStage, MeshId, Priority};
use claudemesh_proto::{ErrorCode, RateClass};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::outbound::CloseReason;

/// Meshes that have a series of their own; the others are counted in the total only.
const MAX_MESH_SERIES: usize = 1_000;
/// What a code that is not one of ours is called.
const OTHER: &str = "other";

/// Labels whose values come from closed sets.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Every counter of the broker.
pub struct Metrics {
    registry: Registry,
    connections: Counter,
    connections_rejected: Family<Labels<1>, Counter>,
    connections_closed: Family<Labels<1>, Counter>,
    connections_active: Gauge,
    mesh_connections: Family<[(&'static str, String); 1], Gauge>,
    by_mesh: Mutex<HashMap<String, i64>>,
    sockets_waiting: Gauge,
    messages_routed: Family<Labels<1>, Counter>,
    messages_rejected: Family<Labels<1>, Counter>,
    messages_dropped: Family<Labels<1>, Counter>,
    deliveries: Family<Labels<1>, Counter>,
    queue_depth: Gauge,
    sweeps: Counter,
    hooks: Counter,
    hooks_limited: Counter,
    database_up: Gauge,
    requests: Family<Labels<2>, Counter>,
    request_time: Family<Labels<1>, Histogram>,
    limited: Family<Labels<1>, Counter>,
    http_requests: Family<[(&'static str, String); 2], Counter>,
    commit_rows: Histogram,
    commit_time: Histogram,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new("unknown")
    }
}

impl Metrics {
    /// Counters that all are zero. `git_sha` is the commit that the broker was built from.
    #[must_use]
    pub fn new(git_sha: &str) -> Self {
        let times = || {
            Histogram::new([
                0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
            ])
        };
        let metrics = Self {
            registry: Registry::default(),
            connections: Counter::default(),
            connections_rejected: Family::default(),
            connections_closed: Family::default(),
            connections_active: Gauge::default(),
            mesh_connections: Family::default(),
            by_mesh: Mutex::default(),
            sockets_waiting: Gauge::default(),
            messages_routed: Family::default(),
            messages_rejected: Family::default(),
            messages_dropped: Family::default(),
            deliveries: Family::default(),
            queue_depth: Gauge::default(),
            sweeps: Counter::default(),
            hooks: Counter::default(),
            hooks_limited: Counter::default(),
            database_up: Gauge::default(),
            requests: Family::default(),
            request_time: Family::new_with_constructor(times),
            limited: Family::default(),
            http_requests: Family::default(),
            commit_rows: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0]),
            commit_time: times(),
        };
        metrics.registered(git_sha)
    }

    fn registered(mut self, git_sha: &str) -> Self {
        let registry = &mut self.registry;
        let build = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("git_sha", git_sha.to_owned()),
        ];
        registry.register("broker_build", "Version of the broker", Info::new(build.to_vec()));
        registry.register(
            "broker_connections",
            "Total WS connection attempts",
            self.connections.clone(),
        );
        registry.register(
            "broker_connections_rejected",
            "WS connections refused (auth failure, capacity, etc.)",
            self.connections_rejected.clone(),
        );
        registry.register(
            "broker_connections_closed",
            "WS connections that the broker ended, by reason",
            self.connections_closed.clone(),
        );
        registry.register(
            "broker_connections_active",
            "Currently connected peers",
            self.connections_active.clone(),
        );
        registry.register(
            "broker_mesh_connections_active",
            "Currently connected peers of a mesh",
            self.mesh_connections.clone(),
        );
        registry.register(
            "broker_sockets_unauthenticated",
            "Sockets that have not said hello yet",
            self.sockets_waiting.clone(),
        );
        registry.register(
            "broker_messages_routed",
            "Messages successfully queued + routed",
            self.messages_routed.clone(),
        );
        registry.register(
            "broker_messages_rejected",
            "Messages rejected (size, auth, malformed)",
            self.messages_rejected.clone(),
        );
        registry.register(
            "broker_messages_dropped_by_grant",
            "Messages refused because recipient didn't grant sender the required capability",
            self.messages_dropped.clone(),
        );
        registry.register(
            "broker_deliveries",
            "Deliveries that reached a stage",
            self.deliveries.clone(),
        );
        registry.register(
            "broker_queue_depth",
            "Undelivered messages currently in the queue",
            self.queue_depth.clone(),
        );
        registry.register("broker_ttl_sweeps", "TTL sweeper runs completed", self.sweeps.clone());
        registry.register(
            "broker_hook_requests",
            "POST /hook/set-status requests received",
            self.hooks.clone(),
        );
        registry.register(
            "broker_hook_requests_rate_limited",
            "POST /hook/set-status rejected by rate limit",
            self.hooks_limited.clone(),
        );
        registry.register(
            "broker_db_healthy",
            "1 if the store can be reached, 0 if not",
            self.database_up.clone(),
        );
        registry.register(
            "broker_requests",
            "Requests by operation and outcome",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "broker_request_duration",
            "Time from the arrival of a request to its answer",
            Unit::Seconds,
            self.request_time.clone(),
        );
        registry.register(
            "broker_rate_limited",
            "Requests refused by a rate limit",
            self.limited.clone(),
        );
        registry.register(
            "broker_http_requests",
            "HTTP requests by endpoint and status class",
            self.http_requests.clone(),
        );
        registry.register(
            "broker_commit_rows",
            "Writes that were committed together",
            self.commit_rows.clone(),
        );
        registry.register_with_unit(
            "broker_commit_duration",
            "Time of one commit, until it is on disk",
            Unit::Seconds,
            self.commit_time.clone(),
        );
        self
    }

    /// The text of `GET /metrics`, in the OpenMetrics format.
    ///
    /// # Errors
    /// If formatting fails, which it does not for strings.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A socket was accepted and has not said hello yet.
    pub fn socket_opened(&self) {
        self.connections.inc();
        self.sockets_waiting.inc();
    }

    /// A socket said hello, or ended before.
    pub fn socket_decided(&self) {
        self.sockets_waiting.dec();
    }

    /// A connection was refused.
    pub fn connection_rejected(&self, code: &ErrorCode) {
        self.connections_rejected
            .get_or_create(&[("reason", code_text(code))])
            .inc();
    }

    /// The broker ended a connection.
    pub fn connection_closed(&self, reason: CloseReason) {
        self.connections_closed
            .get_or_create(&[("reason", reason.as_str())])
            .inc();
    }

    /// This many sessions of the mesh are live now.
    pub fn sessions(&self, mesh: &MeshId, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut by_mesh = self.by_mesh.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = by_mesh.len() < MAX_MESH_SERIES;
        let before = by_mesh.get(mesh.as_str()).copied();
        self.connections_active.inc_by(count - before.unwrap_or_default());
        let labels = [("mesh", mesh.0.clone())];
        // A mesh without connections has no series: their number follows the load, not the history.
        if count == 0 {
            by_mesh.remove(mesh.as_str());
            self.mesh_connections.remove(&labels);
            return;
        }
        by_mesh.insert(mesh.0.clone(), count);
        if has_room || before.is_some_and(|_| self.mesh_connections.get(&labels).is_some()) {
            self.mesh_connections.get_or_create(&labels).set(count);
        }
    }

    /// A message was put on its way to one session.
    pub fn routed(&self, priority: Priority) {
        self.messages_routed
            .get_or_create(&[("priority", priority_text(priority))])
            .inc();
    }

    /// An event of a stream was published.
    pub fn routed_event(&self) {
        self.messages_routed.get_or_create(&[("priority", "stream")]).inc();
    }

    /// A frame was refused before it reached a handler, or its handler failed.
    pub fn message_rejected(&self, code: &ErrorCode) {
        self.messages_rejected
            .get_or_create(&[("reason", code_text(code))])
            .inc();
    }

    /// A recipient's grants refused a message.
    pub fn refused(&self, missing: Capability) {
        self.messages_dropped.get_or_create(&[("cap", missing.as_str())]).inc();
    }

    /// A delivery reached a stage.
    pub fn delivery(&self, stage: DeliveryStage) {
        self.deliveries.get_or_create(&[("stage", stage.as_str())]).inc();
    }

    /// How many deliveries wait.
    pub fn set_queue_depth(&self, depth: u64) {
        self.queue_depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// A sweep over overdue statuses is done.
    pub fn sweep_done(&self) {
        self.sweeps.inc();
    }

    /// A hook reported a status.
    pub fn hook_received(&self) {
        self.hooks.inc();
    }

    /// A hook's report was refused by its rate limit.
    pub fn hook_limited(&self) {
        self.hooks_limited.inc();
    }

    /// Whether the store can be reached.
    pub fn set_database_up(&self, up: bool) {
        self.database_up.set(i64::from(up));
    }

    /// A request was answered: `None` for success.
    pub fn request_done(&self, operation: &'static str, error: Option<&ErrorCode>, took: Duration) {
        let outcome = error.map_or("ok", code_text);
        self.requests
            .get_or_create(&[("operation", operation), ("outcome", outcome)])
            .inc();
        self.request_time
            .get_or_create(&[("operation", operation)])
            .observe(took.as_secs_f64());
    }

    /// A request was refused by the limit of its class.
    pub fn rate_limited(&self, class: RateClass) {
        self.limited.get_or_create(&[("class", class.as_str())]).inc();
    }

    /// An HTTP request was answered. `endpoint` is a route, never a path: paths are without number.
    pub fn http_request(&self, endpoint: &str, status: u16) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.http_requests
            .get_or_create(&[("endpoint", endpoint.to_owned()), ("status", class.to_owned())])
            .inc();
    }

    /// The store committed this many writes together, and the commit took this long.
    pub fn committed(&self, writes: usize, took: Duration) {
        #[allow(clippy::cast_precision_loss)]
        self.commit_rows.observe(writes as f64);
        self.commit_time.observe(took.as_secs_f64());
    }
}

/// A code's text if it is one of ours: what others send must not make series.
fn code_text(code: &ErrorCode) -> &'static str {
    ErrorCode::ALL
        .iter()
        .find(|known| *known == code)
        .map_or(OTHER, ErrorCode::as_str)
}

fn priority_text(priority: Priority) -> &'static str {
    match priority {
        Priority::Now => "now",
        Priority::Next => "next",
        Priority::Low => "low",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_original_are_kept() {
        let metrics = Metrics::new("abc");
        metrics.socket_opened();
        metrics.connection_rejected(&ErrorCode::BadSignature);
        metrics.routed(Priority::Now);
        metrics.request_done("send", Some(&ErrorCode::Unknown("x".into())), Duration::from_millis(3));
        metrics.committed(3, Duration::from_micros(200));
        let text = metrics.text().unwrap();
        for line in [
            "broker_connections_total 1",
            "broker_connections_rejected_total{reason=\"bad_signature\"} 1",
            "broker_connections_active 0",
            "broker_messages_routed_total{priority=\"now\"} 1",
            "broker_queue_depth 0",
            "broker_ttl_sweeps_total 0",
            "broker_db_healthy 0",
            "broker_requests_total{operation=\"send\",outcome=\"other\"} 1",
            "broker_commit_rows_count 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn defect_113_meshes_have_a_bounded_number_of_series() {
        let metrics = Metrics::default();
        for mesh in 0..MAX_MESH_SERIES + 5 {
            metrics.sessions(&MeshId(format!("m{mesh}")), 2);
        }
        metrics.sessions(&MeshId("m7".to_owned()), 1);
        let text = metrics.text().unwrap();
        assert!(text.contains("broker_mesh_connections_active{mesh=\"m7\"} 1"));
        assert_eq!(text.matches("broker_mesh_connections_active{").count(), MAX_MESH_SERIES);
        assert!(text.contains("broker_connections_active 2009"), "{text}");
        for mesh in 0..MAX_MESH_SERIES + 5 {
            metrics.sessions(&MeshId(format!("m{mesh}")), 0);
        }
        let text = metrics.text().unwrap();
        assert!(!text.contains("mesh=\"") && text.contains("broker_connections_active 0"));
    }
}
