//! Nothing goes wrong.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use pointsman_comfyui_sim::{SimConfig, Version};
use pointsman_core::{
    FailureKind,
    bounds::MAX_LABEL,
    record::{ArtifactType, InputRef},
};
use serde_json::json;

use super::{Bench, comfy_task, picture, sleeping};
use crate::{Connector as _, Task, testing::Witness};

const PNG: &[u8] = b"\x89PNG";

#[tokio::test]
async fn a_picture_is_drawn_followed_and_stored() {
    for version in [Version::V0_3_64, Version::V0_27] {
        let bench = Bench::with(SimConfig { version, ..SimConfig::default() }, |_| {}).await;
        let (end, witness) = bench.run(picture(1)).await;
        let completion = end.unwrap();
        assert!(!completion.cached);
        assert_eq!(witness.started.load(Ordering::SeqCst), 1);
        let stored = witness.artifacts.lock();
        let [(artifact, bytes)] = &stored[..] else { panic!("{stored:?}") };
        assert_eq!(completion.artifacts, std::slice::from_ref(artifact));
        assert_eq!(artifact.name, "7-0-lake_00001_.png");
        assert_eq!(artifact.media_type, "image/png");
        assert_eq!(artifact.node.as_deref(), Some("7"));
        assert_eq!(artifact.kind, ArtifactType::Output);
        assert!(bytes.starts_with(PNG));
        let result = completion.result.unwrap();
        let at_comfyui = format!("lake-{}_00001_.png", bench.connector.written.tag);
        assert_eq!(result["7"]["images"][0]["filename"], *at_comfyui);
        let reports = witness.reports.lock();
        assert!(reports.iter().any(|r| r.node.as_deref() == Some("5") && r.steps == Some(4)));
        assert!(reports.windows(2).all(|pair| pair[0].percent <= pair[1].percent), "{reports:?}");
        assert_eq!(reports.last().unwrap().percent, Some(100.0));
        assert!(!witness.previews.lock().is_empty());
        assert!(witness.events.load(Ordering::SeqCst) > 5);
    }
}

#[tokio::test]
async fn a_preview_image_is_stored_as_temporary() {
    let bench = Bench::new().await;
    let (end, _) = bench.run(sleeping(0.01)).await;
    let artifacts = end.unwrap().artifacts;
    assert_eq!(artifacts.len(), 1);
    assert_eq!(artifacts[0].kind, ArtifactType::Temp);
}

#[tokio::test]
async fn a_file_of_the_input_folder_that_a_node_shows_is_no_result() {
    let bench = Bench::new().await;
    let mut graph = sleeping(0.01);
    graph["4"] = json!({"class_type": "SimShow", "inputs": {"image": "brought.png"}});
    let artifacts = bench.run(graph).await.0.unwrap().artifacts;
    let nodes: Vec<_> = artifacts.iter().map(|artifact| artifact.node.as_deref()).collect();
    assert_eq!(nodes, [Some("3")]);
}

#[tokio::test]
async fn the_ids_of_nodes_are_whatever_they_like_and_artifacts_fit_all_the_same() {
    let bench = Bench::new().await;
    for (id, name) in [("\n.\u{7}", "_._"), (".hidden", "_hidden"), ("..", "_.")] {
        for id in [id.to_owned(), id.to_owned() + &"n".repeat(300)] {
            let mut graph = picture(1);
            let save = graph.as_object_mut().unwrap().remove("7").unwrap();
            graph[&id] = save;
            let artifacts = bench.run(graph).await.0.unwrap().artifacts;
            let [artifact] = &artifacts[..] else { panic!("{artifacts:?}") };
            let node = artifact.node.as_deref().unwrap();
            assert!(node.len() <= MAX_LABEL && !node.chars().any(char::is_control), "{node:?}");
            assert!(artifact.name.starts_with(name), "{artifact:?}");
        }
    }
}

