//! Replays what real servers said into the types of this crate.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use bytes::Bytes;
use pointsman_comfyui::{
    FailureKind, HistoryEntry, ImageFormat, Message, ObjectInfo, QueueState, Rejection,
    SubmitReply, SystemStats, Verdict, classify, verdict,
};
use serde_json::Value;

const VERSIONS: [&str; 2] = ["0.3.64", "0.27.0"];

struct Record(Value);

impl Record {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    fn response(&self) -> Vec<u8> {
        self.0["response"].to_string().into_bytes()
    }

    fn is_http(&self, method: &str, path: &str) -> bool {
        self.text("method") == method && self.text("path").starts_with(path)
    }
}

fn load(version: &str, scenario: &str) -> Vec<Record> {
    let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(version);
    let text = std::fs::read(wire.join(format!("{scenario}.json"))).unwrap();
    let mut recording: Value = serde_json::from_slice(&text).unwrap();
    let Value::Array(records) = recording["records"].take() else { panic!("no records") };
    records.into_iter().map(Record).collect()
}

fn all() -> impl Iterator<Item = (String, Vec<Record>)> {
    VERSIONS.into_iter().flat_map(|version| {
        let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(version);
        let names = std::fs::read_dir(wire).unwrap().map(|entry| entry.unwrap().path());
        names.map(move |path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (format!("{version} {name}"), load(version, &name))
        })
    })
}

