//! The service fails, dies or restarts.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use pointsman_comfyui::Timeouts;
use pointsman_comfyui_sim::{Faults, SimConfig};
use pointsman_core::{FailureKind, LossReason, record::ConnectorStatus};
use serde_json::json;

use super::{
    Bench, LIMIT, comfy_task, failure, lost, picture,
    proxy::{ALL, How, Proxy},
    settings, sleeping, until, with_faults,
};
use crate::{Connector as _, RunEnd, StopReason, comfyui::ComfyUiConnector, testing::Witness};

#[tokio::test]
async fn a_process_that_dies_gives_the_job_back_at_once() {
    let bench = Bench::with_faults(Faults { process_exit: true, ..Faults::default() }).await;
    let begin = Instant::now();
    assert_eq!(lost(bench.run(picture(1)).await.0), LossReason::ServiceLost);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(bench.connector.probe().await.status, ConnectorStatus::Connecting);
    let end = bench.run(picture(1)).await.0;
    assert_eq!(lost(end), LossReason::Unstarted, "nothing listens: it costs the job nothing");
}

#[tokio::test]
async fn a_restart_gives_the_job_back_and_the_next_one_runs() {
    let bench = Bench::new().await;
    let end = bench.run_task(with_faults(picture(1), json!({"restart": true})), Witness::new());
    assert_eq!(lost(end.await), LossReason::ServiceLost);
    bench.run(picture(1)).await.0.unwrap();
}

#[tokio::test]
async fn a_prompt_that_somebody_interrupts_is_given_back() {
    let bench = Bench::new().await;
    let task = comfy_task(sleeping(30.0));
    let id = task.held.token.to_string();
    let running = bench.begin(task).await;
    bench.connector.client.interrupt(&id).await.unwrap();
    assert_eq!(lost(running.end().await), LossReason::ServiceLost);
}

#[tokio::test]
async fn an_error_that_is_none_and_a_success_that_is_none() {
    let bench = Bench::new().await;
    let run = |faults| bench.run_task(with_faults(picture(1), faults), Witness::new());
    let completion = run(json!({"error_then_success": true})).await.unwrap();
    assert_eq!(completion.artifacts.len(), 1);
    let failed = failure(
        bench
            .run_task(with_faults(picture(2), json!({"success_with_error": true})), Witness::new())
            .await,
    );
    assert_eq!(failed.kind, FailureKind::BadJob);
    assert!(failed.node.is_some() && failed.node_type.is_some());
}

#[tokio::test]
async fn out_of_memory_is_a_fault_that_passes() {
    let bench = Bench::new().await;
    let task = with_faults(picture(1), json!({"out_of_memory": true}));
    let failed = failure(bench.run_task(task, Witness::new()).await);
    assert_eq!((failed.kind, failed.code.as_str()), (FailureKind::ServiceFault, "out_of_memory"));
    assert!(bench.connector.probe().await.is_able());
    bench.run(picture(1)).await.0.unwrap();
}

#[tokio::test]
async fn a_device_error_takes_the_service_out_until_it_restarts() {
    let bench = Bench::new().await;
    assert!(bench.connector.probe().await.is_able());
    let task = with_faults(picture(1), json!({"device_error": true}));
    let failed = failure(bench.run_task(task, Witness::new()).await);
    assert_eq!((failed.kind, failed.code.as_str()), (FailureKind::ServiceFault, "device_error"));
    let health = bench.connector.probe().await;
    assert_eq!(health.status, ConnectorStatus::Error);
    assert!(health.message.unwrap().contains("restart ComfyUI"));
    bench.sim.restart().await;
    assert!(bench.connector.probe().await.is_able());
}

