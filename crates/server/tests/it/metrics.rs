//! The figures for Prometheus.

use std::{collections::BTreeSet, time::Duration};

use pointsman_core::{
    Failure, FailureKind, LossReason,
    command::{Finish, Op, Outcome},
    record::ServiceSlots,
};

use crate::fixture::{Fixture, completed, op, start};

async fn figures(server: &Fixture) -> String {
    String::from_utf8_lossy(&server.ask(server.get("/metrics")).await.body).into_owned()
}

/// Each of those that are there stands in the operator's document, and nothing else does.
fn assert_documented(figures: &str) {
    let there = figures
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE pointsman_")?.split(' ').next())
        .collect::<BTreeSet<_>>();
    let named = include_str!("../../../../docs/operating.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `pointsman_")?.split(['`', '{']).next())
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_info"))
        .collect::<BTreeSet<_>>();
    assert_eq!(named, there);
}

/// The value of a series.
fn value(figures: &str, series: &str) -> Option<f64> {
    figures.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn jobs_are_counted_by_what_became_of_them() {
    let server = start().await;
    let worker = server.worker("w").await;
    let failed = |kind| {
        let failure = Failure::new(kind, "a_code", "broken".to_owned());
        Op::Finish(Finish { outcome: Outcome::Failed { failure }, last_progress: None })
    };
    let released = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    for _ in 0..4 {
        server.submit().await;
    }
    for end in [released, completed(Vec::new()), failed(FailureKind::BadJob)] {
        let (held, _) = worker.take().await;
        worker.exchange(vec![op(held, end)], 0, 0.0).await;
    }
    let (held, _) = worker.take().await;
    worker.exchange(vec![op(held, failed(FailureKind::ServiceFault))], 0, 0.0).await;
    server.client.cancel(server.submit().await.id).await.unwrap();
    let seen = figures(&server).await;
    for (series, expected) in [
        (r#"jobs_submitted_total{service="simulation"}"#, 5.0),
        (r#"attempts_returned_total{service="simulation",reason="service_lost"}"#, 1.0),
        (r#"attempts_returned_total{service="simulation",reason="service_fault"}"#, 1.0),
        (r#"jobs_ended_total{service="simulation",status="completed",failure_kind=""}"#, 1.0),
        (r#"jobs_ended_total{service="simulation",status="failed",failure_kind="bad_job"}"#, 1.0),
        (r#"jobs_ended_total{service="simulation",status="cancelled",failure_kind=""}"#, 1.0),
        (r#"job_run_seconds_count{service="simulation"}"#, 1.0),
        // The job that was given back is taken twice and starts for the first time once.
        (r#"job_wait_seconds_count{service="simulation"}"#, 3.0),
    ] {
        let series = format!("pointsman_{series}");
        assert_eq!(value(&seen, &series), Some(expected), "{series} in:\n{seen}");
    }
}

/// A series that begins at its first event has no rate for it.
#[tokio::test]
async fn of_a_service_that_a_worker_has_every_count_is_there_from_the_start() {
    let server = start().await;
    let nothing = figures(&server).await;
    assert!(!nothing.contains("_total{service="), "no service is known:\n{nothing}");
    server.worker("w").await;
    let seen = figures(&server).await;
    for series in [
        r#"jobs_submitted_total{service="simulation"}"#,
        r#"attempts_returned_total{service="simulation",reason="lease_expired"}"#,
        r#"attempts_returned_total{service="simulation",reason="wrong_worker"}"#,
        r#"jobs_ended_total{service="simulation",status="completed",failure_kind=""}"#,
        r#"jobs_ended_total{service="simulation",status="cancelled",failure_kind=""}"#,
        r#"jobs_ended_total{service="simulation",status="failed",failure_kind="lost"}"#,
        r#"job_wait_seconds_count{service="simulation"}"#,
        r#"job_run_seconds_count{service="simulation"}"#,
    ] {
        let series = format!("pointsman_{series}");
        assert_eq!(value(&seen, &series), Some(0.0), "{series} in:\n{seen}");
    }
    // What no attempt or job can come to is none.
    for never in [r#"reason="bad_job""#, r#"failure_kind="cancelled""#, r#"service="other""#] {
        assert!(!seen.contains(never), "{never} in:\n{seen}");
    }
}

/// Its many services leave others their place.
#[tokio::test]
async fn a_worker_with_many_services_pushes_no_others_out() {
    let server = start().await;
    for (worker, names) in [
        ("a", (0..100).map(|n| format!("a{n}")).collect()),
        ("b", vec!["simulation".to_owned(), "zeta".to_owned()]),
    ] {
        let worker = server.worker(worker).await;
        let mut registration = worker.registration();
        let names = || names.iter().map(|name: &String| name.parse().unwrap());
        registration.services = names().map(|name| ServiceSlots { name, slots: 1 }).collect();
        registration.capabilities.services =
            names().map(|name| (name, Default::default())).collect();
        worker.client.register(&registration, &|| {}).await.unwrap();
    }
    let seen = figures(&server).await;
    for service in ["simulation", "zeta", "a0"] {
        let series = format!("pointsman_jobs_submitted_total{{service=\"{service}\"}}");
        assert_eq!(value(&seen, &series), Some(0.0), "{series} in:\n{seen}");
    }
}

#[tokio::test]
async fn what_stands_is_counted_by_how_it_is() {
    let server = start().await;
    let worker = server.worker("w").await;
    let released = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    server.submit().await;
    for end in [released, completed(Vec::new())] {
        let (held, _) = worker.take().await;
        worker.exchange(vec![op(held, end)], 0, 0.0).await;
    }
    let seen = figures(&server).await;
    for (series, expected) in [
        (r#"machines{status="ready"}"#, 1.0),
        (r#"machines{status="disconnected"}"#, 0.0),
        (r#"workers{status="idle"}"#, 1.0),
        (r#"connectors{service="simulation",status="idle"}"#, 1.0),
        (r#"connectors{service="simulation",status="error"}"#, 0.0),
        ("viewer_resyncs_total", 0.0),
        (concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        let series = format!("pointsman_{series}");
        assert_eq!(value(&seen, &series), Some(expected), "{series} in:\n{seen}");
    }
    assert!(!seen.contains("pointsman_alerts{"), "none stands:\n{seen}");
    server.client.set_intake(false).await.unwrap();
    let raised = async {
        let series = "pointsman_alerts{rule=\"intake_closed\",severity=\"warning\"}";
        loop {
            let seen = figures(&server).await;
            if value(&seen, series) == Some(1.0) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let raised = tokio::time::timeout(Duration::from_secs(30), raised).await;
    assert_documented(&raised.expect("the alert is counted"));
    server.client.set_intake(true).await.unwrap();
    let cleared = async {
        while figures(&server).await.contains("pointsman_alerts{") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), cleared).await.expect("it is gone");
}

#[tokio::test]
async fn a_made_up_method_makes_no_series_of_its_own() {
    let server = start().await;
    for method in ["BREW", "STEEP"] {
        let request = server.http.request(method.parse().unwrap(), format!("{}/tea", server.url));
        assert_eq!(server.ask(request).await.status, 404);
    }
    let metrics = server.ask(server.get("/metrics")).await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("method=\"other\",route=\"none\",status=\"404\"} 2"), "{text}");
    assert!(!text.contains("BREW") && !text.contains("STEEP"), "{text}");
}
