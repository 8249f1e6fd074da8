//! Figures for Prometheus.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use pointsman_broker::{Broker, Liveness};
use pointsman_core::{decide::Intake, record::WorkerStatus};
use pointsman_store::{Counts, Health};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RouteLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

type ByStatus = Family<StatusLabel, Gauge>;

pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RouteLabels, Counter>,
    seconds: Histogram,
    jobs: ByStatus,
    workers: ByStatus,
    seq: Gauge,
    viewers: Gauge,
    ring_bytes: Gauge,
    resyncs: Gauge,
    live: Gauge,
    store_ready: Gauge,
    classes: Gauge<i64>,
    oldest: Gauge<f64, AtomicU64>,
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// Upper bounds of the request times, seconds.
const BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 30.0];

impl Metrics {
    pub fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("pointsman")),
            requests: Family::default(),
            seconds: Histogram::new(BUCKETS),
            jobs: Family::default(),
            workers: Family::default(),
            seq: Gauge::default(),
            viewers: Gauge::default(),
            ring_bytes: Gauge::default(),
            resyncs: Gauge::default(),
            live: Gauge::default(),
            store_ready: Gauge::default(),
            classes: Gauge::default(),
            oldest: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut r = self.registry.lock();
        r.register("http_requests", "Answered requests", self.requests.clone());
        let help = "Time to the beginning of the answer";
        r.register_with_unit("http_request", help, Unit::Seconds, self.seconds.clone());
        let help = "Jobs that are kept, by status; pending are those in their queues, held those \
                    that are pending and not in them";
        r.register("jobs", help, self.jobs.clone());
        r.register("workers", "Workers that are known, by status", self.workers.clone());
        r.register("log_seq", "The last change in the view", self.seq.clone());
        r.register("viewers", "Open event streams", self.viewers.clone());
        r.register("ring_bytes", "Changes kept for viewers", self.ring_bytes.clone());
        r.register("viewer_resyncs", "Viewers that had to start anew", self.resyncs.clone());
        r.register("live", "1 while the view is known to be the store's", self.live.clone());
        r.register("store_ready", "1 while the store takes new work", self.store_ready.clone());
        r.register("classes", "Live classes of jobs", self.classes.clone());
        let help = "Age of the oldest waiting job";
        r.register_with_unit("oldest_waiting", help, Unit::Seconds, self.oldest.clone());
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
        let snapshot = broker.snapshot().await;
        if let Some(queues) = &snapshot.lanes.queues {
            let queues = &queues.queues;
            self.count_jobs(&queues.counts);
            let oldest = queues.classes.iter().filter_map(|class| class.oldest_at).min();
            self.oldest.set(oldest.map_or(0.0, |at| snapshot.at.since(at).as_secs_f64()));
        }
        for status in WORKER_STATUSES {
            let count = snapshot.workers.iter().filter(|worker| worker.status == status).count();
            self.workers.get_or_create(&StatusLabel { status: status.as_str() }).set(gauge(count));
        }
        let stats = broker.stats();
        self.seq.set(i64::try_from(stats.seq).unwrap_or(i64::MAX));
        self.viewers.set(gauge(stats.viewers));
        self.ring_bytes.set(gauge(stats.ring_bytes));
        self.resyncs.set(gauge(stats.resyncs));
        self.live.set(i64::from(broker.live() == Liveness::Live));
        self.store_ready.set(i64::from(takes_work(broker).await));
        let mut text = String::new();
        encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }

    fn count_jobs(&self, counts: &Counts) {
        for (status, count) in [
            ("pending", counts.pending),
            ("held", counts.held),
            ("assigned", counts.assigned),
            ("in_progress", counts.in_progress),
            ("completed", counts.completed),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.jobs.get_or_create(&StatusLabel { status }).set(count);
        }
        self.classes.set(i64::try_from(counts.classes).unwrap_or(i64::MAX));
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

/// Those that a worker can have.
const WORKER_STATUSES: [WorkerStatus; 5] = [
    WorkerStatus::Starting,
    WorkerStatus::Idle,
    WorkerStatus::Busy,
    WorkerStatus::Draining,
    WorkerStatus::Offline,
];

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