#[tokio::test]
async fn a_server_that_stalls_is_waited_for() {
    let request = Duration::from_millis(200);
    let bench = Bench::with(SimConfig::default(), |settings| {
        settings.timeouts = Timeouts { request, ..settings.timeouts };
    })
    .await;
    let running = bench.begin(comfy_task(sleeping(0.3))).await;
    bench.sim.set_faults(Faults { http_stall_ms: 5000, ..Faults::default() });
    // Each is given up after `request`, and asked again.
    let before = bench.sim.requests();
    super::until(|| bench.sim.requests() >= before + 6).await;
    assert!(!running.run.is_finished());
    bench.sim.set_faults(Faults::default());
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_submission_whose_answer_was_lost_is_looked_up_and_not_repeated() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    proxy.lose_submission_answers();
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    let task = comfy_task(picture(1));
    let completion = connector.run(task, Witness::new().context()).await.unwrap();
    assert_eq!(completion.artifacts[0].name, "7-0-lake_00001_.png", "the first and only run");
}

/// Its connection is gone, and it still arrives.
#[tokio::test]
async fn a_submission_that_comes_late_is_waited_for() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    proxy.breaks("POST /prompt", How::Late, 1);
    let run = bench.run_task(comfy_task(picture(1)), Witness::new());
    let lets_through = async {
        until(|| bench.sim.requests() > 0).await;
        // It was looked for, and is nowhere yet.
        let before = bench.sim.requests();
        until(|| bench.sim.requests() >= before + 6).await;
        proxy.let_through();
    };
    let (end, ()) = tokio::join!(run, lets_through);
    assert_eq!(end.unwrap().artifacts.len(), 1);
}

#[tokio::test]
async fn a_submission_that_was_never_read_costs_the_job_nothing() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    proxy.breaks("POST /prompt", How::Cut, ALL);
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    let end = connector.run(comfy_task(picture(1)), Witness::new().context()).await;
    assert_eq!(lost(end), LossReason::Unstarted);
    assert_eq!(bench.queue().await, 0);
}

/// It was answered, so it is not lost: a service that does so each time must not get the job for ever.
#[tokio::test]
async fn a_submission_that_is_answered_with_a_fault_and_not_taken_is_the_services_fault() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    proxy.breaks("POST /prompt", How::Answer(500), ALL);
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    let end = connector.run(comfy_task(picture(1)), Witness::new().context()).await;
    let failed = failure(end);
    assert_eq!((failed.kind, &*failed.code), (FailureKind::ServiceFault, "submission_refused"));
    assert!(failed.message.contains("answered 500"), "{}", failed.message);
}

#[tokio::test]
async fn what_python_writes_and_json_does_not_allow_completes_as_usual() {
    let bench = Bench::with_faults(Faults { python_json: true, ..Faults::default() }).await;
    let has = bench.connector.capabilities().await.unwrap();
    assert!(has.models.contains("sim-v1.safetensors"), "{has:?}");
    let completion = bench.run(picture(1)).await.0.unwrap();
    assert_eq!(completion.artifacts.len(), 1);
    let odd = &completion.result.unwrap()["7"]["odd"];
    assert_eq!((&odd[0], &odd[1], &odd[2]), (&json!(null), &json!(null), &json!("\u{fffd}")));
}

#[tokio::test]
async fn an_end_that_cannot_be_read_fails_the_job_and_says_so() {
    let bench = Bench::with_faults(Faults { unreadable_history: true, ..Faults::default() }).await;
    let begin = Instant::now();
    let failed = failure(bench.run(picture(1)).await.0);
    assert_eq!((failed.kind, &*failed.code), (FailureKind::ServiceFault, "answer_unreadable"));
    assert!(failed.message.contains("answered 200 OK: <html>"), "{}", failed.message);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    bench.sim.set_faults(Faults::default());
    bench.run(picture(2)).await.0.unwrap();
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_an_end_that_cannot_be_read() {
    let hour = Duration::from_secs(3600);
    let bench = Bench::with(SimConfig::default(), |settings| {
        (settings.pace.unreadable_after, settings.pace.cancel) = (hour, hour);
    })
    .await;
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    bench.sim.set_faults(Faults { unreadable_history: true, ..Faults::default() });
    running.stop(StopReason::Cancel);
    assert!(matches!(running.end().await, Err(RunEnd::Cancelled)));
}

#[tokio::test]
async fn a_file_that_is_refused_fails_the_job_at_once_and_names_node_file_and_answer() {
    let bench = Bench::with_faults(Faults { file_refused: true, ..Faults::default() }).await;
    let failed = failure(bench.run(picture(1)).await.0);
    assert_eq!((failed.kind, &*failed.code), (FailureKind::BadJob, "output_refused"));
    assert_eq!(
        (failed.node.as_deref(), failed.node_type.as_deref()),
        (Some("7"), Some("SaveImage"))
    );
    for part in ["lake-", "_00001_.png", "answered 403"] {
        assert!(failed.message.contains(part), "{}", failed.message);
    }
}

#[tokio::test]
async fn a_socket_that_is_closed_each_time_is_opened_less_and_less_often() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    proxy.close_sockets();
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    let before = bench.sim.requests();
    connector.run(comfy_task(sleeping(3.0)), Witness::new().context()).await.unwrap();
    let (handshakes, requests) = (proxy.handshakes(), bench.sim.requests() - before);
    assert!((2..12).contains(&handshakes), "{handshakes}");
    assert!(requests < 150, "{requests}");
}

