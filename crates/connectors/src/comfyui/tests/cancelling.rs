//! A cancel is targeted, and told only when it is confirmed.

use std::time::Duration;

use pointsman_comfyui_sim::{Faults, SimConfig, Version};
use pointsman_core::LossReason;
use serde_json::json;

use super::{Bench, LIMIT, comfy_task, picture, proxy::How, sleeping, with_faults};
use crate::{Connector as _, NotClear, RunEnd, StopReason, Task, testing::Witness};

#[tokio::test]
async fn a_running_prompt_is_interrupted_and_gone() {
    for version in [Version::V0_3_64, Version::V0_27] {
        let bench = Bench::with(SimConfig { version, ..SimConfig::default() }, |_| {}).await;
        use StopReason::{Cancel, Drain, Lost, Timeout};
        for reason in [Cancel, Drain, Lost, Timeout] {
            let running = bench.begin(comfy_task(sleeping(30.0))).await;
            running.stop(reason);
            assert_eq!(running.end().await, Err(RunEnd::Cancelled), "{reason:?}");
            assert_eq!(bench.queue().await, 0);
        }
    }
}

#[tokio::test]
async fn a_cancel_that_does_not_arrive_is_repeated() {
    let bench = Bench::new().await;
    let (bench, proxy) = bench.behind_a_proxy(|settings| settings.pace.cancel = LIMIT).await;
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    proxy.breaks("POST /api/jobs", How::Cut, 1);
    running.stop(StopReason::Cancel);
    assert_eq!(running.end().await, Err(RunEnd::Cancelled));
    assert_eq!(bench.queue().await, 0);
}

#[tokio::test]
async fn a_waiting_prompt_is_taken_out_and_nobody_elses() {
    for version in [Version::V0_3_64, Version::V0_27] {
        let bench = Bench::with(SimConfig { version, ..SimConfig::default() }, |_| {}).await;
        let task = with_faults(picture(1), json!({"foreign_prompt_s": 30.0}));
        let running = bench.begin(task).await;
        super::until(|| {
            let waits = |r: &crate::Report| r.message.as_ref().is_some_and(|m| m.contains("waits"));
            running.witness.reports.lock().iter().any(waits)
        })
        .await;
        running.stop(StopReason::Cancel);
        assert_eq!(running.end().await, Err(RunEnd::Cancelled));
        assert_eq!(bench.queue().await, 1, "the foreign one runs on");
    }
}

#[tokio::test]
async fn a_node_that_does_not_look_is_waited_for() {
    let bench = Bench::new().await;
    let task = with_faults(picture(1), json!({"silent_node_s": 0.3}));
    let running = bench.begin(task).await;
    running.stop(StopReason::Cancel);
    assert_eq!(running.end().await, Err(RunEnd::Cancelled));
    assert_eq!(bench.queue().await, 0);
}

#[tokio::test]
async fn a_dead_prompt_thread_is_a_wedge_until_the_service_restarts() {
    let bench = Bench::with_faults(Faults { dead_prompt_thread: true, ..Faults::default() }).await;
    let running = bench.begin(comfy_task(picture(1))).await;
    running.stop(StopReason::Cancel);
    let end = running.end().await;
    let Err(RunEnd::Wedged { message, .. }) = end else { panic!("{end:?}") };
    assert!(message.ends_with("does not stop: restart ComfyUI"), "{message}");
    let NotClear(why) = bench.connector.clear_ghosts(&[]).await.unwrap_err();
    assert!(why.ends_with("still runs; if it does not stop: restart ComfyUI"), "{why}");
    bench.sim.restart().await;
    assert_eq!(bench.connector.clear_ghosts(&[]).await, Ok(Vec::new()));
}

#[tokio::test]
async fn what_finished_before_it_was_stopped_is_kept_unless_it_was_cancelled() {
    let config = SimConfig { step: Duration::from_millis(2), ..SimConfig::default() };
    let bench = Bench::with(config, |settings| settings.pace.cancel = LIMIT).await;
    for (seed, reason) in [(1, StopReason::Drain), (2, StopReason::Lost), (3, StopReason::Cancel)] {
        bench.sim.hold_history();
        let running = bench.begin(comfy_task(picture(seed))).await;
        // All nodes are done; only its history is not there yet.
        tokio::time::timeout(LIMIT, bench.sim.holds_history()).await.expect("it never ended");
        let before = bench.sim.requests();
        running.stop(reason);
        // It is cancelled by now, too late.
        super::until(|| bench.sim.requests() > before).await;
        bench.sim.let_history_go();
        let end = running.end().await;
        match reason {
            StopReason::Cancel => assert_eq!(end, Err(RunEnd::Cancelled)),
            _ => assert_eq!(end.unwrap().artifacts.len(), 1, "{reason:?}"),
        }
    }
}

