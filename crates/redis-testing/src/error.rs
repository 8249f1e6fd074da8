//! What can go wrong with a server of one's own.

/// Why a redis-server did not do what a test wanted of it.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    #[error("cannot start redis-server: {0}; it has to be on the PATH (Debian: redis-server)")]
    Start(#[source] std::io::Error),
    #[error("redis-server ended at once; it said:\n{0}")]
    Ended(String),
    #[error("redis-server was not ready for {what} within 20 s; it said:\n{log}")]
    NotReady { what: &'static str, log: String },
    #[error("no free port was found in 20 tries")]
    NoPort,
    #[error("the redis-server is not running")]
    NotRunning,
    #[error("the certificates could not be made: {0}")]
    Tls(#[from] rcgen::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

impl HarnessError {
    /// Another process listens where this one was to.
    pub(crate) fn is_taken_port(&self) -> bool {
        matches!(self, Self::Ended(log) if log.contains("Address already in use"))
    }
}
