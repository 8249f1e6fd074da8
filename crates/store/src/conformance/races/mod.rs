//! Races: competing decisions, stepped through every interleaving of their looks and commits.
//!
//! `cases` has the races. Each is also run with a guard removed ([`Sabotage`]), and must then be seen
//! to fail: so the test itself is tested.

mod cases;

use std::{sync::Arc, time::Duration};

use pointsman_core::{
    Answer, Command, Record, Rejected, Timestamp, Transition, WorkerId,
    command::{Exchange, Held},
    decide::{self, Key, Source, Stop, Unread, Value},
    record::{Connector, Job, JobState, Machine, Running, Worker},
};

use super::{
    Open,
    fleet::{Fleet, Hand},
};
use crate::{Committed, Loaded};

/// A guard taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Commits do not compare what the decision was made on.
    Compare,
    /// Commits do not check guards on what lies apart.
    Guards,
    /// The fence sees every token as the current one.
    Fence,
}

/// Somebody who wants something done.
enum Actor {
    /// Looks, decides, commits; may be interleaved between.
    Careful(Command),
    /// A claim of one job, which the actor saw at the head of its queue.
    Claim(Exchange, pointsman_core::JobId),
    /// One atomic step of the store.
    Atomic(Command),
    /// Time that goes by.
    Time(Duration),
}

type Outcomes = Vec<Result<Answer, Rejected>>;

/// What a race starts from and what its actors want.
struct Race {
    actors: Vec<Actor>,
    held: Held,
    hand: Hand,
}

/// One race: how it is set up, and what must be true after it.
struct Case {
    name: &'static str,
    /// The guard without which it must fail.
    guard: Sabotage,
    setup: fn(&Fleet) -> std::pin::Pin<Box<dyn Future<Output = Race> + '_>>,
    check: fn(&Job, &Outcomes, &Around) -> Result<(), String>,
}

/// What stands beside the job when a race is over.
struct Around {
    /// The job's events.
    story: Vec<&'static str>,
    worker: Arc<Worker>,
    connector: Arc<Connector>,
    machine: Arc<Machine>,
    now: Timestamp,
}

/// Every race holds on every interleaving.
pub async fn all_hold(open: &Open) {
    for case in cases::all() {
        if let Err(why) = run(open, &case, Sabotage::None).await {
            panic!("{}: {why}", case.name);
        }
    }
}

/// Every race fails on some interleaving once its guard is removed.
pub async fn all_fail_without_their_guard(open: &Open) {
    for case in cases::all() {
        let failed = run(open, &case, case.guard).await;
        assert!(failed.is_err(), "{}: holds without {:?}", case.name, case.guard);
    }
}

async fn run(open: &Open, case: &Case, sabotage: Sabotage) -> Result<(), String> {
    let actors = (case.setup)(&Fleet::new(open)).await.actors;
    let steps: Vec<usize> = actors.iter().map(steps_of).collect();
    for order in interleavings(&steps) {
        let fleet = Fleet::new(open);
        let race = (case.setup)(&fleet).await;
        let outcomes = play(&fleet, &race.actors, &order, sabotage).await;
        let verdict = judge(&fleet, case, &race, &outcomes).await;
        verdict.map_err(|why| format!("in the order {order:?}: {why}; answers {outcomes:?}"))?;
    }
    Ok(())
}

async fn judge(fleet: &Fleet, case: &Case, race: &Race, outcomes: &Outcomes) -> Result<(), String> {
    fleet.check().await?;
    let job = fleet.job(race.held.job).await;
    let story = fleet.story(race.held.job).await;
    one_ending_a_run(&story)?;
    if job.is_pending() && job.cancel_requested_at.is_some() {
        return Err("a job that is being cancelled went back to pending".into());
    }
    let worker = fleet.worker_record(&race.hand).await;
    if worker.machine_id != race.hand.machine {
        return Err(format!("the worker lost its machine: {}", worker.machine_id));
    }
    let connector = fleet.connector_record(&race.hand).await;
    let machine = fleet.machine_record(&race.hand).await;
    let around = Around { story, worker, connector, machine, now: fleet.store.now() };
    let verdict = (case.check)(&job, outcomes, &around);
    verdict.map_err(|why| format!("{why}; story {:?}", around.story))
}

/// Between a submission (or retry) and the next there is one ending at most, and nothing after.
pub(super) fn one_ending_a_run(story: &[&str]) -> Result<(), String> {
    let mut ended = false;
    for &event in story {
        match event {
            "job_completed" | "job_failed" | "job_cancelled" if ended => {
                return Err(format!("the run ended twice: {story:?}"));
            }
            "job_completed" | "job_failed" | "job_cancelled" => ended = true,
            "job_retried" => ended = false,
            "job_late_result" => {}
            _ if ended => return Err(format!("{event} after the end: {story:?}")),
            _ => {}
        }
    }
    Ok(())
}

