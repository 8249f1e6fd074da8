//! Who may do what.

use std::net::SocketAddr;

use bytes::Bytes;
use pointsman_api::{ErrorCode, Submission};
use pointsman_client::{Client, ClientError};
use pointsman_core::{CustomerId, JobId, record::ConnectorStatus};
use pointsman_server::{Limits, NewToken, Role, Server, ServerConfig, ServerError, add_token};
use serde_json::json;

use crate::fixture::{
    Fixture, Worker, artifact, completed, op, simulation, source, start, start_at,
};

fn token(data: &std::path::Path, name: &str, role: Role, customer: Option<&str>) -> String {
    let customer = customer.map(|id| CustomerId::new(id).unwrap());
    add_token(data, NewToken { name: name.into(), role, customer, payloads: false }).unwrap()
}

/// A server that can be reached from other machines.
async fn open_server() -> (Fixture, impl Fn(&str) -> Client) {
    let data = tempfile::tempdir().unwrap();
    let roles = [
        ("submit", Role::Submit, None),
        ("view", Role::View, None),
        ("worker", Role::Worker, None),
        ("admin", Role::Admin, None),
        ("acme", Role::Submit, Some("acme")),
        ("acme-admin", Role::Admin, Some("acme")),
    ];
    let tokens: Vec<(String, String)> = roles
        .into_iter()
        .map(|(name, role, customer)| (name.into(), token(data.path(), name, role, customer)))
        .collect();
    let server = start_at(SocketAddr::from(([0, 0, 0, 0], 0)), data).await;
    let url = server.url.clone();
    let client = move |name: &str| {
        let secret = tokens.iter().find(|(other, _)| other == name).map(|(_, secret)| secret);
        Client::new(&url, secret.map(String::as_str)).unwrap()
    };
    (server, client)
}

#[tokio::test]
async fn on_loopback_nobody_needs_a_token_but_nothing_foreign_comes_in() {
    let server = start().await;
    let list = || server.get("/api/v1/jobs");
    assert_eq!(server.ask(list()).await.status, 200);
    let port = server.url.rsplit(':').next().unwrap();
    let rebound = list().header("host", format!("evil.example:{port}"));
    assert_eq!(server.ask(rebound).await.code(), "foreign_host");
    let other_site = list().header("origin", "http://evil.example");
    assert_eq!(server.ask(other_site).await.code(), "foreign_origin");
    let own_page = list().header("origin", server.url.clone());
    assert_eq!(server.ask(own_page).await.status, 200);
    let page = server.get("/").header("host", "evil.example");
    assert_eq!(server.ask(page).await.code(), "foreign_host");
    let body = serde_json::to_vec(&simulation()).unwrap();
    let sent = server.post("/api/v1/jobs", body).header("origin", "null");
    assert_eq!(server.ask(sent).await.code(), "foreign_origin");
    assert!(server.client.jobs(&Default::default()).await.unwrap().jobs.is_empty());
    // A token that is sent must be right, also here.
    let wrong = list().header("authorization", "Bearer pm_wrong");
    assert_eq!(server.ask(wrong).await.status, 401);
}

#[tokio::test]
async fn what_comes_through_a_proxy_is_not_local() {
    let data = tempfile::tempdir().unwrap();
    let secret = token(data.path(), "view", Role::View, None);
    let server = start_at(SocketAddr::from(([127, 0, 0, 1], 0)), data).await;
    let list = || server.get("/api/v1/jobs");
    for (name, value) in [
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "jobs.example"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.1"),
        ("via", "1.1 proxy"),
    ] {
        let through = || list().header(name, value);
        let refused = server.ask(through()).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "unauthorized"), "{name}");
        let detail = refused.json()["detail"].as_str().unwrap().to_lowercase();
        assert!(detail.contains("proxy") && detail.contains(name), "{detail}");
        let own_page = through()
            .header("host", "jobs.example")
            .header("origin", "https://jobs.example")
            .bearer_auth(&secret);
        assert_eq!(server.ask(own_page).await.status, 200, "{name}");
    }
    // As a proxy speaks that says nothing of itself.
    let old = list().version(reqwest::Version::HTTP_10);
    assert_eq!(server.ask(old).await.status, 401);
    assert_eq!(server.ask(list()).await.status, 200);
}

