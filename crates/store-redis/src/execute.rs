//! Carrying out commands: decide on what is seen, commit, and begin anew where something changed
//! meanwhile.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use pointsman_core::{
    Answer, Command, ConnectorId, Record, RecordKey, Rejected, Transition, WorkerId,
    command::{Exchange, IdempotencyKey, Op, Reconcile, Repair},
    decide::{self, Intake, Key, Side, Stop},
    record::Worker,
};
use pointsman_store::{Committed, Done, Health, StoreError};

use crate::{
    link::{list, text},
    log,
    plan::{Before, ClaimPlan, Pick, Plan, brief},
    sight::Sight,
    store::Inner,
    verdict::{Stamped, Verdict, verdict},
};

/// A decision that loses against others so often is given up.
const TRIES: usize = 64;
/// Groups kept in the log.
pub const KEPT_GROUPS: &str = "200000";
/// Payloads of claims that are remembered until they are asked for: not the large ones.
const REMEMBERED_PAYLOAD: usize = 64 << 10;
/// Submissions in one call of the function.
const TOGETHER: usize = 64;

/// A decision that is ready to be committed.
struct Decided {
    transition: Transition,
    plan: Vec<u8>,
    claim: Option<ClaimPlan>,
    is_guessed: bool,
}

/// One worker's exchanges go one after the other: they would only overtake each other.
pub struct Lanes {
    lanes: Vec<tokio::sync::Mutex<()>>,
    hash: RandomState,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            lanes: (0..64).map(|_| tokio::sync::Mutex::default()).collect(),
            hash: RandomState::new(),
        }
    }
}

impl Lanes {
    async fn of(&self, worker: &WorkerId) -> tokio::sync::MutexGuard<'_, ()> {
        let at = self.hash.hash_one(worker) as usize % self.lanes.len();
        self.lanes[at].lock().await
    }
}

impl Inner {
    /// Carries out commands in their order.
    pub async fn carry_out(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
        if self.link.is_closed() {
            return Err(StoreError::Closed);
        }
        let takes_work =
            commands.iter().any(|c| matches!(c, Command::Submit(_) | Command::Retry { .. }));
        if let (true, Health::Full(why)) = (takes_work, self.link.health()) {
            return Err(StoreError::Full(why));
        }
        self.wake.settle(self).await;
        let all_new = commands.len() > 1
            && self.import.lock().is_none()
            && commands
                .iter()
                .all(|c| matches!(c, Command::Submit(submit) if submit.spec.workflow_id.is_none()));
        let done = match all_new {
            true => self.submit_together(&commands).await?,
            false => {
                let mut done = Vec::with_capacity(commands.len());
                for command in &commands {
                    done.push(self.carry_out_one(command).await?);
                }
                done
            }
        };
        if takes_work || commands.iter().any(ends_something) {
            self.link.acked().await?;
        }
        Ok(done)
    }

    async fn carry_out_one(&self, command: &Command) -> Result<Result<Done, Rejected>, StoreError> {
        if let (true, Err(why)) = (self.import.lock().is_some(), Intake::Importing.admits(command))
        {
            return Ok(Err(why));
        }
        let _turn = match command {
            Command::Exchange(exchange) => Some(self.lanes.of(&exchange.worker).await),
            Command::Renew(renew) => Some(self.lanes.of(&renew.worker).await),
            _ => None,
        };
        let mut fresh = false;
        for attempt in 0..TRIES {
            let decided = match self.decide(command, fresh).await? {
                Ok(decided) => decided,
                // Refused on what may be out of date: look before saying so.
                Err((_, true)) => {
                    fresh = true;
                    continue;
                }
                Err((why, false)) => return Ok(Err(why)),
            };
            let mut verdicts = self.commit_all(&[&decided.plan]).await?;
            match verdicts.pop() {
                Some(Verdict::Applied { stamped, picks }) => {
                    return Ok(Ok(self.done(decided, stamped, picks)));
                }
                Some(Verdict::Rejected(why)) if !decided.is_guessed => return Ok(Err(why)),
                Some(Verdict::Rejected(_)) => fresh = true,
                Some(Verdict::Conflict) | None => {
                    self.forget(&decided.transition);
                    fresh = attempt > 0;
                }
                Some(Verdict::ClassesChanged) => {
                    if let Some(claim) = &decided.claim {
                        self.definitions.work_out(&self.link, claim.digest()).await?;
                    }
                }
                Some(Verdict::Corrupt(why)) => return Err(corrupt(&why)),
            }
        }
        Err(StoreError::Failed(format!("others were faster {TRIES} times in a row")))
    }

