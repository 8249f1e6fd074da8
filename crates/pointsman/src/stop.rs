//! Signals: the first drains, the second (or the deadline) aborts.

use std::time::Duration;

use pointsman_worker::{Shutdown, Timings};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is left beyond the time that everything has by itself: then something hangs.
const SLACK: Duration = Duration::from_secs(5);

const SIGHUP: u32 = 1;

/// The deadline of a process with nothing but a server, which drains for so long.
pub fn deadline(drain: Duration) -> Duration {
    drain + SLACK
}

/// The deadline of a process with workers: their services drop what runs then, and they say goodbye.
pub fn workers_deadline(drain: Duration) -> Duration {
    deadline(Timings { drain, ..Timings::default() }.until_left())
}

/// Listens for SIGINT and SIGTERM from now on; and, unless the process was told to pass it over
/// (`nohup`), for SIGHUP. As a terminal that is closed may send that several times, it never stands for
/// the second signal.
///
/// # Errors
/// When the process may not listen for signals.
pub fn on_signals(deadline: Duration) -> std::io::Result<Shutdown> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
    let shutdown = Shutdown::default();
    let told = shutdown.clone();
    let _listener = tokio::spawn(async move {
        let mut next =
            async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
        tokio::select! { () = next() => {}, () = received(&mut hangup) => {} }
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

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started the process had it ignore SIGHUP. Where the system does not tell, it is left
/// as it is.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status).is_none_or(|signals| signals & (1 << (SIGHUP - 1)) != 0)
}

/// The signals that a process ignores, by its `status` in `/proc`.
fn ignored(status: &str) -> Option<u64> {
    let signals = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(signals.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_that_are_ignored_are_read() {
        let status = |ignored: &str| format!("Name:\tx\nSigBlk:\t01\nSigIgn:\t{ignored}\n");
        assert_eq!(ignored(&status("0000000000001001")), Some(0x1001));
        assert_eq!(ignored("Name:\tx\n"), None);
    }

    #[test]
    fn workers_are_not_cut_off_while_their_services_drop_what_runs() {
        let drain = Duration::from_secs(30);
        let least = drain + Timings::default().stop + Duration::from_secs(2);
        assert!(workers_deadline(drain) > least);
    }
}
