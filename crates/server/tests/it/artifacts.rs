//! Files: up, bound by the ending, and down.

use futures::TryStreamExt as _;
use pointsman_api::{ErrorCode, OpResult};
use pointsman_core::{
    JobId, LossReason, Token,
    bounds::{MAX_ARTIFACTS, MAX_LABEL},
    command::{Held, Op, OpAnswer, Outcome},
    record::{Artifact, JobStatus},
};
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{Fixture, Worker, artifact, completed, op, source, start};

const PICTURE: &[u8] = b"0123456789abcdef";

/// Runs a job that makes one picture.
async fn picture(server: &Fixture, worker: &Worker, name: &str) -> JobId {
    let job = server.submit().await.id;
    let (held, _) = worker.take().await;
    let stored = server.client.put_artifact(held, name, "image/png", source(PICTURE)).await;
    let artifact = artifact(name, &stored.unwrap());
    let unbound = server.client.artifact(job, name).await.unwrap_err();
    assert!(unbound.is(ErrorCode::ArtifactNotFound), "only the ending binds: {unbound}");
    worker.exchange(vec![op(held, completed(vec![artifact]))], 0, 0.0).await;
    job
}

#[tokio::test]
async fn what_came_too_late_to_count_is_served_beside_what_counts() {
    let server = start().await;
    let worker = server.worker("w").await;
    let job = server.submit().await.id;
    let name = "9-0-a.png";
    let mut attempts = Vec::new();
    for (bytes, result) in [(&b"late"[..], "too late"), (&b"in time"[..], "in time")] {
        let (held, _) = worker.take().await;
        let stored = server.client.put_artifact(held, name, "image/png", source(bytes)).await;
        let Op::Finish(mut finish) = completed(vec![artifact(name, &stored.unwrap())]) else {
            unreachable!()
        };
        if let Outcome::Completed { result: handed_in, .. } = &mut finish.outcome {
            *handed_in = Some(json!({ "is": result }));
        }
        if attempts.is_empty() {
            let (reason, message) = (LossReason::ServiceLost, String::new());
            worker.exchange(vec![op(held, Op::Release { reason, message })], 0, 0.0).await;
        }
        attempts.push((held, finish));
    }
    let [(late, too_late), (held, in_time)] = &attempts[..] else { unreachable!() };
    // It may still hand in what it made, and so it may store it.
    let more = server.client.put_artifact(*late, "more.png", "image/png", source(b"more"));
    more.await.unwrap();
    let never = Held { token: Token::from_uuid(Uuid::nil()), ..*late };
    for (nobodys, code) in [
        (never, ErrorCode::StaleAttempt),
        (Held { attempt: 2, ..never }, ErrorCode::UnknownAttempt),
        (Held { attempt: 3, ..*held }, ErrorCode::UnknownAttempt),
    ] {
        let refused = server.client.put_artifact(nobodys, name, "image/png", source(b"x")).await;
        assert!(refused.unwrap_err().is(code), "{nobodys:?}");
    }
    worker.exchange(vec![op(*held, Op::Finish(in_time.clone()))], 0, 0.0).await;
    let kept = worker.exchange(vec![op(*late, Op::Late(too_late.clone()))], 0, 0.0).await;
    assert_eq!(kept.ops, [OpResult::Answer(OpAnswer::LateKept { won: false })]);

    let record = server.client.job(job).await.unwrap();
    let listed: Vec<_> = record.past_attempts.iter().map(|past| &past.late_artifacts).collect();
    assert_eq!((listed[0][0].name.as_str(), listed[0][0].size), (name, 4));
    assert_eq!(record.artifacts[0].size, 7);
    for (path, text) in [
        (format!("artifacts/{name}"), "in time"),
        (format!("artifacts/{name}?attempt=1"), "late"),
        ("result".to_owned(), r#"{"is":"in time"}"#),
        ("result?attempt=1".to_owned(), r#"{"is":"too late"}"#),
    ] {
        let answer = server.ask(server.get(&format!("/api/v1/jobs/{job}/{path}"))).await;
        assert_eq!(String::from_utf8_lossy(&answer.body), text, "{path}");
    }
    for (path, code) in [
        (format!("artifacts/{name}?attempt=2"), "artifact_not_found"),
        ("artifacts/other?attempt=1".to_owned(), "artifact_not_found"),
        ("result?attempt=3".to_owned(), "result_not_found"),
        ("result?atempt=1".to_owned(), "invalid_query"),
    ] {
        let answer = server.ask(server.get(&format!("/api/v1/jobs/{job}/{path}"))).await;
        assert_eq!(answer.code(), code, "{path}");
    }
}

#[tokio::test]
async fn a_picture_is_bound_by_the_ending_and_served_in_parts() {
    let server = start().await;
    let worker = server.worker("w").await;
    let name = "9-0-ein Bild (1)#.png";
    let job = picture(&server, &worker, name).await;
    let file = server.client.artifact(job, name).await.unwrap();
    assert_eq!((file.size, file.media_type.as_deref()), (Some(16), Some("image/png")));
    assert_eq!(&file.bytes().await.unwrap()[..], PICTURE);

    let path = format!("/api/v1/jobs/{job}/artifacts/9-0-ein%20Bild%20(1)%23.png");
    let whole = server.ask(server.get(&path)).await;
    let etag = whole.header("etag").to_owned();
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    // A page among the files is none of this server's; and who may see it can change.
    assert!(whole.header("content-security-policy").starts_with("sandbox; default-src 'none'"));
    assert_eq!(whole.header("cache-control"), "private, no-cache");
    let part = server.ask(server.get(&path).header("range", "bytes=4-7")).await;
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 4-7/16"));
    assert_eq!(&part.body[..], b"4567");
    let tail = server.ask(server.get(&path).header("range", "bytes=-2")).await;
    assert_eq!(&tail.body[..], b"ef");
    let outside = server.ask(server.get(&path).header("range", "bytes=16-")).await;
    assert_eq!(
        (outside.code().as_str(), outside.header("content-range")),
        ("range_not_satisfiable", "bytes */16")
    );
    for known in [&etag, &format!("\"other\", W/{etag}"), "*"] {
        let same = server.ask(server.get(&path).header("if-none-match", known)).await;
        assert_eq!((same.status, same.body.len()), (304, 0), "{known}");
    }
    let changed = server.get(&path).header("range", "bytes=4-7").header("if-range", "\"other\"");
    assert_eq!(server.ask(changed).await.status, 200);
    let head = server.ask(server.http.head(format!("{}{path}", server.url))).await;
    assert_eq!((head.status, head.header("content-length")), (200, "16"));
}

#[tokio::test]
async fn an_ending_cannot_list_what_was_not_stored() {
    let server = start().await;
    let job = server.submit().await.id;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let client = &server.client;
    let stored = client.put_artifact(held, "a.png", "image/png", source(PICTURE)).await.unwrap();
    let before = server.everything().await;
    let refused = async |artifacts: Vec<Artifact>| {
        let finish = op(held, completed(artifacts));
        match worker.exchange(vec![finish], 0, 0.0).await.ops.remove(0) {
            OpResult::Refused { refused } => (refused.code.to_string(), refused.pointer.clone()),
            OpResult::Answer(answer) => panic!("{answer:?}"),
        }
    };
    let good = artifact("a.png", &stored);
    let missing = artifact("b.png", &stored);
    let place = |rest: &str| Some(format!("/ops/0/artifacts/{rest}"));
    assert_eq!(refused(vec![good.clone(), missing]).await, ("artifact_missing".into(), place("1")));
    let other_size = Artifact { size: 99, ..good.clone() };
    assert_eq!(refused(vec![other_size]).await, ("artifact_missing".into(), place("0/size")));
    let other_content = Artifact { sha256: "0".repeat(64), ..good.clone() };
    assert_eq!(refused(vec![other_content]).await, ("digest_mismatch".into(), place("0/sha256")));
    let no_digest = Artifact { sha256: "x".into(), ..good.clone() };
    assert_eq!(refused(vec![no_digest]).await, ("wrong_type".into(), place("0/sha256")));
    let trick = Artifact { name: "../a.png".into(), ..good.clone() };
    assert_eq!(refused(vec![trick]).await, ("invalid_name".into(), place("0/name")));
    let twice = vec![good.clone(), good.clone()];
    assert_eq!(refused(twice).await, ("invalid_name".into(), place("1")));
    let long = Artifact { node: Some("n".repeat(MAX_LABEL + 1)), ..good.clone() };
    assert_eq!(refused(vec![long]).await, ("too_long".into(), place("0/node")));
    let many = vec![good.clone(); MAX_ARTIFACTS + 1];
    assert_eq!(refused(many).await, ("too_long".into(), Some("/ops/0/artifacts".to_owned())));
    for media_type in ["image/png\r\nx: y", "", "image", "image/", "/png", "image/pñg"] {
        let odd = Artifact { media_type: media_type.into(), ..good.clone() };
        assert_eq!(refused(vec![odd]).await, ("wrong_type".into(), place("0/media_type")));
    }
    assert_eq!(server.everything().await, before);
    worker.exchange(vec![op(held, completed(vec![good]))], 0, 0.0).await;
    assert_eq!(client.job(job).await.unwrap().status, JobStatus::Completed);
}

#[tokio::test]
async fn a_stored_file_is_never_overwritten() {
    let server = start().await;
    server.submit().await;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let client = &server.client;
    let put =
        |name: &'static str, bytes| client.put_artifact(held, name, "image/png", source(bytes));
    let first = put("a.png", PICTURE).await.unwrap();
    assert_eq!(put("a.png", PICTURE).await.unwrap(), first);
    assert!(put("a.png", b"other").await.unwrap_err().is(ErrorCode::ArtifactExists));
    assert!(put("../a.png", b"x").await.unwrap_err().is(ErrorCode::InvalidName));
    let path = format!(
        "/api/v1/worker/attempts/{}/artifacts/b.png?job={}&attempt={}",
        held.token, held.job, held.attempt
    );
    let wrong = server.put(&path, PICTURE).header("x-content-sha256", "0".repeat(64));
    assert_eq!(server.ask(wrong).await.code(), "digest_mismatch");
    let form = server.put(&path, PICTURE).header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(server.ask(form).await.code(), "wrong_media_type");
    let right = server.put(&path, PICTURE).header("x-content-sha256", &first.sha256);
    assert_eq!(server.ask(right).await.json()["sha256"], first.sha256);
}

/// It is bound by its content when the job is taken: what becomes of the job that made it does not
/// matter after that.
#[tokio::test]
async fn an_artifact_can_be_another_jobs_input() {
    let server = start().await;
    let worker = server.worker("w").await;
    let submit = async |job: JobId| {
        let from = format!("artifact:{job}/9-0-a.png");
        let body = json!({
            "service": "comfyui",
            "payload": {"workflow": {"3": {"class_type": "LoadImage", "inputs": {"image": "x"}}}},
            "inputs": [{"node": "3", "field": "image", "name": "x.png", "from": from}],
        });
        server.ask(server.post("/api/v1/jobs", body.to_string())).await
    };
    let gone = picture(&server, &worker, "9-0-a.png").await;
    server.lose_files();
    let answer = submit(gone).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "input_not_found"), "{answer:?}");

    let job = picture(&server, &worker, "9-0-a.png").await;
    let sha256 = &server.client.job(job).await.unwrap().artifacts[0].sha256;
    for _ in 0..2 {
        let answer = submit(job).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.json()["inputs"][0]["from"], format!("sha256:{sha256}"));
    }
    server.client.retry(job, None).await.unwrap();
    server.lose_files();
    let opened = server.client.open_input(&format!("sha256:{sha256}")).await.unwrap();
    let read: Vec<_> = opened.try_collect().await.unwrap();
    assert_eq!(read.concat(), PICTURE);
}

