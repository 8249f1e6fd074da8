//! The server itself: health, figures, pages, and its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pointsman_api::{ErrorCode, Submission};
use pointsman_server::{Limits, ServerError};
use pointsman_store::{Clock as _, ManualClock, MemStore};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    bounds::uploads,
    fixture::{start, start_on, start_with},
};

#[tokio::test]
async fn health_figures_and_the_document() {
    let server = start().await;
    server.worker("w").await;
    server.submit().await;
    assert_eq!(server.ask(server.get("/livez")).await.body, "ok\n");
    server.client.ready().await.unwrap();
    let metrics = server.ask(server.get("/metrics")).await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "pointsman_jobs{status=\"pending\"} 1",
        "pointsman_store_ready 1",
        "pointsman_live 1",
        "route=\"/api/v1/jobs\",status=\"201\"} 1",
    ] {
        assert!(text.contains(line), "{line} in:\n{text}");
    }
    assert!(!text.contains("corrupted"), "what no worker can be is no figure");
    let document = server.ask(server.get("/api/openapi.json")).await.json();
    assert!(document["paths"]["/api/v1/jobs"]["post"].is_object());
    let content = &document["paths"]["/metrics"]["get"]["responses"]["200"]["content"];
    let media_type = metrics.header("content-type").split(';').next().unwrap();
    assert!(content[media_type].is_object(), "{media_type} is not among {content}");
    let said = document.to_string();
    for link in ["[`", "](Self"] {
        assert!(!said.contains(link), "{link} is for readers of the code");
    }
}

/// Whether a value may be null, as a schema in the document says.
fn may_be_null(schema: &Value) -> bool {
    let is_null = |schema: &Value| schema == "null" || schema["type"] == "null";
    let within = ["type", "oneOf", "anyOf"].map(|key| schema[key].as_array());
    is_null(&schema["type"]) || within.into_iter().flatten().flatten().any(is_null)
}

#[tokio::test]
async fn records_and_events_are_as_the_document_says() {
    let server = start().await;
    let document = server.ask(server.get("/api/openapi.json")).await.json();
    let schemas = &document["components"]["schemas"];
    let job = server.submit().await;
    let record = serde_json::to_value(&job).unwrap();
    for (name, value) in record.as_object().unwrap() {
        let schema = &schemas["Job"]["properties"][name];
        assert!(schema.is_object(), "{name}");
        assert!(!value.is_null() || may_be_null(schema), "{name} is null: {schema}");
    }
    let mut events = server.client.job_events(job.id).await.unwrap();
    let now = events.next().await.unwrap().unwrap().read::<Value>().unwrap();
    let content = &document["paths"]["/api/v1/jobs/{id}/events"]["get"]["responses"]["200"];
    let data = content["content"]["text/event-stream"]["schema"]["$ref"].as_str().unwrap();
    let named = |path: &str| &schemas[path.rsplit('/').next().unwrap()];
    let kinds = named(data)["anyOf"].as_array().unwrap();
    let fits = |kind: &Value| {
        let schema = named(kind["$ref"].as_str().unwrap());
        let required = schema["required"].as_array().unwrap();
        required.iter().all(|name| now.get(name.as_str().unwrap()).is_some())
    };
    assert!(kinds.iter().any(fits), "{now} is none of {kinds:?}");
}

#[tokio::test]
async fn answers_are_dated_by_the_stores_clock() {
    let clock = ManualClock::default();
    assert_eq!(clock.now().as_millis(), 1_700_000_000_000);
    let (listen, data) = (([127, 0, 0, 1], 0).into(), tempfile::tempdir().unwrap());
    let server = start_on(MemStore::new(Arc::new(clock)), listen, data).await;
    for path in ["/livez", "/api/v1/jobs", "/nowhere"] {
        let answer = server.ask(server.get(path)).await;
        assert_eq!(answer.header("date"), "Tue, 14 Nov 2023 22:13:20 GMT", "{path}");
    }
}

#[tokio::test]
async fn the_pages_are_there_or_say_what_to_do() {
    let server = start().await;
    for path in ["/", "/client"] {
        let page = server.ask(server.get(path)).await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert!(page.header("content-type").starts_with("text/html"), "{path}: {page:?}");
        match page.status {
            200 => assert!(page.header("content-security-policy").contains("default-src 'self'")),
            _ => assert!(text.contains("make build"), "{path}: {text}"),
        }
    }
    assert_eq!(server.ask(server.get("/assets/..%2f..%2fpackage.json")).await.status, 404);
    assert_eq!(server.ask(server.get("/nothing")).await.code(), "route_not_found");
}

