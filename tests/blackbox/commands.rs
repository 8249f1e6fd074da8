//! What commands send, what they say, and how they end.

use pointsman_core::record::JobRecord;
use pointsman_redis_testing::{RedisOptions, RedisServer};
use serde_json::{Value, json};

use crate::harness::{Served, directory, run, simulation, submit};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_job_is_submitted_as_it_was_said() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let payload = data.path().join("payload.json");
    let file = payload.to_str().expect("a path in UTF-8");
    let submit = async |given: &Value, more: &[&str]| -> JobRecord {
        std::fs::write(&payload, given.to_string()).expect("written");
        let fixed = ["--json", "--server", &server.url, "submit", file, "--service"];
        let said = run(&[&fixed[..], more].concat()).await;
        assert!(said.status.success(), "{said:?}");
        serde_json::from_slice(&said.stdout).expect("a record")
    };
    let requires = r#"{"hardware": {"gpu_memory_gb": 80}}"#;
    let more = ["simulation", "--priority", "70", "--requires", requires];
    let job = submit(&json!({"duration_ms": 0}), &more).await;
    assert_eq!(job.priority, 70);
    let requires = serde_json::to_value(&job.requirements).expect("JSON");
    assert_eq!(requires["hardware"]["gpu_memory_gb"].as_f64(), Some(80.0), "{requires}");

    // A graph, as ComfyUI exports it, or the whole payload.
    let graph = json!({"3": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}});
    let whole = json!({ "workflow": graph });
    for given in [&graph, &whole] {
        let job = submit(given, &["comfyui"]).await;
        let sent = server.client.payload(job.id).await.expect("it is kept");
        assert_eq!(serde_json::from_slice::<Value>(&sent).expect("JSON"), whole);
    }
}

#[tokio::test]
async fn what_is_cancelled_and_retried_is_shown() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let id = submit(&server.client, &simulation(0)).await.to_string();
    let said = async |what| text(&run(&["--server", &server.url, what, &id]).await.stdout);
    let cancelled = said("cancel").await;
    assert!(cancelled.starts_with(&format!("job {id} cancelled")), "{cancelled}");
    assert!(!cancelled.contains("(cancelling)"), "{cancelled}");
    assert_eq!(said("retry").await, format!("job {id} pending (run 2)\n"));
}

#[tokio::test]
async fn the_doctor_fails_where_something_is_wrong() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a redis-server");
    let data = directory();
    let server = Served::on(&redis.url(), data.path()).await;
    let doctor = async |more: &[&str]| {
        let said = run(&[&["--server", &server.url, "doctor"], more].concat()).await;
        (said.status.code(), text(&said.stdout))
    };
    let sound = (Some(0), "Nothing is wrong with what is stored.\n".to_owned());
    assert_eq!(doctor(&[]).await, sound);
    let mut to = redis.connect().await.expect("it answers");
    let mut wound = ::redis::cmd("SADD");
    wound.arg("{pointsman:default}:workers").arg("ghost");
    wound.exec_async(&mut to).await.expect("it is added");
    let (code, said) = doctor(&[]).await;
    assert!(code == Some(1) && said.contains("1 of them `pointsman doctor --repair`"), "{said}");
    let (code, said) = doctor(&["--repair"]).await;
    assert!(code == Some(0) && said.contains("\n  repaired\n"), "{said}");
    assert_eq!(doctor(&[]).await, sound);
}
