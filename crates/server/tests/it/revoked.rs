//! What a token that is revoked ends: not only what its owner asks next.

use std::{net::SocketAddr, path::Path, time::Duration};

use pointsman_api::ErrorCode;
use pointsman_client::{Client, ClientError, Events};
use pointsman_core::{CustomerId, record::JobStatus};
use pointsman_server::{NewToken, Role, add_token};

use crate::fixture::{Fixture, simulation, start_at};

/// "Within seconds", as the manual says.
const SECONDS: Duration = Duration::from_secs(15);

/// A server that can be reached from other machines, with some names and their tokens.
async fn open_server<const N: usize>(
    names: [(&str, Role, Option<&str>); N],
) -> (Fixture, [Client; N]) {
    let data = tempfile::tempdir().unwrap();
    let secrets = names.map(|(name, role, customer)| token(data.path(), name, role, customer));
    let server = start_at(SocketAddr::from(([0, 0, 0, 0], 0)), data).await;
    let clients = secrets.map(|secret| Client::new(&server.url, Some(&secret)).unwrap());
    (server, clients)
}

fn token(data: &Path, name: &str, role: Role, customer: Option<&str>) -> String {
    let customer = customer.map(|id| CustomerId::new(id).unwrap());
    add_token(data, NewToken { name: name.into(), role, customer, payloads: false }).unwrap()
}

/// Why a stream ends.
async fn end(events: &mut Events) -> ClientError {
    let end = async {
        loop {
            match events.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends without a word"),
                Err(error) => return error,
            }
        }
    };
    tokio::time::timeout(SECONDS, end).await.expect("the stream goes on")
}

fn is_revoked(error: &ClientError) -> bool {
    error.is(ErrorCode::Unauthorized) && error.to_string().contains("revoked")
}

#[tokio::test]
async fn the_open_streams_of_a_revoked_token_end_and_say_why() {
    let roles = [
        ("ops", Role::View, None),
        ("acme", Role::Submit, Some("acme")),
        ("other", Role::View, None),
    ];
    let (server, [ops, acme, other]) = open_server(roles).await;
    let mut view = ops.events(None, None).await.unwrap();
    let job = acme.submit(&simulation()).await.unwrap().job.id;
    let mut of_job = acme.job_events(job).await.unwrap();
    let mut others = other.events(None, None).await.unwrap();
    server.revoke("ops");
    server.revoke("acme");
    for events in [&mut view, &mut of_job] {
        let error = end(events).await;
        assert!(is_revoked(&error), "{error}");
    }
    // What both of them end is theirs alone.
    others.next().await.unwrap().expect("the snapshot");
    let bookmark =
        async { while others.next().await.unwrap().expect("an event").name != "bookmark" {} };
    tokio::time::timeout(SECONDS, bookmark).await.expect("the others go on");
}

#[tokio::test]
async fn a_busy_stream_of_a_revoked_token_ends_too() {
    let roles = [("ops", Role::View, None), ("submit", Role::Submit, None)];
    let (server, [ops, submit]) = open_server(roles).await;
    let mut view = ops.events(None, None).await.unwrap();
    server.revoke("ops");
    let busy = async {
        loop {
            let job = submit.submit(&simulation()).await.unwrap().job.id;
            submit.cancel(job).await.unwrap();
        }
    };
    let error = tokio::select! {
        error = end(&mut view) => error,
        () = busy => unreachable!(),
    };
    assert!(is_revoked(&error), "{error}");
}

#[tokio::test]
async fn a_claim_that_waits_with_a_revoked_token_gets_no_job() {
    let roles = [("box", Role::Worker, None), ("submit", Role::Submit, None)];
    let (server, [worker, submit]) = open_server(roles).await;
    let worker = server.worker_of(worker, "w").await;
    let request = worker.request(Vec::new(), 1, 30.0);
    let claim = worker.client.exchange(&request, &|| {});
    let (claimed, ()) = tokio::join!(tokio::time::timeout(SECONDS, claim), async {
        server.revoke("box");
    });
    let refused = claimed.expect("the claim goes on").unwrap_err();
    assert!(refused.is(ErrorCode::Unauthorized), "{refused}");
    let job = submit.submit(&simulation()).await.unwrap().job.id;
    assert_eq!(submit.job(job).await.unwrap().status, JobStatus::Pending);
}
