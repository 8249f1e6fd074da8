//! The service refuses the graph, or a part of it.

use pointsman_comfyui::Submission;
use pointsman_core::FailureKind;
use serde_json::{Map, Value, json};

use super::{Bench, comfy_task, failure, picture, proxy::Proxy, settings, sleeping, with_faults};
use crate::{
    Completion, Connector as _, RunEnd, Task,
    comfyui::ComfyUiConnector,
    testing::{Witness, task},
};

#[tokio::test]
async fn what_is_missing_here_is_the_wrong_worker_and_what_is_wrong_is_a_bad_job() {
    let bench = Bench::new().await;
    let mut no_node = picture(1);
    no_node["5"]["class_type"] = json!("SamplerOfAnotherMachine");
    let mut no_model = picture(1);
    no_model["1"]["inputs"]["ckpt_name"] = json!("other.safetensors");
    let mut wrong = picture(1);
    wrong["5"]["inputs"]["steps"] = json!("many");
    for (graph, kind, code) in [
        (no_node, FailureKind::WrongWorker, "missing_node_type"),
        (no_model, FailureKind::WrongWorker, "value_not_in_list"),
        (wrong, FailureKind::BadJob, "invalid_input_type"),
    ] {
        let (end, witness) = bench.run(graph).await;
        let failed = failure(end);
        assert_eq!((failed.kind, failed.code.as_str()), (kind, code), "{}", failed.message);
        assert_eq!(witness.started.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_partial_run_is_stopped_and_fails_unless_it_is_wanted() {
    let bench = Bench::new().await;
    let mut graph = picture(1);
    graph["8"] = json!({"class_type": "SaveImage",
        "inputs": {"images": ["6", 0], "filename_prefix": 7.5, "nonsense": ["5", 0]}});
    graph["9"] = json!({"class_type": "EmptyImage",
        "inputs": {"width": "wide", "height": 8, "batch_size": 1, "color": 0}});
    graph["8"]["inputs"] = json!({"images": ["9", 0], "filename_prefix": "part"});
    let failed = failure(bench.run(graph.clone()).await.0);
    assert_eq!(failed.kind, FailureKind::BadJob);
    assert!(failed.message.contains("only a part"), "{}", failed.message);
    assert_eq!(bench.queue().await, 0);
    let payload = json!({"workflow": graph, "allow_partial": true});
    let witness = Witness::new();
    let end = bench.run_task(task("comfyui", payload.to_string()), witness.clone()).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);
    let said = witness.reports.lock().last().unwrap().message.clone().unwrap();
    assert!(said.starts_with("ComfyUI dropped the outputs of the nodes 8: "), "{said}");
    assert!(said.contains("INT") && said.ends_with("(node 9)"), "{said}");
}

#[tokio::test]
async fn a_partial_run_that_does_not_stop_says_what_it_failed_of() {
    let bench = Bench::new().await;
    let task = with_faults(half_wrong(), json!({"silent_node_s": 2.0}));
    let end = bench.run_task(task, Witness::new()).await;
    let Err(RunEnd::Wedged { failure: Some(failure), .. }) = end else { panic!("{end:?}") };
    assert_eq!(failure.kind, FailureKind::BadJob);
    assert!(failure.message.contains("only a part"), "{}", failure.message);
}

const WHY_LOST: &str =
    "ComfyUI dropped the outputs of the nodes 9, and its answer that says why was lost";

fn allowing_partial(graph: Value) -> Task {
    task("comfyui", json!({"workflow": graph, "allow_partial": true}).to_string())
}

fn last_message(witness: &Witness) -> String {
    witness.reports.lock().last().unwrap().message.clone().unwrap()
}

/// A picture that is drawn, and one that ComfyUI drops.
fn half_wrong() -> Value {
    let mut graph = picture(1);
    graph["8"] = json!({"class_type": "EmptyImage",
        "inputs": {"width": "wide", "height": 8, "batch_size": 1, "color": 0}});
    graph["9"] = json!({"class_type": "SaveImage",
        "inputs": {"images": ["8", 0], "filename_prefix": "part"}});
    graph
}

fn check_dropped(end: Result<Completion, RunEnd>) {
    let failed = failure(end);
    let (kind, code) = (FailureKind::ServiceFault, "outputs_dropped");
    assert_eq!((failed.kind, failed.code.as_str()), (kind, code), "{}", failed.message);
    assert!(failed.message.contains("only a part"), "{}", failed.message);
    assert_eq!(failed.node.as_deref(), Some("9"));
}

#[tokio::test]
async fn a_partial_run_whose_answer_was_lost_is_found_out() {
    let bench = Bench::new().await;
    let proxy = Proxy::start(bench.sim.addr()).await;
    proxy.lose_submission_answers();
    let connector = ComfyUiConnector::new(settings(&proxy.url(), "worker-a")).unwrap();
    connector.capabilities().await.unwrap();
    let run = |task| connector.run(task, Witness::new().context());
    check_dropped(run(with_faults(half_wrong(), json!({}))).await);
    // While it waits it is stopped, too.
    check_dropped(run(with_faults(half_wrong(), json!({"foreign_prompt_s": 30.0}))).await);
    assert_eq!(bench.queue().await, 1, "the foreign one");
    bench.sim.restart().await;
    assert_eq!(run(comfy_task(picture(2))).await.unwrap().artifacts.len(), 1);
    let witness = Witness::new();
    let end = connector.run(allowing_partial(half_wrong()), witness.context()).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);
    assert_eq!(last_message(&witness), WHY_LOST);
}

#[tokio::test]
async fn a_partial_run_that_a_lost_worker_submitted_is_found_out() {
    let bench = Bench::new().await;
    bench.connector.capabilities().await.unwrap();
    let adopted = Task { adopted: true, ..comfy_task(half_wrong()) };
    submit_as_before(&bench, &adopted).await;
    check_dropped(bench.run_task(adopted, Witness::new()).await);
    let adopted = Task { adopted: true, ..allowing_partial(half_wrong()) };
    submit_as_before(&bench, &adopted).await;
    let witness = Witness::new();
    let end = bench.run_task(adopted, witness.clone()).await;
    assert_eq!(end.unwrap().artifacts.len(), 1);
    assert_eq!(last_message(&witness), WHY_LOST);
}

async fn submit_as_before(bench: &Bench, task: &Task) {
    let (graph, id) = (half_wrong(), task.held.token.to_string());
    let submission =
        Submission { graph: &graph, prompt_id: &id, client_id: &id, extra_data: &Map::default() };
    bench.connector.client.submit(&submission).await.unwrap();
}

#[tokio::test]
async fn what_is_dropped_is_not_waited_for_in_the_percentage() {
    let bench = Bench::new().await;
    bench.connector.capabilities().await.unwrap();
    let mut graph = sleeping(2.0);
    for (id, node) in half_wrong().as_object().unwrap() {
        if ["8", "9"].contains(&id.as_str()) {
            graph[id] = node.clone();
        }
    }
    let witness = Witness::new();
    bench.run_task(allowing_partial(graph), witness.clone()).await.unwrap();
    let reports = witness.reports.lock();
    let percents = reports.iter().filter_map(|report| report.percent);
    let most = percents.filter(|percent| *percent < 100.0).fold(0.0, f32::max);
    assert!(most > 65.0, "two of three at least, not of five: {most}");
}

#[tokio::test]
async fn a_payload_that_is_no_graph_is_a_bad_job() {
    let bench = Bench::new().await;
    let end = bench.run_task(task("comfyui", "{\"workflow\": []}"), Witness::new()).await;
    let failed = failure(end);
    assert_eq!((failed.kind, failed.code.as_str()), (FailureKind::BadJob, "invalid_payload"));
    assert!(failed.message.contains("/workflow"), "{}", failed.message);
}
