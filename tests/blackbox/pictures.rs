//! A workflow from its submission to a picture on disk.

use std::time::Duration;

use pointsman_api::Submission;
use pointsman_core::record::{ConnectorStatus, JobRecord, JobStatus};
use serde_json::{Value, json};

use crate::harness::{Process, Served, directory, run, submit, until};

const PATIENCE: Duration = Duration::from_secs(60);

fn first_picture() -> Value {
    let text = include_str!("../../examples/first-picture.json");
    serde_json::from_str(text).expect("the example is JSON")
}

fn workflow(graph: &Value) -> Submission {
    Submission::new("comfyui", &json!({"workflow": graph})).expect("JSON")
}

#[tokio::test]
async fn the_first_picture_lies_on_disk() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/first-picture.json");
    let out = data.path().join("pictures");
    let out = out.to_str().expect("a path in UTF-8");
    let arguments = ["--server", &up.url, "submit", example, "--wait", "--out", out];
    let output = run(&arguments).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let saved = text.lines().find_map(|line| line.strip_prefix("saved ")).expect("a saved file");
    let picture = std::fs::read(saved).expect("the picture is there");
    assert!(picture.starts_with(b"\x89PNG"), "it is a PNG");
}

#[tokio::test]
async fn a_cached_workflow_is_marked_and_has_its_picture() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let first = submit(&up.client, &workflow(&first_picture())).await;
    let first = until(&up.client, first, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!(first.status, JobStatus::Completed, "{:?}", first.failure);
    assert!(!first.cached);
    let again = submit(&up.client, &workflow(&first_picture())).await;
    let again = until(&up.client, again, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!(again.status, JobStatus::Completed);
    assert!(again.cached);
    let (a, b) = (&first.artifacts[0], &again.artifacts[0]);
    assert_eq!(a.sha256, b.sha256, "equal inputs give equal bytes");
    let bytes = up.client.artifact(again.id, &b.name).await.expect("it is served");
    assert_eq!(bytes.bytes().await.expect("whole").len() as u64, b.size);
}

#[tokio::test]
async fn a_failing_workflow_says_which_node() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let graph = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimFail", "inputs": {"image": ["1", 0], "message": "the node is unhappy", "exception_type": "RuntimeError"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    });
    let mut failing = workflow(&graph);
    failing.max_failures = Some(1);
    let job = submit(&up.client, &failing).await;
    let job = until(&up.client, job, PATIENCE, |job| job.status.is_ended()).await;
    let failure = job.failure.expect("it failed");
    assert_eq!(failure.node.as_deref(), Some("2"));
    assert!(failure.message.contains("the node is unhappy"), "{failure:?}");
}

/// A ComfyUI whose GPU is full, and its worker.
async fn out_of_memory(served: &Served) -> (Process, Process) {
    let arguments = ["comfyui-sim", "--listen", "127.0.0.1:0", "--fault", "out_of_memory"];
    let mut comfyui = Process::start(&arguments);
    let service = format!("comfyui={}", comfyui.says("comfyui:").await);
    let broker = ["--broker", &served.url, "--service", &service];
    let worker = Process::start(&[&["worker", "--id", "full"], &broker[..]].concat());
    (comfyui, served.registered(worker).await)
}

#[tokio::test]
async fn a_job_whose_gpu_is_full_waits_for_another_one() {
    let data = directory();
    let served = Served::server(data.path(), 0).await;
    let mut comfyui = Process::start(&["comfyui-sim", "--listen", "127.0.0.1:0"]);
    let service = format!("comfyui={}", comfyui.says("comfyui:").await);
    let arguments = ["worker", "--id", "well", "--broker", &served.url, "--service", &service];
    let _well = served.registered(Process::start(&arguments)).await;
    // For longer than three failures take.
    let graph = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimSleep", "inputs": {"value": ["1", 0], "seconds": 8.0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    });
    let busy = submit(&served.client, &workflow(&graph)).await;
    until(&served.client, busy, PATIENCE, |job| job.status == JobStatus::InProgress).await;
    let _full = out_of_memory(&served).await;
    let job = submit(&served.client, &workflow(&first_picture())).await;
    let job = until(&served.client, job, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!((job.status, job.failures), (JobStatus::Completed, 1), "{:?}", job.failure);
    let workers = job.past_attempts.iter().map(|past| &past.worker_id).chain(&job.worker_id);
    assert_eq!(workers.map(|worker| worker.as_str()).collect::<Vec<_>>(), ["full", "well"]);
}

#[tokio::test]
async fn a_job_whose_gpu_is_full_is_tried_again_there_where_there_is_no_other() {
    let data = directory();
    let served = Served::server(data.path(), 0).await;
    let _full = out_of_memory(&served).await;
    let job = submit(&served.client, &workflow(&first_picture())).await;
    let job = until(&served.client, job, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!((job.status, job.failures), (JobStatus::Failed, 3));
    assert_eq!(job.failure.expect("it failed").code, "out_of_memory");
}

#[tokio::test]
async fn a_missing_model_waits_and_says_why() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let graph = json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "nobody-has-this.safetensors"}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    });
    // Its worker registers after it says where the monitor is.
    let first = submit(&up.client, &workflow(&first_picture())).await;
    until(&up.client, first, PATIENCE, |job| job.status.is_ended()).await;
    let job = submit(&up.client, &workflow(&graph)).await;
    let explained = up.client.explain(job).await.expect("explained");
    assert_eq!(explained.explanation.able.total, 0);
    let models = explained.explanation.rules.iter().find(|rule| rule.rule.to_string() == "models");
    assert_eq!(models.expect("the rule is named").fail, 1, "{explained:?}");
}

