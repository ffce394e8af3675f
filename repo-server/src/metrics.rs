//! Counters for Prometheus.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::app::Service;

/// What a request is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    /// First part of the path, where it is one of ours.
    pub(crate) route: &'static str,
    /// Status of the answer.
    pub(crate) status: u16,
}

/// What a build is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    /// `built`, or the kind of the miss.
    outcome: &'static str,
}

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    builds: Family<BuildLabels, Counter>,
    building: Gauge,
    seconds: Histogram,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Connections turned away because there were too many.
    pub(crate) refused_connections: Counter,
    profiles: Gauge,
    lost_log_lines: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("rekal");
        let requests = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        let builds = Family::default();
        registry.register("builds", "Builds that ended", builds.clone());
        let building = Gauge::default();
        registry.register("building", "Builds that wait or run", building.clone());
        let seconds = Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0]);
        registry.register("request_seconds", "Time until the head of an answer was ready", seconds.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let refused_connections = Counter::default();
        registry.register("refused_connections", "Connections turned away", refused_connections.clone());
        let profiles = Gauge::default();
        registry.register("profiles", "Names in the inventory", profiles.clone());
        let lost_log_lines = Gauge::default();
        registry.register("lost_log_lines", "Log lines not written in time", lost_log_lines.clone());
        Self {
            registry,
            requests,
            builds,
            building,
            seconds,
            connections,
            refused_connections,
            profiles,
            lost_log_lines,
        }
    }

    /// Counts an answered request.
    pub(crate) fn request(&self, path: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route: route(path), status }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts a build that ended.
    pub(crate) fn builds(&self, outcome: &'static str) {
        self.builds.get_or_create(&BuildLabels { outcome }).inc();
    }

    /// The text Prometheus reads.
    pub(crate) fn text(&self, service: &Service) -> String {
        self.profiles.set(i64::try_from(service.store.catalogue.len()).unwrap_or(i64::MAX));
        self.building.set(i64::try_from(service.builds.len()).unwrap_or(i64::MAX));
        self.lost_log_lines.set(i64::try_from(service.log.lost()).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A label with few values, whatever paths clients make up.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 8] =
        ["list", "lookup", "healthz", "readyz", "metrics", ".well-known", "buildid", "builds"];
    let path = path.trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if first == "v1.0" {
        return if path.starts_with("v1.0/inventory") { "inventory" } else { "document" };
    }
    ROUTES.into_iter().find(|route| *route == first).unwrap_or("other")
}
