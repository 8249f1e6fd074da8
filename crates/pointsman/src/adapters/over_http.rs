//! A worker that reaches the store over a server's HTTP worker protocol.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_api::{
    ClaimedJob, ErrorCode, ExchangeRequest, JobProgress, LeaveRequest, OpResult, Problem,
    RegisterRequest, RenewRequest,
};
use pointsman_client::{Client, ClientError};
use pointsman_connectors::{ByteStream, NewArtifact, Preview};
use pointsman_core::{
    Incarnation, JobId, Rejected, Timestamp, WorkerId,
    command::{Exchange, Held, Register, Renew, Renewed},
    record::Progress,
};
use pointsman_store::{Clock as _, MonotonicClock};
use pointsman_worker::{Arrival, BrokerError, Claimed, Clock, Exchanged, InEpoch, StoredFile};
use uuid::Uuid;

use super::ArtifactPlace;
use crate::identity::StoreId;

/// Calls a server.
#[derive(Clone)]
pub struct OverHttp {
    client: Client,
    /// What keeps leases waits for no payload and no file.
    renewals: Client,
    artifacts: ArtifactPlace,
    /// What the server said last of which store it serves. Until then, and where it is of a version
    /// that does not say it, what no other worker calls its store.
    store_id: Arc<Mutex<String>>,
}

impl OverHttp {
    /// Does not connect yet.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, ClientError> {
        let client = Client::new(url, token.as_deref())?;
        let (artifacts, renewals) = (ArtifactPlace::Server(client.clone()), client.apart()?);
        let store_id = Arc::new(Mutex::new(Uuid::new_v4().to_string()));
        Ok(Self { client, renewals, artifacts, store_id })
    }

    /// The server's time; before its first answer, the time here.
    pub fn clock(&self) -> Clock {
        let (client, here) = (self.client.clone(), MonotonicClock::starting(Timestamp::default()));
        Arc::new(move || client.server_time().unwrap_or_else(|| here.now()))
    }

    /// What tells the server's store from all others.
    pub fn store_id(&self) -> StoreId {
        let told = self.store_id.clone();
        Arc::new(move || told.lock().clone())
    }
}

/// What the rules refuse stays their word; what may pass is waited for.
pub(super) fn client_error(error: ClientError) -> BrokerError {
    let rejected = error.problem().and_then(Problem::rejected);
    if let Some(rejected) = rejected.filter(|rejected| !rejected.may_pass()) {
        return BrokerError::Rejected(rejected);
    }
    match error {
        error if error.is_transient() => BrokerError::Unreachable(error.to_string()),
        // A proxy or another server in the place of ours: it may come back.
        ClientError::Unexpected(why) => BrokerError::Unreachable(why),
        error @ ClientError::Redirected { .. } => BrokerError::Unreachable(error.to_string()),
        error => BrokerError::Refused(error.to_string()),
    }
}

/// Whether the server is of a version that does not know a field.
fn does_not_know(error: &ClientError, field: &str) -> bool {
    let problem = error.problem().filter(|problem| problem.is(ErrorCode::UnknownField));
    problem.is_some_and(|problem| problem.pointer.as_deref() == Some(field))
}

fn claimed(job: ClaimedJob) -> Option<Claimed> {
    let ClaimedJob { job, payload } = job;
    let held = Held { job: job.id, attempt: job.attempt, token: job.token? };
    let payload: Box<str> = payload.into();
    Some(Claimed { held, job, payload: Bytes::from(String::from(payload)) })
}

fn op_answer(result: OpResult) -> Result<pointsman_core::command::OpAnswer, Rejected> {
    match result {
        OpResult::Answer(answer) => Ok(answer),
        OpResult::Refused { refused } => {
            Err(refused.rejected().unwrap_or_else(|| Rejected::Invalid(refused.to_string())))
        }
    }
}

#[async_trait]
impl pointsman_worker::Broker for OverHttp {
    async fn register(
        &self,
        register: Register,
        arrival: &Arrival,
    ) -> Result<InEpoch<Vec<Claimed>>, BrokerError> {
        let request = RegisterRequest {
            worker_id: register.worker,
            machine_id: register.machine,
            incarnation: register.incarnation,
            services: register.services,
            capabilities: register.capabilities,
            summary: register.summary,
        };
        let registered = self.client.register(&request, &|| arrival.moved()).await;
        let registered = registered.map_err(client_error)?;
        match registered.store_id {
            Some(id) => *self.store_id.lock() = id,
            None => tracing::warn!(
                "the server is of a version that does not tell which store it serves: what this \
                 worker leaves at a ComfyUI, and the server does not say it still runs, will not be \
                 cancelled, and runs to its end there; update the server"
            ),
        }
        let answer = registered.running.into_iter().filter_map(claimed).collect();
        Ok(InEpoch { epoch: registered.epoch.into(), answer })
    }