#[tokio::test]
async fn a_stopping_server_ends_streams_and_waiting_claims() {
    let server = start().await;
    let worker = server.worker("w").await;
    let mut events = server.client.events(None, None).await.unwrap();
    events.next().await.unwrap();
    let client = server.client.clone();
    let request = worker.request(Vec::new(), 1, 30.0);
    let waiting = tokio::spawn(async move { client.exchange(&request, &|| {}).await });
    // What came first is under way once what came later is answered: all of it is on one thread.
    for _ in 0..3 {
        server.client.jobs(&Default::default()).await.unwrap();
    }
    server.stop.cancel();
    let served = tokio::time::timeout(Duration::from_secs(10), server.serving).await;
    served.expect("the server ends").unwrap().unwrap();
    while let Ok(Some(_)) = events.next().await {}
    let ended = waiting.await.unwrap().unwrap_err();
    assert!(ended.is(ErrorCode::NotReady), "{ended}");
}

#[tokio::test]
async fn a_stopping_server_waits_for_no_request_beyond_its_deadline() {
    let server = start().await;
    let _slow = uploads(&server, 1_000).await;
    server.stop.cancel();
    let ended = server.serving.await.unwrap();
    assert!(matches!(ended, Err(ServerError::Deadline { connections: 1, .. })), "{ended:?}");
}

#[tokio::test]
async fn a_head_has_at_most_64_kib() {
    let server = start().await;
    let with = |bytes: usize| server.get("/api/v1/jobs").header("x-long", "x".repeat(bytes));
    assert_eq!(server.ask(with(60 << 10)).await.status, 200);
    assert_eq!(server.ask(with(70 << 10)).await.status, 431);
}

/// A client that asks for something, and reads nothing but the beginning of the answer.
pub async fn reads_nothing(url: &str, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut connection = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 15];
    connection.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    connection
}

#[tokio::test]
async fn answers_that_nobody_takes_have_a_bound() {
    const PAYLOAD: usize = 24 << 20;
    let limits = Limits { answer_bytes: PAYLOAD * 3 / 2, ..Limits::default() };
    let store = MemStore::new(Arc::new(ManualClock::default()));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = start_with(store, loopback, tempfile::tempdir().unwrap(), limits).await;
    let payload = serde_json::json!({ "text": "x".repeat(PAYLOAD) });
    let submission = Submission::new("simulation", &payload).unwrap();
    let job = server.client.submit(&submission).await.unwrap().job.id;
    let path = format!("/api/v1/jobs/{job}/payload");
    let slow = reads_nothing(&server.url, &path).await;
    let worker = server.worker("w").await;
    let request = worker.request(Vec::new(), 1, 0.0);
    let unheard = worker.client.exchange(&request, &|| {});
    let (refused, unheard) = tokio::join!(server.ask(server.get(&path)), unheard);
    assert_eq!((refused.status, refused.code().as_str()), (503, "too_many_answers"));
    let record = server.ask(server.get(&format!("/api/v1/jobs/{job}"))).await;
    assert_eq!(record.status, 200, "what is small goes on");
    let unheard = unheard.unwrap_err();
    assert!(unheard.is(ErrorCode::OutcomeUnknown), "{unheard}");
    drop(slow);
    assert_eq!(server.ask(server.get(&path)).await.status, 200);
    let again = worker.client.exchange(&request, &|| {}).await.unwrap();
    assert_eq!(again.claimed.len(), 1, "an exact repeat gets the first answer");
}

#[tokio::test]
async fn a_connection_too_many_waits_until_another_ends() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let store = MemStore::new(Arc::new(ManualClock::default()));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = start_with(store, loopback, tempfile::tempdir().unwrap(), limits).await;
    let connect = async || TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await;
    let ask = async |connection: &mut TcpStream| {
        let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
        connection.write_all(request).await.unwrap();
    };
    let hear = async |connection: &mut TcpStream| {
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            assert!(connection.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
    };
    let (mut first, mut second) = (connect().await.unwrap(), connect().await.unwrap());
    ask(&mut second).await;
    for _ in 0..10 {
        ask(&mut first).await;
        hear(&mut first).await;
    }
    assert!(second.try_read(&mut [0]).is_err(), "nobody took it");
    drop(first);
    hear(&mut second).await;
}
