//! `pointsman watch`: what happens, as it happens, over restarts of the server.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Process, Served, directory, run, simulation, submit};

fn values(watching: &Process) -> Vec<Value> {
    watching.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_job_is_watched_to_its_end() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let mut people = Process::start(&["--server", &up.url, "watch"]);
    let mut programs = Process::start(&["--server", &up.url, "watch", "--json"]);
    people.prints(": machines ").await;
    programs.prints("full_state_snapshot").await;
    let id = submit(&up.client, &simulation(10)).await.to_string();
    let ended = people.prints("job_completed").await;
    assert!(
        ended.contains(&id) && ended.contains("completed, attempt 1 on box-worker-0"),
        "{ended}"
    );
    programs.prints("job_completed").await;
    let values = values(&programs);
    assert_eq!(
        values[0]["data"]["seq"].as_u64(),
        number(&values[0]["id"]),
        "it says where it begins"
    );
    let of_job = values.iter().filter(|value| value["data"]["id"] == *id);
    let names: Vec<&str> = of_job.filter_map(|value| value["event"].as_str()).collect();
    assert_eq!(names, ["job_assigned", "job_started", "job_completed"]);

    people.signal("INT");
    assert_eq!(people.ended().await.code(), Some(130));
}

#[tokio::test]
async fn how_far_a_job_is_stands_among_what_happens() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let mut people = Process::start(&["--server", &up.url, "watch"]);
    people.prints(": machines ").await;
    let id = submit(&up.client, &simulation(8_000)).await;
    let progress = people.prints("  progress  ").await;
    assert!(progress.contains(&format!("  {id}  ")) && progress.contains(" %"), "{progress}");
}

fn number(position: &Value) -> Option<u64> {
    position.as_str()?.split_once('.')?.1.parse().ok()
}

#[tokio::test]
async fn what_happened_while_the_server_was_away_is_shown_when_it_is_back() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let (port, url) = (server.port(), server.url.clone());
    let mut watching = Process::start(&["--server", &url, "watch", "--json"]);
    watching.prints("full_state_snapshot").await;
    let worker = server.worker("w", 1).await;
    // After its first report nothing more happens: what happens while it is killed may be missed.
    watching.prints("worker_status_changed").await;
    server.process.kill().await;
    watching.logs("the server is away").await;
    let server = Served::server(data.path(), port).await;
    submit(&server.client, &simulation(10)).await;
    watching.prints("job_completed").await;
    let snapshots =
        values(&watching).iter().filter(|v| v["event"] == "full_state_snapshot").count();
    assert_eq!(snapshots, 1, "it went on from where it was");
    worker.kill().await;
}

#[tokio::test]
async fn it_ends_with_its_reader_and_says_what_it_cannot_reach() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let mut watching = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman"));
    watching.args(["--server", &up.url, "watch", "--json"]).stdout(Stdio::piped());
    let mut watching = watching.spawn().expect("the binary starts");
    drop(watching.stdout.take());
    // Lanes come by themselves, so it writes soon.
    let ended = tokio::task::spawn_blocking(move || watching.wait());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await;
    let status = ended.expect("it ends in time").expect("waited for").expect("it ran");
    assert_eq!(status.code(), Some(0));

    let nowhere = run(&["--server", "http://127.0.0.1:9", "watch"]).await;
    assert_eq!(nowhere.status.code(), Some(3), "{nowhere:?}");
}
