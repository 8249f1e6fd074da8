//! A store whose intake is closed: new work is refused with a reason, and what runs may end.

use pointsman_client::ClientError;
use pointsman_core::decide::Intake;

use crate::fixture::{simulation, start};

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
}