fn steps_of(actor: &Actor) -> usize {
    match actor {
        Actor::Careful(_) | Actor::Claim(..) => 2,
        Actor::Atomic(_) | Actor::Time(_) => 1,
    }
}

/// Every order of the actors' steps; each actor's own steps stay in their order.
fn interleavings(steps: &[usize]) -> Vec<Vec<usize>> {
    if steps.iter().all(|left| *left == 0) {
        return vec![Vec::new()];
    }
    let mut orders = Vec::new();
    for actor in (0..steps.len()).filter(|actor| steps[*actor] > 0) {
        let mut left = steps.to_vec();
        left[actor] -= 1;
        for rest in interleavings(&left) {
            orders.push(std::iter::once(actor).chain(rest).collect());
        }
    }
    orders
}

enum Progress {
    Looked(Box<Transition>),
    Done(Result<Answer, Rejected>),
}

async fn play(fleet: &Fleet, actors: &[Actor], order: &[usize], sabotage: Sabotage) -> Outcomes {
    let mut progress: Vec<Option<Progress>> = actors.iter().map(|_| None).collect();
    for &n in order {
        let next = match (progress[n].take(), &actors[n]) {
            (None, Actor::Atomic(command)) => {
                Progress::Done(fleet.run(command.clone()).await.map(|(answer, _)| answer))
            }
            (None, Actor::Time(by)) => {
                fleet.advance(*by);
                Progress::Done(Ok(Answer::Done))
            }
            (None, actor) => look(fleet, actor, sabotage).await,
            (Some(Progress::Looked(transition)), actor) => {
                Progress::Done(commit(fleet, actor, *transition, sabotage).await)
            }
            (Some(done), _) => done,
        };
        progress[n] = Some(next);
    }
    let done = progress.into_iter().map(|progress| match progress {
        Some(Progress::Done(outcome)) => outcome,
        _ => panic!("an actor did not come to its end"),
    });
    done.collect()
}

async fn look(fleet: &Fleet, actor: &Actor, sabotage: Sabotage) -> Progress {
    let mut keys = Vec::new();
    loop {
        let loaded = fleet.store.load(keys.clone()).await.expect("the store works");
        let now = loaded.now;
        let decided = match actor {
            Actor::Careful(command) | Actor::Atomic(command) => {
                let source = Seen { loaded, forged: forged(command, sabotage) };
                decide::decide(&source, command, now)
            }
            Actor::Claim(exchange, job) => {
                let mut free = Some(*job);
                decide::decide_exchange(&loaded, exchange, now, &mut |_, _| free.take())
            }
            Actor::Time(_) => return Progress::Done(Ok(Answer::Done)),
        };
        match decided {
            Ok(transition) => return Progress::Looked(Box::new(transition)),
            Err(Stop::Unread(Unread(key))) => keys.push(key),
            Err(Stop::Rejected(why)) => return Progress::Done(Err(why)),
        }
    }
}

async fn commit(
    fleet: &Fleet,
    actor: &Actor,
    mut transition: Transition,
    sabotage: Sabotage,
) -> Result<Answer, Rejected> {
    loop {
        match sabotage {
            Sabotage::Compare => {
                transition.reads.clear();
                transition.looked_up.clear();
            }
            Sabotage::Guards => transition.guards.clear(),
            Sabotage::None | Sabotage::Fence => {}
        }
        match fleet.store.commit(transition).await.expect("the store works") {
            Committed::Applied(done) => return Ok(done.answer),
            Committed::Rejected(why) => return Err(why),
            Committed::Conflict => match look(fleet, actor, sabotage).await {
                Progress::Looked(again) => transition = *again,
                Progress::Done(outcome) => return outcome,
            },
        }
    }
}

/// What a look saw, with the fence forged where that is the sabotage.
struct Seen {
    loaded: Loaded,
    forged: Option<(Held, WorkerId)>,
}

impl Source for Seen {
    fn get(&self, key: &Key) -> Result<Option<Value>, Unread> {
        let value = self.loaded.get(key)?;
        Ok(match (value, &self.forged) {
            (Some(Value::Record(Record::Job(job))), Some((held, by))) if job.id == held.job => {
                let mut job = (*job).clone();
                job.attempt = held.attempt;
                job.token = Some(held.token);
                if let JobState::Assigned(has)
                | JobState::InProgress(Running { assignment: has, .. }) = &mut job.state
                {
                    has.worker_id = by.clone();
                }
                Some(Value::Record(Record::Job(job.into())))
            }
            (value, _) => value,
        })
    }
}

fn forged(command: &Command, sabotage: Sabotage) -> Option<(Held, WorkerId)> {
    match command {
        Command::Exchange(exchange) if sabotage == Sabotage::Fence => {
            let op = exchange.ops.first()?;
            let held = Held { job: op.job, attempt: op.attempt, token: op.token };
            Some((held, exchange.worker.clone()))
        }
        _ => None,
    }
}
