//! What is said of a prompt cannot be read, while it runs or once it ended.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use pointsman_comfyui_sim::Faults;
use pointsman_core::FailureKind;
use serde_json::json;

use super::{
    Bench, LIMIT, comfy_task, failure, picture,
    proxy::{ALL, How},
    sleeping, until, with_faults,
};
use crate::{RunEnd, StopReason, Task, testing::Witness};

#[tokio::test]
async fn an_answer_that_makes_no_sense_once_costs_a_prompt_nothing() {
    let patient = |settings: &mut super::ComfyUiSettings| settings.pace.unreadable_after = LIMIT;
    let (bench, proxy) = Bench::new().await.behind_a_proxy(patient).await;
    let running = bench.begin(comfy_task(sleeping(0.6))).await;
    proxy.breaks("GET /history", How::Large, 1);
    running.end().await.expect("it completes");
    assert_eq!(proxy.breaks_left(), 0);
}

#[tokio::test]
async fn a_prompt_that_ended_behind_a_page_for_its_history_fails() {
    // It has left the queue, and is not cancelled for as long as this takes.
    let long = |settings: &mut super::ComfyUiSettings| {
        (settings.pace.cancel, settings.pace.cut_off_after) = (LIMIT, LIMIT);
    };
    let (bench, proxy) = Bench::new().await.behind_a_proxy(long).await;
    let answers =
        [200, 502, 404].map(How::Page).into_iter().chain([502, 503, 504].map(How::Answer));
    for (seed, how) in (1..).zip(answers) {
        proxy.breaks("GET /history", how, ALL);
        let (end, witness) = bench.run(picture(seed)).await;
        let failed = failure(end);
        let expected = (FailureKind::ServiceFault, "answer_unreadable");
        assert_eq!((failed.kind, &*failed.code), expected, "{how:?}: {}", failed.message);
        let said = witness.reports.lock().last().unwrap().message.clone().unwrap();
        assert!(
            said.starts_with("waits for what ComfyUI says of it: answered "),
            "{how:?}: {said}"
        );
        proxy.mend();
    }
}

/// The queue shows that it has not ended.
#[tokio::test]
async fn a_prompt_that_waits_for_its_turn_behind_a_page_is_not_cancelled() {
    for how in [How::Page(200), How::Answer(502)] {
        let faults = Faults { foreign_prompt_s: 1.5, ..Faults::default() };
        let (bench, proxy) = Bench::with_faults(faults).await.behind_a_proxy(|_| {}).await;
        proxy.breaks("GET /history", how, ALL);
        let running = bench.begin(comfy_task(picture(1))).await;
        let says = |what| {
            let reports = running.witness.reports.lock();
            reports.last().and_then(|r| r.message.as_deref()).is_some_and(|said| said == what)
        };
        until(|| running.run.is_finished() || says("waits behind 1 in ComfyUI's queue")).await;
        until(|| running.run.is_finished() || running.witness.events.load(Ordering::SeqCst) > 0)
            .await;
        proxy.mend();
        running.end().await.expect("it completes");
    }
}

#[tokio::test]
async fn a_prompt_that_does_not_stop_behind_a_page_is_a_wedge() {
    let faults = Faults { dead_prompt_thread: true, ..Faults::default() };
    let (bench, proxy) = Bench::with_faults(faults).await.behind_a_proxy(|_| {}).await;
    let running = bench.begin(comfy_task(picture(1))).await;
    proxy.breaks("GET /history", How::Page(502), ALL);
    running.stop(StopReason::Cancel);
    let end = running.end().await;
    assert!(matches!(end, Err(RunEnd::Wedged { .. })), "{end:?}");
}

#[tokio::test]
async fn a_prompt_that_ended_does_not_run_whatever_was_read_before_that() {
    for status in [200, 502, 404] {
        ends_behind_a_page(status).await;
    }
}

async fn ends_behind_a_page(status: u16) {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    bench.sim.hold_history();
    let running = bench.begin(comfy_task(picture(1))).await;
    tokio::time::timeout(LIMIT, bench.sim.holds_history()).await.expect("it never ended");
    // A reading that has found it running is not here when it is over.
    proxy.breaks("GET /queue", How::Keep, 1);
    until(|| proxy.held() == 1).await;
    proxy.breaks("GET /history", How::Keep, 1);
    proxy.let_through();
    until(|| proxy.held() == 2).await;
    let heard = running.witness.events.load(Ordering::SeqCst);
    bench.sim.let_history_go();
    until(|| running.witness.events.load(Ordering::SeqCst) > heard).await;
    proxy.breaks("GET /history", How::Page(status), ALL);
    proxy.let_through();
    assert_eq!(failure(running.end().await).code, "answer_unreadable", "{status}");
}

/// It is greeted with the node at which it is, which says that it runs.
#[tokio::test]
async fn a_page_before_a_service_that_is_there_costs_an_adopted_prompt_nothing() {
    let bench = Bench::new().await;
    let task = with_faults(picture(1), json!({"silent_node_s": 3.0}));
    let running = bench.begin(task.clone()).await;
    until(|| running.witness.reports.lock().iter().any(|r| r.node.is_some())).await;
    running.run.abort();
    assert!(running.run.await.unwrap_err().is_cancelled());
    let (bench, proxy) = bench.behind_a_proxy(|_| {}).await;
    for status in [200, 502, 404] {
        proxy.breaks("GET /history", How::Page(status), 2);
    }
    let end = bench.run_task(Task { adopted: true, ..task }, Witness::new()).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);
    assert_eq!(proxy.breaks_left(), 0);
}

#[tokio::test]
async fn what_still_speaks_is_not_gone_whatever_is_answered_in_its_place() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    let running = bench.begin(comfy_task(sleeping(3.0))).await;
    proxy.breaks("GET", How::Page(200), ALL);
    let begin = Instant::now();
    // Longer than what says nothing may take.
    until(|| {
        running.run.is_finished() || begin.elapsed() > 4 * bench.connector.settings.pace.mute_after
    })
    .await;
    proxy.mend();
    running.end().await.expect("it completes");
}

#[tokio::test]
async fn where_nothing_listens_an_open_socket_that_says_nothing_is_waited_for() {
    let (bench, proxy) = Bench::new()
        .await
        .behind_a_proxy(|settings| {
            settings.timeouts.request = Duration::from_millis(200);
            settings.pace.mute_after = LIMIT;
        })
        .await;
    let mut running = bench.begin(with_faults(picture(1), json!({"silent_node_s": 15.0}))).await;
    until(|| running.witness.events.load(Ordering::SeqCst) > 0).await;
    proxy.vanish();
    let end = tokio::time::timeout(Duration::from_secs(2), &mut running.run).await;
    assert!(end.is_err(), "{end:?}");
    running.run.abort();
}
