//! What the workloads run on: a broker in this process, or the binary in one of its own.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use pointsman::adapters::InProcess;
use pointsman_api::Submission;
use pointsman_broker::{Broker, BrokerConfig, BrokerTasks};
use pointsman_client::Client;
use pointsman_connectors::{Connector, Limits, simulation::SimulationConnector};
use pointsman_core::{
    JobId, MachineId, ServiceName, WorkerId,
    command::Submit,
    matching::{Capabilities, Requirements},
    record::JobSpec,
};
use pointsman_server::Files;
use pointsman_store::{Clock as _, MonotonicClock, Store};
use pointsman_store_sqlite::{Options, SqliteStore};
use pointsman_worker::{ServiceConfig, Shutdown, Timings, Worker, WorkerConfig};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// A no-op of the simulation, padded to 2 KB.
pub fn payload() -> String {
    format!("{{\"duration_ms\": 0, \"steps\": 0, \"fail\": null{}}}", " ".repeat(2_000))
}

pub fn simulation() -> ServiceName {
    ServiceName::new("simulation").unwrap_or_else(|error| panic!("{error}"))
}

pub fn spec(requirements: Requirements) -> JobSpec {
    let created_at = pointsman_core::Timestamp::from_millis(1_700_000_000_000);
    JobSpec { requirements: requirements.into(), ..JobSpec::new(simulation(), created_at) }
}

pub fn submit(payload: &Arc<[u8]>) -> Submit {
    let id = JobId::from_uuid(Uuid::now_v7());
    let spec = spec(Requirements::default());
    Submit { id, spec, payload: payload.clone(), idempotency: None }
}

/// A broker in this process.
pub struct Local {
    pub broker: Broker,
    pub store: Arc<dyn Store>,
    files: Arc<Files>,
    workers: Workers,
    tasks: BrokerTasks,
    _directories: Vec<TempDir>,
}

impl Local {
    /// Over the embedded store, durable.
    pub async fn open() -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let store = SqliteStore::open(data.path(), Options::default())?;
        let mut local = Self::on(Arc::new(store)).await?;
        local._directories.push(data);
        Ok(local)
    }

    /// Over a store that somebody else opened.
    pub async fn on(store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let files = Arc::new(Files::open(directory.path(), None)?);
        let (broker, tasks) = Broker::start(store.clone(), BrokerConfig::default()).await?;
        let _directories = vec![directory];
        Ok(Self { broker, store, files, workers: Workers::default(), tasks, _directories })
    }

    /// Ends the workers, the broker and the store, in this order.
    pub async fn close(self) -> anyhow::Result<()> {
        self.workers.end().await;
        self.tasks.stop().await;
        self.store.close().await?;
        Ok(())
    }

    /// A worker of the simulation in this process.
    pub fn worker(&self, name: &str, slots: u32) -> anyhow::Result<JoinHandle<()>> {
        self.worker_of(name, slots, Arc::new(SimulationConnector::new(simulation())))
    }

    /// A worker in this process.
    pub fn worker_of(
        &self,
        name: &str,
        slots: u32,
        connector: Arc<dyn Connector>,
    ) -> anyhow::Result<JoinHandle<()>> {
        let broker = Arc::new(InProcess::new(self.broker.clone(), self.files.clone()));
        self.workers.start(broker, name, slots, connector)
    }
}

/// Waits until so many jobs have completed.
pub async fn completed(store: &dyn Store, jobs: usize) -> anyhow::Result<()> {
    loop {
        let done = store.queues(0).await?.counts.completed;
        if done >= jobs as u64 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Workers in this process.
#[derive(Default)]
pub struct Workers {
    tasks: TaskTracker,
    shutdown: Shutdown,
}

impl Workers {
    pub fn start(
        &self,
        broker: Arc<dyn pointsman_worker::Broker>,
        name: &str,
        slots: u32,
        connector: Arc<dyn Connector>,
    ) -> anyhow::Result<JoinHandle<()>> {
        let clock = MonotonicClock::starting(pointsman_core::Timestamp::default());
        let config = WorkerConfig {
            worker: WorkerId::new(name)?,
            machine: MachineId::new(name)?,
            services: vec![ServiceConfig { connector, slots }],
            capabilities: Capabilities::default(),
            summary: String::new(),
            limits: Limits::default(),
            timings: Timings::default(),
            clock: Arc::new(move || clock.now()),
        };
        let worker = Worker::new(config, broker)?;
        let shutdown = self.shutdown.clone();
        Ok(self.tasks.spawn(async move {
            if let Err(error) = worker.run(shutdown).await {
                eprintln!("the worker ended: {error}");
            }
        }))
    }

    pub async fn end(self) {
        self.shutdown.abort.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The binary in a process of its own.
pub struct Remote {
    child: Child,
    pub client: Client,
    pub url: String,
    _data: TempDir,
}

impl Remote {
    pub async fn start(binary: &Path, role: &str, more: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let path = data.path().display().to_string();
        let store = format!("sqlite:{path}");
        let place = match role {
            "server" => ["--store", &store],
            _ => ["--data", &path],
        };
        let listen = ["--listen", "127.0.0.1:0"];
        let (child, url) = spawn(binary, &[&[role][..], &listen, &place, more].concat()).await?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { child, client: Client::new(&url, None)?, url, _data: data })
    }

    /// Resident memory, MB.
    pub fn resident_mb(&self) -> anyhow::Result<f64> {
        let pid = self.child.id().context("it runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb: f64 = line.context("VmRSS")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kb / 1000.0)
    }
}

/// Starts the binary and waits for the line that says it is ready; answers what stands in it.
pub async fn spawn(binary: &Path, arguments: &[&str]) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(binary)
        .args(arguments)
        .env("POINTSMAN_LOG", "warn")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let stdout = child.stdout.take().context("piped")?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        let ready = ["monitor:", "worker:"].iter().find_map(|head| line.strip_prefix(head));
        if let Some(rest) = ready {
            let rest = rest.trim().to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((child, rest));
        }
    }
    bail!("{} ended before it was ready", binary.display())
}

pub fn no_op() -> anyhow::Result<Submission> {
    let payload: Box<serde_json::value::RawValue> = serde_json::from_str(&payload())?;
    Ok(Submission::new("simulation", &payload)?)
}
