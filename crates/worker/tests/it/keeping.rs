//! Leases, statuses, progress and previews.

use std::time::Duration;

use pointsman_connectors::Health;
use pointsman_core::{
    JobId,
    decide::limits,
    record::{ConnectorStatus, JobStatus},
};
use tokio::time::Instant;

use crate::{
    broker::{Call, Line, Renewal},
    setup::{NOW, Setup},
};

/// Between one renewal and the next.
fn gaps(renewals: &[Renewal]) -> Vec<Duration> {
    renewals.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[tokio::test(start_paused = true)]
async fn only_attempts_whose_executor_ticks_are_renewed() {
    let setup = Setup::new(2).await;
    let (ticks, deaf) = (setup.broker.post("hour"), setup.broker.post("deaf"));
    setup.pass(4.0).await;
    let held = |s: &Setup| -> Vec<JobId> {
        let (_, renew, _) = s.broker.renewals().pop().unwrap();
        renew.held.iter().map(|held| held.job).collect()
    };
    assert!(held(&setup).contains(&deaf));
    setup.pass(6.0).await;
    assert_eq!(held(&setup), [ticks]);
    assert_eq!(setup.broker.status(deaf), JobStatus::InProgress, "its lease ends by itself");
}

#[tokio::test(start_paused = true)]
async fn it_is_heard_every_5_s_and_reports_all_statuses_every_15() {
    let setup = Setup::new(1).await;
    setup.pass(60.0).await;
    let renewals = setup.broker.renewals();
    let gaps = gaps(&renewals);
    assert!(*gaps.iter().max().unwrap() <= Duration::from_millis(5100), "{gaps:?}");
    assert!(*gaps.last().unwrap() > Duration::from_millis(4900), "{gaps:?}");
    let full: Vec<_> = renewals.iter().filter(|(_, r, _)| !r.connectors.is_empty()).collect();
    let longest = full.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!((15..=18).contains(&longest.as_secs()), "{longest:?}");
}

/// Also the first time after nothing ran, when the next renewal is not due for longer.
#[tokio::test(start_paused = true)]
async fn what_runs_is_renewed_every_3_s() {
    let setup = Setup::new(1).await;
    setup.pass(12.0).await;
    let idle = setup.broker.renewals().len();
    let job = setup.broker.post("hour");
    setup.pass(20.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
    let renewals = setup.broker.renewals();
    assert!(renewals[idle..].iter().all(|(_, renew, _)| renew.held.len() == 1));
    let gaps = gaps(&renewals[idle - 1..]);
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_millis(3100)), "{gaps:?}");
}

/// Its executor may tick again, and then its lease must not be over already.
#[tokio::test(start_paused = true)]
async fn what_does_not_tick_is_something_that_runs() {
    let setup = Setup::new(1).await;
    setup.pass(12.0).await;
    let idle = setup.broker.renewals().len();
    setup.broker.post("deaf");
    setup.pass(12.5).await;
    let renewals = setup.broker.renewals();
    assert!(renewals.last().unwrap().1.held.is_empty());
    let gaps = gaps(&renewals[idle - 1..]);
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_millis(3100)), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_status_is_reported_at_once_and_only_when_it_is_new() {
    let setup = Setup::new(1).await;
    setup.pass(1.0).await;
    setup.service.with(|s| s.health = Health::new(ConnectorStatus::Error, "CUDA error"));
    let before = setup.broker.renewals().len();
    setup.pass(6.0).await;
    let renewals = setup.broker.renewals();
    let news: Vec<_> =
        renewals[before..].iter().filter(|(_, r, _)| !r.connectors.is_empty()).collect();
    assert_eq!(news.len(), 1);
    let report = &news[0].1.connectors[0];
    assert_eq!(report.status, ConnectorStatus::Error);
    assert_eq!(report.error_message.as_deref(), Some("CUDA error"));
}

