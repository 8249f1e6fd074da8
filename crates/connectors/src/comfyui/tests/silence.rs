//! Nothing is heard for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pointsman_comfyui_sim::{Faults, SimConfig};
use pointsman_core::LossReason;
use serde_json::{Value, json};

use super::{
    Bench, LIMIT, comfy_task, picture,
    proxy::{ALL, How, Proxy},
    settings, sleeping, with_faults,
};
use crate::{
    Connector as _, EvidenceSource, Limits, RunEnd, Sample, Task, comfyui::ComfyUiConnector,
    testing::Witness,
};

/// Counters that move with every look.
#[derive(Default)]
struct Moving(AtomicU64);

impl EvidenceSource for Moving {
    fn sample(&self) -> Option<Sample> {
        Some(Sample(self.0.fetch_add(1, Ordering::SeqCst)))
    }
}

/// Counters that rest.
struct Resting;

impl EvidenceSource for Resting {
    fn sample(&self) -> Option<Sample> {
        Some(Sample(1))
    }
}

fn impatient(mut task: Task) -> Task {
    task.limits = Limits {
        total: None,
        silence_after: Duration::from_millis(300),
        stall_after: Duration::from_millis(1500),
        blind_stall_after: Duration::from_millis(1500),
    };
    task
}

/// As somebody does who does not listen.
async fn submit_nameless(bench: &Bench, graph: Value) {
    let submitted = reqwest::Client::new()
        .post(format!("{}/prompt", bench.sim.url()))
        .body(json!({ "prompt": graph }).to_string())
        .send();
    assert!(submitted.await.unwrap().status().is_success());
}

async fn bench(evidence: Arc<dyn EvidenceSource>) -> Bench {
    Bench::with(SimConfig::default(), |settings| settings.evidence = evidence).await
}

#[tokio::test]
async fn a_silent_node_that_works_is_left_alone_and_shown_as_silent() {
    let bench = bench(Arc::new(Moving::default())).await;
    let witness = Witness::new();
    let task = impatient(with_faults(picture(1), json!({"silent_node_s": 3.5})));
    let end = bench.run_task(task, witness.clone()).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);
    let silent =
        |r: &crate::Report| r.message.as_ref().is_some_and(|m| m.starts_with("silent for"));
    let reports = witness.reports.lock();
    assert!(reports.iter().any(silent));
    assert!(!silent(reports.last().unwrap()), "and no more when it speaks again");
}

#[tokio::test]
async fn without_any_sign_of_work_it_is_stopped_and_given_back() {
    for evidence in [Arc::new(Resting) as Arc<dyn EvidenceSource>, Arc::new(crate::NoCounters)] {
        let bench = bench(evidence).await;
        // One step of 30 s, which says nothing and can be interrupted.
        let mut graph = sleeping(30.0);
        graph["2"]["inputs"]["steps"] = json!(1);
        let end = bench.run_task(impatient(comfy_task(graph)), Witness::new()).await;
        let Err(RunEnd::GaveBack { reason, message }) = end else { panic!("{end:?}") };
        assert_eq!(reason, LossReason::Stalled, "{message}");
        assert_eq!(bench.queue().await, 0);
    }
}

#[tokio::test]
async fn what_ended_before_it_was_stopped_for_its_silence_is_collected() {
    let (bench, proxy) =
        Bench::new().await.behind_a_proxy(|settings| settings.pace.cancel = LIMIT).await;
    bench.sim.hold_history();
    proxy.breaks("POST /api/jobs", How::Cut, 1);
    let running = bench.begin(impatient(comfy_task(picture(1)))).await;
    super::until(|| proxy.breaks_left() == 0).await;
    bench.sim.let_history_go();
    assert_eq!(running.end().await.unwrap().artifacts.len(), 1);
}

/// How long its queue is, ComfyUI tells everybody.
#[tokio::test]
async fn what_others_queue_is_no_sign_of_work() {
    const OTHERS: u32 = 20;
    let bench = Bench::new().await;
    bench.sim.hold_history();
    let running = bench.begin(comfy_task(picture(1))).await;
    tokio::time::timeout(LIMIT, bench.sim.holds_history()).await.expect("it never ended");
    let witness = running.witness.clone();
    let before = witness.events.load(Ordering::SeqCst);
    for _ in 0..OTHERS {
        submit_nameless(&bench, sleeping(0.0)).await;
        let queue = bench.connector.client.queue().await.unwrap();
        bench.connector.client.delete(&[&queue.pending[0].prompt_id]).await.unwrap();
    }
    bench.sim.let_history_go();
    running.end().await.unwrap();
    let heard = witness.events.load(Ordering::SeqCst) - before;
    assert!(heard < OTHERS, "{heard}");
}

#[tokio::test]
async fn the_node_at_which_an_adopted_prompt_is_silent_is_shown_and_not_how_far_nobody_knows() {
    let bench = Bench::new().await;
    let task = with_faults(picture(1), json!({"silent_node_s": 1.5}));
    let running = bench.begin(task.clone()).await;
    super::until(|| running.witness.reports.lock().iter().any(|r| r.node.is_some())).await;
    running.run.abort();
    assert!(running.run.await.unwrap_err().is_cancelled());
    let witness = Witness::new();
    let adopted = Task { adopted: true, ..task };
    bench.run_task(adopted, witness.clone()).await.unwrap();
    let reports = witness.reports.lock();
    let node = running.witness.reports.lock().last().unwrap().node.clone();
    assert_eq!((&reports[0].node, reports[0].percent), (&node, None), "{reports:?}");
}

