//! What a claim costs, by how much waits and in how many classes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use pointsman_core::{
    Answer, Command, Incarnation, JobId, MachineId, Token, WorkerId,
    command::{
        AttemptOp, Claim, ConnectorReport, Exchange, Finish, Held, Op, Outcome, Register, Renew,
        Submit,
    },
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

/// The median cost of a claim of one job, with `waiting` jobs spread over `classes`, of which the
/// worker can serve `servable`.
fn cost(waiting: usize, classes: usize, servable: usize) -> anyhow::Result<Duration> {
    let clock = MonotonicClock::starting(pointsman_core::Timestamp::default());
    let mut state = State::new(Epoch::mint(), clock.now());
    for submission in submissions(waiting, classes) {
        state.execute(&submission?, clock.now())?;
    }
    let claimant = Claimant::new(servable)?;
    for command in claimant.introduction() {
        state.execute(&command, clock.now())?;
    }
    let mut took = Vec::with_capacity(CLAIMS);
    for _ in 0..CLAIMS {
        let (command, now) = (claimant.claim(), clock.now());
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

/// Jobs spread evenly over classes.
pub fn submissions(
    waiting: usize,
    classes: usize,
) -> impl Iterator<Item = anyhow::Result<Command>> {
    let payload: Arc<[u8]> = Arc::from(&b"{}"[..]);
    (0..waiting).map(move |n| {
        let class = n % classes;
        let json = json!({"labels": {"class": {"gte": class, "lte": classes + class}}});
        let requirements = match classes {
            1 => Requirements::default(),
            _ => Requirements::parse(&json).map_err(|error| anyhow::anyhow!("{error:?}"))?,
        };
        let id = JobId::from_uuid(Uuid::now_v7());
        let (spec, payload) = (spec(requirements), payload.clone());
        Ok(Command::Submit(Submit { id, spec, payload, idempotency: None }))
    })
}

/// A worker that claims one job after another.
pub struct Claimant {
    worker: WorkerId,
    incarnation: Incarnation,
    register: Register,
}

impl Claimant {
    /// It can serve the first so many classes.
    pub fn new(servable: usize) -> anyhow::Result<Self> {
        let worker = WorkerId::new("bench")?;
        let incarnation = Incarnation::from_uuid(Uuid::new_v4());
        // Class n asks for a label from n to n + classes: so many classes hold for this value.
        let label = LabelValue::Number((servable - 1) as f64);
        let capabilities = Capabilities {
            services: BTreeMap::from([(simulation(), ServiceCapabilities::default())]),
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
        Ok(Self { worker, incarnation, register })
    }

    /// What a store is told before the first claim.
    pub fn introduction(&self) -> Vec<Command> {
        let report = ConnectorReport {
            service: simulation(),
            status: ConnectorStatus::Idle,
            error_message: None,
        };
        let renew = Renew {
            worker: self.worker.clone(),
            incarnation: self.incarnation,
            held: Vec::new(),
            connectors: vec![report],
            stopping: false,
        };
        vec![Command::Register(self.register.clone()), Command::Renew(renew)]
    }

    /// The claim of one job, each with a token of its own.
    pub fn claim(&self) -> Command {
        let tokens = vec![Token::from_uuid(Uuid::new_v4())];
        let claim = Some(Claim { tokens, services: Vec::new() });
        let (worker, incarnation) = (self.worker.clone(), self.incarnation);
        Command::Exchange(Exchange { worker, incarnation, ops: Vec::new(), claim })
    }

    /// The end of a job that it claimed.
    pub fn end(&self, held: Held) -> Command {
        let outcome = Outcome::Completed { artifacts: Vec::new(), cached: false, result: None };
        let op = Op::Finish(Finish { outcome, last_progress: None });
        let ops = vec![AttemptOp { job: held.job, attempt: held.attempt, token: held.token, op }];
        let (worker, incarnation) = (self.worker.clone(), self.incarnation);
        Command::Exchange(Exchange { worker, incarnation, ops, claim: None })
    }
}