#[tokio::test]
async fn what_failed_before_it_was_cancelled_is_cancelled() {
    let (bench, proxy) =
        Bench::new().await.behind_a_proxy(|settings| settings.pace.cancel = LIMIT).await;
    bench.sim.hold_history();
    let running = bench.begin(with_faults(picture(1), json!({"out_of_memory": true}))).await;
    tokio::time::timeout(LIMIT, bench.sim.holds_history()).await.expect("it never ended");
    proxy.breaks("POST /api/jobs", How::Cut, 1);
    running.stop(StopReason::Cancel);
    super::until(|| proxy.breaks_left() == 0).await;
    bench.sim.let_history_go();
    assert_eq!(running.end().await, Err(RunEnd::Cancelled));
}

#[tokio::test]
async fn what_is_cancelled_while_its_files_are_stored_stores_no_more_of_them() {
    const FILES: usize = 200;
    let bench = Bench::new().await;
    let running = bench
        .begin(comfy_task(json!({
            "1": {"class_type": "EmptyImage",
                "inputs": {"width": 8, "height": 8, "batch_size": FILES, "color": 0}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        })))
        .await;
    let witness = running.witness.clone();
    super::until(|| !witness.artifacts.lock().is_empty()).await;
    running.stop(StopReason::Cancel);
    assert_eq!(running.end().await, Err(RunEnd::Cancelled));
    assert!(witness.artifacts.lock().len() < FILES);
}

#[tokio::test]
async fn what_finished_although_it_could_not_be_stopped_is_found_and_collected() {
    let config = SimConfig { step: Duration::from_millis(2), ..SimConfig::default() };
    let bench = Bench::with(config, |_| {}).await;
    for (seed, reason) in [(1, StopReason::Drain), (2, StopReason::Lost)] {
        bench.sim.hold_history();
        let task = comfy_task(picture(seed));
        let running = bench.begin(task.clone()).await;
        tokio::time::timeout(LIMIT, bench.sim.holds_history()).await.expect("it never ended");
        running.stop(reason);
        let end = running.end().await;
        assert!(matches!(end, Err(RunEnd::Wedged { .. })), "{end:?}");
        bench.sim.let_history_go();
        assert_eq!(bench.connector.clear_ghosts(&[]).await, Ok(Vec::new()));
        assert_eq!(bench.connector.knows(&[task.held]).await, Ok(vec![task.held]));
        let witness = Witness::new();
        witness.stop.raise(reason);
        let end = bench.run_task(Task { adopted: true, ..task }, witness).await;
        assert_eq!(end.unwrap().artifacts.len(), 1, "{reason:?}");
    }
}

#[tokio::test]
async fn what_waits_behind_a_prompt_that_does_not_stop_is_given_back() {
    let bench = Bench::with_faults(Faults { dead_prompt_thread: true, ..Faults::default() }).await;
    let stuck = bench.begin(comfy_task(picture(1))).await;
    let waiting = bench.begin(comfy_task(picture(2))).await;
    super::until(|| {
        let waits = |r: &crate::Report| r.message.as_ref().is_some_and(|m| m.contains("waits"));
        waiting.witness.reports.lock().iter().any(waits)
    })
    .await;
    stuck.stop(StopReason::Cancel);
    let end = stuck.end().await;
    assert!(matches!(end, Err(RunEnd::Wedged { .. })), "{end:?}");
    let Err(RunEnd::GaveBack { reason: LossReason::ServiceLost, message }) = waiting.end().await
    else {
        panic!("not given back")
    };
    assert!(message.ends_with("which does not stop"), "{message}");
    assert_eq!(bench.queue().await, 1);
}

#[tokio::test]
async fn a_drained_prompt_that_is_stuck_says_so() {
    let bench = Bench::with_faults(Faults { dead_prompt_thread: true, ..Faults::default() }).await;
    let running = bench.begin(comfy_task(picture(1))).await;
    running.stop(StopReason::Drain);
    let end = running.end().await;
    assert!(matches!(end, Err(RunEnd::Wedged { reason: LossReason::Drained, .. })), "{end:?}");
}
