//! What a worker does when the store is in another epoch: it came back from a while before, so
//! attempts that it gave out and results that it took since may be unknown to it.

use pointsman_core::{
    Rejected,
    command::{AttemptOp, Held, Op, OpAnswer},
};

use crate::{
    calls::Fault,
    settle::{self, Settled},
    shared::{Shared, fitting, op_of},
};

/// Takes back the jobs that this worker runs, and hands in again the results that it handed in
/// lately. Every part of it may be repeated.
pub(crate) async fn reclaim(shared: &Shared) -> Result<(), Fault> {
    let running = running(shared);
    let results = shared.kept.lock().take(shared.last_contact());
    let (attempts, again) = (running.len(), results.len());
    tracing::warn!(worker = %shared.config.worker, attempts, again, "the store is in a new epoch");
    let ends = results
        .iter()
        .flat_map(|end| [op_of(held_by(end), Op::Reclaim { started: true }), end.clone()]);
    let ops = running.iter().map(|(held, started)| op_of(*held, Op::Reclaim { started: *started }));
    let Answers { answers, is_sure } = match send(shared, ops.chain(ends).collect()).await {
        Ok(answers) => answers,
        Err(fault) => {
            keep(shared, results, true);
            return Err(fault);
        }
    };
    let mut answers = answers.into_iter();
    for ((held, _), answer) in running.into_iter().zip(answers.by_ref()) {
        if let Err(why) = answer {
            tracing::info!(job = %held.job, attempt = held.attempt, %why, "not reclaimed");
            shared.lost(held);
        }
    }
    // Whether the attempt itself was taken back shows in what became of its end.
    let answers = answers.skip(1).step_by(2).collect();
    follow_up(shared, results, Answers { answers, is_sure }).await
}

/// Says what is left to say of ends that were refused, as often as one is. A result whose attempt was not
/// taken back is handed in late, which is always kept if the store knows the attempt.
async fn follow_up(
    shared: &Shared,
    mut ends: Vec<AttemptOp>,
    mut said: Answers,
) -> Result<(), Fault> {
    while !ends.is_empty() {
        let mut more = Vec::new();
        for (end, answer) in ends.into_iter().zip(said.answers) {
            let Err(why) = answer else {
                keep(shared, [end], said.is_sure);
                continue;
            };
            match settle::refused(end.op.clone(), &why) {
                Settled::Tell(op) => more.push(op_of(held_by(&end), op)),
                Settled::Nothing | Settled::Keep(_) => {
                    tracing::info!(job = %end.job, attempt = end.attempt, %why, "not taken");
                }
            }
        }
        said = match send(shared, more.clone()).await {
            Ok(said) => said,
            Err(fault) => {
                keep(shared, more, true);
                return Err(fault);
            }
        };
        ends = more;
    }
    Ok(())
}

fn keep(shared: &Shared, ends: impl IntoIterator<Item = AttemptOp>, is_sure: bool) {
    ends.into_iter().for_each(|end| shared.keep_end(end, is_sure));
}

fn held_by(end: &AttemptOp) -> Held {
    Held { job: end.job, attempt: end.attempt, token: end.token }
}

/// What a renewal would list, with whether its service has taken it.
fn running(shared: &Shared) -> Vec<(Held, bool)> {
    shared.ours.all(
        |attempt| attempt.is_alive().then(|| (attempt.held(), attempt.has_started())),
        |held| Some((held, false)),
        |claimed| Some((claimed.held, claimed.job.started_at().is_some())),
    )
}

/// One answer for each operation, and whether replicas have confirmed the ends among them.
struct Answers {
    answers: Vec<Result<OpAnswer, Rejected>>,
    is_sure: bool,
}

async fn send(shared: &Shared, ops: Vec<AttemptOp>) -> Result<Answers, Fault> {
    let (mut answers, mut is_sure) = (Vec::with_capacity(ops.len()), true);
    let mut rest = &ops[..];
    while !rest.is_empty() {
        let (ops, after) = rest.split_at(fitting(rest.iter().map(|op| &op.op)));
        rest = after;
        let answer = shared.send(shared.exchange_of(ops.to_vec())).await?;
        is_sure &= answer.unconfirmed.is_none();
        answers.extend(answer.ops);
    }
    Ok(Answers { answers, is_sure })
}

/// Whether the store refuses the attempt because it came back from before its claim: within one
/// epoch no attempt is higher than its job's.
pub(crate) fn is_unknown_yet(held: Held, why: &Rejected) -> bool {
    matches!(why, Rejected::StaleAttempt { current, .. } if *current < held.attempt)
}
