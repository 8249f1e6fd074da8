//! Figures for Prometheus.

mod fleet;
mod jobs;

use std::sync::Arc;

use fleet::Fleet;
use jobs::Jobs;
use parking_lot::Mutex;
use pointsman_broker::{Broker, Liveness};
use pointsman_core::decide::Intake;
use pointsman_store::Health;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RouteLabels {
    method: &'static str,
    route: String,
    status: u16,
}

/// This server's own figures, and those of its fleet.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    fleet: Fleet,
    jobs: Arc<Jobs>,
    requests: Family<RouteLabels, Counter>,
    seconds: Histogram,
    seq: Gauge,
    viewers: Gauge,
    ring_bytes: Gauge,
    resyncs: Counter,
    live: Gauge,
    store_ready: Gauge,
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// Upper bounds of the request times, seconds.
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 30.0];

impl Metrics {
    /// Counts from now on what happens to jobs.
    pub fn new(broker: &Broker) -> Self {
        let mut r = Registry::with_prefix("pointsman");
        let jobs = Arc::new(Jobs::new(&mut r));
        let counting = jobs.clone();
        broker.observe(move |group| counting.count(group));
        let metrics = Self {
            jobs,
            fleet: Fleet::new(&mut r),
            requests: Family::default(),
            seconds: Histogram::new(BUCKETS),
            seq: Gauge::default(),
            viewers: Gauge::default(),
            ring_bytes: Gauge::default(),
            resyncs: Counter::default(),
            live: Gauge::default(),
            store_ready: Gauge::default(),
            registry: Mutex::default(),
        };
        r.register("http_requests", "Answered requests", metrics.requests.clone());
        let help = "Time to the beginning of the answer";
        r.register_with_unit("http_request", help, Unit::Seconds, metrics.seconds.clone());
        r.register("log_seq", "The last change in the view", metrics.seq.clone());
        r.register("viewers", "Open event streams", metrics.viewers.clone());
        r.register("ring_bytes", "Changes kept for viewers", metrics.ring_bytes.clone());
        r.register("viewer_resyncs", "Viewers that had to start anew", metrics.resyncs.clone());
        r.register("live", "1 while the view is known to be the store's", metrics.live.clone());
        r.register("store_ready", "1 while the store takes new work", metrics.store_ready.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The program", build);
        *metrics.registry.lock() = r;
        metrics
    }

    pub fn answered(&self, method: &str, route: &str, status: u16, seconds: f64) {
        // Whoever asks picks the method: only known ones become a series.
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let route = route.to_owned();
        self.requests.get_or_create(&RouteLabels { method, route, status }).inc();
        self.seconds.observe(seconds);
    }

    /// The text that Prometheus reads, with what is true now.
    pub async fn text(&self, broker: &Broker) -> Result<String, std::fmt::Error> {
        let (snapshot, takes_work) = (broker.snapshot().await, takes_work(broker).await);
        let mut text = String::new();
        // Who asks at the same time gets figures of one moment, too.
        let registry = self.registry.lock();
        self.fleet.set(&snapshot);
        self.jobs.know(snapshot.workers.iter().map(AsRef::as_ref));
        let stats = broker.stats();
        self.seq.set(i64::try_from(stats.seq).unwrap_or(i64::MAX));
        self.viewers.set(gauge(stats.viewers));
        self.ring_bytes.set(gauge(stats.ring_bytes));
        self.resyncs.inc_by((stats.resyncs as u64).saturating_sub(self.resyncs.get()));
        self.live.set(i64::from(broker.live() == Liveness::Live));
        self.store_ready.set(i64::from(takes_work));
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Whether the store takes new work. One that does not say whether its intake is open takes none.
async fn takes_work(broker: &Broker) -> bool {
    broker.health() == Health::Ready
        && match broker.store().clone().transfer() {
            Some(transfer) => matches!(transfer.intake().await, Ok(Intake::Open)),
            None => true,
        }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
