use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pointsman_core::{
    command::Held,
    record::{Job, Timeouts},
};

/// One attempt at one job.
#[derive(Debug, Clone)]
pub struct Task {
    /// The job as it was claimed.
    pub job: Arc<Job>,
    /// The fence: job, attempt and token.
    pub held: Held,
    /// The job's payload, JSON text.
    pub payload: Bytes,
    /// How long what may take.
    pub limits: Limits,
    /// The service has this attempt already, from before a restart of the worker: look for its
    /// end, and do not begin it again.
    pub adopted: bool,
}

/// The clocks of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From accepted to ended; none is off. The worker keeps this one, and stops the run with
    /// [`StopReason::Timeout`](crate::StopReason::Timeout).
    pub total: Option<Duration>,
    /// After this long without an event of the service about the job, the truth is asked whether
    /// it still has it.
    pub silence_after: Duration,
    /// After this long without any evidence of work the attempt is stalled.
    pub stall_after: Duration,
    /// The same where no counters of the service's process can be read, so that being in its
    /// running queue has to do.
    pub blind_stall_after: Duration,
}

impl Default for Limits {
    /// No total, 30 s of silence, 300 s of stalling, 1,800 s where nothing can be seen.
    fn default() -> Self {
        Self {
            total: None,
            silence_after: Duration::from_secs(30),
            stall_after: Duration::from_secs(300),
            blind_stall_after: Duration::from_secs(1800),
        }
    }
}

impl Limits {
    /// These limits with the job's own in place of them, where it has any. A job that sets
    /// `stall_after` means it, so it holds where no counters can be read too.
    #[must_use]
    pub fn for_job(self, own: &Timeouts) -> Self {
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        let stall = own.stall_after_s.map(seconds);
        Self {
            total: own.total_s.map(seconds).or(self.total),
            silence_after: own.silence_after_s.map_or(self.silence_after, seconds),
            stall_after: stall.unwrap_or(self.stall_after),
            blind_stall_after: stall.unwrap_or(self.blind_stall_after),
        }
    }
}
