//! The races: how each is set up, and what must be true after it.

use std::time::Duration;

use pointsman_core::{
    Answer, Command, FailureKind, Incarnation, Rejected,
    command::{Held, Op, OpAnswer},
    record::{ConnectorStatus, JobStatus},
};

use super::{
    super::fleet::{Fleet, Hand, completed, failed, late, spec},
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
            check: |job, outcomes, story| {
                let finished = op_accepted(&outcomes[1]);
                let expired = outcomes[0].is_ok();
                let told = story.contains(&"job_completed") && !story.contains(&"job_returned");
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
            check: |_, outcomes, story| {
                let once = story.iter().filter(|event| **event == "job_completed").count() == 1;
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
                let (ghost, stale) = overdue(fleet).await;
                fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
                let other = fleet.worker("v", 1, &[]).await;
                let held = fleet.claim(&other).await.expect("the job again");
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
                let (ghost, stale) = overdue(fleet).await;
                fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
                let other = fleet.worker("v", 1, &[]).await;
                let held = fleet.claim(&other).await.expect("the job again");
                let actors = vec![writes(&ghost, stale, late()), finishes(&other, held)];
                Race { actors, held, hand: other }
            }),
            check: |job, outcomes, story| {
                let kept = op_accepted(&outcomes[0]) && job.late_results == 1;
                let once = story.iter().filter(|event| **event == "job_completed").count() == 1;
                match kept && once && job.status() == JobStatus::Completed {
                    true => Ok(()),
                    false => Err(format!("kept: {kept}, completed once: {once}")),
                }
            },
        },
        Case {
            name: "a ghost's late result, a cancel and the completion of who runs it now",
            guard: Sabotage::Compare,
            setup: setup!(fleet, {
                let (ghost, stale) = overdue(fleet).await;
                fleet.run(Fleet::expire(stale)).await.expect("the lease is over");
                let other = fleet.worker("v", 1, &[]).await;
                let held = fleet.claim(&other).await.expect("the job again");
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
