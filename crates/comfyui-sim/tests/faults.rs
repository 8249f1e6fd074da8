//! Every fault, as a client meets it.

mod common;

use std::time::{Duration, Instant};

use common::{Attempt, collect, picture, sleeping, start, start_with};
use futures::TryStreamExt as _;
use pointsman_comfyui::{
    Disconnected, FailureKind, Message, RequestError, SubmitError, Verdict, classify,
};
use pointsman_comfyui_sim::{Faults, SimConfig, Version};
use serde_json::json;

#[tokio::test]
async fn a_deaf_socket_hears_nothing_and_the_truth_is_there() {
    let sim = start_with(Faults { socket_deaf: true, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    assert!(matches!(attempt.final_verdict().await, Verdict::Succeeded(_)));
    let nothing = tokio::time::timeout(Duration::from_millis(50), attempt.events.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn a_socket_is_cut_without_a_close_frame_and_the_prompt_goes_on() {
    let sim = start_with(Faults { socket_cut: true, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    let (heard, end) = collect(&mut attempt.events).await;
    assert!(matches!(end, Disconnected::Broken(_)), "{end:?}");
    assert!(!heard.iter().any(Message::ends_prompt), "{heard:?}");
    assert!(matches!(attempt.final_verdict().await, Verdict::Succeeded(_)));
}

#[tokio::test]
async fn history_comes_late_and_the_prompt_runs_until_then() {
    let sim = start_with(Faults { history_delay_ms: 3_000, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    attempt.wait_for(|message| matches!(message, Message::ExecutionSuccess { .. })).await;
    assert_eq!(attempt.truth().await.verdict, Verdict::Running);
    attempt.wait_for(|message| matches!(message, Message::Executing { node: None, .. })).await;
    assert!(matches!(attempt.truth().await.verdict, Verdict::Succeeded(_)));
}

#[tokio::test]
async fn an_error_on_the_socket_may_be_followed_by_success() {
    let sim = start_with(Faults { error_then_success: true, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    let error = attempt.wait_for(|message| matches!(message, Message::ExecutionError(_))).await;
    let Message::ExecutionError(error) = error else { unreachable!() };
    assert!(error.is_blocked() && error.timestamp.is_none());
    attempt.wait_for(|message| matches!(message, Message::ExecutionSuccess { .. })).await;
    assert!(matches!(attempt.final_verdict().await, Verdict::Succeeded(_)));
}

#[tokio::test]
async fn a_status_of_success_does_not_hide_an_error() {
    let sim = start_with(Faults { success_with_error: true, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    let Verdict::Failed(error) = attempt.final_verdict().await else { panic!("not failed") };
    assert_eq!(error.exception_type, "RuntimeError");
    let history = attempt.client.history(&attempt.id).await.unwrap().unwrap();
    assert_eq!(history.status.unwrap().status_str, "success");
}

#[tokio::test]
async fn a_dead_thread_keeps_its_prompt_and_the_rest_waits_until_a_restart() {
    let sim = start_with(Faults { dead_prompt_thread: true, ..Faults::default() }).await;
    let mut first = Attempt::begin(&sim).await;
    first.submit(&picture(1)).await;
    let mut second = Attempt::begin(&sim).await;
    second.submit(&picture(2)).await;
    second.client.interrupt(&first.id).await.unwrap();
    second.client.cancel(&first.id).await.unwrap();
    assert_eq!(first.truth().await.verdict, Verdict::Running);
    assert_eq!(second.truth().await.verdict, Verdict::Pending { position: 1, foreign_ahead: 1 });
    sim.set_faults(Faults::default());
    sim.restart().await;
    assert_eq!(first.truth().await.verdict, Verdict::Lost);
    assert_eq!(second.truth().await.verdict, Verdict::Lost);
}

#[tokio::test]
async fn a_process_that_exits_is_unreachable_and_says_so() {
    let sim = start_with(Faults { process_exit: true, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    sim.exited().await;
    let (_, end) = collect(&mut attempt.events).await;
    assert!(matches!(end, Disconnected::Broken(_)), "{end:?}");
    let truth = attempt.client.truth(&attempt.id).await;
    assert!(matches!(truth, Err(RequestError::Unreachable { .. })), "{truth:?}");
    let refused = attempt.try_submit(&picture(1)).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Unreachable { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_restart_in_mid_run_loses_the_prompt() {
    let sim = start_with(Faults { restart: true, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    let (_, end) = collect(&mut attempt.events).await;
    assert!(matches!(end, Disconnected::Broken(_)), "{end:?}");
    assert_eq!(attempt.final_verdict().await, Verdict::Lost);
}

#[tokio::test]
async fn a_restart_forgets_history_and_cache_and_refuses_connections_meanwhile() {
    let config = SimConfig { restart_takes: Duration::from_secs(3), ..SimConfig::default() };
    let sim = start(config).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    let Verdict::Succeeded(files) = attempt.final_verdict().await else { panic!("not done") };
    tokio::join!(sim.restart(), async {
        let (_, end) = collect(&mut attempt.events).await;
        assert!(matches!(end, Disconnected::Broken(_)), "{end:?}");
        loop {
            match attempt.client.queue().await {
                Err(RequestError::Unreachable { .. }) => break,
                Err(_) => {}
                Ok(queue) => panic!("answered while it restarts: {queue:?}"),
            }
        }
    });
    assert_eq!(attempt.truth().await.verdict, Verdict::Lost);
    let mut again = Attempt::begin(&sim).await;
    again.submit(&picture(1)).await;
    let Verdict::Succeeded(anew) = again.final_verdict().await else { panic!("not done") };
    assert_ne!(anew, files, "the cache was forgotten, so it is a new file");
}

#[tokio::test]
async fn restart_over_http_answers_first() {
    let sim = start(SimConfig::default()).await;
    let mut attempt = Attempt::begin(&sim).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let reply = http.post(format!("{}/sim/restart", sim.url())).send().await.unwrap();
    assert_eq!(reply.status(), 202);
    let (_, end) = collect(&mut attempt.events).await;
    assert!(matches!(end, Disconnected::Broken(_)), "{end:?}");
}

#[tokio::test]
async fn faults_are_set_and_read_over_http() {
    let sim = start(SimConfig::default()).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/sim/faults", sim.url());
    let set = async |faults: serde_json::Value| {
        http.post(&url).json(&faults).send().await.unwrap().status()
    };
    assert_eq!(set(json!({"out_of_memory": true})).await, 200);
    let faults: serde_json::Value = http.get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(faults["out_of_memory"], true);
    assert_eq!(set(json!({"no_such_fault": true})).await, 400);
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    assert!(matches!(attempt.final_verdict().await, Verdict::Failed(_)));
}

#[tokio::test]
async fn a_stalled_server_lets_readers_run_into_their_timeout() {
    let sim = start_with(Faults { http_stall_ms: 60_000, ..Faults::default() }).await;
    let client = common::impatient_client(&sim, Duration::from_millis(100));
    assert!(matches!(client.queue().await, Err(RequestError::TimedOut { .. })));
    sim.set_faults(Faults::default());
    let patient = common::impatient_client(&sim, Duration::from_secs(30));
    assert!(patient.queue().await.unwrap().is_empty());
}

#[tokio::test]
async fn slow_validation_blocks_everybody() {
    let sim = start(SimConfig::default()).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.faults = json!({"slow_validation_ms": 3_000});
    let client = attempt.client.clone();
    let graph = picture(1);
    let began = Instant::now();
    let slowest = async {
        let mut slowest = Duration::ZERO;
        while slowest < Duration::from_millis(100) && began.elapsed() < Duration::from_secs(20) {
            let asked = Instant::now();
            client.queue().await.unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (slowest, ()) = tokio::join!(slowest, attempt.submit(&graph));
    assert!(slowest >= Duration::from_millis(100), "{slowest:?}");
}

#[tokio::test]
async fn out_of_memory_is_a_fault_of_the_service_that_passes() {
    let sim = start(SimConfig::default()).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.faults = json!({"out_of_memory": true});
    attempt.submit(&picture(1)).await;
    let Verdict::Failed(error) = attempt.final_verdict().await else { panic!("not failed") };
    let classified = classify::execution_error(&error);
    assert_eq!(classified.kind, FailureKind::ServiceFault { poisoned: false });
    assert_eq!(classified.code, "out_of_memory");
    let mut next = Attempt::begin(&sim).await;
    next.submit(&picture(1)).await;
    assert!(matches!(next.final_verdict().await, Verdict::Succeeded(_)));
}

#[tokio::test]
async fn a_device_error_poisons_the_process_until_it_restarts() {
    let sim = start(SimConfig::default()).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.faults = json!({"device_error": true});
    attempt.submit(&picture(1)).await;
    let mut next = Attempt::begin(&sim).await;
    next.submit(&picture(2)).await;
    for attempt in [attempt, next] {
        let Verdict::Failed(error) = attempt.final_verdict().await else { panic!("not failed") };
        assert_eq!(
            classify::execution_error(&error).kind,
            FailureKind::ServiceFault { poisoned: true }
        );
    }
    sim.restart().await;
    let mut cured = Attempt::begin(&sim).await;
    cured.submit(&picture(1)).await;
    assert!(matches!(cured.final_verdict().await, Verdict::Succeeded(_)));
}

#[tokio::test]
async fn a_silent_node_says_nothing_and_is_not_interrupted_but_the_next_one_is() {
    let sim = start_with(Faults { silent_node_s: 3.0, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    let began = Instant::now();
    attempt.submit(&picture(1)).await;
    attempt.wait_for(|message| matches!(message, Message::Executing { node: Some(_), .. })).await;
    attempt.client.interrupt(&attempt.id).await.unwrap();
    assert_eq!(attempt.truth().await.verdict, Verdict::Running);
    let verdict = attempt.final_verdict().await;
    assert!(matches!(verdict, Verdict::Interrupted(_)), "{verdict:?}");
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn a_foreign_prompt_is_seen_ahead() {
    let sim = start_with(Faults { foreign_prompt_s: 30.0, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    let truth = attempt.truth().await;
    assert_eq!(truth.verdict, Verdict::Pending { position: 1, foreign_ahead: 1 });
    let foreign = truth.queue.iter().find(|entry| entry.prompt_id != attempt.id).unwrap();
    assert_eq!(foreign.client_id.as_deref(), Some("somebody-else"));
}

#[tokio::test]
async fn a_file_may_be_gone_although_the_prompt_succeeded() {
    let sim = start_with(Faults { file_gone: true, ..Faults::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&picture(1)).await;
    let Verdict::Succeeded(files) = attempt.final_verdict().await else { panic!("not done") };
    assert!(attempt.client.view_output(&files[0]).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_prompt_said_to_be_cached_takes_no_time_and_has_its_file() {
    let sim = start(SimConfig { step: Duration::from_secs(60), ..SimConfig::default() }).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.faults = json!({"cached": true});
    attempt.submit(&picture(1)).await;
    let Message::ExecutionCached { nodes, .. } =
        attempt.wait_for(|message| matches!(message, Message::ExecutionCached { .. })).await
    else {
        unreachable!()
    };
    assert_eq!(nodes.len(), 7);
    let Verdict::Succeeded(files) = attempt.final_verdict().await else { panic!("not done") };
    let bytes: Vec<_> =
        attempt.client.view_output(&files[0]).await.unwrap().try_collect().await.unwrap();
    assert!(bytes.concat().starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn an_unknown_fault_is_refused() {
    let sim = start(SimConfig::default()).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.faults = json!({"nonsense": 1});
    let error = attempt.try_submit(&picture(1)).await.unwrap_err();
    assert!(
        matches!(error, SubmitError::Rejected(rejection) if rejection.error.kind == "invalid_sim_faults")
    );
}

#[tokio::test]
async fn an_overlap_of_two_sockets_makes_the_newer_one_deaf() {
    for version in [Version::V0_3_64, Version::V0_27] {
        let sim = start(SimConfig { version, ..SimConfig::default() }).await;
        let Attempt { events: mut older, client, id, .. } = Attempt::begin(&sim).await;
        let mut newer = client.events(&id).await.unwrap();
        let status = |message: &Message| matches!(message, Message::Status { sid: Some(_), .. });
        assert!(status(&older.next().await.unwrap()));
        assert!(status(&newer.next().await.unwrap()));
        drop(older);
        let mut attempt = Attempt { events: newer, client, id, faults: json!({}) };
        // The service removes the entry when it sees the older one go, which is before it sees what comes later.
        while is_heard(&mut attempt, &sim).await {}
        attempt.submit(&sleeping(0.0)).await;
        attempt.final_verdict().await;
        while let Ok(Ok(message)) =
            tokio::time::timeout(Duration::from_millis(50), attempt.events.next()).await
        {
            assert!(!message.is_about(&attempt.id), "{version:?}: {message:?}");
        }
    }
}

/// Whether a socket still hears that something was queued.
async fn is_heard(attempt: &mut Attempt, sim: &pointsman_comfyui_sim::SimHandle) -> bool {
    let mut other = Attempt::begin(sim).await;
    other.submit(&sleeping(0.0)).await;
    other.final_verdict().await;
    let heard = tokio::time::timeout(Duration::from_millis(500), async {
        while !matches!(attempt.events.next().await, Ok(Message::Status { sid: None, .. })) {}
    });
    heard.await.is_ok()
}
