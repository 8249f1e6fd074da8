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
    /// Arguments of every server and every direct worker.
    more: Vec<String>,
}

impl Fleet {
    pub fn on(redis: impl Into<String>) -> Self {
        Self { url: redis.into(), files: directory(), more: Vec::new() }
    }

    /// One whose submissions and endings wait for a replica.
    pub fn with_acks(redis: impl Into<String>) -> Self {
        Self { more: ["--acks", "1"].map(str::to_owned).into(), ..Self::on(redis) }
    }

    /// Where all of its servers and direct workers keep files.
    fn artifacts(&self) -> String {
        self.path("artifacts").into_os_string().into_string().expect("UTF-8")
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let more = self.more.iter().map(String::as_str);
        Process::start(&arguments.iter().copied().chain(more).collect::<Vec<_>>())
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// A server with a data directory of its own.
    pub async fn server(&self, name: &str) -> Served {
        let (data, artifacts) = (self.path(name), self.artifacts());
        let listen = ["server", "--listen", "127.0.0.1:0", "--store", &self.url];
        let files = ["--data", data.to_str().expect("UTF-8"), "--artifacts", &artifacts];
        Served::from(self.start(&[listen.as_slice(), &files].concat())).await
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
        let service = format!("simulation:{slots}");
        let more = ["--broker", broker, "--service", &service];
        self.worker(server, id, &more, &self.artifacts()).await
    }

    /// One for a ComfyUI, with its files in the directory that all share.
    pub async fn direct_for(&self, server: &Served, id: &str, comfyui: &str) -> Process {
        self.direct_with_files_at(server, id, comfyui, &self.artifacts()).await
    }

    /// The same, with its files elsewhere.
    pub async fn direct_with_files_at(
        &self,
        server: &Served,
        id: &str,
        comfyui: &str,
        files: &str,
    ) -> Process {
        let service = format!("comfyui={comfyui}");
        self.worker(server, id, &["--broker", &self.url, "--service", &service], files).await
    }

    async fn worker(&self, server: &Served, id: &str, more: &[&str], files: &str) -> Process {
        let who = ["worker", "--id", id, "--artifacts", files];
        server.registered(self.start(&[who.as_slice(), more].concat())).await
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

/// How many of these run now.
pub async fn still_run(client: &Client, jobs: &[JobId]) -> usize {
    let mut run = 0;
    for job in jobs {
        let job = client.job(*job).await.expect("it is known");
        run += usize::from(job.status == JobStatus::InProgress);
    }
    run
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