#[test]
fn every_text_message_is_known() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (name, records) in all() {
        for record in records.iter().filter(|record| record.text("kind") == "ws") {
            let text = record.0["message"].to_string();
            let message =
                Message::from_text(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
            assert!(!matches!(message, Message::Unknown { .. }), "{name}: {text}");
            let named = record.0["message"]["data"]["prompt_id"].as_str();
            assert_eq!(message.prompt_id(), named, "{name}: {text}");
            *kinds.entry(record.0["message"]["type"].as_str().unwrap().to_owned()).or_default() +=
                1;
        }
    }
    let seen: Vec<&str> = kinds.keys().map(String::as_str).collect();
    let expected = [
        "executed",
        "executing",
        "execution_cached",
        "execution_error",
        "execution_interrupted",
        "execution_start",
        "execution_success",
        "feature_flags",
        "progress",
        "progress_state",
        "status",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn every_binary_message_is_a_preview_with_metadata_if_that_was_announced() {
    for (name, records) in all() {
        for record in records.iter().filter(|record| record.text("kind") == "ws_binary") {
            let frame = Bytes::from(
                base64::prelude::BASE64_STANDARD.decode(record.text("base64")).unwrap(),
            );
            let Message::Preview(preview) = Message::from_binary(&frame).unwrap() else {
                panic!("{name}")
            };
            assert_eq!(preview.format, ImageFormat::Jpeg, "{name}");
            assert!(preview.image.starts_with(&[0xFF, 0xD8]), "{name}: not a JPEG");
            assert_eq!(
                preview.metadata.is_some(),
                name.ends_with("progress_with_preview"),
                "{name}"
            );
            assert!(
                preview.metadata.is_none_or(|data| data.node_id.as_deref() == Some("2")),
                "{name}"
            );
        }
    }
}

#[test]
fn every_answer_is_read() {
    for (name, records) in all() {
        for record in records
            .iter()
            .filter(|record| record.text("kind") == "http" && record.0["response"] != "")
        {
            let body = record.response();
            let (status, path) = (record.0["status"].as_u64().unwrap(), record.text("path"));
            let id = path.rsplit('/').next().unwrap();
            let read = match (record.text("method"), path.split(['/', '?']).nth(1).unwrap(), status)
            {
                ("POST", "prompt", 200) => serde_json::from_slice::<SubmitReply>(&body).is_ok(),
                ("POST", "prompt", 400) => serde_json::from_slice::<Rejection>(&body).is_ok(),
                ("GET", "queue", 200) => QueueState::parse(&body, true).is_ok(),
                ("GET", "history", 200) => HistoryEntry::parse(&body, id).is_ok(),
                ("GET", "system_stats", 200) => {
                    serde_json::from_slice::<SystemStats>(&body).is_ok()
                }
                ("GET", "object_info", 200) => ObjectInfo::parse(&body).is_ok(),
                ("GET", "prompt" | "features" | "models" | "embeddings", 200) => true,
                other => panic!("{name}: not expected: {other:?}"),
            };
            assert!(read, "{name}: {path}");
        }
    }
}

/// The queue that was read last before, and the last history that was read.
fn judge(version: &str, scenario: &str) -> Verdict {
    let records = load(version, scenario);
    let history = records.iter().rfind(|record| record.is_http("GET", "/history/")).unwrap();
    let prompt_id = history.text("path").rsplit('/').next().unwrap();
    let entry = HistoryEntry::parse(&history.response(), prompt_id).unwrap();
    let queue = records.iter().rfind(|record| record.is_http("GET", "/queue"));
    let queue = queue.map_or_else(QueueState::default, |queue| {
        QueueState::parse(&queue.response(), false).unwrap()
    });
    verdict(prompt_id, &queue, entry.as_ref())
}

#[test]
fn the_verdict_is_what_the_scenario_says() {
    for version in VERSIONS {
        for scenario in [
            "normal",
            "fully_cached",
            "partly_cached",
            "cached_socket_too_late",
            "progress",
            "progress_with_preview",
            "preview_without_metadata",
            "client_chosen_prompt_id",
            "socket_reconnects",
            "interrupt_of_another",
            "silent_node",
        ] {
            let Verdict::Succeeded(files) = judge(version, scenario) else {
                panic!("{version} {scenario}")
            };
            assert_eq!(files.len(), 1, "{version} {scenario}");
            assert_eq!(
                (files[0].node_id.as_str(), files[0].index, files[0].list.as_str()),
                ("3", 0, "images")
            );
            assert!(files[0].filename.ends_with("_.png"), "{version} {scenario}");
        }
        for scenario in ["runtime_error", "second_listener"] {
            let Verdict::Failed(error) = judge(version, scenario) else {
                panic!("{version} {scenario}")
            };
            assert_eq!(
                (error.node_id.as_str(), error.exception_type.as_str()),
                ("2", "RuntimeError")
            );
            assert_eq!(classify::execution_error(&error).kind, FailureKind::BadJob);
        }
        let Verdict::Interrupted(interruption) = judge(version, "interrupted") else {
            panic!("{version}")
        };
        assert_eq!(interruption.node_type, "TestSleep");
        assert_eq!(judge(version, "deleted_from_queue"), Verdict::Lost, "{version}");
    }
}

#[test]
fn a_prompt_in_the_queue_runs_or_waits_and_graphs_are_kept_on_request() {
    for version in VERSIONS {
        let records = load(version, "deleted_from_queue");
        let reply =
            records.iter().find(|record| record.is_http("GET", "/queue")).unwrap().response();
        let queue = QueueState::parse(&reply, false).unwrap();
        let (running, pending) = (&queue.running[0], &queue.pending[0]);
        assert_eq!(verdict(&running.prompt_id, &queue, None), Verdict::Running);
        assert_eq!(
            verdict(&pending.prompt_id, &queue, None),
            Verdict::Pending { position: 1, foreign_ahead: 0 }
        );
        assert_eq!(
            (running.client_id.is_some(), running.create_time.is_some()),
            (true, version == "0.27.0")
        );
        assert_eq!(running.graph, None);
        for entry in [running, pending] {
            assert_eq!(entry.outputs_to_execute.as_deref(), Some(&["3".to_owned()][..]));
        }
        let with_graphs = QueueState::parse(&reply, true).unwrap();
        assert_eq!(with_graphs.running[0].graph.as_ref().unwrap()["1"]["class_type"], "EmptyImage");
    }
}

#[test]
fn refusals_are_classified() {
    let expected = [
        (FailureKind::WrongWorker, "missing_node_type"),
        (FailureKind::BadJob, "required_input_missing"),
        (FailureKind::BadJob, "value_smaller_than_min"),
        (FailureKind::BadJob, "prompt_no_outputs"),
        (FailureKind::BadJob, "prompt_no_outputs"),
        (FailureKind::BadJob, "no_prompt"),
        (FailureKind::BadJob, "exception_during_inner_validation"),
    ];
    for version in VERSIONS {
        let records = load(version, "rejected");
        let refusals = records
            .iter()
            .map(|record| serde_json::from_slice::<Rejection>(&record.response()).unwrap());
        let classified: Vec<_> = refusals.map(|refusal| classify::rejection(&refusal)).collect();
        let found: Vec<_> =
            classified.iter().map(|found| (found.kind, found.code.as_str())).collect();
        assert_eq!(found, expected, "{version}");
        assert_eq!(classified[0].node_type.as_deref(), Some("NoSuchNode"), "{version}");
        assert_eq!(classified[2].node_id.as_deref(), Some("1"), "{version}");
    }
}

#[test]
fn cached_nodes_are_found_in_history() {
    for (scenario, cached) in
        [("normal", vec![]), ("partly_cached", vec!["1"]), ("fully_cached", vec!["1", "2", "3"])]
    {
        let records = load("0.27.0", scenario);
        let history = records.iter().rfind(|record| record.is_http("GET", "/history/")).unwrap();
        let prompt_id = history.text("path").rsplit('/').next().unwrap();
        let entry = HistoryEntry::parse(&history.response(), prompt_id).unwrap().unwrap();
        assert_eq!(entry.cached_nodes(), cached, "{scenario}");
        assert_eq!(entry.outputs_to_execute, Some(vec!["3".to_owned()]), "{scenario}");
    }
}
