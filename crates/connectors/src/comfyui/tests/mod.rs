//! The connector against the simulator, over real sockets and in real time. Limits are long where
//! something must happen, and short where something must not.

mod cached;
mod cancelling;
mod faults;
mod ghosts;
mod health;
mod plain;
mod proxy;
mod refusals;
mod silence;
mod transfers;
mod unread;

use std::{sync::Arc, time::Duration};

use pointsman_comfyui_sim::{Faults, SimConfig, SimHandle, Simulator};
use pointsman_core::{Failure, LossReason, ServiceName};
use serde_json::{Value, json};

use self::proxy::Proxy;
use super::{ComfyUiConnector, ComfyUiSettings, Pace};
use crate::{
    Completion, Connector as _, RunEnd, StopReason, Task,
    testing::{Witness, task},
};

/// Nothing here takes that long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// A simulator and a connector to it.
struct Bench {
    sim: SimHandle,
    connector: Arc<ComfyUiConnector>,
}

impl Bench {
    async fn new() -> Self {
        Self::with_faults(Faults::default()).await
    }

    async fn with_faults(faults: Faults) -> Self {
        let step = Duration::from_millis(2);
        Self::with(SimConfig { faults, step, ..SimConfig::default() }, |_| {}).await
    }

    async fn with(config: SimConfig, change: impl FnOnce(&mut ComfyUiSettings)) -> Self {
        let sim = Simulator::start(config).await.unwrap();
        let mut settings = settings(&sim.url(), "worker-a");
        change(&mut settings);
        let connector = Arc::new(ComfyUiConnector::new(settings).unwrap());
        Self { sim, connector }
    }

    /// The same, with a proxy between the two.
    async fn behind_a_proxy(self, change: impl FnOnce(&mut ComfyUiSettings)) -> (Self, Proxy) {
        let proxy = Proxy::start(self.sim.addr()).await;
        let mut settings = settings(&proxy.url(), "worker-a");
        change(&mut settings);
        let connector = Arc::new(ComfyUiConnector::new(settings).unwrap());
        (Self { connector, ..self }, proxy)
    }

    /// Runs a graph to its end.
    async fn run(&self, graph: Value) -> (Result<Completion, RunEnd>, Arc<Witness>) {
        let witness = Witness::new();
        let end = self.run_task(comfy_task(graph), witness.clone()).await;
        (end, witness)
    }

    async fn run_task(&self, task: Task, witness: Arc<Witness>) -> Result<Completion, RunEnd> {
        let run = self.connector.run(task, witness.context());
        tokio::time::timeout(LIMIT, run).await.expect("the run hangs")
    }

    /// Begins a run in a task of its own, and waits until the service has taken it.
    async fn begin(&self, task: Task) -> Running {
        let witness = Witness::new();
        let (connector, context) = (self.connector.clone(), witness.context());
        let run = tokio::spawn(async move { connector.run(task, context).await });
        let running = Running { run, witness };
        until(|| running.witness.started.load(std::sync::atomic::Ordering::SeqCst) > 0).await;
        running
    }

    async fn queue(&self) -> usize {
        self.connector.client.queue().await.unwrap().len()
    }
}

struct Running {
    run: tokio::task::JoinHandle<Result<Completion, RunEnd>>,
    witness: Arc<Witness>,
}

impl Running {
    fn stop(&self, reason: StopReason) {
        self.witness.stop.raise(reason);
    }

    async fn end(self) -> Result<Completion, RunEnd> {
        tokio::time::timeout(LIMIT, self.run).await.expect("the run hangs").unwrap()
    }
}

/// Waits for something that must come true.
async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it never came true");
}

fn settings(url: &str, owner: &str) -> ComfyUiSettings {
    let service = ServiceName::new("comfyui").unwrap();
    let cancel = Duration::from_millis(600);
    let soon = Duration::from_millis(100);
    let pace = Pace {
        cancel,
        dead_after: soon,
        mute_after: soon * 3,
        cut_off_after: soon * 3,
        unreadable_after: soon,
        ..Pace::default()
    };
    let owner = owner.to_owned();
    let owner = Arc::new(move || owner.clone());
    ComfyUiSettings { pace, ..ComfyUiSettings::new(service, url, owner) }
}

fn comfy_task(graph: Value) -> Task {
    task("comfyui", json!({ "workflow": graph }).to_string())
}

fn with_faults(graph: Value, faults: Value) -> Task {
    let payload = json!({ "workflow": graph, "extra_data": { "sim_faults": faults } });
    task("comfyui", payload.to_string())
}

fn failure(end: Result<Completion, RunEnd>) -> Failure {
    match end {
        Err(RunEnd::Failed(failure)) => *failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn lost(end: Result<Completion, RunEnd>) -> LossReason {
    match end {
        Err(RunEnd::GaveBack { reason, .. }) => reason,
        other => panic!("expected a loss, got {other:?}"),
    }
}

/// The usual text-to-image graph, seven nodes.
fn picture(seed: u64) -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sim-v1.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a lake"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
        "4": {"class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {
            "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0],
            "seed": seed, "steps": 4, "cfg": 7, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage",
            "inputs": {"images": ["6", 0], "filename_prefix": "lake"}}
    })
}

/// A graph that sleeps, and can be interrupted while it does.
fn sleeping(seconds: f64) -> Value {
    json!({
        "1": {"class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimSleep", "inputs": {"value": ["1", 0], "seconds": seconds}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    })
}
