use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::*;
use crate::{
    StopReason,
    testing::{Witness, task},
};

fn connector() -> SimulationConnector {
    SimulationConnector::new(ServiceName::new("simulation").unwrap())
}

async fn run(payload: &'static str) -> Result<Completion, RunEnd> {
    connector().run(task("simulation", payload), Witness::new().context()).await
}

#[tokio::test(start_paused = true)]
async fn a_job_takes_its_time_and_reports_each_step() {
    let witness = Witness::new();
    let begin = Instant::now();
    let task = task("simulation", r#"{"duration_ms": 5000, "steps": 4}"#);
    let end = connector().run(task, witness.context()).await;
    assert_eq!(end, Ok(Completion::default()));
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
    assert_eq!(witness.started.load(Ordering::SeqCst), 1);
    let percents: Vec<_> = witness.reports.lock().iter().map(|r| r.percent).collect();
    assert_eq!(percents, [25.0, 50.0, 75.0, 100.0].map(Some));
    assert!(witness.ticks.load(Ordering::SeqCst) >= 5);
}

#[tokio::test(start_paused = true)]
async fn a_job_of_no_duration_needs_no_timer() {
    let witness = Witness::new();
    let task = task("simulation", r#"{"duration_ms": 0}"#);
    let end = futures::FutureExt::now_or_never(connector().run(task, witness.context()));
    assert_eq!(end, Some(Ok(Completion::default())));
    assert_eq!(witness.started.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_told() {
    let witness = Witness::new();
    let (end, ()) = tokio::join!(
        async {
            let task = task("simulation", "{}");
            connector().run(task, witness.context()).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(750)).await;
            witness.stop.raise(StopReason::Cancel);
        }
    );
    assert_eq!(end, Err(RunEnd::Cancelled));
    assert_eq!(witness.reports.lock().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn it_fails_as_asked() {
    let end = run(r#"{"duration_ms":0,"fail":{"kind":"service_fault","message":"boom"}}"#).await;
    let Err(RunEnd::Failed(failure)) = end else { panic!("{end:?}") };
    assert_eq!(failure.kind, FailureKind::ServiceFault);
    assert_eq!(failure.message, "boom");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_payload_is_a_bad_job_and_says_where() {
    for (payload, pointer) in [
        ("", ""),
        ("[]", ""),
        ("{} {}", ""),
        (r#"{"duration_ms":"2"}"#, "/duration_ms"),
        (r#"{"duration_ms":-1}"#, "/duration_ms"),
        (r#"{"duration_ms":86400001}"#, "/duration_ms"),
        (r#"{"steps":1.5}"#, "/steps"),
        (r#"{"steps":10001}"#, "/steps"),
        (r#"{"stepps":1}"#, "/stepps"),
        (r#"{"fail":{"kind":"lost"}}"#, "/fail/kind"),
        (r#"{"fail":{"kind":"bad_job","why":1}}"#, "/fail/why"),
        (r#"{"fail":true}"#, "/fail"),
    ] {
        let error = Simulation::parse(payload.as_bytes()).unwrap_err();
        assert_eq!(error.pointer, pointer, "{payload}: {error}");
    }
    for (payload, reason) in [
        (r#"{"duration_ms":"2"}"#, r#"it is "2": use a whole number from 0 to 86400000"#),
        (r#"{"steps":1.5}"#, "it is 1.5: use a whole number from 0 to 10000"),
        (r#"{"steps":-1}"#, "it is -1: use a whole number from 0 to 10000"),
        (r#"{"stepps":1}"#, "there is no such field: use one of `duration_ms`, `steps`, `fail`"),
        (r#"{"steps":1,"steps":2}"#, "it is there twice: leave one out"),
        (
            r#"{"fail":{"kind":"lost"}}"#,
            r#"it is "lost": use wrong_worker, bad_job, service_fault or timeout"#,
        ),
        (r#"{"fail":{}}"#, "it is missing"),
        (r#"{"fail":{"kind":"bad_job","message":7}}"#, "it is integer `7`: use a string"),
    ] {
        let error = Simulation::parse(payload.as_bytes()).unwrap_err();
        assert_eq!(error.reason, reason, "{payload}");
    }
    let Err(RunEnd::Failed(failure)) = run(r#"{"steps":"many"}"#).await else { panic!() };
    assert_eq!(failure.kind, FailureKind::BadJob);
    assert!(failure.message.contains("/steps"), "{}", failure.message);
    let Err(RunEnd::Failed(failure)) = run(r#"{"fail":true}"#).await else { panic!() };
    assert!(failure.message.contains("a failure such as {"), "{}", failure.message);
}
