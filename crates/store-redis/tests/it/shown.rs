//! What an operator reads with `redis-cli`, as docs/redis.md has it.

use std::collections::BTreeMap;

use pointsman_store::conformance::fleet::completed;
use serde_json::{Value, json};

use crate::support::{connection, fleet_on, prefix};

fn hash(key: &str) -> BTreeMap<String, String> {
    redis::cmd("HGETALL").arg(key).query(&mut connection()).expect("a hash")
}

fn names(hash: &BTreeMap<String, String>) -> Vec<&str> {
    hash.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_worker_and_its_running_job_have_the_fields_that_operators_know() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let job_id = held.job.to_string();
    let worker = hash(&format!("{prefix}worker:w"));
    assert_eq!(
        names(&worker),
        [
            "capabilities_digest",
            "connected_at",
            "connector_statuses",
            "current_job_ids",
            "incarnation",
            "jobs_completed",
            "jobs_failed",
            "last_status_change",
            "machine_id",
            "orders",
            "presence",
            "rev",
            "services",
            "status",
            "summary",
            "worker_id",
        ]
    );
    let shown = ["worker_id", "machine_id", "status", "jobs_completed", "jobs_failed"];
    assert_eq!(shown.map(|name| worker[name].as_str()), ["w", "m-w", "busy", "0", "0"]);
    assert_eq!(worker["current_job_ids"], json!([job_id]).to_string());
    let statuses: Value = serde_json::from_str(&worker["connector_statuses"]).expect("JSON");
    assert_eq!(statuses["simulation"]["status"], "active");
    let capabilities = hash(&format!("{prefix}profile:{}", worker["capabilities_digest"]));
    assert!(capabilities["capabilities"].contains("simulation"), "{capabilities:?}");

    let job_key = format!("{prefix}job:{job_id}");
    let job = hash(&job_key);
    assert_eq!(
        names(&job),
        [
            "assigned_at",
            "attempt",
            "created_at",
            "id",
            "incarnation",
            "machine_id",
            "payload_bytes",
            "place",
            "priority",
            "queued_seq",
            "rev",
            "service",
            "started_at",
            "status",
            "token",
            "worker_id",
        ]
    );
    let shown = ["id", "status", "worker_id", "machine_id", "attempt", "priority", "service"];
    let values = [job_id.as_str(), "in_progress", "w", "m-w", "1", "50", "simulation"];
    assert_eq!(shown.map(|name| job[name].as_str()), values);

    fleet.act(&hand, held, completed()).await.expect("it ends");
    let worker = hash(&format!("{prefix}worker:w"));
    let shown = ["status", "jobs_completed", "current_job_ids"];
    assert_eq!(shown.map(|name| worker[name].as_str()), ["idle", "1", "[]"]);
    assert_eq!(hash(&job_key)["status"], "completed");
}
