//! A server that ends with its test, and what tests say to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use pointsman_api::{
    ArtifactStored, ClaimedJob, ErrorCode, ExchangeRequest, Exchanged, RegisterRequest, Registered,
    RenewRequest, Renewed, Snapshot, Submission,
};
use pointsman_broker::{Broker, BrokerConfig, BrokerTasks};
use pointsman_client::{Client, Source};
use pointsman_core::{
    Incarnation, JobId, Timestamp, Token, WorkerId,
    command::{AttemptOp, Claim, ConnectorReport, Finish, Held, Op, Outcome},
    matching::Capabilities,
    record::{Artifact, ArtifactType, ConnectorStatus, JobRecord, ServiceSlots},
};
use pointsman_server::{Files, Limits, Server, ServerConfig, ServerError};
use pointsman_store::{ManualClock, MemStore, MonotonicClock};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A running server.
pub struct Fixture {
    pub client: Client,
    pub http: reqwest::Client,
    pub url: String,
    _broker: Broker,
    data: TempDir,
    pub stop: CancellationToken,
    pub serving: JoinHandle<Result<(), ServerError>>,
    _tasks: BrokerTasks,
}

pub async fn start() -> Fixture {
    start_at(SocketAddr::from(([127, 0, 0, 1], 0)), tempfile::tempdir().unwrap()).await
}

/// On a clock that stands still: however long a test takes on a busy machine, no lease ends and nobody
/// is silent.
pub async fn start_still() -> Fixture {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let store = MemStore::new(Arc::new(ManualClock::default()));
    start_on(store, listen, tempfile::tempdir().unwrap()).await
}

pub async fn start_at(listen: SocketAddr, data: TempDir) -> Fixture {
    let clock = MonotonicClock::starting(Timestamp::from_millis(1_795_461_601_100));
    start_on(MemStore::new(Arc::new(clock)), listen, data).await
}

pub async fn start_on(
    store: impl Into<Arc<MemStore>>,
    listen: SocketAddr,
    data: TempDir,
) -> Fixture {
    start_with(store, listen, data, Limits::default()).await
}

/// What the server tells workers of its store.
pub const STORE_ID: &str = "a-store";

pub async fn start_with(
    store: impl Into<Arc<MemStore>>,
    listen: SocketAddr,
    data: TempDir,
    limits: Limits,
) -> Fixture {
    let store = store.into();
    let (broker, tasks) = Broker::start(store, BrokerConfig::default()).await.unwrap();
    let files = Arc::new(Files::open(data.path(), None).unwrap());
    let config = ServerConfig { listen, data: data.path().to_owned(), limits };
    let reserved = Server::reserve(config).unwrap();
    let server = reserved.listen(broker.clone(), STORE_ID.to_owned(), files).unwrap();
    let url = format!("http://127.0.0.1:{}", server.addr().port());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.run(stop.clone(), Duration::from_secs(5)));
    let client = Client::new(&url, None).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    Fixture { client, http, url, _broker: broker, data, stop, serving, _tasks: tasks }
}

/// An answer that a test looks at closely.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert!(!problem["cure"].as_str().unwrap().is_empty());
        let code = problem["code"].as_str().unwrap().to_owned();
        let usual = ErrorCode::named(&code).unwrap().status();
        let is_file_asked_for = (code.as_str(), self.status) == ("input_not_found", 404);
        assert!(self.status == usual || is_file_asked_for, "its status is {usual}: {problem}");
        code
    }
}

impl Fixture {
    pub async fn ask(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap() }
    }

    pub fn revoke(&self, token: &str) {
        assert!(pointsman_server::revoke_token(self.data.path(), token).unwrap());
    }

    /// The files of all jobs are gone.
    pub fn lose_files(&self) {
        std::fs::remove_dir_all(self.data.path().join("files/artifacts")).unwrap();
    }

    /// Takes the directory of files away, and brings it back.
    pub fn mount_files(&self, mounted: bool) {
        let place = |name: &str| self.data.path().join(name);
        let (from, to) = if mounted { ("away", "files") } else { ("files", "away") };
        std::fs::rename(place(from), place(to)).unwrap();
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    pub fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).body(body)
    }

    pub fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http.put(format!("{}{path}", self.url)).body(body)
    }

    /// Everything that the store shows, and how far its log is.
    pub async fn everything(&self) -> (Snapshot, usize, usize) {
        let mut snapshot = self.client.snapshot().await.unwrap();
        // What changes by itself.
        snapshot.at = Timestamp::default();
        snapshot.lanes = Value::Null;
        let log = self.client.log(&format!("{}.0", snapshot.epoch), 10_000).await.unwrap();
        let jobs = self.client.jobs(&Default::default()).await.unwrap();
        (snapshot, log.events.len(), jobs.jobs.len())
    }

    pub async fn submit(&self) -> JobRecord {
        self.client.submit(&simulation()).await.unwrap().job
    }

    pub async fn worker(&self, id: &str) -> Worker {
        self.worker_of(self.client.clone(), id).await
    }

    pub async fn worker_of(&self, client: Client, id: &str) -> Worker {
        let incarnation = Incarnation::from_uuid(Uuid::new_v4());
        let worker = Worker { id: id.parse().unwrap(), incarnation, client };
        worker.register().await;
        worker
    }
}

