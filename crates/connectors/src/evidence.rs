/// A reading of counters that move while the service works, such as CPU time of its process or
/// bytes through its network card. Only whether two readings differ counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample(pub u64);

/// Evidence of work from outside the service's own protocol. It is needed because a service may be
/// silent for minutes and still work, and may answer every question while its work has died.
pub trait EvidenceSource: Send + Sync {
    /// The counters now; none where they cannot be read.
    fn sample(&self) -> Option<Sample>;
}

/// Where no counters can be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCounters;

impl EvidenceSource for NoCounters {
    fn sample(&self) -> Option<Sample> {
        None
    }
}