#[tokio::test]
async fn a_running_workflow_is_cancelled_at_its_service() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let graph = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimSleep", "inputs": {"image": ["1", 0], "seconds": 30.0, "silent": false}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    });
    let job = submit(&up.client, &workflow(&graph)).await;
    until(&up.client, job, PATIENCE, |job| job.status == JobStatus::InProgress).await;
    let cancelling = up.client.cancel(job).await.expect("accepted");
    assert!(cancelling.cancel_requested_at.is_some());
    let job = until(&up.client, job, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!(job.status, JobStatus::Cancelled);
    assert_eq!(job.failure, None, "a cancelled job did not fail");
    let next = submit(&up.client, &workflow(&first_picture())).await;
    let next = until(&up.client, next, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!(next.status, JobStatus::Completed, "the service is free again");
}

#[tokio::test]
async fn two_fleets_whose_workers_have_one_name_leave_each_other_alone_at_one_service() {
    let mut comfyui = Process::start(&["comfyui-sim", "--listen", "127.0.0.1:0"]);
    let url = comfyui.says("comfyui:").await;
    let [first_data, other_data] = [directory(), directory()];
    let first = Served::up(first_data.path(), &["--comfyui", &url]).await;
    let graph = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimSleep", "inputs": {"value": ["1", 0], "seconds": 10.0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    });
    let job = submit(&first.client, &workflow(&graph)).await;
    until(&first.client, job, PATIENCE, |job| job.status == JobStatus::InProgress).await;
    // Its worker clears the service before it takes its first job.
    let other = Served::up(other_data.path(), &["--comfyui", &url]).await;
    let next = submit(&other.client, &workflow(&first_picture())).await;
    let job = until(&first.client, job, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!((job.status, job.attempt), (JobStatus::Completed, 1));
    let next = until(&other.client, next, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!((next.status, next.attempt), (JobStatus::Completed, 1));
    assert!(next.assigned_at < job.completed_at, "it cleared while the other's prompt ran");
}

#[tokio::test]
async fn two_fleets_behind_one_address_leave_each_other_alone_at_one_service() {
    let mut comfyui = Process::start(&["comfyui-sim", "--listen", "127.0.0.1:0"]);
    let service = format!("comfyui={}", comfyui.says("comfyui:").await);
    let worker = async |served: &Served| {
        let arguments = ["worker", "--id", "w", "--broker", &served.url, "--service", &service];
        served.registered(Process::start(&arguments)).await
    };
    let [first_data, other_data] = [directory(), directory()];
    let first = Served::server(first_data.path(), 0).await;
    let first_worker = worker(&first).await;
    let graph = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SimSleep", "inputs": {"value": ["1", 0], "seconds": 5.0}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    });
    let job = submit(&first.client, &workflow(&graph)).await;
    until(&first.client, job, PATIENCE, |job| job.status == JobStatus::InProgress).await;
    first_worker.kill().await;
    let port = first.port();
    first.process.kill().await;
    // Its worker clears the service before it takes its first job.
    let other = Served::server(other_data.path(), port).await;
    let _other_worker = worker(&other).await;
    let next = submit(&other.client, &workflow(&first_picture())).await;
    let next = until(&other.client, next, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!((next.status, next.attempt), (JobStatus::Completed, 1));
    // The first one is back, elsewhere, and finds what its prompt made.
    let first = Served::server(first_data.path(), 0).await;
    let _first_worker = worker(&first).await;
    let job = until(&first.client, job, PATIENCE, |job| job.status.is_ended()).await;
    assert_eq!((job.status, job.attempt), (JobStatus::Completed, 1));
}

#[tokio::test]
async fn the_operators_stall_time_holds_though_the_prompt_stays_in_the_queue() {
    let data = directory();
    let arguments = ["comfyui-sim", "--listen", "127.0.0.1:0", "--fault", "dead_prompt_thread"];
    let mut comfyui = Process::start(&arguments);
    let url = comfyui.says("comfyui:").await;
    let clocks = ["--silence-after-s", "1", "--stall-after-s", "2"];
    let up = Served::up(data.path(), &[&["--comfyui", &url], &clocks[..]].concat()).await;
    let id = submit(&up.client, &workflow(&first_picture())).await;
    let running = |job: &JobRecord| job.status == JobStatus::InProgress;
    until(&up.client, id, PATIENCE, running).await;
    // The cancel of such a prompt cannot be confirmed, so its service counts as broken.
    let broken = async {
        loop {
            let snapshot = up.client.snapshot().await.expect("a snapshot");
            let mut connectors = snapshot.connectors.iter();
            if connectors.any(|connector| connector.status == ConnectorStatus::Error) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), broken).await.expect("shown as broken");
}

#[tokio::test]
async fn a_dead_service_is_named_by_workers_and_by_explain() {
    let data = directory();
    let mut comfyui = Process::start(&["comfyui-sim", "--listen", "127.0.0.1:0"]);
    let url = comfyui.says("comfyui:").await;
    let up = Served::up(data.path(), &["--comfyui", &url]).await;
    let first = submit(&up.client, &workflow(&first_picture())).await;
    until(&up.client, first, PATIENCE, |job| job.status.is_ended()).await;
    comfyui.kill().await;
    let reason = "comfyui (offline): not reachable";
    let said = async |command: &[&str]| {
        let output = run(&[&["--server", &up.url], command].concat()).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !said(&["workers"]).await.contains(reason) {
        assert!(tokio::time::Instant::now() < deadline, "{}", said(&["workers"]).await);
    }
    let job = submit(&up.client, &workflow(&first_picture())).await;
    let explained = said(&["explain", &job.to_string()]).await;
    assert!(explained.contains(&format!("Not ready: box-worker-0: {reason}")), "{explained}");
}
