//! The races: how each is set up, and what must be true after it.

use std::time::Duration;

use pointsman_core::{
    Answer, Command, ConnectorId, FailureKind, Incarnation, Rejected,
    command::{Held, Op, OpAnswer, Reconcile},
    decide::limits,
    record::{ConnectorStatus, JobStatus, MachineStatus},
};

use super::{
    super::fleet::{Fleet, Hand, completed, failed, late, service, spec},
    Actor, Case, Race, Sabotage,
};

fn finishes(hand: &Hand, held: Held) -> Actor {
    writes(hand, held, completed())
}

fn writes(hand: &Hand, held: Held, op: Op) -> Actor {
    Actor::Careful(Command::Exchange(Fleet::exchange(hand, vec![Fleet::op(held, op)], Vec::new())))
}

fn cancels(held: Held) -> Actor {
    Actor::Careful(Command::Cancel { job: held.job })
}

fn op_accepted(outcome: &Result<Answer, Rejected>) -> bool {
    matches!(outcome, Ok(Answer::Exchanged { ops, .. }) if ops.iter().all(Result::is_ok))
}

/// Whether a late result that was kept won.
fn late_won(outcome: &Result<Answer, Rejected>) -> Option<bool> {
    match outcome {
        Ok(Answer::Exchanged { ops, .. }) => match ops[..] {
            [Ok(OpAnswer::LateKept { won })] => Some(won),
            _ => None,
        },
        _ => None,
    }
}

/// A worker with a running job whose lease is over.
async fn overdue(fleet: &Fleet) -> (Hand, Held) {
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.advance(Duration::from_secs(11));
    (hand, held)
}

/// A ghost with what it ran, and the worker that the job was given to since, with what that holds.
async fn given_away(fleet: &Fleet) -> (Hand, Held, Hand, Held) {
    let (ghost, stale) = overdue(fleet).await;
    fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
    let other = fleet.worker("v", 1, &[]).await;
    let held = fleet.claim(&other).await.expect("the job again");
    (ghost, stale, other, held)
}

/// A worker that was not heard for so long, and then says that its service is broken. The job is of
/// no matter.
async fn silent(fleet: &Fleet, for_so_long: Duration) -> Race {
    let hand = fleet.worker("w", 1, &[]).await;
    let job = fleet.submit(spec(50)).await;
    let held = Held { job, attempt: 1, token: fleet.token() };
    fleet.advance(for_so_long);
    let renewal = Fleet::renewal(&hand, Vec::new(), ConnectorStatus::Error);
    Race { actors: vec![Actor::Atomic(Command::Renew(renewal))], held, hand }
}

impl Race {
    fn against(mut self, reconcile: Reconcile) -> Self {
        self.actors.push(Actor::Careful(Command::Reconcile(reconcile)));
        self
    }
}

/// Whoever is heard is there, also where it was declared gone before that.
fn is_there(is_gone: bool) -> Result<(), String> {
    if is_gone { Err("it was heard, and counts as gone".into()) } else { Ok(()) }
}

macro_rules! setup {
    ($fleet:ident, $body:block) => {
        |$fleet: &Fleet| Box::pin(async move $body)
    };
}