    /// New jobs, decided all at once and committed many in a call; those that meet something are
    /// decided again by themselves.
    async fn submit_together(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Done, Rejected>>, StoreError> {
        let mut done = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(TOGETHER) {
            let mut decided = Vec::with_capacity(chunk.len());
            for command in chunk {
                decided.push(self.decide(command, false).await?.ok());
            }
            let plans: Vec<&Vec<u8>> = decided.iter().flatten().map(|d| &d.plan).collect();
            let mut verdicts = self.commit_all(&plans).await?.into_iter();
            for (command, decided) in chunk.iter().zip(decided) {
                let verdict = decided.is_some().then(|| verdicts.next()).flatten();
                done.push(match (decided, verdict) {
                    (Some(decided), Some(Verdict::Applied { stamped, picks })) => {
                        Ok(self.done(decided, stamped, picks))
                    }
                    _ => self.carry_out_one(command).await?,
                });
            }
        }
        Ok(done)
    }

    /// Decides a command on what is seen. A refusal comes with whether it was decided on something
    /// that may be out of date.
    async fn decide(
        &self,
        command: &Command,
        fresh: bool,
    ) -> Result<Result<Decided, (Rejected, bool)>, StoreError> {
        let mut sight = Sight::new(&self.link, &self.memory, fresh);
        look_ahead(command, &mut sight).await?;
        let transition = loop {
            let now = self.link.now();
            let decided = match command {
                Command::Exchange(exchange) => {
                    decide::decide_exchange(&sight, exchange, now, &mut |_, _| None)
                }
                command => decide::decide(&sight, command, now),
            };
            match decided {
                Ok(transition) => break transition,
                Err(Stop::Unread(unread)) => sight.look_at([unread.0]).await?,
                Err(Stop::Rejected(why)) => return Ok(Err((why, sight.is_guessed()))),
            }
        };
        let claims = match command {
            Command::Exchange(exchange) if exchange.claim.is_some() => Some(&exchange.worker),
            _ => None,
        };
        let workers = shown_with(&transition, claims);
        look_at_statuses(&workers, &transition, &mut sight).await?;
        let before = sight.before();
        let mut plan = Plan::of(&transition, &before);
        copy_statuses(&workers, &transition, &before, &mut plan);
        hear(command, &transition, &sight, &mut plan);
        let is_moved = matches!(command, Command::Reconcile(Reconcile::Moved { .. }));
        plan.during_import = is_moved.then_some("moved");
        let claim = match command {
            Command::Exchange(exchange) => {
                let now = self.link.now();
                loop {
                    match ClaimPlan::of(&sight, exchange, &transition, &before, now) {
                        Ok(claim) => break claim,
                        Err(Stop::Unread(unread)) => sight.look_at([unread.0]).await?,
                        Err(Stop::Rejected(why)) => return Ok(Err((why, sight.is_guessed()))),
                    }
                }
            }
            _ => None,
        };
        for side in &transition.sides {
            if let Side::Capabilities { digest, capabilities } = side {
                self.definitions.know_profile(*digest, capabilities);
            }
        }
        let packed = plan.pack(claim.as_ref(), self.link.keys());
        Ok(Ok(Decided { transition, plan: packed, claim, is_guessed: sight.is_guessed() }))
    }

    /// Applies a transition that was decided elsewhere.
    pub async fn commit(&self, transition: Transition) -> Result<Committed, StoreError> {
        let mut sight = Sight::new(&self.link, &self.memory, true);
        let changed = transition.changes.iter().map(|event| event.key.clone());
        let read = transition.reads.iter().map(|(key, _)| key.clone());
        sight.look_at(changed.chain(read).map(Key::Record)).await?;
        let workers = shown_with(&transition, None);
        look_at_statuses(&workers, &transition, &mut sight).await?;
        let before: Before = sight.before();
        let same = |(key, rev): &(RecordKey, Option<u64>)| {
            before.get(key).and_then(Option::as_ref).map(Record::rev) == *rev
        };
        if !transition.reads.iter().all(same) {
            return Ok(Committed::Conflict);
        }
        let mut plan = Plan::of(&transition, &before);
        copy_statuses(&workers, &transition, &before, &mut plan);
        let packed = plan.pack(None, self.link.keys());
        let verdict = self.commit_all(&[&packed]).await?.pop();
        Ok(match verdict {
            Some(Verdict::Applied { stamped, picks }) => {
                let decided = Decided { transition, plan: packed, claim: None, is_guessed: false };
                Committed::Applied(self.done(decided, stamped, picks))
            }
            Some(Verdict::Rejected(why)) => Committed::Rejected(why),
            Some(Verdict::Corrupt(why)) => return Err(corrupt(&why)),
            Some(Verdict::Conflict | Verdict::ClassesChanged) | None => Committed::Conflict,
        })
    }

    /// Calls the function with plans; one verdict each.
    async fn commit_all(&self, plans: &[&Vec<u8>]) -> Result<Vec<Verdict>, StoreError> {
        if plans.is_empty() {
            return Ok(Vec::new());
        }
        let (time, epoch) = (self.link.given_time(), self.link.epoch().to_string());
        let mut args: Vec<&[u8]> = vec![time.as_bytes(), epoch.as_bytes(), KEPT_GROUPS.as_bytes()];
        args.extend(plans.iter().map(|plan| plan.as_slice()));
        let answer = self.link.call("commit", &args).await?;
        let odd = || StoreError::Unknown(format!("an odd answer: {answer:?}"));
        match list(&answer) {
            [state, epoch] if text(state) == "epoch" => {
                self.link.saw_epoch(&text(epoch));
                self.memory.clear();
                Ok(plans.iter().map(|_| Verdict::Conflict).collect())
            }
            [state, now, replies] if text(state) == "ok" => {
                let now: i64 = text(now).parse().map_err(|_| odd())?;
                self.link.saw_time(now);
                let replies = list(replies).iter().map(|reply| verdict(reply, now));
                let verdicts: Result<Vec<_>, String> = replies.collect();
                let verdicts = verdicts.map_err(StoreError::Unknown)?;
                if verdicts.len() == plans.len() { Ok(verdicts) } else { Err(odd()) }
            }
            _ => Err(odd()),
        }
    }

    /// Forgets what a conflict was about.
    fn forget(&self, transition: &Transition) {
        for (key, _) in &transition.reads {
            self.memory.forget(key);
        }
    }

    /// The answer to a transition that was applied, with the jobs that its claim got.
    fn done(&self, decided: Decided, stamped: Option<Stamped>, picks: Vec<Pick>) -> Done {
        let Transition { changes: mut events, mut answer, .. } = decided.transition;
        let Some(Stamped { seq, at, endings_before }) = stamped else {
            return Done { answer, group: None };
        };
        if let (Some(claim), false) = (&decided.claim, picks.is_empty()) {
            if let Answer::Exchanged { claimed, .. } = &mut answer {
                claimed
                    .extend(picks.iter().zip(&claim.tokens).map(|(pick, token)| pick.held(*token)));
            }
            claim.merge(&mut events, &picks);
            for pick in picks {
                if let Some(payload) = pick.payload.filter(|p| p.len() <= REMEMBERED_PAYLOAD) {
                    self.payloads.lock().put(pick.job, payload);
                }
            }
        }
        let group = log::stamp(events, seq, at, endings_before);
        for event in group.events.iter().filter(|event| event.record.is_none()) {
            if let RecordKey::Job(id) = &event.key {
                self.payloads.lock().pop(id);
            }
        }
        self.memory.follow(&group.events);
        self.link.saw_seq(seq);
        Done { answer, group: Some(Arc::new(group)) }
    }
}

fn corrupt(why: &str) -> StoreError {
    StoreError::Failed(format!("the store holds what it cannot, nothing was changed: {why}"))
}

/// Whether a command may end a job, which replicas should know of.
fn ends_something(command: &Command) -> bool {
    match command {
        Command::Exchange(exchange) => {
            exchange.ops.iter().any(|op| matches!(op.op, Op::Finish(_) | Op::Late(_)))
        }
        Command::Cancel { .. } => true,
        _ => false,
    }
}

/// Sees at once what a command will surely ask for.
async fn look_ahead(command: &Command, sight: &mut Sight<'_>) -> Result<(), StoreError> {
    let record = |key: RecordKey| Key::Record(key);
    let worker = |id: &WorkerId| record(RecordKey::Worker(id.clone()));
    match command {
        Command::Submit(submit) => {
            sight.guess_absent(record(RecordKey::Job(submit.id)));
            if let Some(idempotency) = &submit.idempotency {
                let customer = submit.spec.customer_id.clone();
                let key = idempotency.key.clone();
                sight.guess_absent(Key::Idempotency(IdempotencyKey { customer, key }));
            }
            Ok(())
        }
        Command::Exchange(Exchange { worker: id, ops, .. }) => {
            let jobs = ops.iter().map(|op| record(RecordKey::Job(op.job)));
            sight.look_at(jobs.chain([worker(id)])).await?;
            look_at_connectors(sight, id).await
        }
        Command::Renew(renew) => {
            let jobs = renew.held.iter().map(|held| record(RecordKey::Job(held.job)));
            sight.look_at(jobs.chain([worker(&renew.worker)])).await?;
            look_at_all(sight, &renew.worker).await
        }
        Command::Register(register) => {
            sight.look_at([worker(&register.worker)]).await?;
            look_at_all(sight, &register.worker).await
        }
        Command::Leave { worker: id, .. } | Command::Repair(Repair::Worker { worker: id, .. }) => {
            sight.look_at([worker(id)]).await?;
            look_at_all(sight, id).await
        }
        _ => Ok(()),
    }
}

fn seen_worker(sight: &Sight<'_>, id: &WorkerId) -> Option<Arc<Worker>> {
    match sight.record(&RecordKey::Worker(id.clone())) {
        Some(Record::Worker(worker)) => Some(worker),
        _ => None,
    }
}

async fn look_at_connectors(sight: &mut Sight<'_>, id: &WorkerId) -> Result<(), StoreError> {
    let Some(worker) = seen_worker(sight, id) else { return Ok(()) };
    let keys = worker.connector_ids().map(|id| Key::Record(RecordKey::Connector(id)));
    sight.look_at(keys.collect::<Vec<_>>()).await
}

/// A worker's connectors and jobs.
async fn look_at_all(sight: &mut Sight<'_>, id: &WorkerId) -> Result<(), StoreError> {
    let Some(worker) = seen_worker(sight, id) else { return Ok(()) };
    let connectors = worker.connector_ids().map(RecordKey::Connector);
    let jobs = worker.current_job_ids.iter().map(|job| RecordKey::Job(*job));
    sight.look_at(connectors.chain(jobs).map(Key::Record).collect::<Vec<_>>()).await
}

/// The workers whose hashes show something that a transition changes.
fn shown_with(transition: &Transition, claims: Option<&WorkerId>) -> BTreeSet<WorkerId> {
    let changed = transition.changes.iter().filter_map(|event| match &event.key {
        RecordKey::Connector(id) => Some(&id.worker),
        _ => None,
    });
    changed.chain(claims).cloned().collect()
}

/// Sees what the copies of statuses are made of.
async fn look_at_statuses(
    workers: &BTreeSet<WorkerId>,
    transition: &Transition,
    sight: &mut Sight<'_>,
) -> Result<(), StoreError> {
    let keys = workers.iter().map(|id| Key::Record(RecordKey::Worker(id.clone())));
    sight.look_at(keys.collect::<Vec<_>>()).await?;
    for id in workers {
        let worker = RecordKey::Worker(id.clone());
        let changed = transition.changes.iter().rfind(|event| event.key == worker);
        let record = changed.map_or_else(|| sight.record(&worker), |event| event.record.clone());
        if let Some(Record::Worker(worker)) = record {
            let keys = worker.connector_ids().map(|id| Key::Record(RecordKey::Connector(id)));
            sight.look_at(keys.collect::<Vec<_>>()).await?;
        }
    }
    Ok(())
}

/// A worker's hash shows a copy of its connectors' statuses, so that one look tells an operator all.
fn copy_statuses(
    workers: &BTreeSet<WorkerId>,
    transition: &Transition,
    before: &Before,
    plan: &mut Plan,
) {
    let latest = |key: &RecordKey| match transition.changes.iter().rfind(|e| e.key == *key) {
        Some(event) => event.record.clone(),
        None => before.get(key).cloned().flatten(),
    };
    for id in workers {
        let Some(Record::Worker(worker)) = latest(&RecordKey::Worker(id.clone())) else { continue };
        let mut parts = Vec::new();
        for connector in worker.connector_ids().map(RecordKey::Connector) {
            let known = before.get(&connector).and_then(Option::as_ref).map(Record::rev);
            plan.also_read([(connector.clone(), known)]);
            if let Some(Record::Connector(connector)) = latest(&connector) {
                parts.push(format!("\"{}\":{}", connector.service_type, brief(&connector)));
            }
        }
        if transition
            .changes
            .iter()
            .any(|event| matches!(&event.key, RecordKey::Connector(of) if of.worker == *id))
        {
            plan.copy_statuses(id, &format!("{{{}}}", parts.join(",")));
        }
    }
}

/// Who sends a command that is accepted is there: heartbeats, leases, and what confirms connector
/// statuses, all beside the records and in the same step.
fn hear(command: &Command, transition: &Transition, sight: &Sight<'_>, plan: &mut Plan) {
    const REPORT: &str = "@0";
    const JOB: &str = "@1";
    const REGISTRATION: &str = "@2";
    let pulse = &mut plan.indexes;
    let mut heard = |kind: char, id: &str, by: &str| {
        pulse.score("pulse", by, &format!("{kind}:{id}"));
    };
    match command {
        Command::RegisterMachine(register) => heard('m', register.machine.as_str(), REPORT),
        Command::SetMachine(set) => heard('m', set.machine.as_str(), REPORT),
        Command::Register(register) => {
            heard('w', register.worker.as_str(), REGISTRATION);
            for slots in &register.services {
                let id = ConnectorId::new(register.worker.clone(), slots.name.clone());
                heard('c', &id.to_string(), REGISTRATION);
            }
        }
        Command::Renew(renew) => {
            let Answer::Renewed(renewed) = &transition.answer else { return };
            heard('w', renew.worker.as_str(), REPORT);
            for report in &renew.connectors {
                let id = ConnectorId::new(renew.worker.clone(), report.service.clone());
                if sight.record(&RecordKey::Connector(id.clone())).is_some() {
                    heard('c', &id.to_string(), REPORT);
                }
            }
            for held in renew.held.iter().filter(|held| !renewed.lost.contains(held)) {
                plan.indexes.score_if("XX", "leases", "@lease", &held.job.to_string());
            }
        }
        Command::Exchange(exchange) if !exchange.ops.is_empty() => {
            heard('w', exchange.worker.as_str(), JOB);
            for event in &transition.changes {
                if let (RecordKey::Connector(id), Some(_)) = (&event.key, &event.record) {
                    heard('c', &id.to_string(), JOB);
                }
            }
        }
        _ => {}
    }
}
