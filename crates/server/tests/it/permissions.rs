//! Which tokens may call which route: every route of the document, with every kind of token.

use std::{collections::BTreeSet, net::SocketAddr};

use pointsman_core::CustomerId;
use pointsman_server::{NewToken, Role, add_token};
use reqwest::Method;

use crate::fixture::{Fixture, start_at};

/// Routes, and the tokens that may call them. A route that is in no group fails the test.
const GROUPS: [(&[&str], &[&str]); 7] = [
    (&["GET /livez", "GET /readyz"], &ALL),
    (
        &[
            "GET /api/v1/jobs",
            "GET /api/v1/jobs/{id}",
            "GET /api/v1/jobs/{id}/attempts",
            "GET /api/v1/jobs/{id}/events",
            "GET /api/v1/jobs/{id}/explain",
            "GET /api/v1/jobs/{id}/progress",
        ],
        &["submit", "view", "view-payloads", "admin", "customer", "customer-admin"],
    ),
    (
        &[
            "GET /api/v1/inputs/{sha256}",
            "GET /api/v1/jobs/{id}/artifacts/{name}",
            "GET /api/v1/jobs/{id}/payload",
            "GET /api/v1/jobs/{id}/preview",
            "GET /api/v1/jobs/{id}/result",
        ],
        &["submit", "view-payloads", "worker", "admin", "customer", "customer-admin"],
    ),
    (
        &[
            "POST /api/v1/inputs",
            "POST /api/v1/jobs",
            "POST /api/v1/jobs/batch",
            "POST /api/v1/jobs/{id}/cancel",
            "POST /api/v1/jobs/{id}/retry",
        ],
        &["submit", "admin", "customer", "customer-admin"],
    ),
    (
        &[
            "GET /api/v1/capabilities/{digest}",
            "GET /api/v1/doctor",
            "GET /api/v1/events",
            "GET /api/v1/intake",
            "GET /api/v1/log",
            "GET /api/v1/machines",
            "GET /api/v1/machines/{id}",
            "GET /api/v1/snapshot",
            "GET /api/v1/workers",
            "GET /api/v1/workers/{id}",
            "GET /metrics",
        ],
        &["submit", "view", "view-payloads", "admin"],
    ),
    (
        &[
            "DELETE /api/v1/machines/{id}",
            "DELETE /api/v1/workers/{id}",
            "POST /api/v1/doctor/repair",
            "POST /api/v1/intake/close",
            "POST /api/v1/intake/open",
            "POST /api/v1/machines/{id}/drain",
            "POST /api/v1/machines/{id}/repair",
            "POST /api/v1/machines/{id}/resume",
            "POST /api/v1/workers/{id}/drain",
            "POST /api/v1/workers/{id}/repair",
            "POST /api/v1/workers/{id}/resume",
        ],
        &["admin"],
    ),
    (
        &[
            "POST /api/v1/worker/cancel-ack",
            "POST /api/v1/worker/claim",
            "POST /api/v1/worker/exchange",
            "POST /api/v1/worker/finish",
            "POST /api/v1/worker/late",
            "POST /api/v1/worker/leave",
            "POST /api/v1/worker/register",
            "POST /api/v1/worker/release",
            "POST /api/v1/worker/renew",
            "POST /api/v1/worker/start",
            "PUT /api/v1/worker/attempts/{token}/artifacts/{name}",
            "PUT /api/v1/worker/attempts/{token}/preview",
        ],
        &["worker", "admin"],
    ),
];

const ALL: [&str; 8] =
    ["", "submit", "view", "view-payloads", "worker", "admin", "customer", "customer-admin"];

/// A token of each kind, and none.
fn tokens(data: &std::path::Path) -> Vec<(&'static str, Option<String>)> {
    let token = |name: &'static str| {
        let role = match name.split('-').next() {
            Some("view") => Role::View,
            Some("worker") => Role::Worker,
            _ if name.ends_with("admin") => Role::Admin,
            _ => Role::Submit,
        };
        let customer = name.starts_with("customer").then(|| CustomerId::new("acme").unwrap());
        let payloads = name == "view-payloads";
        let new = NewToken { name: name.into(), role, customer, payloads };
        (name, (!name.is_empty()).then(|| add_token(data, new).unwrap()))
    };
    ALL.map(token).into()
}

/// All routes that the server has, as its document lists them.
async fn routes(server: &Fixture) -> BTreeSet<String> {
    let document = server.ask(server.get("/api/openapi.json")).await.json();
    let paths = document["paths"].as_object().unwrap().iter();
    let routes = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    routes.collect()
}

#[tokio::test]
async fn every_route_is_for_those_who_need_it() {
    let data = tempfile::tempdir().unwrap();
    let tokens = tokens(data.path());
    let server = start_at(SocketAddr::from(([0, 0, 0, 0], 0)), data).await;
    let known =
        GROUPS.iter().flat_map(|(routes, _)| routes.iter().map(|route| (*route).to_owned()));
    assert_eq!(routes(&server).await, known.collect());
    let mut wrong = Vec::new();
    for (routes, allowed) in GROUPS {
        for route in routes {
            for (name, secret) in &tokens {
                let status = status(&server, route, secret.as_deref()).await;
                let refused = if secret.is_some() { 403 } else { 401 };
                if (status != refused) != allowed.contains(name) {
                    wrong.push(format!("{route} answers {status} to {name:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the route answers to a request that says nothing: permissions come before all else.
async fn status(server: &Fixture, route: &str, secret: Option<&str>) -> u16 {
    let (method, path) = route.split_once(' ').unwrap();
    let filled = |part| if str::starts_with(part, '{') { "x" } else { part };
    let path = path.split('/').map(filled).collect::<Vec<_>>().join("/");
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = server.http.request(method, format!("{}{path}", server.url));
    let request = secret.into_iter().fold(request, |request, secret| request.bearer_auth(secret));
    request.send().await.unwrap().status().as_u16()
}
