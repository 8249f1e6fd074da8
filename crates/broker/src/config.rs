//! Settings of a broker, with the limits of everything that it keeps.

use std::time::Duration;

use pointsman_store::Retention;

/// Settings of a broker. The default is right for one server.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig {
    /// The fleet's name, shown in snapshots.
    pub fleet: String,
    /// What is kept of ended jobs and of workers and machines that are gone.
    pub retention: Retention,
    /// How often a waiting claim looks by itself, without a hint.
    pub slow_scan: Duration,
    /// Changes kept for viewers that resume or lag: groups at most.
    pub ring_groups: usize,
    /// And bytes at most, roughly: records and their JSON.
    pub ring_bytes: usize,
    /// Newest preview pictures kept over all jobs, bytes at most.
    pub preview_bytes: usize,
    /// Whether this broker runs the reconcilers; tests go without where they say when it is time.
    pub reconcile: bool,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            fleet: "default".into(),
            retention: Retention::default(),
            slow_scan: Duration::from_secs(1),
            ring_groups: 20_000,
            ring_bytes: 32 << 20,
            preview_bytes: 64 << 20,
            reconcile: true,
        }
    }
}
