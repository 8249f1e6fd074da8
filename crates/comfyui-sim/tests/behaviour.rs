//! What the recordings do not show, and the documentation of ComfyUI says.

mod common;

use std::time::Duration;

use common::{Attempt, picture, sleeping, start};
use futures::TryStreamExt as _;
use pointsman_comfyui::{
    Cancelled, ComfyClient, Disconnected, FailureKind, Folder, Message, RequestError, Submission,
    SubmitError, Verdict, classify, graph,
};
use pointsman_comfyui_sim::{SimConfig, SimHandle, Simulator, Version};
use serde_json::{Map, Value, json};

const VERSIONS: [Version; 2] = [Version::V0_3_64, Version::V0_27];

fn fast(version: Version) -> SimConfig {
    SimConfig { version, step: Duration::from_millis(1), ..SimConfig::default() }
}

fn client(sim: &SimHandle) -> ComfyClient {
    ComfyClient::new(&sim.url()).unwrap()
}

/// Runs a graph; its files' names and bytes.
async fn run(sim: &SimHandle, graph: &Value) -> Vec<(String, Vec<u8>)> {
    let mut attempt = Attempt::begin(sim).await;
    attempt.submit(graph).await;
    let Verdict::Succeeded(files) = attempt.final_verdict().await else { panic!("not done") };
    let mut fetched = Vec::new();
    for file in files {
        let bytes: Vec<_> =
            attempt.client.view_output(&file).await.unwrap().try_collect().await.unwrap();
        fetched.push((file.filename, bytes.concat()));
    }
    fetched
}