#[tokio::test]
async fn elsewhere_every_request_needs_a_token() {
    let (server, client) = open_server().await;
    for path in ["/api/v1/jobs", "/api/v1/snapshot", "/api/v1/events", "/metrics", "/api/v1/log"] {
        let answer = server.ask(server.get(path)).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let basic = server.get("/api/v1/jobs").header("authorization", "Basic eDp5");
    assert_eq!(server.ask(basic).await.code(), "unauthorized");
    for path in ["/livez", "/readyz", "/api/openapi.json"] {
        assert_eq!(server.ask(server.get(path)).await.status, 200, "{path}");
    }
    assert!(matches!(client("nobody").submit(&simulation()).await, Err(ClientError::Refused(_))));
}

#[tokio::test]
async fn each_role_does_what_it_is_for() {
    let (_server, client) = open_server().await;
    let job = client("submit").submit(&simulation()).await.unwrap().job.id;
    let forbidden = |error: ClientError| assert!(error.is(ErrorCode::Forbidden), "{error}");
    client("view").job(job).await.unwrap();
    client("view").snapshot().await.unwrap();
    forbidden(client("view").submit(&simulation()).await.unwrap_err());
    forbidden(client("view").cancel(job).await.unwrap_err());
    forbidden(client("view").payload(job).await.unwrap_err());
    client("submit").payload(job).await.unwrap();
    forbidden(client("submit").drain(&"w".parse().unwrap()).await.unwrap_err());
    forbidden(client("submit").set_intake(false).await.unwrap_err());
    forbidden(client("worker").job(job).await.unwrap_err());
    forbidden(client("worker").snapshot().await.unwrap_err());
    let leave = pointsman_api::LeaveRequest {
        worker_id: "w".parse().unwrap(),
        incarnation: pointsman_core::Incarnation::from_uuid(uuid::Uuid::new_v4()),
    };
    forbidden(client("submit").leave(&leave).await.unwrap_err());
    let unknown = client("worker").leave(&leave).await.unwrap_err();
    assert!(unknown.is(ErrorCode::WorkerNotFound), "{unknown}");
    let unknown = client("admin").drain(&"w".parse().unwrap()).await.unwrap_err();
    assert!(unknown.is(ErrorCode::WorkerNotFound), "{unknown}");
}

#[tokio::test]
async fn a_customer_sees_only_its_own_jobs() {
    let (server, client) = open_server().await;
    let other = showing_all(&server, client("submit"), client("worker")).await;
    let acme = client("acme");
    let own = acme.submit(&simulation()).await.unwrap().job;
    assert_eq!(own.customer_id.as_ref().unwrap().as_str(), "acme");
    let listed = acme.jobs(&Default::default()).await.unwrap().jobs;
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [own.id]);
    let hidden = |error: ClientError| assert!(error.is(ErrorCode::JobNotFound), "{error}");
    hidden(acme.job(other).await.unwrap_err());
    hidden(acme.payload(other).await.unwrap_err());
    hidden(acme.result(other).await.unwrap_err());
    hidden(acme.attempts(other).await.unwrap_err());
    hidden(acme.explain(other).await.unwrap_err());
    hidden(acme.cancel(other).await.unwrap_err());
    hidden(acme.retry(other, None).await.unwrap_err());
    hidden(acme.job_events(other).await.map(drop).unwrap_err());
    hidden(acme.artifact(other, "a.png").await.map(drop).unwrap_err());
    hidden(acme.preview(other).await.map(drop).unwrap_err());
    assert!(acme.snapshot().await.unwrap_err().is(ErrorCode::Forbidden));
    assert!(acme.events(None, None).await.unwrap_err().is(ErrorCode::Forbidden));
    assert!(acme.log("a.0", 1).await.unwrap_err().is(ErrorCode::Forbidden));
    let mut foreign = simulation();
    foreign.customer_id = Some("umbrella".into());
    let refused = acme.submit(&foreign).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().pointer.as_deref(), Some("/customer_id"));
    let taken = json!([
        {"node": "1", "field": "x", "name": "x", "from": format!("artifact:{other}/a.png")},
    ]);
    let mut taking = simulation();
    taking.inputs = serde_json::from_value(taken).unwrap();
    assert!(acme.submit(&taking).await.unwrap_err().is(ErrorCode::InputNotFound));
    client("submit").submit(&taking).await.unwrap();
}

/// A job with everything that can be had of one, and whoever may see all jobs sees it.
async fn showing_all(server: &Fixture, submitter: Client, worker: Client) -> JobId {
    let worker = server.worker_of(worker, "w").await;
    let job = submitter.submit(&simulation()).await.unwrap().job.id;
    let (held, _) = worker.take().await;
    let file = worker.client.put_artifact(held, "a.png", "image/png", source(b"secret")).await;
    let file = artifact("a.png", &file.unwrap());
    let picture = Bytes::from_static(b"secret");
    worker.client.put_preview(held, 1, "image/png", picture).await.unwrap();
    submitter.preview(job).await.unwrap();
    worker.exchange(vec![op(held, completed(vec![file]))], 0, 0.0).await;
    submitter.payload(job).await.unwrap();
    submitter.result(job).await.unwrap();
    submitter.artifact(job, "a.png").await.unwrap();
    job
}

/// Of two customers that number their orders from 1, each gets its own job.
#[tokio::test]
async fn an_idempotency_key_is_its_customers_own() {
    let (_server, client) = open_server().await;
    let keyed = Submission { idempotency_key: Some("order-1".into()), ..simulation() };
    let other = client("submit").submit(&keyed).await.unwrap();
    let own = client("acme").submit(&keyed).await.unwrap();
    assert!(!own.existed);
    assert_ne!(own.job.id, other.job.id);
    for (name, first) in [("submit", &other), ("acme", &own)] {
        let again = client(name).submit(&keyed).await.unwrap();
        assert_eq!((again.existed, again.job.id), (true, first.job.id), "{name}");
    }
}

