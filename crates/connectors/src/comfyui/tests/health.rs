//! How the service is.

use std::time::Duration;

use pointsman_comfyui_sim::{Faults, SimConfig, Simulator};
use pointsman_core::{FailureKind, record::ConnectorStatus};
use serde_json::json;

use super::{
    Bench, comfy_task, failure, picture,
    proxy::{ALL, How, Proxy},
    settings, sleeping, with_faults,
};
use crate::{
    Connector as _, Health, StopReason,
    comfyui::{ComfyUiConnector, ComfyUiSettings},
    testing::Witness,
};

#[tokio::test]
async fn connecting_until_it_was_up_and_offline_after() {
    let bench = Bench::new().await;
    assert_eq!(bench.connector.probe().await, Health::idle());
    let Bench { sim, connector } = bench;
    sim.stop().await;
    assert_eq!(connector.probe().await.status, ConnectorStatus::Offline);
    let fresh = ComfyUiConnector::new(settings(connector.client.base_url(), "worker-a")).unwrap();
    let health = fresh.probe().await;
    assert_eq!(health.status, ConnectorStatus::Connecting);
    assert!(health.message.unwrap().contains("waiting for ComfyUI"));
    let url = connector.client.base_url().replace("//", "//me:secret@");
    let settings = settings(&url, "worker-a");
    assert!(!format!("{settings:?}").contains("secret"));
    let why = ComfyUiConnector::new(settings).unwrap().probe().await.message.unwrap();
    assert!(why.contains("***@127.0.0.1") && !why.contains("secret"), "{why}");
}

#[tokio::test]
async fn what_a_proxy_answers_before_a_dead_service_is_no_answer_of_it() {
    let sim = Simulator::start(SimConfig::default()).await.unwrap();
    let proxy = Proxy::start(sim.addr()).await;
    let connector = || ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    for (how, answered) in [
        (How::Answer(502), "answered 502 Bad Gateway"),
        (How::Answer(503), "answered 503"),
        (How::Answer(504), "answered 504"),
        (How::Page(200), "<title>The tunnel is down</title>"),
        (How::Cut, "answer lost"),
    ] {
        let known = connector();
        assert_eq!(known.probe().await, Health::idle());
        proxy.breaks("GET /prompt", how, ALL);
        assert_eq!(known.probe().await.status, ConnectorStatus::Idle, "once may happen");
        for (connector, status) in
            [(known, ConnectorStatus::Offline), (connector(), ConnectorStatus::Connecting)]
        {
            let health = connector.probe().await;
            let why = health.message.unwrap();
            assert_eq!(health.status, status, "{why}");
            assert!(why.contains(answered), "{why}");
        }
        proxy.mend();
    }
    let known = connector();
    assert_eq!(known.probe().await, Health::idle());
    proxy.breaks("GET /prompt", How::Answer(401), ALL);
    known.probe().await;
    let health = known.probe().await;
    assert_eq!(health.status, ConnectorStatus::Error, "it wants a password, and may be alive");
    assert!(health.message.unwrap().contains("answered 401"));
}

#[tokio::test]
async fn one_that_sends_elsewhere_is_an_error_that_says_where_to() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    let to = bench.sim.url() + "/prompt";
    proxy.breaks("GET /prompt", How::Redirect(to.clone().leak()), ALL);
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    let health = connector.probe().await;
    assert_eq!(health.status, ConnectorStatus::Error);
    let why = health.message.unwrap();
    assert!(why.contains(&to) && why.contains("not followed"), "{why}");
}

#[tokio::test]
async fn a_result_that_lies_elsewhere_is_not_fetched() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    let to = bench.sim.url() + "/system_stats";
    proxy.breaks("GET /view", How::Redirect(to.clone().leak()), ALL);
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    let end = connector.run(comfy_task(picture(1)), Witness::new().context()).await;
    let failed = failure(end);
    assert_eq!(failed.kind, FailureKind::ServiceFault);
    assert!(failed.message.contains(&to), "{}", failed.message);
}

#[tokio::test]
async fn silence_is_an_error_only_when_it_is_idle_and_lasts() {
    let probe = Duration::from_millis(300);
    let bench = Bench::with(SimConfig::default(), |settings| settings.pace.probe = probe).await;
    assert_eq!(bench.connector.probe().await, Health::idle());
    let running = bench.begin(comfy_task(sleeping(30.0))).await;
    bench.sim.set_faults(Faults { http_stall_ms: 2000, ..Faults::default() });
    for _ in 0..3 {
        assert_eq!(bench.connector.probe().await.status, ConnectorStatus::Idle, "it is busy");
    }
    bench.sim.set_faults(Faults::default());
    running.stop(StopReason::Cancel);
    drop(running.end().await);
    assert_eq!(bench.connector.probe().await, Health::idle());
    bench.sim.set_faults(Faults { http_stall_ms: 2000, ..Faults::default() });
    let statuses = [bench.connector.probe().await.status, bench.connector.probe().await.status];
    assert_eq!(statuses, [ConnectorStatus::Idle, ConnectorStatus::Error]);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_takes_the_service_out_for_a_while() {
    let (hour, full) = (Duration::from_secs(3600), "[Errno 28] No space left on device");
    let read_only = "[Errno 30] Read-only file system: '/out/a.png'";
    for (full_for, is_over, message, code) in [
        (hour, false, full, "disk_full"),
        (Duration::ZERO, true, full, "disk_full"),
        (hour, false, read_only, "disk_failed"),
    ] {
        let mut graph = sleeping(0.0);
        graph["2"] = json!({"class_type": "SimFail", "inputs": {"value": ["1", 0],
            "exception_type": "OSError", "message": message}});
        let change = |settings: &mut ComfyUiSettings| settings.pace.full_for = full_for;
        let bench = Bench::with(SimConfig::default(), change).await;
        assert_eq!(bench.connector.probe().await, Health::idle());
        let failed = failure(bench.run(graph.clone()).await.0);
        assert_eq!((failed.kind, &*failed.code), (FailureKind::ServiceFault, code));
        let health = bench.connector.probe().await;
        assert_eq!(health.is_able(), is_over);
        assert_eq!(
            health.message.is_some_and(|why| why.contains("cannot write to its disk")),
            !is_over
        );
    }
}

/// With a real GPU the process often ends by itself seconds later, and cuts its connections off as it does.
#[tokio::test]
async fn a_look_without_an_answer_does_not_make_what_is_broken_able() {
    let sim = Simulator::start(SimConfig::default()).await.unwrap();
    let proxy = Proxy::start(sim.addr()).await;
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    assert_eq!(connector.probe().await, Health::idle());
    let task = with_faults(picture(1), json!({"device_error": true}));
    let failed = failure(connector.run(task, Witness::new().context()).await);
    assert_eq!(failed.code, "device_error");
    assert_eq!(connector.probe().await.status, ConnectorStatus::Error);
    proxy.breaks("GET /prompt", How::Cut, 1);
    let health = connector.probe().await;
    assert_eq!(health.status, ConnectorStatus::Error);
    assert!(health.message.unwrap().contains("restart ComfyUI"));
    sim.restart().await;
    assert_eq!(connector.probe().await, Health::idle());
}
