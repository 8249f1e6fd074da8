//! How fast the store itself drains: one worker with so many slots exchanges ends for new jobs.
//! `cargo run --release --example drain_redis -- redis://127.0.0.1:PORT SLOTS JOBS`

use std::{sync::Arc, time::Instant};

use pointsman_core::{
    Answer, Command, Incarnation, JobId, MachineId, ServiceName, Timestamp, Token, WorkerId,
    command::{
        AttemptOp, Claim, ConnectorReport, Exchange, Finish, Held, Op, Outcome, Register, Renew,
        Submit,
    },
    matching::Capabilities,
    record::{ConnectorStatus, JobSpec, ServiceSlots},
};
use pointsman_store::Store as _;
use pointsman_store_redis::{Options, RedisStore};
use uuid::Uuid;

fn exchange(worker: &WorkerId, incarnation: Incarnation, ended: &[Held], slots: usize) -> Command {
    let outcome = Outcome::Completed { artifacts: Vec::new(), cached: false, result: None };
    let finish = Op::Finish(Finish { outcome, last_progress: None });
    let op = |held: &Held| AttemptOp {
        job: held.job,
        attempt: held.attempt,
        token: held.token,
        op: finish.clone(),
    };
    let tokens = (0..slots).map(|_| Token::from_uuid(Uuid::new_v4())).collect();
    Command::Exchange(Exchange {
        worker: worker.clone(),
        incarnation,
        ops: ended.iter().map(op).collect(),
        claim: Some(Claim { tokens, services: Vec::new() }),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("an address")?.parse()?;
    let slots: usize = args.next().ok_or("slots")?.parse()?;
    let jobs: usize = args.next().ok_or("jobs")?.parse()?;
    let fleet = format!("drain-{}", std::process::id());
    let store = RedisStore::open(Options { fleet, ..Options::new(address) }).await?;
    let service = ServiceName::new("simulation")?;
    let payload: Arc<[u8]> = vec![b' '; 2_000].into();
    let spec = JobSpec::new(service.clone(), Timestamp::from_millis(1_700_000_000_000));
    let began = Instant::now();
    for from in (0..jobs).step_by(500) {
        let submits = (from..jobs.min(from + 500)).map(|_| {
            let id = JobId::from_uuid(Uuid::now_v7());
            let (spec, payload) = (spec.clone(), payload.clone());
            Command::Submit(Submit { id, spec, payload, idempotency: None })
        });
        store.execute(submits.collect()).await?;
    }
    println!("submitted {:.0}/s", jobs as f64 / began.elapsed().as_secs_f64());
    let worker = WorkerId::new("w")?;
    let incarnation = Incarnation::from_uuid(Uuid::new_v4());
    let register = Register {
        worker: worker.clone(),
        machine: MachineId::new("m")?,
        incarnation,
        services: vec![ServiceSlots { name: service.clone(), slots: slots as u32 }],
        capabilities: Capabilities {
            services: [(service.clone(), Default::default())].into(),
            ..Capabilities::default()
        },
        summary: String::new(),
    };
    let report = ConnectorReport { service, status: ConnectorStatus::Idle, error_message: None };
    let renew = Renew {
        worker: worker.clone(),
        incarnation,
        held: Vec::new(),
        connectors: vec![report],
        stopping: false,
    };
    store.execute(vec![Command::Register(register), Command::Renew(renew)]).await?;
    let began = Instant::now();
    let (mut held, mut done): (Vec<Held>, usize) = (Vec::new(), 0);
    while done < jobs {
        let ended = held.len();
        let answer = store.execute(vec![exchange(&worker, incarnation, &held, slots)]).await?;
        let Some(Ok(found)) = answer.into_iter().next() else { return Err("refused".into()) };
        let Answer::Exchanged { claimed, .. } = found.answer else { return Err("odd".into()) };
        store.payloads(claimed.iter().map(|held| held.job).collect()).await?;
        held = claimed;
        done += ended;
    }
    println!("drained {:.0}/s with {slots} slots", jobs as f64 / began.elapsed().as_secs_f64());
    Ok(())
}