#[tokio::test]
async fn more_files_than_a_job_may_have_are_told_and_none_is_stored() {
    let bench = Bench::new().await;
    let graph = json!({
        "1": {"class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1001, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "many"}}
    });
    let (end, witness) = bench.run(graph).await;
    let failure = super::failure(end);
    assert_eq!((failure.kind, &*failure.code), (FailureKind::BadJob, "too_many_outputs"));
    assert!(failure.message.contains("made 1001 files"), "{failure:?}");
    assert!(witness.artifacts.lock().is_empty());
}

#[tokio::test]
async fn inputs_are_uploaded_and_put_into_the_graph() {
    let bench = Bench::new().await;
    let (end, first) = bench.run(picture(7)).await;
    end.unwrap();
    let picture = first.artifacts.lock()[0].1.clone();
    let graph = json!({
        "10": {"class_type": "LoadImage", "inputs": {"image": "unset.png"}},
        "11": {"class_type": "SaveImage",
            "inputs": {"images": ["10", 0], "filename_prefix": "copy"}}
    });
    let witness = Witness::new();
    witness.inputs.lock().push(("sha256:aa".into(), picture.clone()));
    let end = bench.run_task(bringing(graph.clone(), "sha256:aa", "lake.png"), witness).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);

    for (from, name, code) in
        [("sha256:bb", "lake.png", "input_missing"), ("sha256:aa", "../lake.png", "invalid_input")]
    {
        let witness = Witness::new();
        witness.inputs.lock().push(("sha256:aa".into(), Bytes::from_static(b"x")));
        let end = bench.run_task(bringing(graph.clone(), from, name), witness).await;
        assert_eq!(super::failure(end).code, code);
    }
}

#[tokio::test]
async fn different_inputs_of_one_name_lie_apart_and_equal_ones_together() {
    let folder = tempfile::tempdir().unwrap();
    let config = SimConfig { folder: Some(folder.path().to_owned()), ..SimConfig::default() };
    let bench = Bench::with(config, |_| {}).await;
    let (end, first) = bench.run(picture(7)).await;
    end.unwrap();
    let (end, second) = bench.run(picture(8)).await;
    end.unwrap();
    let picture = |witness: &Witness| witness.artifacts.lock()[0].1.clone();
    let graph = json!({
        "10": {"class_type": "LoadImage", "inputs": {"image": "unset.png"}},
        "11": {"class_type": "PreviewImage", "inputs": {"images": ["10", 0]}}
    });
    for (from, bytes) in [
        ("sha256:0123456789abcdef0123", picture(&first)),
        ("artifact:job/one.png", picture(&first)),
        ("artifact:job/two.png", picture(&second)),
        ("artifact:job/three.png", picture(&second)),
    ] {
        let witness = Witness::new();
        witness.inputs.lock().push((from.into(), bytes));
        bench.run_task(bringing(graph.clone(), from, "lake.png"), witness).await.unwrap();
    }
    let names = |folder: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let inputs = folder.path().join("input/pointsman");
    let folders = names(&inputs);
    assert!(folders.contains(&"0123456789abcdef".to_owned()), "{folders:?}");
    assert_eq!(folders.len(), 3, "{folders:?}");
    for folder in folders {
        assert_eq!(folder.len(), 16);
        assert_eq!(names(&inputs.join(folder)), ["lake.png"]);
    }
}

pub fn bringing(graph: serde_json::Value, from: &str, name: &str) -> Task {
    let mut task = comfy_task(graph);
    let mut job = (*task.job).clone();
    let mut spec = (*job.spec).clone();
    spec.inputs.push(InputRef {
        node: "10".into(),
        field: "image".into(),
        name: name.into(),
        from: from.into(),
    });
    job.spec = spec.into();
    task.job = job.into();
    task
}

#[tokio::test]
async fn it_says_what_it_has() {
    let bench = Bench::new().await;
    let has = bench.connector.capabilities().await.unwrap();
    assert_eq!(has.version.as_deref(), Some("0.27.0"));
    assert!(has.models.contains("sim-v1.safetensors"));
    assert!(has.node_classes.contains("KSampler"));
}