#[tokio::test(start_paused = true)]
async fn progress_is_the_newest_and_at_most_4_a_second() {
    let setup = Setup::new(1).await;
    setup.broker.post("progress");
    setup.pass(2.5).await;
    let sent: Vec<_> = setup
        .broker
        .renewals()
        .into_iter()
        .flat_map(|(at, _, progress)| progress.into_iter().map(move |(_, p)| (at, p)))
        .collect();
    assert!((8..=9).contains(&sent.len()), "100 reports in 2 s were {} sent", sent.len());
    assert!(sent.windows(2).all(|pair| pair[1].0 - pair[0].0 >= Duration::from_millis(250)));
    assert!(
        sent.windows(2).all(|pair| pair[1].1.n > pair[0].1.n && pair[1].1.step > pair[0].1.step)
    );
    let previews = setup.broker.calls().into_iter().filter(|c| matches!(c, Call::Preview(_)));
    assert!((7..=10).contains(&previews.count()));
}

/// Else whoever shows it would take each report for a word of the service.
#[tokio::test(start_paused = true)]
async fn a_silent_service_is_shown_as_heard_when_it_took_the_job() {
    let setup = Setup::new(1).await;
    setup.broker.post("silent");
    setup.pass(8.0).await;
    let sent = setup.broker.renewals().into_iter().flat_map(|(_, _, progress)| progress);
    let sent: Vec<_> = sent
        .map(|(_, p)| {
            let heard = p.last_event_at.expect("a time").since(NOW).as_secs();
            (heard, p.message.unwrap())
        })
        .collect();
    let [waits, silent] = ["waits", "silent for 3 s"].map(str::to_owned);
    assert_eq!(sent, [(0, waits.clone()), (2, waits), (2, silent)]);
}

/// When progress was sent, and its number.
fn told(setup: &Setup) -> Vec<(Instant, u64)> {
    let renewals = setup.broker.renewals().into_iter();
    renewals
        .flat_map(|(at, _, progress)| progress.into_iter().map(move |(_, p)| (at, p.n)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_last_progress_is_repeated_with_each_full_report() {
    let setup = Setup::new(1).await;
    setup.broker.post("progress-once");
    setup.pass(46.0).await;
    let told = told(&setup);
    assert!((4..=5).contains(&told.len()), "once, and every 15 s: {told:?}");
    assert!(told.iter().all(|(_, n)| *n == told[0].1), "the very same: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_was_away_is_told_the_last_progress_at_once() {
    let setup = Setup::new(1).await;
    setup.broker.post("progress-once");
    // Between two full reports, with nothing new to say.
    setup.pass(4.0).await;
    let before = told(&setup).len();
    setup.broker.with(|s| s.line = Line::Down);
    setup.pass(4.0).await;
    setup.broker.with(|s| s.line = Line::Up);
    setup.pass(2.5).await;
    assert_eq!(told(&setup).len(), before + 1);
}

/// It may have called them unknown meanwhile.
#[tokio::test(start_paused = true)]
async fn a_broker_that_was_away_is_told_all_statuses_at_once() {
    let setup = Setup::new(1).await;
    setup.pass(4.0).await;
    let full = |setup: &Setup| {
        setup.broker.renewals().iter().filter(|(_, r, _)| !r.connectors.is_empty()).count()
    };
    let before = full(&setup);
    setup.broker.with(|s| s.line = Line::Down);
    setup.pass(4.0).await;
    setup.broker.with(|s| s.line = Line::Up);
    setup.pass(2.5).await;
    assert_eq!(full(&setup), before + 1);
}

/// No call of it failed: it made none.
#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_tells_all_statuses_at_once() {
    let setup = Setup::new(1).await;
    setup.pass(1.0).await;
    let before = setup.broker.renewals().len();
    tokio::time::advance(limits::SILENT_WITH_LEASE).await;
    setup.pass(0.5).await;
    let renewals = setup.broker.renewals();
    let told: Vec<_> = renewals[before..].iter().map(|(_, r, _)| r.connectors.len()).collect();
    assert_eq!(told, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_store_of_another_epoch_is_told_the_last_progress_at_once() {
    let setup = Setup::new(1).await;
    setup.broker.post("progress-once");
    setup.pass(4.0).await;
    let before = told(&setup).len();
    let replica = setup.broker.replicate();
    setup.broker.fail_over(replica);
    setup.pass(4.0).await;
    assert_eq!(told(&setup).len(), before + 1);
}