    async fn exchange(
        &self,
        exchange: Exchange,
        wait: Duration,
        arrival: &Arrival,
    ) -> Result<Exchanged, BrokerError> {
        let request = ExchangeRequest {
            worker_id: exchange.worker,
            incarnation: exchange.incarnation,
            ops: exchange.ops,
            claim: exchange.claim,
            wait_s: wait.as_secs_f64(),
        };
        let done = self.client.exchange(&request, &|| arrival.moved()).await;
        let done = done.map_err(client_error)?;
        Ok(Exchanged {
            ops: done.ops.into_iter().map(op_answer).collect(),
            claimed: done.claimed.into_iter().filter_map(claimed).collect(),
            unconfirmed: done.unconfirmed,
        })
    }

    async fn renew(
        &self,
        renew: Renew,
        progress: Vec<(JobId, Progress)>,
    ) -> Result<InEpoch<Renewed>, BrokerError> {
        let progress = progress.into_iter().map(|(job, progress)| JobProgress { job, progress });
        let mut request = RenewRequest {
            worker_id: renew.worker,
            incarnation: renew.incarnation,
            held: renew.held,
            connectors: renew.connectors,
            progress: progress.collect(),
            stopping: renew.stopping,
        };
        let renewed = match self.renewals.renew(&request).await {
            Err(error) if request.stopping && does_not_know(&error, "/stopping") => {
                request.stopping = false;
                self.renewals.renew(&request).await
            }
            renewed => renewed,
        };
        let renewed = renewed.map_err(client_error)?;
        let pointsman_api::Renewed { epoch, store_id, refused, .. } = renewed;
        let pointsman_api::Renewed { lost, unknown_to_you, cancel, orders, .. } = renewed;
        let refused = refused.into_iter().map(|why| Rejected::Invalid(why.to_string())).collect();
        if let Some(id) = store_id {
            *self.store_id.lock() = id;
        }
        let answer = Renewed { lost, unknown_to_you, cancel, orders, refused };
        Ok(InEpoch { epoch: epoch.into(), answer })
    }

    async fn preview(&self, held: Held, n: u32, preview: Preview) -> Result<(), BrokerError> {
        let Preview { media_type, bytes } = preview;
        self.client.put_preview(held, n, &media_type, bytes).await.map_err(client_error)
    }

    async fn put_artifact(
        &self,
        held: Held,
        artifact: NewArtifact,
        bytes: ByteStream,
    ) -> Result<StoredFile, BrokerError> {
        self.artifacts.put_artifact(held, artifact, bytes).await
    }

    async fn open_input(&self, _: Held, from: &str) -> Result<Option<ByteStream>, BrokerError> {
        self.artifacts.open_input(from).await
    }

    async fn leave(&self, worker: WorkerId, incarnation: Incarnation) -> Result<(), BrokerError> {
        let request = LeaveRequest { worker_id: worker, incarnation };
        self.client.leave(&request).await.map_err(client_error)
    }
}

#[cfg(test)]
mod tests {
    use pointsman_worker::Broker as _;
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// The body of the next request.
    async fn asked(stream: &mut BufReader<&mut TcpStream>) -> Vec<u8> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        body
    }

    #[tokio::test]
    async fn a_server_that_does_not_know_of_stopping_still_renews() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let older = tokio::spawn(async move {
            let mut bodies = Vec::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let body = asked(&mut BufReader::new(&mut stream)).await;
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let knows = body.get("stopping").is_none();
                bodies.push(body);
                let (status, answer) = match knows {
                    true => {
                        let renewed = pointsman_api::Renewed::default();
                        ("200 OK", serde_json::to_string(&renewed).unwrap())
                    }
                    false => {
                        let refused = Problem::new(ErrorCode::UnknownField, "unknown field");
                        let refused = refused.at("/stopping");
                        ("422 Unprocessable", serde_json::to_string(&refused).unwrap())
                    }
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\n\
                     connection: close\r\ncontent-length: {}\r\n\r\n",
                    answer.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            bodies
        });
        let server = OverHttp::new(&url, None).unwrap();
        for stopping in [false, true] {
            let renew = Renew {
                worker: "w".parse().unwrap(),
                incarnation: Incarnation::from_uuid(Uuid::nil()),
                held: Vec::new(),
                connectors: Vec::new(),
                stopping,
            };
            server.renew(renew, Vec::new()).await.unwrap();
        }
        let said = older.await.unwrap().into_iter().map(|body| body["stopping"] == true);
        assert_eq!(said.collect::<Vec<_>>(), [false, true, false], "and then without it");
    }
}
