//! One Redis Sentinel.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use redis::{aio::MultiplexedConnection, cmd};
use tempfile::TempDir;

use crate::{
    HarnessError, RedisServer,
    process::{Kept, Ports, Process, TRIES, log_tail},
    server::connect,
    tls,
};

const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(10);

/// A sentinel that watches one primary; gone when dropped. Of a primary with TLS, it has a port of its
/// own that speaks TLS, with the primary's certificate, and names the servers' ports that do.
#[derive(Debug)]
pub struct Sentinel {
    process: Process,
    directory: TempDir,
    ports: Ports,
    _kept: Kept,
    name: String,
    user: String,
}

impl Sentinel {
    /// Watches `primary` under `name`, and calls it down after half a second of silence.
    pub async fn start(
        primary: &RedisServer,
        name: &str,
        quorum: u32,
    ) -> Result<Self, HarnessError> {
        let tls = primary.tls_port().is_some();
        Self::on_some(primary, name, quorum, || Ports::free(tls)).await
    }

    async fn on_some(
        primary: &RedisServer,
        name: &str,
        quorum: u32,
        mut ports: impl FnMut() -> Result<(Ports, Kept), HarnessError>,
    ) -> Result<Self, HarnessError> {
        for _ in 0..TRIES {
            match Self::on(primary, name, quorum, ports()?).await {
                Err(error) if error.is_taken_port() => {}
                answer => return answer,
            }
        }
        Err(HarnessError::NoPort)
    }

    async fn on(
        primary: &RedisServer,
        name: &str,
        quorum: u32,
        (ports, kept): (Ports, Kept),
    ) -> Result<Self, HarnessError> {
        let directory = tempfile::tempdir()?;
        if ports.tls.is_some() {
            tls::copy(primary.directory(), directory.path())?;
        }
        // A sentinel writes what it learns into its own file, so it needs one.
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, configuration(primary, name, quorum, directory.path(), ports))?;
        let file = file.display().to_string();
        let process = Process::spawn(directory.path(), &[&file, "--sentinel"], Stdio::null())?;
        let user = primary.user();
        let mut sentinel = Self { process, directory, ports, _kept: kept, name: name.into(), user };
        sentinel.until("its primary", |port, _| port == Some(named(primary))).await?;
        Ok(sentinel)
    }

    pub fn port(&self) -> u16 {
        self.ports.plain
    }

    /// Of a primary with TLS.
    pub fn tls_port(&self) -> Option<u16> {
        self.ports.tls
    }

    /// `redis+sentinel://[USER:PASSWORD@]127.0.0.1:PORT/NAME`; the password is the servers', the
    /// sentinel has none.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}127.0.0.1:{}/{}", self.user, self.port(), self.name)
    }

    /// Waits until it knows so many replicas; without one there is nothing to fail over to.
    pub async fn knows_replicas(&mut self, count: usize) -> Result<(), HarnessError> {
        self.until("the replicas", |_, replicas| replicas >= count).await
    }

    /// Waits until this one is the primary.
    pub async fn primary_is(&mut self, server: &RedisServer) -> Result<(), HarnessError> {
        self.until("the fail-over", |primary, _| primary == Some(named(server))).await
    }

    /// Has it fail over, though the primary is well, as soon as it knows enough of a replica.
    pub async fn fail_over(&self) -> Result<(), HarnessError> {
        let mut connection = self.connect().await?;
        let begun = Instant::now();
        loop {
            let ordered = cmd("SENTINEL").arg("FAILOVER").arg(&self.name).to_owned();
            match ordered.exec_async(&mut connection).await {
                Err(error) if error.code() == Some("NOGOODSLAVE") && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(AGAIN).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    pub async fn connect(&self) -> Result<MultiplexedConnection, HarnessError> {
        Ok(connect(&format!("redis://127.0.0.1:{}", self.port())).await?)
    }

    async fn until(
        &mut self,
        what: &'static str,
        holds: impl Fn(Option<u16>, usize) -> bool,
    ) -> Result<(), HarnessError> {
        let begun = Instant::now();
        loop {
            if self.process.ended()? {
                return Err(HarnessError::Ended(log_tail(self.directory.path())));
            }
            let (primary, replicas) = self.sees().await.unwrap_or_default();
            if holds(primary, replicas) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(HarnessError::NotReady { what, log: log_tail(self.directory.path()) });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The primary's port, and how many replicas it knows.
    async fn sees(&self) -> Result<(Option<u16>, usize), HarnessError> {
        let mut connection = self.connect().await?;
        let mut ask = cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let address: Option<(String, u16)> = ask.query_async(&mut connection).await?;
        let mut ask = cmd("SENTINEL");
        ask.arg("REPLICAS").arg(&self.name);
        let replicas: Vec<redis::Value> = ask.query_async(&mut connection).await?;
        Ok((address.map(|(_, port)| port), replicas.len()))
    }
}

/// The port that a sentinel names for this server.
fn named(server: &RedisServer) -> u16 {
    server.tls_port().unwrap_or(server.port())
}

fn configuration(
    primary: &RedisServer,
    name: &str,
    quorum: u32,
    directory: &Path,
    ports: Ports,
) -> String {
    let mut lines = vec![
        "bind 127.0.0.1".to_owned(),
        format!("port {}", ports.plain),
        "daemonize no".into(),
        format!("sentinel monitor {name} 127.0.0.1 {} {quorum}", named(primary)),
        format!("sentinel down-after-milliseconds {name} 500"),
        format!("sentinel failover-timeout {name} 3000"),
    ];
    if let Some(port) = ports.tls {
        lines.extend([
            format!("tls-port {port}"),
            "tls-replication yes".into(),
            "tls-auth-clients no".into(),
            format!("tls-ca-cert-file {}", tls::ca(directory).display()),
            format!("tls-cert-file {}", tls::certificate(directory).display()),
            format!("tls-key-file {}", tls::key(directory).display()),
        ]);
    }
    let options = primary.options();
    lines.extend(options.user.map(|user| format!("sentinel auth-user {name} {user}")));
    let password = options.password.as_ref();
    lines.extend(password.map(|password| format!("sentinel auth-pass {name} {password}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::RedisOptions;

    #[tokio::test]
    async fn where_another_process_was_faster_it_takes_other_ports() {
        let primary = RedisServer::start(RedisOptions::default()).await.unwrap();
        let faster = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = faster.local_addr().unwrap().port();
        let mut first = Some(taken);
        let ports = || {
            let (free, kept) = Ports::free(false)?;
            Ok((Ports { plain: first.take().unwrap_or(free.plain), ..free }, kept))
        };
        let sentinel = Sentinel::on_some(&primary, "main", 1, ports).await.unwrap();
        assert_ne!(sentinel.port(), taken);
    }
}