pub fn simulation() -> Submission {
    Submission::new("simulation", &json!({"duration_ms": 0})).unwrap()
}

pub fn source(bytes: &'static [u8]) -> Source {
    futures::stream::iter(bytes.chunks(1000).map(|piece| Ok(Bytes::from_static(piece)))).boxed()
}

/// A worker of the simulation with two slots, as its process would speak.
pub struct Worker {
    pub id: WorkerId,
    pub incarnation: Incarnation,
    pub client: Client,
}

impl Worker {
    pub fn registration(&self) -> RegisterRequest {
        RegisterRequest {
            worker_id: self.id.clone(),
            machine_id: "box".parse().unwrap(),
            incarnation: self.incarnation,
            services: vec![ServiceSlots { name: "simulation".parse().unwrap(), slots: 2 }],
            capabilities: Capabilities {
                services: [("simulation".parse().unwrap(), Default::default())].into(),
                ..Capabilities::default()
            },
            summary: "a test".into(),
        }
    }

    pub async fn register(&self) -> Registered {
        let registered = self.client.register(&self.registration(), &|| {}).await.unwrap();
        self.renew(Vec::new()).await;
        registered
    }

    pub fn renewal(&self, held: Vec<Held>) -> RenewRequest {
        let report = ConnectorReport {
            service: "simulation".parse().unwrap(),
            status: ConnectorStatus::Idle,
            error_message: None,
        };
        let (worker_id, incarnation) = (self.id.clone(), self.incarnation);
        let connectors = vec![report];
        let progress = Vec::new();
        RenewRequest { worker_id, incarnation, held, connectors, progress, stopping: false }
    }

    pub async fn renew(&self, held: Vec<Held>) -> Renewed {
        self.client.renew(&self.renewal(held)).await.unwrap()
    }

    pub fn request(&self, ops: Vec<AttemptOp>, tokens: usize, wait_s: f64) -> ExchangeRequest {
        let tokens = (0..tokens).map(|_| Token::from_uuid(Uuid::new_v4())).collect();
        ExchangeRequest {
            worker_id: self.id.clone(),
            incarnation: self.incarnation,
            ops,
            claim: Some(Claim { tokens, services: Vec::new() }),
            wait_s,
        }
    }

    pub async fn exchange(&self, ops: Vec<AttemptOp>, tokens: usize, wait_s: f64) -> Exchanged {
        self.client.exchange(&self.request(ops, tokens, wait_s), &|| {}).await.unwrap()
    }

    /// Claims the next job and starts it.
    pub async fn take(&self) -> (Held, ClaimedJob) {
        let claimed = self.exchange(Vec::new(), 1, 5.0).await.claimed.remove(0);
        let held = held(&claimed);
        self.exchange(vec![op(held, Op::Start)], 0, 0.0).await;
        (held, claimed)
    }
}

pub fn held(claimed: &ClaimedJob) -> Held {
    let job = &claimed.job;
    Held { job: job.id, attempt: job.attempt, token: job.token.unwrap() }
}

pub fn op(held: Held, op: Op) -> AttemptOp {
    AttemptOp { job: held.job, attempt: held.attempt, token: held.token, op }
}

pub fn completed(artifacts: Vec<Artifact>) -> Op {
    let result = Some(json!({"ok": true}));
    let outcome = Outcome::Completed { artifacts, cached: false, result };
    Op::Finish(Finish { outcome, last_progress: None })
}

/// A stored file as the ending lists it.
pub fn artifact(name: &str, stored: &ArtifactStored) -> Artifact {
    Artifact {
        name: name.into(),
        size: stored.size,
        media_type: "image/png".into(),
        sha256: stored.sha256.clone(),
        node: Some("9".into()),
        kind: ArtifactType::Output,
    }
}

pub fn no_job() -> JobId {
    JobId::from_uuid(Uuid::now_v7())
}
