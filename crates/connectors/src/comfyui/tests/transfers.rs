//! Files that break off between the connector and ComfyUI.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use pointsman_comfyui::Timeouts;
use pointsman_comfyui_sim::{SimConfig, SimHandle, Simulator};
use pointsman_core::{FailureKind, LossReason};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{
    Bench, LIMIT, comfy_task, failure, lost, picture,
    plain::bringing,
    proxy::{ALL, How, Proxy},
    settings, until,
};
use crate::{
    Completion, Connector as _, RunEnd, Task,
    comfyui::{ComfyUiConnector, ComfyUiSettings},
    testing::Witness,
};

const SOON: Duration = Duration::from_millis(100);

fn uploading() -> Task {
    let graph = json!({
        "10": {"class_type": "LoadImage", "inputs": {"image": "unset.png"}},
        "11": {"class_type": "PreviewImage", "inputs": {"images": ["10", 0]}}
    });
    bringing(graph, "sha256:aa", "lake.png")
}

async fn upload(bench: &Bench, input_breaks: bool) -> Result<Completion, RunEnd> {
    let witness = Witness::new();
    witness.inputs.lock().push(("sha256:aa".into(), Bytes::from_static(b"x")));
    witness.inputs_break.store(input_breaks, Ordering::SeqCst);
    bench.run_task(uploading(), witness).await
}

/// Were it free of charge, a service that breaks each would get the job for ever.
#[tokio::test]
async fn an_upload_that_the_service_breaks_is_a_loss() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    proxy.breaks("POST /upload/image", How::Cut, ALL);
    assert_eq!(lost(upload(&bench, false).await), LossReason::ServiceLost);
}

/// An upload that is out, and of which the service takes nothing more.
async fn standing(
    stall_after: Duration,
    change: impl FnOnce(&mut ComfyUiSettings),
) -> (Standing, Proxy) {
    let sim = Simulator::start(SimConfig::default()).await.unwrap();
    let proxy = Proxy::start(sim.addr()).await;
    let mut settings = settings(&proxy.url(), "worker-a");
    settings.timeouts =
        Timeouts { connect: SOON, request: SOON, unconfirmed: SOON * 3, ..settings.timeouts };
    settings.pace.upload_quiet = SOON;
    change(&mut settings);
    proxy.breaks("POST /upload/image", How::Hold, ALL);
    let connector = ComfyUiConnector::new(settings).unwrap();
    let witness = Witness::new();
    witness.inputs.lock().push(("sha256:aa".into(), Bytes::from_static(b"x")));
    let mut task = uploading();
    task.limits.stall_after = stall_after;
    let run = tokio::spawn(async move { connector.run(task, witness.context()).await });
    until(|| proxy.held() > 0).await;
    (Standing { _sim: sim, run }, proxy)
}

struct Standing {
    _sim: SimHandle,
    run: JoinHandle<Result<Completion, RunEnd>>,
}

impl Standing {
    /// Why it was lost.
    async fn lost(self) -> String {
        let end = tokio::time::timeout(LIMIT, self.run).await.expect("the upload hangs").unwrap();
        let Err(RunEnd::GaveBack { reason: LossReason::ServiceLost, message }) = end else {
            panic!("{end:?}")
        };
        message
    }
}

/// Long before the stall time.
#[tokio::test]
async fn an_upload_to_a_service_that_dies_or_vanishes_in_the_middle_ends_soon() {
    let hour = Duration::from_secs(3600);
    let (upload, proxy) = standing(hour, |settings| settings.pace.cut_off_after = hour).await;
    proxy.vanish();
    let why = upload.lost().await;
    assert!(why.contains("refused"), "{why}");
    let (upload, proxy) = standing(hour, |settings| settings.pace.cut_off_after = hour).await;
    let _waiting = proxy.hold_up().await;
    let why = upload.lost().await;
    assert!(why.contains("not reachable"), "{why}");
}

/// As a node that holds up the whole process: its kernel takes connections.
#[tokio::test]
async fn an_upload_to_a_service_that_is_held_up_waits_for_as_long_as_a_stall_takes() {
    let (upload, proxy) = standing(SOON * 20, |settings| settings.timeouts.connect = LIMIT).await;
    proxy.hold_still();
    let why = upload.lost().await;
    assert!(why.contains("took nothing more of it for 2 s"), "{why}");
}

#[tokio::test]
async fn an_upload_may_take_longer_than_a_stall_as_long_as_it_moves() {
    let bench = Bench::new().await;
    let witness = Witness::new();
    let bytes = Bytes::from(vec![b'x'; 60]);
    witness.inputs.lock().push(("sha256:aa".into(), bytes));
    witness.inputs_pause_ms.store(50, Ordering::SeqCst);
    let mut task = uploading();
    // All of it takes longer, and no byte comes near it.
    task.limits.stall_after = Duration::from_millis(2500);
    task.limits.silence_after = LIMIT;
    // What was brought is no picture, and was brought as a whole.
    let failed = failure(bench.run_task(task, witness).await);
    assert!(!failed.code.starts_with("upload"), "{failed:?}");
}

/// An expired login's among them: the prompt is done, and its file is there.
#[tokio::test]
async fn a_page_in_the_place_of_a_file_is_waited_out() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    let login = How::Json(r#"{"error":"login"}"#);
    for (seed, how) in [(1, How::Page(200)), (2, How::Page(401)), (3, How::Page(403)), (4, login)] {
        proxy.breaks("GET /view", how, 2);
        let (end, witness) = bench.run(picture(seed)).await;
        assert_eq!((end.unwrap().artifacts.len(), proxy.breaks_left()), (1, 0), "{seed}");
        assert!(witness.artifacts.lock()[0].1.starts_with(b"\x89PNG"));
    }
}

