//! Around a decision: what a command will ask for, what its change shows elsewhere, and who is heard
//! by it.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_core::{
    Answer, Command, ConnectorId, Record, RecordKey, Transition, WorkerId,
    command::{Exchange, IdempotencyKey, Repair},
    decide::{Key, Source as _, Value},
    record::Worker,
};
use pointsman_store::StoreError;

use crate::{
    execute::sight::Sight,
    plan::{Before, Plan, status, statuses},
};

/// Sees at once what a command will surely ask for.
pub async fn look_ahead(command: &Command, sight: &mut Sight<'_>) -> Result<(), StoreError> {
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
        Command::Exchange(Exchange { worker: id, ops, claim, .. }) => {
            let jobs = ops.iter().map(|op| record(RecordKey::Job(op.job)));
            sight.look_at(jobs.chain([worker(id)])).await?;
            // A claim looks whether one of its tokens has a job already.
            match claim {
                Some(_) => look_at_all(sight, id).await,
                None => look_at_connectors(sight, id).await,
            }
        }
        Command::Renew(renew) => {
            sight.look_at([worker(&renew.worker)]).await?;
            let held = renew.held.iter().map(|held| RecordKey::Job(held.job));
            sight.look_at_readable(held.collect::<Vec<_>>()).await?;
            look_at_all(sight, &renew.worker).await
        }
        Command::Register(register) => {
            sight.look_at([worker(&register.worker)]).await?;
            look_at_all(sight, &register.worker).await
        }
        Command::SetMachineOrders { machine, .. } => {
            let workers_of = Key::WorkersOf(machine.clone());
            sight
                .look_at([record(RecordKey::Machine(machine.clone())), workers_of.clone()])
                .await?;
            let Ok(Some(Value::WorkersOf(workers))) = sight.get(&workers_of) else { return Ok(()) };
            let workers = workers.into_iter().map(RecordKey::Worker);
            sight.look_at_readable(workers.collect::<Vec<_>>()).await
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
    look_at_connectors(sight, id).await?;
    let Some(worker) = seen_worker(sight, id) else { return Ok(()) };
    let jobs = worker.current_job_ids.iter().map(|job| RecordKey::Job(*job));
    sight.look_at_readable(jobs.collect::<Vec<_>>()).await
}

/// Nothing is decided about jobs that cannot be read: what was said of them is as if they were away.
pub fn spare_unreadable(transition: &mut Transition, sight: &Sight<'_>) {
    transition.reads.retain(|(key, _)| !sight.is_unreadable(key));
    if let Answer::Renewed(renewed) = &mut transition.answer {
        renewed.lost.retain(|held| !sight.is_unreadable(&RecordKey::Job(held.job)));
    }
}

/// The workers whose hashes show something that a transition changes.
pub fn shown_with(transition: &Transition, claims: Option<&WorkerId>) -> BTreeSet<WorkerId> {
    let changed = transition.changes.iter().filter_map(|event| match &event.key {
        RecordKey::Connector(id) => Some(&id.worker),
        _ => None,
    });
    changed.chain(claims).cloned().collect()
}

/// Sees what the copies of statuses are made of.
pub async fn look_at_statuses(
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
pub fn copy_statuses(
    workers: &BTreeSet<WorkerId>,
    transition: &Transition,
    before: &Before,
    plan: &mut Plan,
) {
    let latest = |key: &RecordKey| before.latest(key, transition);
    for id in workers {
        let Some(Record::Worker(worker)) = latest(&RecordKey::Worker(id.clone())) else { continue };
        let mut each = Vec::new();
        for connector in worker.connector_ids().map(RecordKey::Connector) {
            let known = before.get(&connector).map(Record::rev);
            plan.also_read([(connector.clone(), known)]);
            if let Some(Record::Connector(connector)) = latest(&connector) {
                each.push(status(&connector));
            }
        }
        if transition
            .changes
            .iter()
            .any(|event| matches!(&event.key, RecordKey::Connector(of) if of.worker == *id))
        {
            plan.copy_statuses(id, &statuses(&each));
        }
    }
}

/// Who sends a command that is accepted is there: heartbeats, leases, and what confirms connector
/// statuses, all beside the records and in the same step.
pub fn hear(command: &Command, transition: &Transition, sight: &Sight<'_>, plan: &mut Plan) {
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
