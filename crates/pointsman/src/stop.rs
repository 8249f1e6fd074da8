//! Signals: the first drains, the second (or the deadline) aborts.

use std::time::Duration;

use pointsman_worker::{Shutdown, Timings};
use tokio::signal::unix::{SignalKind, signal};

/// What is left beyond the time that everything has by itself: then something hangs.
const SLACK: Duration = Duration::from_secs(5);

/// The deadline of a process with nothing but a server, which drains for so long.
pub fn deadline(drain: Duration) -> Duration {
    drain + SLACK
}

/// The deadline of a process with workers: their services drop what runs then, and they say goodbye.
pub fn workers_deadline(drain: Duration) -> Duration {
    deadline(Timings { drain, ..Timings::default() }.until_left())
}

/// Listens for SIGINT and SIGTERM from now on.
///
/// # Errors
/// When the process may not listen for signals.
pub fn on_signals(deadline: Duration) -> std::io::Result<Shutdown> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = Shutdown::default();
    let told = shutdown.clone();
    let _listener = tokio::spawn(async move {
        let mut next =
            async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
        next().await;
        tracing::info!("stopping; a second signal stops at once");
        told.drain.cancel();
        tokio::select! {
            () = next() => {}
            () = tokio::time::sleep(deadline) => tracing::warn!("the deadline for stopping is over"),
        }
        told.abort.cancel();
    });
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_not_cut_off_while_their_services_drop_what_runs() {
        let drain = Duration::from_secs(30);
        let least = drain + Timings::default().stop + Duration::from_secs(2);
        assert!(workers_deadline(drain) > least);
    }
}