#[tokio::test]
async fn no_customer_takes_all_event_streams() {
    let (_server, client) = open_server().await;
    let job = client("acme").submit(&simulation()).await.unwrap().job.id;
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(client("acme").job_events(job).await.unwrap());
    }
    let refused = client("acme").job_events(job).await.map(drop).unwrap_err();
    assert!(refused.is(ErrorCode::TooManyStreams), "{refused}");
    assert!(refused.to_string().contains("acme has 50"), "{refused}");
    client("submit").job_events(job).await.unwrap();
}

#[tokio::test]
async fn no_token_of_a_customer_does_a_workers_work() {
    let (server, client) = open_server().await;
    let other = client("submit").submit(&simulation()).await.unwrap().job.id;
    let worker = server.worker_of(client("worker"), "w").await;
    let stolen = Worker { client: client("acme-admin"), ..worker };
    for refused in [
        stolen.client.register(&stolen.registration(), &|| {}).await.map(drop),
        stolen.client.renew(&stolen.renewal(Vec::new())).await.map(drop),
        stolen.client.exchange(&stolen.request(Vec::new(), 1, 0.0), &|| {}).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.is(ErrorCode::Forbidden), "{refused}");
        assert!(refused.to_string().contains("of customer acme"), "{refused}");
    }
    let still = client("submit").job(other).await.unwrap();
    assert_eq!(still.status, pointsman_core::record::JobStatus::Pending);
}

#[tokio::test]
async fn a_customer_is_told_why_its_job_waits_but_not_which_workers_there_are() {
    let (server, client) = open_server().await;
    let worker = server.worker_of(client("worker"), "hidden").await;
    let mut renewal = worker.renewal(Vec::new());
    renewal.connectors[0].status = ConnectorStatus::Error;
    renewal.connectors[0].error_message = Some("hidden.internal refused".into());
    worker.client.renew(&renewal).await.unwrap();
    let plain = client("acme").submit(&simulation()).await.unwrap().job.id;
    let explained = client("acme").explain(plain).await.unwrap();
    assert_eq!(explained.explanation.able.not_ready, 1);
    assert!(!serde_json::to_string(&explained).unwrap().contains("hidden"), "{explained:?}");
    let mut asks = simulation();
    asks.requirements = Some(json!({"hardware": {"gpu_memory_gb": 80}}));
    // What it has instead may tell as much as its name.
    let job = client("acme").submit(&asks).await.unwrap().job.id;
    let explained = client("acme").explain(job).await.unwrap();
    let text = serde_json::to_string(&explained).unwrap();
    assert!(!text.contains("hidden") && !text.contains("no GPU"), "{text}");
    let rules = &explained.explanation.rules;
    assert!(rules.iter().any(|rule| rule.fail == 1));
    let named = client("submit").explain(job).await.unwrap();
    let named = serde_json::to_string(&named).unwrap();
    assert!(named.contains("hidden") && named.contains("no GPU"), "{named}");
}

#[tokio::test]
async fn beyond_loopback_nothing_listens_without_a_token() {
    let data = tempfile::tempdir().unwrap();
    let listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let config = ServerConfig { listen, data: data.path().to_owned(), limits: Limits::default() };
    let refused = Server::reserve(config).map(drop).unwrap_err();
    assert!(matches!(refused, ServerError::NoTokens { .. }));
    // As it stands there, it makes the token where this server looks for it.
    let order = format!("token add NAME --role ROLE --data {}`", data.path().display());
    assert!(refused.to_string().contains(&order), "{refused}");
}

#[tokio::test]
async fn whoever_sees_the_fleet_may_examine_and_only_an_admin_may_mend() {
    let (server, client) = open_server().await;
    for name in ["view", "submit", "admin"] {
        assert!(client(name).examine().await.unwrap().is_sound(), "{name}");
    }
    for name in ["worker", "acme", "nobody"] {
        assert!(matches!(client(name).examine().await, Err(ClientError::Refused(_))), "{name}");
    }
    for name in ["view", "submit", "worker", "acme"] {
        assert!(matches!(client(name).mend(None).await, Err(ClientError::Refused(_))), "{name}");
    }
    assert_eq!(client("admin").mend(None).await.unwrap().mended, []);
    drop(server);
}

#[tokio::test]
async fn an_id_of_no_finding_is_told() {
    let (server, client) = open_server().await;
    let gone = "wrong_status:worker/nobody".to_owned();
    let answer = client("admin").mend(Some(vec![gone.clone()])).await.unwrap();
    assert_eq!((answer.mended, answer.not_found), (vec![], vec![gone.clone()]));
    let refused = client("admin").mend(Some(vec![gone, "nonsense".to_owned()])).await;
    let Err(ClientError::Problem(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!((&*problem.code, problem.pointer.as_deref()), ("invalid_id", Some("/ids/1")));
    assert!(problem.detail.contains("\"nonsense\""), "{problem:?}");
    let many = vec!["wrong_status:worker/nobody".to_owned(); 1_001];
    let refused = client("admin").mend(Some(many)).await.unwrap_err();
    assert!(refused.is(ErrorCode::TooLong), "{refused}");
    drop(server);
}