#[tokio::test]
async fn a_file_of_no_bytes_is_an_artifact_as_any_other() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    proxy.breaks("GET /view", How::EmptyFile, 1);
    let (end, witness) = bench.run(picture(1)).await;
    assert_eq!((end.unwrap().artifacts.len(), proxy.breaks_left()), (1, 0));
    assert!(witness.artifacts.lock()[0].1.is_empty());
}

#[tokio::test]
async fn a_proxys_answer_to_an_upload_is_waited_out_for_a_while() {
    let again = |settings: &mut super::ComfyUiSettings| {
        settings.pace.reconnect = Duration::from_millis(10);
        settings.pace.cut_off_after = Duration::from_secs(2);
    };
    let (bench, proxy) = Bench::new().await.behind_a_proxy(again).await;
    for answer in [How::Page(200), How::Answer(502)] {
        proxy.breaks("POST /upload/image", answer, 1);
        // What was brought is no picture, and was brought.
        let failed = failure(upload(&bench, false).await);
        assert!(!failed.code.starts_with("upload"), "{failed:?}");
        assert_eq!(proxy.breaks_left(), 0);
    }
    proxy.breaks("POST /upload/image", How::Answer(502), ALL);
    let failed = failure(upload(&bench, false).await);
    assert_eq!((failed.kind, &*failed.code), (FailureKind::ServiceFault, "upload_refused"));
    proxy.breaks("GET /prompt", How::Answer(502), ALL);
    assert_eq!(lost(upload(&bench, false).await), LossReason::ServiceLost, "nothing is behind it");
}

#[tokio::test]
async fn an_upload_that_fails_in_the_service_says_why_as_its_log_does() {
    let folder = tempfile::tempdir().unwrap();
    let config = SimConfig { folder: Some(folder.path().to_owned()), ..SimConfig::default() };
    let bench = Bench::with(config, |_| {}).await;
    std::fs::write(folder.path().join("input/pointsman"), "in the way").unwrap();
    let failed = failure(upload(&bench, false).await);
    assert_eq!((failed.kind, &*failed.code), (FailureKind::ServiceFault, "upload_refused"));
    assert!(failed.message.contains("its log says: OSError: [Errno 20]"), "{}", failed.message);
}

#[tokio::test]
async fn the_name_of_an_input_names_no_other_folder() {
    let bench = Bench::new().await;
    let graph = json!({"10": {"class_type": "LoadImage", "inputs": {"image": "unset.png"}}});
    let task = bringing(graph, "sha256:aa", "lake.png [temp]");
    let failed = failure(bench.run_task(task, Witness::new()).await);
    assert_eq!((failed.kind, &*failed.code), (FailureKind::BadJob, "invalid_input"));
    assert!(failed.message.contains("ends in [temp]"), "{}", failed.message);
}

#[tokio::test]
async fn an_upload_that_breaks_at_its_source_costs_the_job_nothing() {
    let bench = Bench::new().await;
    assert_eq!(lost(upload(&bench, true).await), LossReason::Unstarted);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_for_a_moment_is_read_again() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    for how in [How::Cut, How::Answer(502), How::Answer(503)] {
        proxy.breaks("GET /view", how, 2);
        let completion = bench.run(picture(1)).await.0.unwrap();
        assert_eq!((completion.artifacts.len(), proxy.breaks_left()), (1, 0));
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_waited_for_while_the_service_knows_the_prompt() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    proxy.breaks("GET /view", How::Answer(503), 1_000_000);
    let running = bench.begin(comfy_task(picture(1))).await;
    until(|| proxy.breaks_left() < 999_980).await;
    assert!(!running.run.is_finished());
    // What nobody would take meanwhile does not pile up.
    until(|| proxy.sockets() == 0).await;
    bench.sim.restart().await;
    assert_eq!(lost(running.end().await), LossReason::ServiceLost);
}

#[tokio::test]
async fn a_service_that_dies_before_its_file_is_read_has_lost_the_prompt() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    proxy.breaks("GET /view", How::Answer(503), 1_000_000);
    let running = bench.begin(comfy_task(picture(1))).await;
    until(|| proxy.breaks_left() < 999_990).await;
    let Bench { sim, connector: _connector } = bench;
    sim.stop().await;
    assert_eq!(lost(running.end().await), LossReason::ServiceLost);
}

#[tokio::test]
async fn outputs_too_large_to_be_read_fail_the_job_and_say_so() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    proxy.breaks("GET /history", How::Large, ALL);
    let failed = failure(bench.run(picture(1)).await.0);
    assert_eq!((failed.kind, &*failed.code), (FailureKind::BadJob, "outputs_too_large"));
    assert!(failed.message.contains("is larger than 67108864 bytes"), "{}", failed.message);
}

#[tokio::test]
async fn a_file_that_stays_unreadable_fails_the_attempt_and_is_named() {
    let (bench, proxy) = Bench::new().await.behind_a_proxy(|_| {}).await;
    for (seed, how, why) in
        [(1, How::Answer(500), "500"), (2, How::Cut, "answer lost"), (3, How::Large, "answer lost")]
    {
        proxy.breaks("GET /view", how, 1_000_000);
        let mut task = comfy_task(picture(seed));
        task.limits.stall_after = Duration::from_millis(300);
        let failed = failure(bench.run_task(task, Witness::new()).await);
        assert_eq!((failed.kind, &*failed.code), (FailureKind::ServiceFault, "output_unreadable"));
        assert_eq!(failed.node.as_deref(), Some("7"));
        for part in ["output \"lake-", ".png", why] {
            assert!(failed.message.contains(part), "{}", failed.message);
        }
        proxy.mend();
    }
}
