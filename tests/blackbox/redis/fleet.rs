//! Servers and workers of one fleet on one Redis.

use std::{path::PathBuf, time::Duration};

use pointsman_client::Client;
use pointsman_core::{JobId, record::JobStatus};
use tempfile::TempDir;

use crate::harness::{Process, Served, directory, simulation, submit, until};

/// Something that takes no time if all is well happens within this.
pub const SOON: Duration = Duration::from_secs(30);

/// Where the fleet's things are; its processes are the test's.
pub struct Fleet {
    url: String,
    files: TempDir,
}

impl Fleet {
    pub fn on(redis: impl Into<String>) -> Self {
        Self { url: redis.into(), files: directory() }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// A server with a data directory of its own.
    pub async fn server(&self, name: &str) -> Served {
        let (data, artifacts) = (self.path(name), self.path("artifacts"));
        let [data, artifacts] = [&data, &artifacts].map(|path| path.to_str().expect("UTF-8"));
        let listen = ["server", "--listen", "127.0.0.1:0", "--store", &self.url];
        let files = ["--data", data, "--artifacts", artifacts];
        Served::from(Process::start(&[listen.as_slice(), &files].concat())).await
    }

    /// A worker that talks to Redis directly, once the server knows it.
    pub async fn direct(&self, server: &Served, id: &str, slots: u32) -> Process {
        self.direct_through(server, id, slots, &self.url).await
    }

    /// The same, by another way to the same Redis.
    pub async fn direct_through(
        &self,
        server: &Served,
        id: &str,
        slots: u32,
        broker: &str,
    ) -> Process {
        let (artifacts, service) = (self.path("artifacts"), format!("simulation:{slots}"));
        let artifacts = artifacts.to_str().expect("UTF-8");
        let who = ["worker", "--id", id, "--service", &service];
        let place = ["--broker", broker, "--artifacts", artifacts];
        server.registered(Process::start(&[who.as_slice(), &place].concat())).await
    }
}

/// Submits jobs of one length, and waits until all of them run.
pub async fn running(client: &Client, jobs: usize, duration_ms: u64) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..jobs {
        ids.push(submit(client, &simulation(duration_ms)).await);
    }
    for id in &ids {
        runs(client, *id).await;
    }
    ids
}

pub async fn runs(client: &Client, id: JobId) {
    until(client, id, SOON, |job| job.status == JobStatus::InProgress).await;
}

/// Waits until something holds, looking again and again.
pub async fn becomes<T>(what: &str, within: Duration, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