/// What mends it is another thing where the job is gone, has not ended, or made other files.
#[tokio::test]
async fn an_artifact_that_cannot_be_an_input_says_why_and_what_can_be_done() {
    let server = start().await;
    let worker = server.worker("w").await;
    let made = picture(&server, &worker, "9-0-a.png").await;
    let waits = server.submit().await.id;
    let gone = JobId::from_uuid(uuid::Uuid::now_v7());
    let refused = async |from: String| {
        let inputs = json!([{"node": "3", "field": "image", "name": "x.png", "from": from}]);
        let body = json!({"service": "simulation", "payload": {}, "inputs": inputs});
        let problem = server.ask(server.post("/api/v1/jobs", body.to_string())).await.json();
        assert_eq!(problem["code"], "input_not_found", "{problem}");
        assert_eq!(problem["pointer"], "/inputs/0/from", "{problem}");
        ["detail", "cure"].map(|field| problem[field].as_str().unwrap().to_owned())
    };
    let [detail, cure] = refused(format!("artifact:{made}/b.png")).await;
    assert_eq!(detail, format!("job {made} has no artifact \"b.png\""));
    assert_eq!(cure, "name one that it has: 9-0-a.png");
    let [detail, cure] = refused(format!("artifact:{waits}/a.png")).await;
    assert_eq!(detail, format!("job {waits} has no artifacts: it is pending"));
    assert_eq!(cure, "submit this job once that one has completed");
    let [detail, cure] = refused(format!("artifact:{gone}/a.png")).await;
    assert_eq!(detail, format!("there is no job {gone}, so it has no artifact"));
    assert!(cure.contains("removed") && cure.contains("POST /api/v1/inputs"), "{cure}");
    server.lose_files();
    let [detail, cure] = refused(format!("artifact:{made}/9-0-a.png")).await;
    assert!(detail.contains("9-0-a.png") && cure.contains("--artifacts"), "{detail} {cure}");
    let [_, cure] = refused(format!("sha256:{}", "0".repeat(64))).await;
    assert_eq!(cure, ErrorCode::InputNotFound.cure());
}

