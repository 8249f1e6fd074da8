//! How many files a server may have open: each connection is one.

use pointsman_server::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// So many are kept for the store, its files and what else the process opens.
const KEPT: u64 = 256;

/// Allows the process as many open files as it may allow itself; what a server then takes on.
pub fn limits() -> Limits {
    let usual = Limits::default();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = &raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let open = if raised.is_ok() { maximum } else { current };
    let connections = connections(usual.connections, open);
    if connections < usual.connections {
        let open = open.unwrap_or(u64::MAX);
        tracing::warn!(
            "{open} files may be open, so {connections} connections are taken at once, not {}: \
             raise the hard limit (ulimit -Hn, LimitNOFILE=)",
            usual.connections
        );
    }
    Limits { connections, ..usual }
}

/// None is no limit. One connection is always taken.
fn connections(usual: usize, open: Option<u64>) -> usize {
    let free = open.map_or(usize::MAX, |open| {
        usize::try_from(open.saturating_sub(KEPT)).unwrap_or(usize::MAX)
    });
    free.clamp(1, usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_for_what_is_no_connection() {
        for (open, taken) in [
            (None, 10_000),
            (Some(524_288), 10_000),
            (Some(1024), 768),
            (Some(300), 44),
            (Some(9), 1),
        ] {
            assert_eq!(connections(10_000, open), taken);
        }
    }
}
