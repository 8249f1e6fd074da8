use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// Why a run shall stop. A stronger reason replaces a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StopReason {
    /// The worker is leaving: the job is given back.
    Drain = 1,
    /// The attempt ran over its total limit.
    Timeout = 2,
    /// Somebody asked to cancel the job.
    Cancel = 3,
    /// The attempt is no longer this worker's.
    Lost = 4,
}

impl StopReason {
    fn from_code(code: u8) -> Option<Self> {
        [Self::Drain, Self::Timeout, Self::Cancel, Self::Lost]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }
}

/// Tells a run to stop. Cheap enough to have one for every attempt.
#[derive(Debug, Default)]
pub struct StopSignal {
    reason: AtomicU8,
    raised: Notify,
}

impl StopSignal {
    /// Raises the signal, or its reason. Never takes it back.
    pub fn raise(&self, reason: StopReason) {
        self.reason.fetch_max(reason as u8, Ordering::SeqCst);
        self.raised.notify_waiters();
    }

    /// The strongest reason so far.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        StopReason::from_code(self.reason.load(Ordering::SeqCst))
    }

    /// Waits until the signal is raised. Cancel-safe.
    pub async fn raised(&self) -> StopReason {
        loop {
            let raised = self.raised.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            raised.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_strongest_reason_stays_and_wakes_waiters() {
        let signal = StopSignal::default();
        assert_eq!(signal.reason(), None);
        let (reason, ()) = tokio::join!(signal.raised(), async {
            tokio::task::yield_now().await;
            signal.raise(StopReason::Cancel);
        });
        assert_eq!(reason, StopReason::Cancel);
        signal.raise(StopReason::Drain);
        assert_eq!(signal.reason(), Some(StopReason::Cancel));
        signal.raise(StopReason::Lost);
        assert_eq!(signal.raised().await, StopReason::Lost);
    }
}
