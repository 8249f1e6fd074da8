//! A store whose intake is closed: new work is refused with a reason, and what runs may end.

use std::{net::SocketAddr, sync::Arc};

use pointsman_client::ClientError;
use pointsman_core::decide::Intake;
use pointsman_store::{ManualClock, MemStore, Store as _, Transfer as _, transfer::Header};

use crate::fixture::{simulation, start, start_on};

#[tokio::test]
async fn a_closed_intake_refuses_new_work_and_says_what_mends_it() {
    let server = start().await;
    let opened = server.client.intake().await.unwrap();
    assert_eq!((opened.intake, opened.running), (Intake::Open, 0));
    let kept = server.client.submit(&simulation()).await.unwrap().job.id;
    let figures = async || {
        String::from_utf8_lossy(&server.ask(server.get("/metrics")).await.body).into_owned()
    };
    assert!(figures().await.contains("pointsman_store_ready 1\n"));
    assert_eq!(server.client.set_intake(false).await.unwrap().intake, Intake::Closed);
    assert!(figures().await.contains("pointsman_store_ready 0\n"));

    let answer = server.client.explain(kept).await.unwrap().answer;
    assert!(answer.starts_with("The store was closed"), "{answer}");
    let refused = server.client.submit(&simulation()).await;
    let Err(ClientError::Problem(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!((&*problem.code, problem.status), ("intake_closed", 503));
    assert!(problem.cure.contains("pointsman intake open"), "{problem:?}");
    server.client.cancel(kept).await.unwrap();
    let refused = server.client.retry(kept, None).await;
    assert!(
        matches!(refused, Err(ClientError::Problem(problem)) if problem.code == "intake_closed")
    );
    assert!(server.client.job(kept).await.unwrap().status.is_ended());

    assert_eq!(server.client.set_intake(true).await.unwrap().intake, Intake::Open);
    server.client.retry(kept, None).await.unwrap();
    // One that is only claimed runs, too.
    let worker = server.worker("w").await;
    worker.take().await;
    server.submit().await;
    assert_eq!(worker.exchange(Vec::new(), 1, 0.0).await.claimed.len(), 1);
    assert_eq!(server.client.intake().await.unwrap().running, 2);
}

#[tokio::test]
async fn what_an_import_has_filled_in_part_is_no_answer() {
    let store = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = start_on(store.clone(), loopback, tempfile::tempdir().unwrap()).await;
    server.client.ready().await.unwrap();
    let header = Header {
        format: 1,
        made_by: "a test".to_owned(),
        epoch: store.epoch(),
        seq: 7,
        last_ended_no: 0,
        at: store.now(),
    };
    store.begin_import(&header).await.unwrap();
    for path in ["/readyz", "/api/v1/jobs", "/api/v1/workers", "/api/v1/snapshot"] {
        let answer = server.ask(server.get(path)).await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &"importing".into()), "{path}");
    }
    assert_eq!(server.client.intake().await.unwrap().intake, Intake::Importing);
    let figures = server.ask(server.get("/metrics")).await.body;
    let figures = String::from_utf8_lossy(&figures);
    assert!(figures.contains("pointsman_live 0\n"), "{figures}");
    store.finish_import(&header).await.unwrap();
    server.client.ready().await.unwrap();
    server.client.workers().await.unwrap();
}