#[tokio::test]
async fn a_host_that_is_gone_behind_a_half_open_socket_is_seen() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    let mut settings = settings(&proxy.url(), "worker-a");
    settings.timeouts.request = Duration::from_millis(200);
    let connector = Arc::new(ComfyUiConnector::new(settings).unwrap());
    let bench = Bench { sim: bench.sim, connector };
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    super::until(|| proxy.sockets() == 1 && !running.witness.reports.lock().is_empty()).await;
    proxy.vanish();
    assert_eq!(lost(running.end().await), LossReason::ServiceLost);
    assert_eq!(proxy.sockets(), 1, "nobody closed it");
}

/// Its kernel takes no more connections after those that wait for it, and its prompt runs on.
#[tokio::test]
async fn a_process_that_is_held_up_until_no_connection_can_be_made_is_not_dead() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    let mut settings = settings(&proxy.url(), "worker-a");
    settings.timeouts.connect = Duration::from_millis(200);
    settings.timeouts.request = Duration::from_secs(1);
    settings.pace.truth_most = settings.timeouts.connect;
    let connector = Arc::new(ComfyUiConnector::new(settings).unwrap());
    assert!(connector.probe().await.is_able());
    let bench = Bench { sim: bench.sim, connector };
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    super::until(|| proxy.sockets() == 1 && !running.witness.reports.lock().is_empty()).await;
    let _waiting = proxy.hold_up().await;
    // A connection of before may still be asked.
    while bench.connector.probe().await.status != ConnectorStatus::Offline {}
    // Longer than it takes to call dead what listens no more.
    for _ in 0..10 {
        assert_eq!(bench.connector.probe().await.status, ConnectorStatus::Offline);
        assert!(bench.connector.clear_ghosts(&[]).await.is_err());
    }
    assert!(!running.run.is_finished());
    running.stop(StopReason::Cancel);
    let end = running.end().await;
    assert!(matches!(end, Err(RunEnd::Wedged { .. })), "{end:?}");
}

/// The kernel, or whoever else, ended its websocket: it is no process that is held up.
#[tokio::test]
async fn a_host_to_which_no_connection_can_be_made_is_gone_once_its_socket_is() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    proxy.close_sockets();
    let mut settings = settings(&proxy.url(), "worker-a");
    settings.timeouts.connect = Duration::from_millis(200);
    settings.timeouts.request = Duration::from_secs(1);
    let connector = Arc::new(ComfyUiConnector::new(settings).unwrap());
    let bench = Bench { sim: bench.sim, connector };
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    let _waiting = proxy.hold_up().await;
    assert_eq!(lost(running.end().await), LossReason::ServiceLost);
}

#[tokio::test]
async fn a_process_that_dies_behind_what_still_listens_is_seen() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    let connector = Arc::new(ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap());
    assert!(connector.probe().await.is_able());
    let bench = Bench { sim: bench.sim, connector };
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    let Bench { sim, connector } = bench;
    sim.stop().await;
    connector.probe().await;
    assert_eq!(connector.probe().await.status, ConnectorStatus::Offline);
    assert_eq!(lost(running.end().await), LossReason::ServiceLost);
}

