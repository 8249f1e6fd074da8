//! A prompt that is over before anyone could listen.

use std::{sync::atomic::Ordering, time::Duration};

use pointsman_comfyui_sim::{Faults, SimConfig, Version};
use pointsman_core::record::Artifact;
use serde_json::json;

use super::{Bench, picture, settings, with_faults};
use crate::{Connector as _, Task, comfyui::ComfyUiConnector, testing::Witness};

/// What is not to be waited for takes so long here: who waits for it hangs.
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_cached_prompt_is_recognised_and_completes_at_once() {
    for version in [Version::V0_3_64, Version::V0_27] {
        let config = SimConfig { version, ..SimConfig::default() };
        let bench = Bench::with(config, |settings| settings.pace.truth_first = HOUR).await;
        bench.run(picture(1)).await.0.unwrap();
        let (end, witness) = bench.run(picture(1)).await;
        let completion = end.unwrap();
        assert!(completion.cached);
        assert_eq!(completion.artifacts.len(), 1);
        assert_eq!(witness.artifacts.lock().len(), 1);
        let other = bench.run(picture(2)).await.0.unwrap();
        assert!(!other.cached, "only a part of it was cached");
    }
}

#[tokio::test]
async fn where_nothing_is_shown_every_node_must_be_cached() {
    let bench = Bench::new().await;
    let run = async |seconds: f64| {
        let mut graph = super::sleeping(seconds);
        graph["3"] = json!({"class_type": "SimShow", "inputs": {"image": "", "value": ["2", 0]}});
        let completion = bench.run(graph).await.0.unwrap();
        assert_eq!(completion.artifacts, []);
        completion.cached
    };
    assert!(!run(0.01).await);
    assert!(!run(0.02).await, "only a part of it was cached");
    assert!(run(0.02).await);
}

#[tokio::test]
async fn also_when_the_socket_hears_nothing() {
    let bench = Bench::with_faults(Faults { socket_deaf: true, ..Faults::default() }).await;
    bench.run(picture(1)).await.0.unwrap();
    let completion = bench.run(picture(1)).await.0.unwrap();
    assert!(completion.cached);
}

#[tokio::test]
async fn also_when_the_socket_does_not_connect() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    bench.run(picture(1)).await.0.unwrap();
    proxy.delay_sockets(HOUR);
    let completion = bench.run(picture(1)).await.0.unwrap();
    assert!(completion.cached);
}

#[tokio::test]
async fn also_when_the_socket_breaks() {
    let faults = Faults { socket_cut: true, ..Faults::default() };
    let config = SimConfig { faults, ..SimConfig::default() };
    let bench = Bench::with(config, |settings| settings.pace.reconnect = HOUR).await;
    bench.run(picture(1)).await.0.unwrap();
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
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(at(&folder), |_| {}).await;
    let (end, first) = bench.run(picture(1)).await;
    end.unwrap();
    std::fs::remove_file(saved(&bench, &folder)).unwrap();
    let (end, again) = bench.run(picture(1)).await;
    let completion = end.unwrap();
    assert!(!completion.cached, "it was saved again");
    let name = &completion.artifacts[0].name;
    assert!(name.starts_with("7-0-lake-") && name.ends_with("_00001_.png"), "{name}");
    assert_eq!(bytes(&again), bytes(&first));
}

/// What is stored of the first run stays under its name, and what is made again has other bytes:
/// ComfyUI writes the graph into its pictures.
#[tokio::test]
async fn what_is_made_again_gets_no_name_that_was_stored_before() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(at(&folder), |_| {}).await;
    let mut graph = picture(1);
    graph["4"]["inputs"]["batch_size"] = json!(2);
    bench.run(graph.clone()).await.0.unwrap();
    let tag = &bench.connector.written.tag;
    std::fs::remove_file(folder.path().join(format!("output/lake-{tag}_00002_.png"))).unwrap();
    let (end, again) = bench.run(graph).await;
    let names = |artifacts: &[Artifact]| -> Vec<String> {
        artifacts.iter().map(|artifact| artifact.name.clone()).collect()
    };
    let made = names(&end.unwrap().artifacts);
    assert_eq!(made.len(), 2);
    let stored: Vec<_> = again.artifacts.lock().iter().map(|(stored, _)| stored.clone()).collect();
    let stored = names(&stored);
    assert_eq!(stored.len(), 3, "the first of them, then both again: {stored:?}");
    assert!(!made.contains(&stored[0]), "{stored:?}");
}

#[tokio::test]
async fn a_cached_file_that_was_written_again_since_is_made_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(at(&folder), |_| {}).await;
    let (end, first) = bench.run(picture(1)).await;
    end.unwrap();
    std::fs::write(saved(&bench, &folder), b"the picture of another job").unwrap();
    let (end, again) = bench.run(picture(1)).await;
    assert!(!end.unwrap().cached, "it was saved again");
    assert_eq!(bytes(&again), bytes(&first));
}

#[tokio::test]
async fn a_cached_file_whose_node_has_no_prefix_to_change_is_made_again_too() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(at(&folder), |_| {}).await;
    let mut graph = picture(1);
    graph["7"]["inputs"]["filename_prefix"] = json!(7.5);
    let (end, first) = bench.run(graph.clone()).await;
    end.unwrap();
    std::fs::remove_file(folder.path().join("output/7.5_00001_.png")).unwrap();
    let (end, again) = bench.run(graph).await;
    end.unwrap();
    assert_eq!(bytes(&again), bytes(&first));
}

#[tokio::test]
async fn two_that_share_a_folder_do_not_write_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    let one = Bench::with(at(&folder), |_| {}).await;
    let other = Bench::with(at(&folder), |_| {}).await;
    one.run(picture(1)).await.0.unwrap();
    let (end, first) = other.run(picture(2)).await;
    end.unwrap();
    // Each counts on from what it found in the folder.
    one.run(picture(3)).await.0.unwrap();
    let (end, again) = other.run(picture(2)).await;
    assert!(end.unwrap().cached);
    assert_eq!(bytes(&again), bytes(&first));
}

#[tokio::test]
async fn a_later_run_of_the_worker_knows_what_to_take_out_of_the_names() {
    let bench = Bench::new().await;
    let task = super::comfy_task(picture(1));
    bench.run_task(task.clone(), Witness::new()).await.unwrap();
    let later = ComfyUiConnector::new(settings(&bench.sim.url(), "worker-a")).unwrap();
    let adopted = Task { adopted: true, ..task };
    let completion = later.run(adopted, Witness::new().context()).await.unwrap();
    assert_eq!(completion.artifacts[0].name, "7-0-lake_00001_.png");
}

fn at(folder: &tempfile::TempDir) -> SimConfig {
    SimConfig { folder: Some(folder.path().to_owned()), ..SimConfig::default() }
}

/// The first file that the picture is saved to.
fn saved(bench: &Bench, folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join(format!("output/lake-{}_00001_.png", bench.connector.written.tag))
}

fn bytes(witness: &Witness) -> bytes::Bytes {
    witness.artifacts.lock()[0].1.clone()
}

#[tokio::test]
async fn a_file_that_stays_gone_is_the_services_fault() {
    let bench = Bench::new().await;
    for (faults, runs) in
        [(json!({"file_gone": true}), 1), (json!({"file_gone": true, "cached": true}), 2)]
    {
        let witness = Witness::new();
        let end = bench.run_task(with_faults(picture(1), faults), witness.clone()).await;
        assert_eq!(super::failure(end).code, "output_gone");
        assert_eq!(witness.started.load(Ordering::SeqCst), runs);
    }
}
