//! Submissions that are made at the same time share calls; nobody may notice.

use std::collections::HashSet;

use pointsman_core::{
    Answer, Command, Rejected,
    command::{Idempotency, Submit},
};
use pointsman_store::{
    Done, StoreError,
    conformance::fleet::{Fleet, spec},
};
use tokio::task::JoinHandle;

use crate::support::fleet_on;

const CALLERS: usize = 300;
const KEYS: usize = 20;

type Submitted = Result<Vec<Result<Done, Rejected>>, StoreError>;

fn submit(fleet: &Fleet, idempotency: Option<Idempotency>) -> JoinHandle<Submitted> {
    let submit = Submit { idempotency, ..fleet.submission(spec(50)) };
    let store = fleet.store.clone();
    tokio::spawn(async move { store.execute(vec![Command::Submit(submit)]).await })
}

async fn answer(submitted: JoinHandle<Submitted>) -> Result<Answer, Rejected> {
    let done = submitted.await.expect("no panic").expect("the store works").pop();
    done.expect("one answer a command").map(|done| done.answer)
}

#[tokio::test]
async fn each_caller_gets_its_own_answer() {
    let (fleet, _) = fleet_on();
    // Every third call has a key that others use at the same time, every ninth another body.
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| {
            let body = [u8::from(n % 9 == 0); 32];
            let key = || Idempotency { key: format!("key-{}", n / 3 % KEYS), body };
            (n, submit(&fleet, (n % 3 == 0).then(key)))
        })
        .collect();
    let (mut jobs, mut conflicts) = (HashSet::new(), 0);
    for (n, caller) in callers {
        match answer(caller).await {
            Ok(Answer::Submitted { id: job, .. }) => {
                let is_new = jobs.insert(job);
                assert!(is_new || n % 3 == 0, "two callers got one job");
            }
            Err(Rejected::IdempotencyConflict(_)) if n % 3 == 0 => conflicts += 1,
            other => panic!("caller {n} was answered {other:?}"),
        }
    }
    assert_eq!(jobs.len(), CALLERS * 2 / 3 + KEYS, "one job a call, and one a key");
    assert!(conflicts > 0, "two bodies under one key are a conflict");
    let counts = fleet.store.queues(0).await.expect("the store works").counts;
    assert_eq!(counts.pending, jobs.len() as u64);
    fleet.check().await.expect("nothing is wrong");
}

#[tokio::test]
async fn callers_that_go_away_take_nobody_along() {
    let (fleet, _) = fleet_on();
    let callers: Vec<_> = (0..CALLERS).map(|_| submit(&fleet, None)).collect();
    tokio::task::yield_now().await;
    let (gone, stay): (Vec<_>, Vec<_>) =
        callers.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    for (_, caller) in &gone {
        caller.abort();
    }
    let mut jobs = HashSet::new();
    for (_, caller) in stay {
        let Ok(Answer::Submitted { id: job, .. }) = answer(caller).await else { panic!("refused") };
        jobs.insert(job);
    }
    assert_eq!(jobs.len(), CALLERS / 2);
    let after = answer(submit(&fleet, None)).await;
    assert!(matches!(after, Ok(Answer::Submitted { .. })), "{after:?}");
    fleet.check().await.expect("nothing is wrong");
}
