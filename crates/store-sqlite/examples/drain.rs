//! How fast the store is: submits jobs of 2 KB, drains them with workers that claim, start and
//! finish 64 at a time, and opens the store again.
//!
//! `cargo run --release -p pointsman-store-sqlite --example drain [JOBS] [WORKERS]`

use std::{
    collections::BTreeMap,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use pointsman_core::{
    Answer, Command, Incarnation, JobId, MachineId, ServiceName, Timestamp, Token, WorkerId,
    command::{
        AttemptOp, Claim, ConnectorReport, Exchange, Finish, Held, Op, Outcome, Register, Renew,
        Submit,
    },
    matching::{Capabilities, ServiceCapabilities},
    record::{ConnectorStatus, JobSpec, ServiceSlots},
};
use pointsman_store::Store;
use pointsman_store_sqlite::{Options, SqliteStore};
use uuid::Uuid;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const SLOTS: usize = 64;

#[tokio::main]
async fn main() -> Fallible<()> {
    let mut arguments = std::env::args().skip(1);
    let jobs = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let workers = arguments.next().map_or(Ok(8), |text| text.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    let store = Arc::new(SqliteStore::open(dir.path(), Options::default())?);
    submit(&store, jobs).await?;
    store.close().await?;
    drop(store);

    let start = Instant::now();
    let store = Arc::new(SqliteStore::open(dir.path(), Options::default())?);
    println!("open with {jobs} waiting jobs: {:?}, {}", start.elapsed(), resident());
    latency(&store).await?;
    drain(&store, jobs, workers).await?;
    let size = std::fs::metadata(dir.path().join("pointsman.db"))?.len();
    println!("database: {} MiB", size >> 20);
    store.close().await?;
    Ok(())
}

/// This process's memory, where the system tells.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(String::new, |memory| format!("{} resident", memory.trim()))
}

fn rate(what: &str, count: usize, took: Duration) {
    println!("{what}: {count} in {took:?}, {:.0}/s", count as f64 / took.as_secs_f64());
}

async fn submit(store: &Arc<SqliteStore>, jobs: usize) -> Fallible<()> {
    let payload: Arc<[u8]> = format!("{{\"text\":\"{}\"}}", "x".repeat(2_000)).into_bytes().into();
    let (start, callers) = (Instant::now(), 50);
    let submitting = (0..callers).map(|caller| {
        let (store, payload) = (store.clone(), payload.clone());
        tokio::spawn(async move {
            for _ in (caller..jobs).step_by(callers) {
                let submit = submission(payload.clone())?;
                store.execute(vec![Command::Submit(submit)]).await?.remove(0)?;
            }
            Fallible::Ok(())
        })
    });
    for caller in submitting.collect::<Vec<_>>() {
        caller.await??;
    }
    rate("submitted by 50 callers", jobs, start.elapsed());
    Ok(())
}

fn submission(payload: Arc<[u8]>) -> Fallible<Submit> {
    let created_at = Timestamp::from_millis(1_795_461_601_100);
    let spec = JobSpec::new(ServiceName::new("simulation")?, created_at);
    Ok(Submit { id: JobId::from_uuid(Uuid::now_v7()), spec, payload, idempotency: None })
}

/// One caller alone: what a flush costs.
async fn latency(store: &Arc<SqliteStore>) -> Fallible<()> {
    let mut took = Vec::new();
    for _ in 0..500 {
        let submit = submission(Arc::from(&b"{}"[..]))?;
        let start = Instant::now();
        store.execute(vec![Command::Submit(submit)]).await?.remove(0)?;
        took.push(start.elapsed());
    }
    took.sort();
    println!("one submission alone: p50 {:?}, p99 {:?}", took[250], took[495]);
    Ok(())
}

struct Hand {
    store: Arc<SqliteStore>,
    worker: WorkerId,
    incarnation: Incarnation,
}

impl Hand {
    async fn register(store: Arc<SqliteStore>, n: usize) -> Fallible<Self> {
        let service = ServiceName::new("simulation")?;
        let worker = WorkerId::new(format!("worker-{n}"))?;
        let incarnation = Incarnation::from_uuid(Uuid::new_v4());
        let services = BTreeMap::from([(service.clone(), ServiceCapabilities::default())]);
        let register = Register {
            worker: worker.clone(),
            machine: MachineId::new("machine")?,
            incarnation,
            services: vec![ServiceSlots { name: service.clone(), slots: SLOTS as u32 }],
            capabilities: Capabilities { services, ..Capabilities::default() },
            summary: "a worker".into(),
        };
        let status = ConnectorStatus::Idle;
        let report = ConnectorReport { service, status, error_message: None };
        let renew = Renew {
            worker: worker.clone(),
            incarnation,
            held: Vec::new(),
            connectors: vec![report],
            stopping: false,
        };
        let commands = vec![Command::Register(register), Command::Renew(renew)];
        for done in store.execute(commands).await? {
            done?;
        }
        Ok(Self { store, worker, incarnation })
    }

    async fn exchange(&self, ops: Vec<AttemptOp>, claim: bool) -> Fallible<Vec<Held>> {
        let tokens = (0..SLOTS).map(|_| Token::from_uuid(Uuid::new_v4())).collect();
        let exchange = Exchange {
            worker: self.worker.clone(),
            incarnation: self.incarnation,
            ops,
            claim: claim.then(|| Claim { tokens, services: Vec::new() }),
        };
        match self.store.execute(vec![Command::Exchange(exchange)]).await?.remove(0)?.answer {
            Answer::Exchanged { ops, claimed, .. } => {
                ops.into_iter().collect::<Result<Vec<_>, _>>()?;
                Ok(claimed)
            }
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Works until nothing waits; the number of jobs done.
    async fn work(self) -> Fallible<usize> {
        let (mut done, mut ops) = (0, Vec::new());
        loop {
            let held = self.exchange(ops, true).await?;
            if held.is_empty() {
                return Ok(done);
            }
            let jobs = held.iter().map(|held| held.job).collect();
            let payloads = self.store.payloads(jobs).await?;
            assert!(payloads.iter().all(Option::is_some), "a payload is missing");
            self.exchange(each(&held, &Op::Start), false).await?;
            done += held.len();
            ops = each(&held, &finish());
        }
    }
}

fn each(held: &[Held], op: &Op) -> Vec<AttemptOp> {
    held.iter()
        .map(|held| AttemptOp {
            job: held.job,
            attempt: held.attempt,
            token: held.token,
            op: op.clone(),
        })
        .collect()
}

fn finish() -> Op {
    let result = Some(serde_json::json!({"done": true}));
    let outcome = Outcome::Completed { artifacts: Vec::new(), cached: false, result };
    Op::Finish(Finish { outcome, last_progress: None })
}

async fn drain(store: &Arc<SqliteStore>, jobs: usize, workers: usize) -> Fallible<()> {
    let mut hands = Vec::new();
    for n in 0..workers {
        hands.push(Hand::register(store.clone(), n).await?);
    }
    let start = Instant::now();
    let working: Vec<_> = hands.into_iter().map(|hand| tokio::spawn(hand.work())).collect();
    let mut done = 0;
    for worker in working {
        done += worker.await??;
    }
    assert!(done >= jobs, "only {done} jobs were done");
    rate("drained", done, start.elapsed());
    rate("transitions of it", done * 3, start.elapsed());
    Ok(())
}
