use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use futures::{SinkExt as _, StreamExt as _};
use pointsman_comfyui_sim::{SimConfig, SimHandle, Simulator, Version};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::shape;

/// Nothing in these scenarios takes that long.
const LIMIT: Duration = Duration::from_secs(20);

/// What was done to a server, and what it said.
pub struct Recording {
    version: Version,
    scenario: String,
    records: Vec<Value>,
}

/// What was heard, in shapes.
#[derive(Default)]
pub struct Heard {
    /// Socket → its messages, without `status`.
    pub sockets: BTreeMap<String, Vec<String>>,
    /// Socket → how many `status` messages it got: where they fall between the others is a matter of chance.
    pub statuses: BTreeMap<String, usize>,
    /// (method and path, answer).
    pub answers: Vec<(String, Value)>,
}

impl Recording {
    pub fn load(version: Version, scenario: &str) -> Self {
        let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("../comfyui/tests/wire");
        let text =
            std::fs::read(wire.join(version.as_str()).join(format!("{scenario}.json"))).unwrap();
        let mut recording: Value = serde_json::from_slice(&text).unwrap();
        let Value::Array(records) = recording["records"].take() else { panic!("no records") };
        Self { version, scenario: scenario.to_owned(), records }
    }

    /// What the real server said.
    pub fn heard(&self) -> Heard {
        let mut sockets: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        let mut heard = Heard::default();
        for record in &self.records {
            let to = record["to"].as_str().unwrap_or_default().to_owned();
            match record["kind"].as_str().unwrap() {
                "ws" => sockets.entry(to).or_default().push(Line::text(&record["message"])),
                "ws_binary" => {
                    let bytes = base64::prelude::BASE64_STANDARD
                        .decode(record["base64"].as_str().unwrap())
                        .unwrap();
                    sockets.entry(to).or_default().push(Line::binary(&bytes));
                }
                "http" => heard.answer(
                    record,
                    record["status"].as_u64().unwrap() as u16,
                    &record["response"],
                ),
                _ => {}
            }
        }
        sockets.into_iter().for_each(|(name, lines)| heard.socket(name, lines));
        heard
    }

    /// Does the same to a simulator, after what happened `before`.
    pub async fn replay(&self, before: Option<Self>) -> Heard {
        let sim = Simulator::start(SimConfig { version: self.version, ..SimConfig::default() })
            .await
            .unwrap();
        if let Some(before) = before {
            Player::new(&before, &sim).play().await;
        }
        let heard = tokio::time::timeout(LIMIT, Player::new(self, &sim).play()).await;
        sim.stop().await;
        heard.unwrap_or_else(|_| panic!("{} {:?} took too long", self.scenario, self.version))
    }

    /// How many `executing` messages a socket had got before a record: the simulator is let get as far before the same
    /// is done to it.
    fn executing_before(&self, index: usize, socket: &str) -> usize {
        let before = self.records[..index].iter();
        before
            .filter(|record| record["to"] == socket && record["message"]["type"] == "executing")
            .count()
    }
}

/// One message as it is compared.
struct Line {
    text: String,
    is_status: bool,
}

impl Line {
    fn text(message: &Value) -> Self {
        // The first `status` has more fields than the others; it is compared.
        let is_status = message["type"] == "status" && message["data"].get("sid").is_none();
        Self { text: shape::message(message), is_status }
    }

    fn binary(bytes: &[u8]) -> Self {
        Self { text: format!("binary {}", bytes[3]), is_status: false }
    }
}

impl Heard {
    fn socket(&mut self, name: String, lines: Vec<Line>) {
        self.statuses.insert(name.clone(), lines.iter().filter(|line| line.is_status).count());
        let others =
            lines.into_iter().filter(|line| !line.is_status).map(|line| line.text).collect();
        self.sockets.insert(name, shape::without_repetitions(others));
    }

    fn answer(&mut self, record: &Value, status: u16, body: &Value) {
        let path = record["path"].as_str().unwrap();
        let by_id = path.starts_with("/history");
        let body =
            match body.as_object().and_then(|entries| entries.values().next()).filter(|_| by_id) {
                Some(entry) => shape::answer(status, entry),
                None => shape::answer(status, body),
            };
        let path = path.split(['?']).next().unwrap_or(path);
        let what = if by_id { "/history/…" } else { path };
        self.answers.push((format!("{} {what}", record["method"].as_str().unwrap()), body));
    }
}

struct Player<'a> {
    recording: &'a Recording,
    sim: &'a SimHandle,
    http: reqwest::Client,
    sockets: BTreeMap<String, Socket>,
    /// Recorded prompt id → the simulator's.
    ids: BTreeMap<String, String>,
    heard: Heard,
}

struct Socket {
    close: Option<tokio::sync::oneshot::Sender<()>>,
    executing: watch::Receiver<usize>,
    reader: tokio::task::JoinHandle<Vec<Line>>,
}

