//! Exit codes and messages: wrong input says what is wrong and what would be right.

use std::{io::Read as _, process::Stdio, time::Duration};

use pointsman_core::record::{JobRecord, JobStatus, MachineStatus};
use tokio::time::Instant;

use crate::harness::{Process, Served, directory, run, run_with, simulation, submit, until};

const SOON: Duration = Duration::from_secs(60);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn exit_codes_tell_what_happened() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let payload = data.path().join("payload.json");
    let write = |text: &str| std::fs::write(&payload, text).expect("written");
    let file = payload.to_str().expect("a path in UTF-8").to_owned();
    let submit = async |service: &str| {
        run(&["--server", &up.url, "submit", &file, "--service", service, "--wait"]).await
    };

    write(r#"{"duration_ms": 0}"#);
    assert_eq!(submit("simulation").await.status.code(), Some(0));
    write(r#"{"duration_ms": 0, "fail": {"kind": "bad_job", "message": "asked to"}}"#);
    let failed = submit("simulation").await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(text(&failed.stdout).contains("asked to"), "{failed:?}");
    write("{not json");
    assert_eq!(submit("simulation").await.status.code(), Some(2));
    write(r#"{"duration_ms": 0}"#);
    let unknown = submit("no-such-service").await;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("no-such-service"), "{unknown:?}");
    write(r#"{"nodes": [], "links": [], "version": 0.4}"#);
    let exported_wrongly = submit("comfyui").await;
    assert_eq!(exported_wrongly.status.code(), Some(2));
    assert!(text(&exported_wrongly.stderr).contains("Export (API)"), "{exported_wrongly:?}");
    let nowhere = run(&["--server", "http://127.0.0.1:9", "jobs"]).await;
    assert_eq!(nowhere.status.code(), Some(3), "{nowhere:?}");
    assert_eq!(run(&["submit"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_log_filter_that_cannot_be_read_is_wrong_usage() {
    let data = directory();
    let list = ["token", "list", "--data", data.path().to_str().expect("a path in UTF-8")];
    for (filter, code) in [("pointsman=loud", 2), ("pointsman_broker=debug,warn", 0), ("", 0)] {
        let said = run_with(&list, &[("POINTSMAN_LOG", filter)]).await;
        assert_eq!(said.status.code(), Some(code), "{filter:?}: {said:?}");
        assert_eq!(text(&said.stderr).contains("POINTSMAN_LOG"), code == 2, "{said:?}");
    }
}

#[tokio::test]
async fn every_list_speaks_json() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    for list in ["jobs", "workers", "machines"] {
        let output = run(&["--server", &up.url, "--json", list]).await;
        assert!(output.status.success(), "{list}: {output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON");
    }
}

#[tokio::test]
async fn the_list_of_jobs_says_where_those_that_run_stand() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let job = submit(&up.client, &simulation(12_000)).await;
    let deadline = Instant::now() + SOON;
    loop {
        let list = text(&run(&["--server", &up.url, "jobs"]).await.stdout);
        let row = list.lines().find(|line| line.starts_with(&job.to_string()));
        if row.is_some_and(|row| row.contains(" %, step ") && row.ends_with("/4")) {
            break;
        }
        assert!(Instant::now() < deadline, "{list}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn tokens_are_made_and_revoked_in_json() {
    let data = directory();
    let path = data.path().to_str().expect("a path in UTF-8");
    let token = async |what: &[&str]| {
        let said = run(&[&["--json", "token"], what, &["--data", path]].concat()).await;
        assert!(said.status.success(), "{said:?}");
        serde_json::from_slice::<serde_json::Value>(&said.stdout).expect("JSON")
    };
    let mut added = token(&["add", "ops", "--role", "admin"]).await;
    let secret = added["token"].take();
    assert!(secret.as_str().is_some_and(|secret| secret.starts_with("pm_")), "{secret}");
    assert_eq!(added, serde_json::json!({"name": "ops", "role": "admin", "token": null}));
    let revoked = token(&["revoke", "ops"]).await;
    assert_eq!(revoked, serde_json::json!({"revoked": "ops"}));
}

/// A job that asks for strict isolation runs where its customer's jobs alone do.
#[tokio::test]
async fn a_worker_takes_the_jobs_of_its_customers() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let of = |customer: Option<&str>| {
        let mut job = simulation(0);
        job.customer_id = customer.map(str::to_owned);
        job.requirements = Some(serde_json::json!({"customer": {"isolation": "strict"}}));
        job
    };
    let mut others = Vec::new();
    for customer in [None, Some("umbrella")] {
        others.push(submit(&server.client, &of(customer)).await);
    }
    let own = submit(&server.client, &of(Some("acme"))).await;
    let worker = ["worker", "--id", "w", "--broker", &server.url, "--service", "simulation"];
    let rules = ["--customers", "acme,initech", "--isolation", "strict"];
    let _worker = server.registered(Process::start(&[&worker[..], &rules].concat())).await;
    until(&server.client, own, SOON, |job| job.status == JobStatus::Completed).await;
    for other in others {
        let waits = server.client.explain(other).await.expect("an explanation").explanation;
        let failing: Vec<_> = waits.rules.iter().filter(|rule| rule.fail == 1).collect();
        assert_eq!(failing.len(), 1, "{waits:?}");
    }
}

/// Workers that are gone are not counted among those that fail a rule.
#[tokio::test]
async fn explain_counts_the_workers_that_are_there() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let worker = ["worker", "--broker", &server.url, "--service", "simulation"];
    let start = |id| Process::start(&[&worker[..], &["--id", id, "--label", "zone=a"]].concat());
    let mut gone = server.registered(start("gone")).await;
    gone.signal("TERM");
    gone.ended().await;
    let mut job = simulation(0);
    job.requirements = Some(serde_json::json!({"labels": {"zone": {"eq": "b"}}}));
    let job = submit(&server.client, &job).await.to_string();
    let rows = async || {
        let output = run(&["--server", &server.url, "explain", &job]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().skip(2);
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let shown = rows().await;
    assert_eq!(
        shown[0], "no worker is there; those that are offline are counted (1):",
        "{shown:?}"
    );
    assert!(shown.iter().any(|row| row.contains(" 0 1 gone: ")), "{shown:?}");
    let _there = server.registered(start("there")).await;
    let shown = rows().await;
    assert_eq!(shown[0], "of the 1 that are there (1 offline):", "{shown:?}");
    assert!(shown.iter().any(|row| row.contains(" 0 1 there: ")), "{shown:?}");
    assert!(!shown.concat().contains("gone"), "{shown:?}");
}

#[tokio::test]
async fn one_data_directory_has_one_server() {
    let data = directory();
    let _first = Served::server(data.path(), 0).await;
    let store = format!("sqlite:{}", data.path().display());
    let second = run(&["server", "--listen", "127.0.0.1:0", "--store", &store]).await;
    assert_eq!(second.status.code(), Some(2));
    assert!(
        text(&second.stderr).contains("lock") || text(&second.stderr).contains("use"),
        "{second:?}"
    );
}

#[tokio::test]
async fn beyond_loopback_a_token_is_needed() {
    let data = directory();
    let path = data.path().to_str().expect("a path in UTF-8");
    let store = format!("sqlite:{path}");
    let open = ["server", "--listen", "0.0.0.0:0", "--store", &store];
    let refused = run(&open).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("token"), "{refused:?}");
    let added = run(&["token", "add", "ops", "--role", "admin", "--data", path]).await;
    assert!(added.status.success(), "{added:?}");
    let token = text(&added.stdout).trim().to_owned();
    let view = run(&["token", "add", "screen", "--role", "view", "--data", path]).await;
    let view = text(&view.stdout).trim().to_owned();
    let mut server = Process::start(&open);
    assert!(server.says("listening:").await.starts_with("0.0.0.0:"));
    let url = server.says("monitor:").await;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let port = url.trim_end_matches('/').rsplit(':').next().expect("a port").to_owned();
    let url = format!("http://127.0.0.1:{port}");
    for none in [&[][..], &["--token", ""]] {
        let refused = run(&[&["--server", &url, "jobs"], none].concat()).await;
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        assert!(text(&refused.stderr).contains("no token was sent"), "{refused:?}");
        assert!(text(&refused.stderr).contains("cure: "), "{refused:?}");
        assert!(text(&refused.stderr).contains("POINTSMAN_TOKEN"), "{refused:?}");
    }
    let worker = ["worker", "--id", "w", "--broker", &url, "--service", "simulation"];
    let refused = run(&[&worker[..], &["--token", &view]].concat()).await;
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(
        text(&refused.stderr).contains("worker or admin, and no customer, is needed"),
        "{refused:?}"
    );
    let allowed = run(&["--server", &url, "--token", &token, "jobs"]).await;
    assert!(allowed.status.success(), "{allowed:?}");
    let wrong = run(&["--server", &url, "--token", "wrong", "jobs"]).await;
    assert_eq!(wrong.status.code(), Some(4), "{wrong:?}");
}

#[tokio::test]
async fn a_superseded_worker_stops_and_says_so() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let mut first = server.worker("twin", 1).await;
    let _second = server.worker("twin", 1).await;
    assert_eq!(first.ended().await.code(), Some(2));
}

#[tokio::test]
async fn a_server_with_workers_goes_on_when_they_are_superseded_and_its_machine_says_why() {
    let data = directory();
    let mut up = Served::up(data.path(), &["--workers", "2"]).await;
    let mut others = Vec::new();
    for id in ["box-worker-0", "box-worker-1"] {
        others.push(up.worker(id, 1).await);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let machine = loop {
        let machines = up.client.machines().await.expect("it goes on");
        let machine = machines.into_iter().find(|machine| machine.id.as_str() == "box");
        let machine = machine.expect("it has registered");
        let reason = machine.reason.as_deref().unwrap_or_default();
        if reason.matches("worker stopped: superseded").count() == 2 {
            break machine;
        }
        assert!(Instant::now() < deadline, "{machine:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(machine.status, MachineStatus::Degraded);
    assert!(machine.action.expect("a cure").contains("an id of its own"));
    up.client.ready().await.expect("it is ready");
    let job = submit(&up.client, &simulation(1)).await;
    let done = |job: &JobRecord| job.status == JobStatus::Completed;
    until(&up.client, job, Duration::from_secs(30), done).await;
    up.process.signal("INT");
    assert!(up.process.ended().await.success());
}

#[tokio::test]
async fn whoever_stops_waiting_is_told_that_the_job_goes_on() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let payload = data.path().join("payload.json");
    std::fs::write(&payload, r#"{"duration_ms": 600000}"#).expect("written");
    let file = payload.to_str().expect("a path in UTF-8");
    let mut waiting =
        Process::start(&["--server", &up.url, "submit", file, "--service", "simulation", "--wait"]);
    let said = waiting.says("job").await;
    let id = said.split_whitespace().next().expect("an id").to_owned();
    let running = |job: &JobRecord| job.status == JobStatus::InProgress;
    until(&up.client, id.parse().expect("an id"), Duration::from_secs(30), running).await;
    waiting.signal("INT");
    assert_eq!(waiting.ended().await.code(), Some(130));
    let job = run(&["--server", &up.url, "job", &id]).await;
    assert!(text(&job.stdout).contains("in_progress"), "{job:?}");
    let cancelled = run(&["--server", &up.url, "cancel", &id]).await;
    assert!(cancelled.status.success(), "{cancelled:?}");
    assert!(text(&cancelled.stdout).ends_with("in_progress (cancelling)\n"), "{cancelled:?}");
}

#[tokio::test]
async fn an_https_address_says_what_to_use_instead() {
    let refused = run(&["--server", "https://127.0.0.1:9", "jobs"]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("proxy that speaks TLS"), "{refused:?}");
}

#[tokio::test]
async fn addresses_come_from_the_environment_too_and_their_passwords_are_never_shown() {
    let worker = ["worker", "--id", "w", "--service", "simulation", "--artifacts", "nowhere"];
    let data = directory();
    let data = data.path().to_str().expect("a path in UTF-8");
    for (command, name) in [
        (&["server", "--data", data][..], "POINTSMAN_STORE"),
        (&["up", "--data", data], "POINTSMAN_STORE"),
        (&["export"], "POINTSMAN_STORE"),
        (&["intake"], "POINTSMAN_STORE"),
        (&worker, "POINTSMAN_BROKER"),
    ] {
        let help = [command, &["--help"]].concat();
        let shown = "redis://user:***@127.0.0.1:";
        for (address, arguments, code, shown) in [
            ("redis://user:secret@127.0.0.1:1", command, 3, shown),
            ("redis://user:sec/ret@127.0.0.1:1", command, 2, shown),
            ("redis://user:secret@127.0.0.1:99999", command, 2, shown),
            ("redis://user:secret@127.0.0.1:1", &help, 0, name),
        ] {
            let said = match code {
                // It waits for it.
                3 if name == "POINTSMAN_BROKER" => {
                    let variables = [(name, address)];
                    Process::start_with(arguments, &variables).logs("cannot reach Redis").await
                }
                code => {
                    let said = run_with(arguments, &[(name, address)]).await;
                    assert_eq!(said.status.code(), Some(code), "{said:?}");
                    text(&said.stdout) + &text(&said.stderr)
                }
            };
            assert!(said.contains(shown), "{said}");
            assert!(!said.contains("secret") && !said.contains("sec/"), "{said}");
        }
    }
}

#[tokio::test]
async fn what_belongs_to_a_redis_is_refused_where_there_is_none() {
    let dir = directory();
    let dir = dir.path().to_str().expect("a path in UTF-8");
    let store = format!("sqlite:{dir}");
    for command in [
        &["worker", "--id", "w", "--service", "simulation", "--broker", "http://127.0.0.1:9"][..],
        &["server", "--store", &store],
        &["up", "--data", dir],
        &["export", "--store", &store],
        &["import", "--store", &store],
        &["intake", "--store", &store],
        &["intake"],
    ] {
        for more in [["--fleet", "other"], ["--acks", "1"]] {
            let refused = run(&[command, &more].concat()).await;
            assert_eq!(refused.status.code(), Some(2), "{refused:?}");
            let said = text(&refused.stderr);
            assert!(said.contains(more[0]) && said.contains("redis://"), "{said}");
        }
    }
    assert_eq!(std::fs::read_dir(dir).expect("a directory").count(), 0, "nothing was made");
}

/// Files, tokens and the machine's id would lie elsewhere.
#[tokio::test]
async fn up_keeps_everything_in_one_directory() {
    let (data, other) = (directory(), directory());
    let data = data.path().to_str().expect("a path in UTF-8");
    let store = format!("sqlite:{}", other.path().display());
    let refused = run(&["up", "--data", data, "--store", &store]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains(&format!("--data {}", other.path().display())), "{said}");
    for dir in [data.as_ref(), other.path()] {
        assert_eq!(std::fs::read_dir(dir).expect("a directory").count(), 0, "nothing was made");
    }
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut openapi = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman"));
    let mut openapi = openapi.arg("openapi").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let openapi = openapi.as_mut().expect("it starts");
    drop(openapi.stdout.take());
    let mut said = String::new();
    let mut errors = openapi.stderr.take().expect("piped");
    errors.read_to_string(&mut said).expect("it is text");
    assert!(openapi.wait().expect("it ends").success(), "{said}");
    assert_eq!(said, "");
}

#[tokio::test]
async fn a_token_for_a_directory_that_is_not_there_says_so() {
    let data = directory();
    let missing = data.path().join("not-there");
    let path = missing.to_str().expect("a path in UTF-8");
    for command in [&["list"][..], &["revoke", "ops"]] {
        let refused = run(&[&["token"], command, &["--data", path]].concat()).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains("there is no directory"), "{refused:?}");
    }
    let add = |name| ["token", "add", name, "--role", "admin", "--data", path];
    let first = run(&add("ops")).await;
    assert!(first.status.success(), "{first:?}");
    assert!(text(&first.stderr).contains("was not there and was made"), "{first:?}");
    assert!(text(&first.stderr).contains(path), "{first:?}");
    let second = run(&add("more")).await;
    assert!(second.status.success() && second.stderr.is_empty(), "{second:?}");
    let other = data.path().to_str().expect("a path in UTF-8");
    let first = run(&["token", "add", "ops", "--role", "admin", "--data", other]).await;
    assert!(text(&first.stderr).contains("holds no store"), "{first:?}");
}

#[tokio::test]
async fn tokens_that_are_changed_at_once_are_all_changed() {
    let data = directory();
    let data = data.path().to_str().expect("a path in UTF-8");
    let add = async |name: String| {
        let added = run(&["token", "add", &name, "--role", "view", "--data", data]).await;
        assert!(added.status.success(), "{added:?}");
        name
    };
    add("revoked".to_owned()).await;
    let names = (0..12).map(|n| add(format!("t{n}")));
    let revoke = ["token", "revoke", "revoked", "--data", data];
    let (mut names, revoked) = tokio::join!(futures::future::join_all(names), run(&revoke));
    assert!(revoked.status.success(), "{revoked:?}");
    let list = run(&["--json", "token", "list", "--data", data]).await;
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list.stdout).expect("JSON");
    let mut listed: Vec<_> = list.iter().map(|token| token["name"].as_str().unwrap()).collect();
    names.sort();
    listed.sort();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn what_only_the_environment_says_is_for_the_commands_that_use_it() {
    let data = directory();
    let path = data.path().to_str().expect("a path in UTF-8");
    let list = ["token", "list", "--data", path];
    let elsewhere = [("POINTSMAN_URL", "http://127.0.0.1:9"), ("POINTSMAN_TOKEN", "x")];
    assert!(run_with(&list, &elsewhere).await.status.success());
    let said = run(&[&list[..], &["--server", "http://127.0.0.1:9"]].concat()).await;
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(text(&said.stderr).contains("--data names"), "{said:?}");
    // What is set to nothing is not set.
    let said = run_with(&["export"], &[("POINTSMAN_STORE", "")]).await;
    assert!(text(&said.stderr).contains("required"), "{said:?}");
}

#[tokio::test]
async fn the_text_of_a_failure_does_nothing_to_the_terminal() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let payload = data.path().join("payload.json");
    let fail =
        r#"{"duration_ms": 0, "fail": {"kind": "bad_job", "message": "\u001b]0;owned\u0007"}}"#;
    std::fs::write(&payload, fail).expect("written");
    let file = payload.to_str().expect("a path in UTF-8");
    let arguments = ["--server", &up.url, "submit", file, "--service", "simulation", "--wait"];
    let failed = run(&arguments).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = text(&failed.stdout);
    assert!(said.contains(r"\u{1b}]0;owned\u{7}") && !said.contains('\u{1b}'), "{said:?}");
}

#[tokio::test]
async fn a_list_that_is_cut_says_how_to_go_on() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let jobs = async |more: &[&str]| {
        run(&[&["--server", &server.url, "jobs", "--limit", "1"], more].concat()).await
    };
    let mut submission = crate::harness::simulation(0);
    submission.customer_id = Some("acme".into());
    let older = server.client.submit(&submission).await.expect("accepted").job.id.to_string();
    submission.customer_id = None;
    server.client.submit(&submission).await.expect("accepted");
    let cut = jobs(&[]).await;
    let said = text(&cut.stderr);
    let (_, cursor) = said.split_once("--cursor ").expect("a way to go on");
    let next = jobs(&["--cursor", cursor.split(' ').next().expect("a cursor")]).await;
    let acme = jobs(&["--customer", "acme"]).await;
    for listed in [next, acme] {
        assert!(text(&listed.stdout).contains(&older) && listed.stderr.is_empty(), "{listed:?}");
    }
}

#[tokio::test]
async fn a_server_may_open_as_many_files_as_the_hard_limit_says() {
    let data = directory();
    let store = format!("sqlite:{}", data.path().display());
    let arguments = ["server", "--listen", "127.0.0.1:0", "--store", &store];
    let mut server = Process::start_after("ulimit -Sn 300 && ulimit -Hn 600", &arguments);
    let said = server.logs("files may be open").await;
    assert!(said.contains("600 files") && said.contains("344 connections"), "{said}");
}