#[tokio::test]
async fn a_prompt_that_waits_for_its_turn_is_not_stalled_and_its_silence_begins_with_its_run() {
    let often = Duration::from_millis(200);
    let bench =
        Bench::with(SimConfig::default(), |settings| settings.pace.truth_most = often).await;
    let witness = Witness::new();
    let mut task = impatient(with_faults(picture(1), json!({"foreign_prompt_s": 4.0})));
    // Its own run is over long before, also on a slow machine.
    task.limits.silence_after = Duration::from_secs(2);
    let end = bench.run_task(task, witness.clone()).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);
    let reports = witness.reports.lock();
    let said =
        |what: &str| reports.iter().any(|r| r.message.as_ref().is_some_and(|m| m.contains(what)));
    assert!(said("waits behind"));
    assert!(!said("silent for"), "{reports:?}");
}

#[tokio::test]
async fn an_end_that_takes_long_to_read_is_no_stall() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    proxy.drip("GET /history");
    proxy.breaks("POST /api/jobs", How::Cut, 1);
    let connector = Arc::new(ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap());
    let bench = Bench { sim: bench.sim, connector };
    let end = bench.run_task(impatient(comfy_task(picture(1))), Witness::new()).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);
    assert_eq!(proxy.breaks_left(), 1, "it was cancelled");
}

/// From a prompt without a client everybody gets the previews, without its id.
#[tokio::test]
async fn what_a_nameless_prompt_before_it_shows_is_not_taken_for_its_own() {
    let bench = Bench::with(SimConfig::default(), |settings| {
        settings.pace.truth_most = Duration::from_millis(50);
    })
    .await;
    let mut nameless = picture(1);
    nameless["5"]["inputs"]["steps"] = json!(60);
    submit_nameless(&bench, nameless).await;
    let (end, witness) = bench.run(sleeping(0.1)).await;
    end.unwrap();
    assert_eq!(witness.previews.lock().len(), 0);
    let reports = witness.reports.lock();
    let waits =
        |r: &crate::Report| r.message.as_deref() == Some("waits behind 1 in ComfyUI's queue");
    let before: Vec<_> = reports.iter().take_while(|r| r.node.is_none()).collect();
    let waited = before.iter().filter(|r| waits(r)).count();
    assert_eq!(waited, 1, "it is said once, and stays: {reports:?}");
}

#[tokio::test]
async fn a_prompt_that_is_next_waits_behind_nothing_and_may_be_silent() {
    let faults =
        Faults { idle_prompt_thread_dead: true, foreign_prompt_s: 1.0, ..Faults::default() };
    let bench = Bench::with_faults(faults).await;
    let mut task = comfy_task(picture(1));
    task.limits.silence_after = Duration::from_millis(300);
    let running = bench.begin(task).await;
    let says = |what: &str| {
        let reports = running.witness.reports.lock();
        reports.last().and_then(|r| r.message.as_deref()).is_some_and(|m| m.starts_with(what))
    };
    super::until(|| says("waits behind 1")).await;
    let heard = || running.witness.events.load(Ordering::SeqCst) > 0;
    super::until(heard).await;
    let queue = bench.connector.client.queue().await.unwrap();
    bench.connector.client.delete(&[&queue.pending[0].prompt_id]).await.unwrap();
    super::until(|| says("silent for")).await;
    running.run.abort();
}

#[tokio::test]
async fn a_prompt_that_is_due_and_never_taken_is_stalled() {
    let faults = Faults { idle_prompt_thread_dead: true, ..Faults::default() };
    let bench = Bench::with_faults(faults).await;
    let end = bench.run_task(impatient(comfy_task(picture(1))), Witness::new()).await;
    let Err(RunEnd::GaveBack { reason, .. }) = &end else { panic!("{end:?}") };
    assert_eq!(*reason, LossReason::Stalled);
}

/// It is over, as the queue shows, whatever its history would say.
#[tokio::test]
async fn a_prompt_that_has_left_the_queue_is_no_wedge_and_may_be_known() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    let mut settings = settings(&proxy.url(), "worker-a");
    // Only what is held runs into it, also on a slow machine.
    settings.timeouts.request = Duration::from_secs(1);
    let connector = ComfyUiConnector::new(settings).unwrap();
    proxy.breaks("GET /history", How::Hold, ALL);
    let task = impatient(comfy_task(picture(1)));
    let held = task.held;
    let end = connector.run(task, Witness::new().context()).await;
    let Err(RunEnd::GaveBack { reason, .. }) = &end else { panic!("{end:?}") };
    assert_eq!(*reason, LossReason::Stalled);
    assert_eq!(connector.knows(&[held]).await, Ok(vec![held]));
    proxy.mend();
    let unknown = comfy_task(picture(1)).held;
    assert_eq!(connector.knows(&[held, unknown]).await, Ok(vec![held]));
}

#[tokio::test]
async fn a_stalled_prompt_that_does_not_stop_is_a_wedge() {
    let bench = Bench::with_faults(Faults { dead_prompt_thread: true, ..Faults::default() }).await;
    let end = bench.run_task(impatient(comfy_task(picture(1))), Witness::new()).await;
    assert!(matches!(end, Err(RunEnd::Wedged { reason: LossReason::Stalled, .. })), "{end:?}");
}