impl<'a> Player<'a> {
    fn new(recording: &'a Recording, sim: &'a SimHandle) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            recording,
            sim,
            http,
            sockets: BTreeMap::new(),
            ids: BTreeMap::new(),
            heard: Heard::default(),
        }
    }

    async fn play(mut self) -> Heard {
        for (index, record) in self.recording.records.iter().enumerate() {
            match record["kind"].as_str().unwrap() {
                "note" => self.note(index, record["text"].as_str().unwrap()).await,
                "http" => self.request(index, record).await,
                _ => {}
            }
        }
        self.let_it_get_to(self.recording.records.len()).await;
        for (name, mut socket) in std::mem::take(&mut self.sockets) {
            drop(socket.close.take());
            self.heard.socket(name, socket.reader.await.unwrap());
        }
        self.heard
    }

    async fn note(&mut self, index: usize, text: &str) {
        if let Some((name, client_id)) = text.split_once(" opened with clientId=") {
            let name = name.trim_start_matches("socket '").trim_end_matches('\'').to_owned();
            let announces = self.recording.heard().sockets[&name]
                .iter()
                .any(|line| line.starts_with("feature_flags"));
            self.sockets.insert(name, self.open(client_id, announces).await);
        } else if text == "socket closed by the client" {
            self.let_it_get_to(index).await;
            let (name, mut socket) = self.sockets.pop_first().unwrap();
            drop(socket.close.take());
            self.heard.socket(name, socket.reader.await.unwrap());
        }
    }

    /// Waits until every socket has heard as many `executing` as the recorded one had by then.
    async fn let_it_get_to(&mut self, index: usize) {
        for (name, socket) in &mut self.sockets {
            let wanted = self.recording.executing_before(index, name);
            socket.executing.wait_for(|count| *count >= wanted).await.unwrap();
        }
    }

    async fn request(&mut self, index: usize, record: &Value) {
        self.let_it_get_to(index).await;
        let path = self.with_own_ids(record["path"].as_str().unwrap());
        if path.starts_with("/history/") && record["response"] != json!({}) {
            self.wait_for_history(&path).await;
        }
        let url = format!("{}{path}", self.sim.url());
        let mut request =
            self.http.request(record["method"].as_str().unwrap().parse().unwrap(), url);
        if !record["request"].is_null() {
            let body: Value =
                serde_json::from_str(&self.with_own_ids(&record["request"].to_string())).unwrap();
            request = request.json(&with_own_nodes(body));
        }
        let reply = request.send().await.unwrap();
        let status = reply.status().as_u16();
        let body = reply.text().await.unwrap();
        let body: Value = serde_json::from_str(&body).unwrap_or(Value::String(body));
        if let (Some(recorded), Some(own)) =
            (record["response"]["prompt_id"].as_str(), body["prompt_id"].as_str())
        {
            self.ids.insert(recorded.to_owned(), own.to_owned());
        }
        self.heard.answer(record, status, &body);
    }

    /// Where no socket tells when a prompt is over, its history does.
    async fn wait_for_history(&self, path: &str) {
        loop {
            let reply = self.http.get(format!("{}{path}", self.sim.url())).send().await.unwrap();
            if reply.text().await.unwrap() != "{}" {
                return;
            }
        }
    }

    fn with_own_ids(&self, text: &str) -> String {
        self.ids.iter().fold(text.to_owned(), |text, (recorded, own)| text.replace(recorded, own))
    }

    async fn open(&self, client_id: &str, announce: bool) -> Socket {
        let url = format!("ws://{}/ws?clientId={client_id}", self.sim.addr());
        let (mut stream, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        if announce {
            let flags =
                json!({ "type": "feature_flags", "data": { "supports_preview_metadata": true } });
            stream.send(Frame::text(flags.to_string())).await.unwrap();
        }
        let (count, executing) = watch::channel(0);
        let (close, mut closing) = tokio::sync::oneshot::channel::<()>();
        let reader = tokio::spawn(async move {
            let mut lines = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    Some(Ok(frame)) = stream.next() => match frame {
                        Frame::Text(text) => {
                            let message: Value = serde_json::from_str(&text).unwrap();
                            lines.push(Line::text(&message));
                            count.send_modify(|count| *count += usize::from(message["type"] == "executing"));
                        }
                        Frame::Binary(bytes) => lines.push(Line::binary(&bytes)),
                        _ => {}
                    },
                    _ = &mut closing => break,
                }
            }
            let _ = stream.close(None).await;
            // Until the server is done with it, so that whoever comes next does not overlap.
            while let Some(Ok(_)) = stream.next().await {}
            lines
        });
        Socket { close: Some(close), executing, reader }
    }
}

/// Real servers had test nodes of their own; the simulator's do the same under other names.
fn with_own_nodes(mut body: Value) -> Value {
    for node in body["prompt"].as_object_mut().into_iter().flat_map(|graph| graph.values_mut()) {
        let inputs = node["inputs"].clone();
        *node = match node["class_type"].as_str() {
            Some("TestSleep") => json!({ "class_type": "SimSleep", "inputs": inputs }),
            Some("TestSyncError") => {
                let message = "Intentional sync execution error for testing";
                json!({ "class_type": "SimFail", "inputs": { "value": inputs["value"], "message": message } })
            }
            Some("WirePreview") => json!({ "class_type": "SimSleep", "inputs": {
                "value": inputs["image"], "seconds": inputs["seconds"], "steps": inputs["steps"], "silent": inputs["silent"],
            } }),
            _ => continue,
        };
    }
    body
}
