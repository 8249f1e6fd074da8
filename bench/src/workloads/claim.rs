//! What a claim costs, by how much waits and in how many classes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use pointsman_core::{
    Answer, Command, Incarnation, JobId, MachineId, Token, WorkerId,
    command::{Claim, ConnectorReport, Exchange, Register, Renew, Submit},
    matching::{Capabilities, LabelValue, Requirements, ServiceCapabilities},
    record::{ConnectorStatus, ServiceSlots},
};
use pointsman_store::{Clock as _, Epoch, MonotonicClock, State};
use serde_json::json;
use uuid::Uuid;

use crate::{
    fleet::{simulation, spec},
    report::Report,
};

const CLAIMS: usize = 500;

pub fn by_classes(report: &mut Report) -> anyhow::Result<()> {
    let few = cost(1_000, 1, 1)?;
    let row = |report: &mut Report, figure: &str, cost: Duration| {
        let times = cost.as_secs_f64() / few.as_secs_f64();
        let value = format!("{:.2} us ({times:.2}x)", cost.as_secs_f64() * 1e6);
        report.row("claim", figure, value, "<= 1.5x");
    };
    row(report, "1,000 waiting in 1 class", few);
    row(report, "1,000,000 in 10,000 classes, all servable", cost(1_000_000, 10_000, 10_000)?);
    row(report, "1,000,000 in 10,000 classes, 10 servable", cost(1_000_000, 10_000, 10)?);
    Ok(())
}

/// The mean cost of a claim of one job, with `waiting` jobs spread over `classes`, of which the
/// worker can serve `servable`.
fn cost(waiting: usize, classes: usize, servable: usize) -> anyhow::Result<Duration> {
    let clock = MonotonicClock::starting(pointsman_core::Timestamp::default());
    let mut state = State::new(Epoch::mint(), clock.now());
    let payload: Arc<[u8]> = Arc::from(&b"{}"[..]);
    for n in 0..waiting {
        let class = n % classes;
        let json = json!({"labels": {"class": {"gte": class, "lte": classes + class}}});
        let requirements = match classes {
            1 => Requirements::default(),
            _ => Requirements::parse(&json).map_err(|error| anyhow::anyhow!("{error:?}"))?,
        };
        let id = JobId::from_uuid(Uuid::now_v7());
        let submit =
            Submit { id, spec: spec(requirements), payload: payload.clone(), idempotency: None };
        state.execute(&Command::Submit(submit), clock.now())?;
    }
    let worker = WorkerId::new("bench")?;
    let incarnation = Incarnation::from_uuid(Uuid::new_v4());
    let services = BTreeMap::from([(simulation(), ServiceCapabilities::default())]);
    // Class n asks for a label from n to n + classes: so many classes hold for this value.
    let label = LabelValue::Number((servable - 1) as f64);
    let capabilities = Capabilities {
        services,
        labels: BTreeMap::from([("class".to_owned(), label)]),
        ..Capabilities::default()
    };
    let register = Register {
        worker: worker.clone(),
        machine: MachineId::new("bench")?,
        incarnation,
        services: vec![ServiceSlots { name: simulation(), slots: 1_024 }],
        capabilities,
        summary: String::new(),
    };
    state.execute(&Command::Register(register), clock.now())?;
    let report = ConnectorReport {
        service: simulation(),
        status: ConnectorStatus::Idle,
        error_message: None,
    };
    let (held, connectors) = (Vec::new(), vec![report]);
    let renew = Renew { worker: worker.clone(), incarnation, held, connectors };
    state.execute(&Command::Renew(renew), clock.now())?;
    claims(&mut state, &clock, worker, incarnation)
}

fn claims(
    state: &mut State,
    clock: &MonotonicClock,
    worker: WorkerId,
    incarnation: Incarnation,
) -> anyhow::Result<Duration> {
    let mut took = Vec::with_capacity(CLAIMS);
    for _ in 0..CLAIMS {
        let tokens = vec![Token::from_uuid(Uuid::new_v4())];
        let claim = Some(Claim { tokens, services: Vec::new() });
        let (worker, ops) = (worker.clone(), Vec::new());
        let command = Command::Exchange(Exchange { worker, incarnation, ops, claim });
        let now = clock.now();
        let began = Instant::now();
        let applied = state.execute(&command, now)?;
        took.push(began.elapsed());
        let Answer::Exchanged { claimed, .. } = applied.answer else {
            anyhow::bail!("an odd answer")
        };
        ensure!(claimed.len() == 1, "a job to claim");
        // Put back at once, so that every claim is of a worker that holds nothing.
        state.undo(applied.undo);
    }
    Ok(crate::report::percentile(&mut took, 0.5))
}