#[tokio::test]
async fn a_process_that_dies_behind_a_proxy_that_shows_a_page_instead_is_gone() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    proxy.close_sockets();
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    proxy.breaks("GET", How::Page(200), ALL);
    let Err(RunEnd::GaveBack { reason, message }) = running.end().await else { panic!() };
    assert_eq!(reason, LossReason::ServiceLost);
    assert!(message.contains("answered 200 OK: <!DOCTYPE html>"), "{message}");
}

#[tokio::test]
async fn a_page_behind_a_socket_that_is_half_open_is_no_answer_of_the_service() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    let running = bench.begin(with_faults(picture(1), json!({"silent_node_s": 15.0}))).await;
    until(|| running.witness.events.load(Ordering::SeqCst) > 0).await;
    proxy.breaks("GET", How::Page(200), ALL);
    let Err(RunEnd::GaveBack { reason, message }) = running.end().await else { panic!() };
    assert_eq!(reason, LossReason::ServiceLost);
    assert!(message.contains("answered 200 OK: <!DOCTYPE html>"), "{message}");
}

#[tokio::test]
async fn a_page_before_a_service_that_is_there_costs_a_prompt_nothing() {
    let at_once =
        |settings: &mut super::ComfyUiSettings| settings.pace.unreadable_after = Duration::ZERO;
    let (bench, proxy) = Bench::new().await.behind_a_proxy(at_once).await;
    let running = bench.begin(comfy_task(sleeping(0.6))).await;
    for status in [200, 502, 404] {
        proxy.breaks("GET /history", How::Page(status), 1);
    }
    running.end().await.expect("it completes");
    assert_eq!(proxy.breaks_left(), 0);
}

/// What was made lies there, and is not made again for a proxy that shows a page for some seconds.
#[tokio::test]
async fn a_page_before_the_history_of_what_has_ended_is_waited_out() {
    let patient = |settings: &mut super::ComfyUiSettings| {
        settings.pace.unreadable_after = Duration::ZERO;
        settings.pace.mute_after = Duration::from_secs(3600);
        settings.pace.truth_most = Duration::from_millis(20);
    };
    let (bench, proxy) = Bench::new().await.behind_a_proxy(patient).await;
    for (seconds, status) in [(0.1, 200), (0.11, 502), (0.12, 404)] {
        let running = bench.begin(comfy_task(sleeping(seconds))).await;
        proxy.breaks("GET /history", How::Page(status), 1_000_000);
        let ends = async { while bench.queue().await > 0 {} };
        tokio::time::timeout(LIMIT, ends).await.expect("it never ended");
        let left = proxy.breaks_left() - 20;
        until(|| proxy.breaks_left() < left || running.run.is_finished()).await;
        proxy.mend();
        running.end().await.expect("it completes");
    }
}

/// A ComfyUI that is there is not lost: what stands before it lets no submission through.
#[tokio::test]
async fn a_page_that_answers_submissions_alone_is_a_fault_of_what_stands_before_the_service() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    for status in [200, 404] {
        proxy.breaks("POST /prompt", How::Page(status), 1);
        let failed = failure(bench.run(picture(1)).await.0);
        let (kind, code) = (FailureKind::ServiceFault, "submission_refused");
        assert_eq!((failed.kind, &*failed.code), (kind, code), "{status}: {}", failed.message);
        for part in ["did not reach ComfyUI, which answers otherwise", "<!DOCTYPE html>"] {
            assert!(failed.message.contains(part), "{status}: {}", failed.message);
        }
    }
    proxy.breaks("POST /prompt", How::Page(401), 1);
    let failed = failure(bench.run(picture(1)).await.0);
    assert_eq!(failed.code, "submission_refused", "it wants a password");
    proxy.breaks("POST /prompt", How::Page(413), 1);
    assert_eq!(failure(bench.run(picture(1)).await.0).code, "graph_too_large");
}

/// As a proxy does that finds nothing behind it, or has its users log in.
#[tokio::test]
async fn a_page_for_whatever_is_asked_is_a_loss_of_the_service() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    for how in [How::Page(200), How::Page(404), How::Answer(502)] {
        proxy.breaks("", how, ALL);
        let begin = Instant::now();
        assert_eq!(lost(bench.run(picture(1)).await.0), LossReason::ServiceLost);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        proxy.mend();
    }
}