async fn refused(sim: &SimHandle, graph: &Value) -> pointsman_comfyui::Rejection {
    match Attempt::begin(sim).await.try_submit(graph).await {
        Err(SubmitError::Rejected(rejection)) => *rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn equal_inputs_give_equal_pictures_on_any_simulator() {
    let (one, other) = (start(fast(Version::V0_27)).await, start(fast(Version::V0_3_64)).await);
    let first = run(&one, &picture(7)).await;
    assert_eq!(run(&other, &picture(7)).await, first);
    let second = run(&one, &picture(8)).await;
    assert_ne!(second[0].1, first[0].1);
    assert_eq!((first[0].0.as_str(), second[0].0.as_str()), ("lake_00001_.png", "lake_00002_.png"));
}

#[tokio::test]
async fn a_cached_save_names_the_first_file_and_a_fresh_prefix_writes_another() {
    for version in VERSIONS {
        let sim = start(fast(version)).await;
        let first = run(&sim, &picture(7)).await;
        assert_eq!(run(&sim, &picture(7)).await, first);
        let mut attempt = Attempt::begin(&sim).await;
        attempt.submit(&graph::with_fresh_prefix(&picture(7), "-x")).await;
        let cached =
            attempt.wait_for(|message| matches!(message, Message::ExecutionCached { .. })).await;
        assert!(matches!(cached, Message::ExecutionCached { nodes, .. } if nodes.len() == 6));
        let Verdict::Succeeded(files) = attempt.final_verdict().await else { panic!("not done") };
        assert_eq!(files[0].filename, "lake-x_00001_.png");
    }
}

#[tokio::test]
async fn the_older_version_caches_the_last_prompt_alone() {
    for (version, cached) in [(Version::V0_3_64, 0), (Version::V0_27, 3)] {
        let sim = start(fast(version)).await;
        let colour = |colour: u32| {
            let mut graph = sleeping(0.0);
            graph["1"]["inputs"]["color"] = json!(colour);
            graph
        };
        run(&sim, &colour(1)).await;
        run(&sim, &colour(2)).await;
        let mut attempt = Attempt::begin(&sim).await;
        attempt.submit(&colour(1)).await;
        attempt.final_verdict().await;
        let history = attempt.client.history(&attempt.id).await.unwrap().unwrap();
        assert_eq!(history.cached_nodes().len(), cached, "{version:?}");
    }
}

#[tokio::test]
async fn free_drops_the_cache_between_prompts() {
    let sim = start(fast(Version::V0_27)).await;
    run(&sim, &picture(7)).await;
    client(&sim).free(true, true).await.unwrap();
    assert_eq!(run(&sim, &picture(7)).await[0].0, "lake_00002_.png");
}

#[tokio::test]
async fn a_cached_run_without_a_client_has_no_outputs_in_the_newer_version() {
    for (version, files) in [(Version::V0_3_64, 1), (Version::V0_27, 0)] {
        let sim = start(fast(version)).await;
        run(&sim, &picture(7)).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let submit =
            http.post(format!("{}/prompt", sim.url())).json(&json!({ "prompt": picture(7) }));
        let reply: Value = submit.send().await.unwrap().json().await.unwrap();
        let client = client(&sim);
        let verdict = loop {
            let verdict = client.truth(reply["prompt_id"].as_str().unwrap()).await.unwrap().verdict;
            if verdict.is_final() {
                break verdict;
            }
        };
        assert!(
            matches!(verdict, Verdict::Succeeded(found) if found.len() == files),
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn without_a_client_progress_goes_to_everybody_and_the_rest_to_nobody() {
    let sim = start(fast(Version::V0_27)).await;
    let mut listener = Attempt::begin(&sim).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let submit = http.post(format!("{}/prompt", sim.url())).json(&json!({ "prompt": picture(7) }));
    let reply: Value = submit.send().await.unwrap().json().await.unwrap();
    let prompt_id = reply["prompt_id"].as_str().unwrap();
    let mut heard = Vec::new();
    loop {
        match listener.wait_for(|_| true).await {
            Message::Status { queue_remaining: 0, sid: None } => break,
            message if message.is_about(prompt_id) => heard.push(message),
            _ => {}
        }
    }
    assert!(heard.iter().any(|message| matches!(message, Message::ProgressState { .. })));
    let private = |message: &Message| {
        !matches!(message, Message::ProgressState { .. } | Message::Progress { .. })
    };
    assert!(!heard.iter().any(private), "{heard:?}");
}

#[tokio::test]
async fn prompt_ids_are_any_text_for_the_older_and_lowercase_uuids_for_the_newer_version() {
    for (version, taken) in [(Version::V0_3_64, true), (Version::V0_27, false)] {
        let sim = start(fast(version)).await;
        for id in
            ["job-1", "0727AE9A-6666-44D4-A71C-5BDF0E1D9B4B", "0727ae9a666644d4a71c5bdf0e1d9b4b"]
        {
            let graph = sleeping(0.0);
            let submission = Submission {
                graph: &graph,
                prompt_id: id,
                client_id: "c",
                extra_data: &Map::new(),
            };
            match client(&sim).submit(&submission).await {
                Ok(reply) => assert!(taken && reply.prompt_id == id, "{version:?} took {id}"),
                Err(SubmitError::Rejected(rejection)) => {
                    assert!(
                        !taken && rejection.error.kind == "invalid_prompt_id",
                        "{version:?} refused {id}"
                    );
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_partly_invalid_graph_runs_in_part() {
    let sim = start(fast(Version::V0_27)).await;
    let mut graph = picture(7);
    graph["8"] = json!({"class_type": "SaveImage", "inputs": {"filename_prefix": "nothing"}});
    let attempt = Attempt::begin(&sim).await;
    let reply = attempt.try_submit(&graph).await.unwrap();
    assert_eq!(reply.node_errors["8"].errors[0].kind, "required_input_missing");
    let Verdict::Succeeded(files) = attempt.final_verdict().await else { panic!("not done") };
    assert_eq!(files.len(), 1);
}

#[tokio::test]
async fn validation_finds_what_comfyui_finds() {
    let sim = start(fast(Version::V0_27)).await;
    let cases = [
        (
            "1",
            "ckpt_name",
            json!("gone.safetensors"),
            "value_not_in_list",
            FailureKind::WrongWorker,
        ),
        ("5", "sampler_name", json!("eulerr"), "value_not_in_list", FailureKind::BadJob),
        ("5", "steps", json!("many"), "invalid_input_type", FailureKind::BadJob),
        ("5", "steps", json!(100_000), "value_bigger_than_max", FailureKind::BadJob),
        ("5", "model", json!(["4", 0]), "return_type_mismatch", FailureKind::BadJob),
        ("5", "model", json!(["4"]), "bad_linked_input", FailureKind::BadJob),
        ("5", "latent_image", json!(["5", 0]), "dependency_cycle", FailureKind::BadJob),
        ("7", "images", json!(["99", 0]), "exception_during_validation", FailureKind::BadJob),
    ];
    for (node, input, value, code, kind) in cases {
        let mut graph = picture(7);
        graph[node]["inputs"][input] = value;
        let classified = classify::rejection(&refused(&sim, &graph).await);
        assert_eq!((classified.code.as_str(), classified.kind), (code, kind), "{node}.{input}");
        assert_eq!(classified.node_id.as_deref(), Some(node), "{node}.{input}");
    }
}

#[tokio::test]
async fn values_are_converted_as_python_does() {
    let sim = start(fast(Version::V0_27)).await;
    let mut graph = picture(7);
    graph["5"]["inputs"]["steps"] = json!("3");
    graph["5"]["inputs"]["seed"] = json!(u64::MAX);
    assert_eq!(run(&sim, &graph).await.len(), 1);
}

#[tokio::test]
async fn an_uploaded_picture_is_loaded_changed_and_previewed() {
    let sim = start(fast(Version::V0_27)).await;
    let original = run(&sim, &picture(7)).await.remove(0).1;
    let uploaded = client(&sim).upload_image("", "in.png", original.clone()).await.unwrap();
    assert_eq!(uploaded.input_value(), "in.png");
    let graph = |name: &str| {
        json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "ImageBlur", "inputs": {"image": ["2", 0], "blur_radius": 3, "sigma": 1.5}},
            "4": {"class_type": "ImageScale", "inputs": {"image": ["3", 0], "upscale_method": "lanczos", "width": 32, "height": 0, "crop": "disabled"}},
            "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}}
        })
    };
    let (name, bytes) = run(&sim, &graph("in.png")).await.remove(0);
    assert!(name.starts_with("ComfyUI_temp_"), "{name}");
    let decoded = image::load_from_memory(&bytes).unwrap();
    assert_eq!((decoded.width(), decoded.height()), (32, 32));
    let missing = refused(&sim, &graph("out.png")).await;
    assert_eq!(missing.node_errors["1"].errors[0].kind, "custom_validation_failed");
    let elsewhere = client(&sim).upload_image("jobs/7", "in.png", original).await.unwrap();
    assert_eq!(elsewhere.input_value(), "jobs/7/in.png");
    assert_eq!(run(&sim, &graph("jobs/7/in.png")).await.len(), 1);
}

#[tokio::test]
async fn a_changed_upload_of_the_same_name_is_not_taken_from_the_cache() {
    let sim = start(fast(Version::V0_27)).await;
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}}
    });
    let mut results = Vec::new();
    for seed in [1, 2] {
        let bytes = run(&sim, &picture(seed)).await.remove(0).1;
        let part = reqwest::multipart::Part::bytes(bytes).file_name("in.png");
        let form = reqwest::multipart::Form::new().part("image", part).text("overwrite", "true");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let reply =
            http.post(format!("{}/upload/image", sim.url())).multipart(form).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        results.push(run(&sim, &graph).await);
    }
    assert_ne!(results[0][0].1, results[1][0].1);
}

#[tokio::test]
async fn an_error_names_its_node() {
    let sim = start(fast(Version::V0_27)).await;
    let mut graph = sleeping(0.0);
    graph["2"] = json!({"class_type": "SimFail", "inputs": {"value": ["1", 0], "message": "no luck", "exception_type": "ValueError"}});
    let mut attempt = Attempt::begin(&sim).await;
    attempt.submit(&graph).await;
    let Verdict::Failed(error) = attempt.final_verdict().await else { panic!("not failed") };
    let classified = classify::execution_error(&error);
    assert_eq!(classified.message, "ValueError: no luck");
    assert_eq!(
        (classified.node_id.as_deref(), classified.node_type.as_deref()),
        (Some("2"), Some("SimFail"))
    );
}

#[tokio::test]
async fn cancel_reaches_what_runs_and_what_waits() {
    for version in VERSIONS {
        let sim = start(fast(version)).await;
        let mut running = Attempt::begin(&sim).await;
        running.submit(&sleeping(60.0)).await;
        running.wait_for(|message| matches!(message, Message::Progress { .. })).await;
        let mut waiting = Attempt::begin(&sim).await;
        waiting.submit(&sleeping(60.0)).await;
        let confirmed = |yes| {
            if version == Version::V0_27 { Cancelled::Confirmed(yes) } else { Cancelled::Requested }
        };
        assert_eq!(waiting.client.cancel(&waiting.id).await.unwrap(), confirmed(true));
        assert_eq!(waiting.truth().await.verdict, Verdict::Lost);
        assert_eq!(waiting.client.cancel(&waiting.id).await.unwrap(), confirmed(false));
        assert_eq!(running.truth().await.verdict, Verdict::Running);
        assert_eq!(running.client.cancel(&running.id).await.unwrap(), confirmed(true));
        let verdict = running.final_verdict().await;
        assert!(matches!(verdict, Verdict::Interrupted(_)), "{version:?}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_global_interrupt_does_not_leak_into_the_next_prompt() {
    let sim = start(fast(Version::V0_27)).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.post(format!("{}/interrupt", sim.url())).json(&json!({})).send().await.unwrap();
    assert_eq!(run(&sim, &picture(7)).await.len(), 1);
}

#[tokio::test]
async fn front_and_number_decide_the_order() {
    let sim = start(fast(Version::V0_27)).await;
    let mut running = Attempt::begin(&sim).await;
    running.submit(&sleeping(60.0)).await;
    running.wait_for(|message| matches!(message, Message::Progress { .. })).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let submit = async |wish: Value| -> String {
        let mut body = json!({ "prompt": sleeping(0.0) });
        body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let reply = http.post(format!("{}/prompt", sim.url())).json(&body).send().await.unwrap();
        reply.json::<Value>().await.unwrap()["prompt_id"].as_str().unwrap().to_owned()
    };
    let usual = submit(json!({})).await;
    let front = submit(json!({ "front": true })).await;
    let chosen = submit(json!({ "number": 0.5 })).await;
    let queue = running.client.queue_with_graphs().await.unwrap();
    let order: Vec<&str> = queue.pending.iter().map(|entry| entry.prompt_id.as_str()).collect();
    assert_eq!(order, [&front, &chosen, &usual]);
    assert_eq!(queue.running[0].graph.as_ref().unwrap()["2"]["class_type"], "SimSleep");
    assert_eq!(running.client.queue_remaining().await.unwrap(), 4);
}

#[tokio::test]
async fn jobs_exist_in_the_newer_version_alone() {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let old = start(fast(Version::V0_3_64)).await;
    assert_eq!(http.get(format!("{}/api/jobs", old.url())).send().await.unwrap().status(), 404);
    assert_eq!(
        http.post(format!("{}/api/jobs/cancel", old.url())).send().await.unwrap().status(),
        405
    );
    let new = start(fast(Version::V0_27)).await;
    let mut attempt = Attempt::begin(&new).await;
    attempt.submit(&picture(7)).await;
    attempt.final_verdict().await;
    let get = async |path: String| -> Value {
        http.get(path).send().await.unwrap().json().await.unwrap()
    };
    let list = get(format!("{}/api/jobs?status=completed,failed", new.url())).await;
    assert_eq!(list["jobs"][0]["id"], attempt.id.as_str());
    assert_eq!(list["pagination"]["total"], 1);
    let job = get(format!("{}/api/jobs/{}", new.url(), attempt.id)).await;
    assert_eq!((&job["status"], &job["outputs_count"]), (&json!("completed"), &json!(1)));
    assert_eq!(job["outputs"]["7"]["images"][0]["type"], "output");
}

#[tokio::test]
async fn the_log_is_a_canary() {
    let sim = start(fast(Version::V0_27)).await;
    let mut attempt = Attempt::begin(&sim).await;
    attempt.client.subscribe_logs(&attempt.id, true).await.unwrap();
    attempt.client.interrupt("nobody").await.unwrap();
    let Message::Logs(entries) =
        attempt.wait_for(|message| matches!(message, Message::Logs(_))).await
    else {
        unreachable!()
    };
    assert!(entries[0].text.contains("nobody is not currently running"), "{entries:?}");
    let raw = attempt.client.logs_raw().await.unwrap();
    assert_eq!(raw.entries.last(), entries.last());
}

#[tokio::test]
async fn what_is_installed_is_known() {
    let sim = start(SimConfig {
        checkpoints: vec!["a.safetensors".into(), "b.ckpt".into()],
        ..fast(Version::V0_27)
    })
    .await;
    let info = client(&sim).object_info().await.unwrap();
    assert!(graph::class_types(&picture(1)).iter().all(|class| info.has_class(class)));
    assert!(info.is_output_node("SaveImage") && !info.is_output_node("KSampler"));
    assert_eq!(info.models().into_iter().collect::<Vec<_>>(), ["a.safetensors", "b.ckpt"]);
    let stats = client(&sim).system_stats().await.unwrap();
    assert_eq!(stats.system.comfyui_version.as_deref(), Some("0.27.0"));
    assert_eq!(stats.devices[0].vram_total, 24 << 30);
}

#[tokio::test]
async fn foreign_pages_are_refused() {
    let sim = start(fast(Version::V0_27)).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |name: &'static str, value: &str| {
        http.get(format!("{}/queue", sim.url())).header(name, value).send().await.unwrap().status()
    };
    assert_eq!(get("origin", "http://evil.example").await, 403);
    assert_eq!(get("sec-fetch-site", "cross-site").await, 403);
    assert_eq!(get("origin", &sim.url()).await, 200);
}

#[tokio::test]
async fn what_is_not_json_is_a_fault_and_what_is_too_large_is_refused() {
    let sim = start(fast(Version::V0_27)).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post =
        async |body: Vec<u8>| http.post(format!("{}/prompt", sim.url())).body(body).send().await;
    assert_eq!(post(b"{".to_vec()).await.unwrap().status(), 500);
    let graph = json!({"1": {"class_type": "X", "inputs": {"blob": "x".repeat(101 << 20)}}});
    let error = Attempt::begin(&sim).await.try_submit(&graph).await.unwrap_err();
    // The service may close the connection before it has read everything.
    assert!(matches!(error, SubmitError::TooLarge { .. } | SubmitError::Unknown(_)), "{error:?}");
}

#[tokio::test]
async fn a_missing_file_and_a_path_that_leads_outside_are_told_apart() {
    let sim = start(fast(Version::V0_27)).await;
    let view =
        async |name: &'static str| client(&sim).view(name, "", Folder::Output).await.unwrap_err();
    assert!(view("nope.png").await.is_not_found());
    assert!(matches!(view("../x").await, RequestError::Status { status, .. } if status == 400));
}

#[tokio::test]
async fn files_stay_in_the_folder_that_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let config = SimConfig { folder: Some(folder.path().to_owned()), ..fast(Version::V0_27) };
    let sim = start(config).await;
    run(&sim, &picture(7)).await;
    sim.stop().await;
    assert!(folder.path().join("output/lake_00001_.png").is_file());
}

#[tokio::test]
async fn a_stopped_simulator_listens_no_more() {
    let sim = Simulator::start(SimConfig::default()).await.unwrap();
    let client = client(&sim);
    client.queue().await.unwrap();
    sim.stop().await;
    assert!(client.queue().await.is_err());
}

#[tokio::test]
async fn a_dropped_simulator_cuts_its_connections() {
    let sim = start(fast(Version::V0_27)).await;
    let mut attempt = Attempt::begin(&sim).await;
    drop(sim);
    let (_, end) = common::collect(&mut attempt.events).await;
    assert!(matches!(end, Disconnected::Broken(_)), "{end:?}");
}
