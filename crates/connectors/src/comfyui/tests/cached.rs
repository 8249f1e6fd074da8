//! A prompt that is over before anyone could listen.

use std::time::{Duration, Instant};

use pointsman_comfyui_sim::{Faults, SimConfig, Version};
use serde_json::json;

use super::{Bench, picture, proxy::Proxy, settings, with_faults};
use crate::{Connector as _, comfyui::ComfyUiConnector, testing::Witness};

/// What "well under a second" means here, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_cached_prompt_is_recognised_and_completes_at_once() {
    for version in [Version::V0_3_64, Version::V0_27] {
        let bench = Bench::with(SimConfig { version, ..SimConfig::default() }, |_| {}).await;
        bench.run(picture(1)).await.0.unwrap();
        let begin = Instant::now();
        let (end, witness) = bench.run(picture(1)).await;
        let completion = end.unwrap();
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        assert!(completion.cached);
        assert_eq!(completion.artifacts.len(), 1);
        assert_eq!(witness.artifacts.lock().len(), 1);
        let other = bench.run(picture(2)).await.0.unwrap();
        assert!(!other.cached, "only a part of it was cached");
    }
}

#[tokio::test]
async fn also_when_the_socket_hears_nothing() {
    let bench = Bench::with_faults(Faults { socket_deaf: true, ..Faults::default() }).await;
    bench.run(picture(1)).await.0.unwrap();
    let begin = Instant::now();
    let completion = bench.run(picture(1)).await.0.unwrap();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(completion.cached);
}

#[tokio::test]
async fn also_when_the_socket_connects_late_or_not_at_all() {
    let bench = Bench::new().await;
    bench.run(picture(1)).await.0.unwrap();
    for (delay, name) in [(Duration::from_secs(2), "late"), (Duration::from_secs(3600), "never")] {
        let proxy = Proxy::start(bench.sim.addr()).await;
        proxy.delay_sockets(delay);
        let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
        let begin = Instant::now();
        let task = super::comfy_task(picture(1));
        let completion = connector.run(task, Witness::new().context()).await.unwrap();
        assert!(begin.elapsed() < SOON, "{name}: {:?}", begin.elapsed());
        assert!(completion.cached, "{name}");
    }
}

#[tokio::test]
async fn also_when_the_socket_breaks() {
    let bench = Bench::with_faults(Faults { socket_cut: true, ..Faults::default() }).await;
    let begin = Instant::now();
    bench.run(picture(1)).await.0.unwrap();
    assert!(begin.elapsed() < SOON * 2, "{:?}", begin.elapsed());
    let completion = bench.run(picture(1)).await.0.unwrap();
    assert!(completion.cached);
}

#[tokio::test]
async fn history_that_comes_late_is_waited_for() {
    let bench = Bench::with_faults(Faults { history_delay_ms: 300, ..Faults::default() }).await;
    let completion = bench.run(picture(1)).await.0.unwrap();
    assert_eq!(completion.artifacts.len(), 1);
}

#[tokio::test]
async fn a_cached_file_that_is_gone_is_made_again_once() {
    let folder = std::env::temp_dir().join(format!("pointsman-{}", uuid::Uuid::new_v4()));
    let config = SimConfig { folder: Some(folder.clone()), ..SimConfig::default() };
    let bench = Bench::with(config, |_| {}).await;
    let first = bench.run(picture(1)).await.0.unwrap();
    std::fs::remove_file(folder.join("output/lake_00001_.png")).unwrap();
    let (end, witness) = bench.run(picture(1)).await;
    let again = end.unwrap();
    assert_eq!(again.artifacts.len(), 1);
    assert_ne!(again.artifacts[0].name, first.artifacts[0].name);
    assert!(witness.artifacts.lock()[0].1.starts_with(b"\x89PNG"));
    drop(bench);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_file_that_stays_gone_is_the_services_fault() {
    let bench = Bench::new().await;
    for faults in [json!({"file_gone": true}), json!({"file_gone": true, "cached": true})] {
        let task = with_faults(picture(1), faults);
        let end = bench.run_task(task, Witness::new()).await;
        assert_eq!(super::failure(end).code, "output_gone");
    }
}
