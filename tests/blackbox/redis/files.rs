//! Where the files of direct workers go, and that every server of the fleet has them.

use pointsman_api::Submission;
use pointsman_client::Client;
use pointsman_core::{
    JobId,
    record::{InputRef, JobStatus},
};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use serde_json::{Value, json};

use super::fleet::{Fleet, SOON};
use crate::harness::{Process, submit, until};

const WORKERS: [&str; 3] = ["by-http", "by-directory", "over-http"];

/// A job that this worker alone may take.
fn for_worker(worker: &str, graph: &Value) -> Submission {
    let others: Vec<_> = WORKERS.into_iter().filter(|other| *other != worker).collect();
    let mut submission =
        Submission::new("comfyui", &json!({"workflow": graph})).expect("it is JSON");
    submission.requirements = Some(json!({"must_not": {"workers": others}}));
    submission
}

/// A picture of its own.
fn first(worker: &str) -> Submission {
    for_worker(
        worker,
        &json!({
            "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 7}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
        }),
    )
}

/// What another job made, turned over.
fn from_picture(worker: &str, job: JobId, picture: &str) -> Submission {
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}
    });
    let input = InputRef {
        node: "1".into(),
        field: "image".into(),
        name: "in.png".into(),
        from: format!("artifact:{job}/{picture}"),
    };
    Submission { inputs: vec![input], ..for_worker(worker, &graph) }
}

/// The picture's name once the worker has made it; every server has it, whole.
async fn made_by(worker: &str, servers: [&Client; 2], job: JobId) -> String {
    let job = until(servers[0], job, SOON, |job| job.status.is_ended()).await;
    assert_eq!(job.status, JobStatus::Completed, "{:?}", job.failure);
    assert_eq!(job.worker_id.as_ref().map(|id| id.as_str()), Some(worker));
    let [picture] = &job.artifacts[..] else { panic!("{:?}", job.artifacts) };
    for server in servers {
        let bytes = server.artifact(job.id, &picture.name).await.expect("it is served");
        let bytes = bytes.bytes().await.expect("whole");
        assert!(bytes.starts_with(b"\x89PNG"), "it is a picture");
        assert_eq!(bytes.len() as u64, picture.size);
    }
    picture.name.clone()
}

/// Each hands a picture in by its own way, and takes what another one handed in as an input.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_and_inputs_of_direct_workers_pass_by_a_server_and_by_a_shared_directory() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let (one, other) = (fleet.server("one").await, fleet.server("other").await);
    let servers = [&one.client, &other.client];
    let mut services = Vec::new();
    for _ in WORKERS {
        let mut service = Process::start(&["comfyui-sim", "--listen", "127.0.0.1:0"]);
        let url = service.says("comfyui:").await;
        services.push((service, url));
    }
    let [by_http, by_directory, over_http] = WORKERS;
    let _by_http = fleet.direct_with_files_at(&one, by_http, &services[0].1, &one.url).await;
    let _by_directory = fleet.direct_for(&one, by_directory, &services[1].1).await;
    let service = format!("comfyui={}", services[2].1);
    let arguments = ["worker", "--id", over_http, "--broker", &one.url, "--service", &service];
    let _over_http = one.registered(Process::start(&arguments)).await;
    let mut job = submit(&one.client, &first(over_http)).await;
    let mut picture = made_by(over_http, servers, job).await;
    for worker in [by_http, by_directory, by_http, over_http] {
        job = submit(&other.client, &from_picture(worker, job, &picture)).await;
        picture = made_by(worker, servers, job).await;
    }
}