pub(super) fn all() -> Vec<Case> {
    vec![
        Case {
            name: "timeout and completion at the same moment",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let (hand, held) = overdue(fleet).await;
                let actors = vec![Actor::Careful(Fleet::expire(held)), finishes(&hand, held)];
                Race { actors, held, hand }
            }),
            check: |job, outcomes, around| {
                let finished = op_accepted(&outcomes[1]);
                let expired = outcomes[0].is_ok();
                let told = around.story.contains(&"job_completed")
                    && !around.story.contains(&"job_returned");
                match (finished, expired, job.status()) {
                    (true, false, JobStatus::Completed) if told => Ok(()),
                    (false, true, JobStatus::Pending) => Ok(()),
                    other => Err(format!("both or none won: {other:?}")),
                }
            },
        },
        Case {
            name: "renewal between the reconciler's look and its commit",
            guard: Sabotage::Guards,
            setup: setup!(fleet, {
                let (hand, held) = overdue(fleet).await;
                let renewal = Fleet::renewal(&hand, vec![held], ConnectorStatus::Active);
                let actors = vec![
                    Actor::Careful(Fleet::expire(held)),
                    Actor::Atomic(Command::Renew(renewal)),
                ];
                Race { actors, held, hand }
            }),
            check: |job, outcomes, _| {
                let kept = matches!(&outcomes[1], Ok(Answer::Renewed(r)) if r.lost.is_empty());
                match (kept, job.is_running()) {
                    (true, true) | (false, false) => Ok(()),
                    (kept, running) => Err(format!("renewed: {kept}, but running: {running}")),
                }
            },
        },
        Case {
            name: "a worker that registers again in mid-job",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let hand = fleet.worker("w", 1, &[]).await;
                let held = fleet.running(&hand).await;
                let again = Fleet::registration(&hand, 2, &[]);
                let actors = vec![Actor::Careful(Command::Register(again)), finishes(&hand, held)];
                Race { actors, held, hand }
            }),
            check: |job, outcomes, _| match (job.status(), op_accepted(&outcomes[1])) {
                (JobStatus::Completed, true) => Ok(()),
                other => Err(format!("{other:?}")),
            },
        },
        Case {
            name: "a new process of the worker while the old one finishes",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let hand = fleet.worker("w", 1, &[]).await;
                let held = fleet.running(&hand).await;
                let incarnation = Incarnation::from_uuid(uuid::Uuid::from_u128(7));
                let newer = Hand { incarnation, ..hand.clone() };
                let register = Fleet::registration(&newer, 1, &[]);
                let actors =
                    vec![Actor::Careful(Command::Register(register)), finishes(&hand, held)];
                Race { actors, held, hand }
            }),
            check: |job, outcomes, _| match (job.is_ended(), op_accepted(&outcomes[1])) {
                (true, true) | (false, false) => Ok(()),
                other => Err(format!("{other:?}")),
            },
        },
        Case {
            name: "cancel against claim",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let hand = fleet.worker("w", 1, &[]).await;
                let job = fleet.submit(spec(50)).await;
                let token = fleet.token();
                let held = Held { job, attempt: 1, token };
                let claim = Fleet::exchange(&hand, Vec::new(), vec![token]);
                Race { actors: vec![Actor::Claim(claim, job), cancels(held)], held, hand }
            }),
            check: |job, _, _| match (job.status(), job.cancel_requested_at) {
                (JobStatus::Cancelled, Some(_)) => Ok(()),
                (JobStatus::Assigned, Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            },
        },
        Case {
            name: "cancel against completion",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let hand = fleet.worker("w", 1, &[]).await;
                let held = fleet.running(&hand).await;
                Race { actors: vec![finishes(&hand, held), cancels(held)], held, hand }
            }),
            check: |job, outcomes, _| {
                let refused = matches!(&outcomes[1], Err(Rejected::AlreadyEnded { .. }));
                match (job.status(), refused, job.cancel_requested_at.is_some()) {
                    (JobStatus::Completed, true, false) | (JobStatus::Completed, false, true) => {
                        Ok(())
                    }
                    other => Err(format!("{other:?}")),
                }
            },
        },
        Case {
            name: "cancel against loss",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let (hand, held) = overdue(fleet).await;
                let actors = vec![Actor::Careful(Fleet::expire(held)), cancels(held)];
                Race { actors, held, hand }
            }),
            check: |job, _, _| match job.status() {
                JobStatus::Cancelled => Ok(()),
                other => Err(format!("{other:?}")),
            },
        },
        Case {
            name: "cancel, loss and completion",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let (hand, held) = overdue(fleet).await;
                let expire = Actor::Careful(Fleet::expire(held));
                let actors = vec![expire, cancels(held), finishes(&hand, held)];
                Race { actors, held, hand }
            }),
            check: |job, outcomes, _| match (job.status(), op_accepted(&outcomes[2])) {
                (JobStatus::Completed, true) | (JobStatus::Cancelled, false) => Ok(()),
                other => Err(format!("{other:?}")),
            },
        },
        Case {
            name: "a lost answer repeated",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let hand = fleet.worker("w", 1, &[]).await;
                let held = fleet.running(&hand).await;
                let actors = vec![finishes(&hand, held), finishes(&hand, held)];
                Race { actors, held, hand }
            }),
            check: |_, outcomes, around| {
                let once =
                    around.story.iter().filter(|event| **event == "job_completed").count() == 1;
                match once && outcomes[0] == outcomes[1] && op_accepted(&outcomes[0]) {
                    true => Ok(()),
                    false => Err("the repeat was not answered like the first".into()),
                }
            },
        },
        Case {
            name: "a ghost's writes after its job was given away",
            guard: Sabotage::Fence,
            setup: setup!(fleet, {
                let (ghost, stale, other, held) = given_away(fleet).await;
                let failure = failed(FailureKind::BadJob);
                let actors = vec![
                    writes(&ghost, stale, Op::Start),
                    finishes(&ghost, stale),
                    writes(&ghost, stale, failure),
                ];
                Race { actors, held, hand: other }
            }),
            check: |job, outcomes, _| {
                let refused = outcomes.iter().all(|outcome| {
                    matches!(outcome, Ok(Answer::Exchanged { ops, .. })
                        if matches!(ops[..], [Err(Rejected::StaleAttempt { .. })]))
                });
                match refused && job.attempt == 2 && job.status() == JobStatus::Assigned {
                    true => Ok(()),
                    false => Err(format!("the ghost changed the job: {:?}", job.status())),
                }
            },
        },
        Case {
            name: "a ghost's late result against the attempt that runs now",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let (ghost, stale, other, held) = given_away(fleet).await;
                let actors = vec![writes(&ghost, stale, late()), finishes(&other, held)];
                Race { actors, held, hand: other }
            }),
            check: |job, outcomes, around| {
                let kept = op_accepted(&outcomes[0]) && job.late_results == 1;
                let once =
                    around.story.iter().filter(|event| **event == "job_completed").count() == 1;
                match kept && once && job.status() == JobStatus::Completed {
                    true => Ok(()),
                    false => Err(format!("kept: {kept}, completed once: {once}")),
                }
            },
        },
        Case {
            name: "a heartbeat between the look at a silent worker and its commit",
            guard: Sabotage::Guards,
            setup: setup!(fleet, {
                let race = silent(fleet, limits::SILENT_AFTER).await;
                let worker = race.hand.worker.clone();
                race.against(Reconcile::DeclareSilent { worker, after: limits::SILENT_AFTER })
            }),
            check: |_, _, around| is_there(around.worker.is_offline()),
        },
        Case {
            name: "a report between the look at a stale connector and its commit",
            guard: Sabotage::Guards,
            setup: setup!(fleet, {
                let race = silent(fleet, limits::STALE_AFTER).await;
                let connector = ConnectorId::new(race.hand.worker.clone(), service());
                race.against(Reconcile::MarkStale { connector, after: limits::STALE_AFTER })
            }),
            check: |_, _, around| is_there(around.connector.status == ConnectorStatus::Unknown),
        },
        Case {
            name: "a heartbeat between the look at a silent machine and its commit",
            guard: Sabotage::Guards,
            setup: setup!(fleet, {
                let race = silent(fleet, limits::SILENT_AFTER).await;
                let (machine, after) = (race.hand.machine.clone(), limits::SILENT_AFTER);
                race.against(Reconcile::DisconnectMachine { machine, after })
            }),
            check: |_, _, around| {
                let is_gone = around.machine.status == MachineStatus::Disconnected;
                // Declared before, it comes back by a look of its own; the renewal changes the connector.
                is_there(is_gone && around.machine.rev > around.connector.rev)
            },
        },
        Case {
            name: "silence between the look at a machine that is heard again and its commit",
            guard: Sabotage::Guards,
            setup: setup!(fleet, {
                let race = silent(fleet, limits::SILENT_AFTER).await;
                let machine = race.hand.machine.clone();
                let after = limits::SILENT_AFTER;
                let disconnect = Reconcile::DisconnectMachine { machine: machine.clone(), after };
                fleet.run(Command::Reconcile(disconnect)).await.expect("it is silent");
                fleet.report(&race.hand, ConnectorStatus::Idle).await;
                let reconnect = Command::Reconcile(Reconcile::ReconnectMachine { machine });
                let actors = vec![Actor::Careful(reconnect), Actor::Time(after)];
                Race { actors, ..race }
            }),
            check: |_, _, around| {
                let machine = &around.machine;
                let is_new = machine.last_status_change == Some(around.now);
                match machine.status == MachineStatus::Ready && is_new {
                    true => Err("it is back, and nobody heard of it for long".into()),
                    false => Ok(()),
                }
            },
        },
        Case {
            name: "a ghost's late result, a cancel and the completion of who runs it now",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let (ghost, stale, other, held) = given_away(fleet).await;
                let actors =
                    vec![writes(&ghost, stale, late()), cancels(held), finishes(&other, held)];
                Race { actors, held, hand: other }
            }),
            check: |job, outcomes, _| {
                let won = late_won(&outcomes[0]).ok_or("the late result was not kept")?;
                let asked = outcomes[1].is_ok();
                match (job.status(), won, asked, op_accepted(&outcomes[2])) {
                    (JobStatus::Completed, true, false, false) => Ok(()),
                    (JobStatus::Completed, false, _, true) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            },
        },
    ]
}