#[tokio::test]
async fn an_input_is_uploaded_once_and_named_by_its_content() {
    let server = start().await;
    let stored = server.client.upload_input(source(PICTURE)).await.unwrap();
    assert_eq!(stored.size, 16);
    assert_eq!(server.client.upload_input(source(PICTURE)).await.unwrap(), stored);
    let sha256 = stored.input.strip_prefix("sha256:").unwrap();
    let answer = server.ask(server.get(&format!("/api/v1/inputs/{sha256}"))).await;
    assert_eq!(&answer.body[..], PICTURE);
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let gone = server.ask(server.get(&format!("/api/v1/inputs/{}", "0".repeat(64)))).await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "input_not_found"));
}

/// Another server, with a directory of its own, says that it is not in its.
#[tokio::test]
async fn a_file_that_is_not_there_is_not_taken_for_one_that_never_was() {
    let server = start().await;
    let worker = server.worker("w").await;
    let job = picture(&server, &worker, "9-0-a.png").await;
    let unknown = server.client.artifact(job, "b.png").await.unwrap_err();
    assert!(unknown.is(ErrorCode::ArtifactNotFound), "{unknown}");
    server.lose_files();
    for range in [None, Some("bytes=0-3")] {
        let get = server.get(&format!("/api/v1/jobs/{job}/artifacts/9-0-a.png"));
        let get = range.into_iter().fold(get, |get, range| get.header("range", range));
        let answer = server.ask(get).await;
        assert_eq!((answer.status, answer.code().as_str()), (410, "artifact_gone"));
        assert!(answer.json()["cure"].as_str().unwrap().contains("--artifacts"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_form_or_nothing_is_no_input() {
    let server = start().await;
    let form = "--x\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\ncat\r\n--x--\r\n";
    for (media_type, body, status, code) in [
        ("multipart/form-data; boundary=x", form, 415, "wrong_media_type"),
        ("application/x-www-form-urlencoded", "cat", 415, "wrong_media_type"),
        ("Application/X-WWW-Form-UrlEncoded;charset=utf-8", "cat", 415, "wrong_media_type"),
        ("application/octet-stream", "", 422, "invalid_input"),
    ] {
        let upload = server.post("/api/v1/inputs", body).header("content-type", media_type);
        let answer = server.ask(upload).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{media_type}");
        let cure = answer.json()["cure"].as_str().unwrap().to_owned();
        assert!(cure.contains("--data-binary @FILE"), "{cure}");
    }
    let upload = server.post("/api/v1/inputs", "a\nb").header("content-type", "image/png");
    let answer = server.ask(upload).await;
    assert_eq!((answer.status, &answer.json()["size"]), (201, &json!(3)));
}

/// As a network file system that is not mounted any more: what is stored then nobody finds.
#[tokio::test]
async fn nothing_is_stored_and_nothing_is_missing_while_the_directory_is_away() {
    let server = start().await;
    let worker = server.worker("w").await;
    let job = picture(&server, &worker, "9-0-a.png").await;
    server.submit().await;
    let (held, _) = worker.take().await;
    let put =
        async || server.client.put_artifact(held, "b.png", "image/png", source(PICTURE)).await;
    let stored = put().await.unwrap();
    server.mount_files(false);
    let artifact = artifact("b.png", &stored);
    let finish = || vec![op(held, completed(vec![artifact.clone()]))];
    let input = format!("/api/v1/inputs/{}", "0".repeat(64));
    let path = format!("/api/v1/jobs/{job}/artifacts/9-0-a.png");
    for get in [server.get(&path), server.get(&input)] {
        let answer = server.ask(get).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "files_away"), "{answer:?}");
    }
    let stored = put().await.unwrap_err();
    assert!(stored.is(ErrorCode::FilesAway) && stored.is_transient(), "{stored}");
    let uploaded = server.client.upload_input(source(PICTURE)).await.unwrap_err();
    assert!(uploaded.is(ErrorCode::FilesAway), "{uploaded}");
    let finished =
        server.client.exchange(&worker.request(finish(), 0, 0.0), &|| {}).await.unwrap_err();
    assert!(finished.is(ErrorCode::FilesAway), "its artifacts may well be there: {finished}");
    server.mount_files(true);
    put().await.unwrap();
    worker.exchange(finish(), 0, 0.0).await;
    assert_eq!(server.client.job(held.job).await.unwrap().status, JobStatus::Completed);
}
