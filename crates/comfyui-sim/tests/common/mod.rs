//! One prompt at a simulator, from the websocket to the verdict.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use pointsman_comfyui::{
    ComfyClient, Disconnected, Events, Message, Submission, SubmitError, SubmitReply, Timeouts,
    Truth, Verdict,
};
use pointsman_comfyui_sim::{Faults, SimConfig, SimHandle, Simulator};
use serde_json::{Map, Value, json};

/// Nothing in these tests takes that long.
const LIMIT: Duration = Duration::from_secs(20);

pub async fn start(config: SimConfig) -> SimHandle {
    Simulator::start(config).await.unwrap()
}

pub async fn start_with(faults: Faults) -> SimHandle {
    start(SimConfig { faults, step: Duration::from_millis(1), ..SimConfig::default() }).await
}

pub fn impatient_client(sim: &SimHandle, request: Duration) -> ComfyClient {
    ComfyClient::with_timeouts(&sim.url(), Timeouts { request, ..Timeouts::default() }).unwrap()
}

pub struct Attempt {
    pub client: ComfyClient,
    pub events: Events,
    /// Prompt and client id, as a worker uses them.
    pub id: String,
    pub faults: Value,
}

impl Attempt {
    pub async fn begin(sim: &SimHandle) -> Self {
        let client = ComfyClient::new(&sim.url()).unwrap();
        let id = uuid::Uuid::new_v4().to_string();
        let events = client.events(&id).await.unwrap();
        Self { client, events, id, faults: json!({}) }
    }

    pub async fn try_submit(&self, graph: &Value) -> Result<SubmitReply, SubmitError> {
        let extra_data = Map::from_iter([("sim_faults".to_owned(), self.faults.clone())]);
        let submission =
            Submission { graph, prompt_id: &self.id, client_id: &self.id, extra_data: &extra_data };
        self.client.submit(&submission).await
    }

    pub async fn submit(&mut self, graph: &Value) {
        let reply = self.try_submit(graph).await.unwrap();
        assert_eq!(reply.prompt_id, self.id);
        assert!(reply.node_errors.is_empty());
    }

    pub async fn truth(&self) -> Truth {
        self.client.truth(&self.id).await.unwrap()
    }

    /// Reads the truth until nothing will change any more. A service that is away for a moment is asked again.
    pub async fn final_verdict(&self) -> Verdict {
        let poll = async {
            loop {
                match self.client.truth(&self.id).await {
                    Ok(truth) if truth.verdict.is_final() => return truth.verdict,
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        tokio::time::timeout(LIMIT, poll).await.expect("no final verdict")
    }

    /// The first message that `wanted` takes.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Message) -> bool) -> Message {
        let search = async {
            loop {
                let message = self.events.next().await.unwrap();
                if wanted(&message) {
                    return message;
                }
            }
        };
        tokio::time::timeout(LIMIT, search).await.expect("message did not come")
    }
}

/// Everything until the end of a stream, and why it ended.
pub async fn collect(events: &mut Events) -> (Vec<Message>, Disconnected) {
    let mut heard = Vec::new();
    let all = async {
        loop {
            match events.next().await {
                Ok(message) => heard.push(message),
                Err(end) => return end,
            }
        }
    };
    let end = tokio::time::timeout(LIMIT, all).await.expect("stream did not end");
    (heard, end)
}

/// The usual text-to-image graph, seven nodes.
pub fn picture(seed: u64) -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sim-v1.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a lake at dawn"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {
            "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], "seed": seed,
            "steps": 4, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "lake"}}
    })
}

/// A graph that sleeps.
pub fn sleeping(seconds: f64) -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimSleep", "inputs": {"value": ["1", 0], "seconds": seconds}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    })
}
