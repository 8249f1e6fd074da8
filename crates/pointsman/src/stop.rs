//! Signals: the first drains, the second (or the deadline) aborts.

use std::time::Duration;

use pointsman_worker::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

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
