//! Records whose keys hold another type of value: nobody else is kept from anything, and they are
//! mended.

use std::time::Duration;

use pointsman_core::{
    Command, JobId, RecordKey,
    command::{Held, Raise, Reconcile},
    decide::limits,
    doctor::{Finding, FindingRule, Mend, MendOutcome},
    record::{AlertId, AlertRule, ConnectorStatus, JobSpec, Severity},
};
use pointsman_store::{
    Depth, Due, JobFilter, Retention, Store,
    conformance::fleet::{Fleet, Hand, completed, needs, spec},
};
use pointsman_store_redis::Options;

use crate::support::{by_hand, connection, content, fleet_on, open_with, prefix, unnumbered};

/// A worker runs a job; one job has ended, one waits, and an alert stands.
struct Scene {
    fleet: Fleet,
    options: Options,
    prefix: String,
    hand: Hand,
    ended: JobId,
    running: Held,
    waiting: JobId,
}

impl Scene {
    async fn new() -> Self {
        let (fleet, options) = fleet_on();
        let prefix = prefix(&options);
        let hand = fleet.worker("w", 2, &[]).await;
        let ended = fleet.running(&hand).await;
        fleet.act(&hand, ended, completed()).await.expect("it ends");
        let running = fleet.running(&hand).await;
        let waiting = fleet.submit(spec(50)).await;
        let alert = AlertId { rule: AlertRule::StoreFull, subject: "files".into() };
        let (message, action) = ("full".to_owned(), "make room".to_owned());
        let raise = Raise { alert, severity: Severity::Warning, message, action };
        fleet.run(Command::Raise(raise)).await.expect("it is raised");
        Self { fleet, options, prefix, hand, ended: ended.job, running, waiting }
    }

    /// The keys of all its records.
    fn keys(&self) -> [String; 7] {
        let jobs = [self.ended, self.running.job, self.waiting].map(|job| format!("job:{job}"));
        let others =
            ["worker:w", "connector:w:simulation", "machine:m-w", "alert:store_full:files"];
        let [a, b, c] = jobs;
        let [d, e, f, g] = others.map(str::to_owned);
        [a, b, c, d, e, f, g]
    }
}

/// As findings name the record.
fn subject(key: &str) -> String {
    key.replacen(':', "/", 1)
}

#[tokio::test]
async fn the_log_has_it_so_it_is_written_anew() {
    let scene = Scene::new().await;
    let store = &scene.fleet.store;
    let whole = content(&**store).await;
    for key in scene.keys() {
        by_hand(&scene.prefix, &format!("SET {key} x"));
        let found = store.examine(Depth::Everything).await.expect("it is examined");
        let [finding] = &found.findings[..] else { panic!("{key}: {found:?}") };
        assert_eq!(finding.id, format!("wrong_type:{}", subject(&key)));
        assert_eq!(finding.mend, Mend::Repair);
        assert!(finding.problem.contains("is a string"), "{finding:?}");
        let mended = store.mend(None).await.expect("it is mended");
        assert_eq!(mended[0].outcome, MendOutcome::Repaired, "{key}");
        assert_eq!(content(&**store).await, whole, "{key}");
        let aside = by_hand(&scene.prefix, &format!("GET quarantine:{key}"));
        assert_eq!(aside, redis::Value::BulkString(b"x".to_vec()), "{key}");
        let aside = store.mend(None).await.expect("what was set aside is deleted");
        assert_eq!(aside[0].finding.id, format!("quarantined:{}", subject(&key)));
        let found = store.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.is_sound(), "{key}: {found:?}");
    }
    let Scene { fleet, hand, running, waiting, .. } = &scene;
    fleet.act(hand, *running, completed()).await.expect("the worker works on");
    assert_eq!(fleet.claim(hand).await.map(|held| held.job), Some(*waiting));
}

#[tokio::test]
async fn the_log_does_not_have_it_so_it_is_set_aside() {
    let scene = Scene::new().await;
    let (store, jobs) = (&scene.fleet.store, [scene.ended, scene.waiting]);
    let seq = store.seed().await.expect("the store works").position.seq;
    scene.fleet.submit(spec(50)).await;
    by_hand(&scene.prefix, &format!("XTRIM log MINID {}", seq + 1));
    for key in jobs.iter().map(|job| format!("job:{job}")).chain(["worker:w".to_owned()]) {
        by_hand(&scene.prefix, &format!("SET {key} x"));
        let id = format!("wrong_type:{}", subject(&key));
        let found = store.examine(Depth::Everything).await.expect("it is examined");
        let finding = found.findings.iter().find(|finding| finding.id == id);
        let finding = finding.unwrap_or_else(|| panic!("{key}: {found:?}"));
        assert_eq!(finding.mend, Mend::Quarantine, "{finding:?}");
        let mended = store.mend(Some(vec![id.clone()])).await.expect("it is mended");
        assert_eq!(mended[0].outcome, MendOutcome::Quarantined, "{key}");
        let found = store.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.has(&format!("quarantined:{}", subject(&key))), "{found:?}");
        assert!(!found.has(&id), "{found:?}");
    }
    let register = Fleet::registration(&scene.hand, 2, &[]);
    scene.fleet.run(Command::Register(register)).await.expect("it registers anew");
    store.mend(None).await.expect("its list of jobs is mended");
    for job in jobs {
        let found = store.examine(Depth::Everything).await.expect("it is examined");
        let stray = format!("index_without_record:index/payload:{job}");
        assert!(!found.has(&stray), "it belongs to what was set aside: {found:?}");
        by_hand(&scene.prefix, &format!("DEL quarantine:job:{job}"));
        let found = store.examine(Depth::Everything).await.expect("it is examined");
        assert!(found.has(&stray), "{found:?}");
    }
    store.mend(None).await.expect("what was kept beside them is deleted");
    for job in jobs {
        let mut keys = redis::cmd("KEYS");
        let left: Vec<String> =
            keys.arg(format!("{}*{job}*", scene.prefix)).query(&mut connection()).expect("KEYS");
        assert_eq!(left, [""; 0]);
    }
    scene.fleet.check().await.expect("nothing is wrong any more");
}

/// A server opens the store, begins its view and lists jobs, whatever became of single records.
#[tokio::test]
async fn it_stands_in_nobodys_way() {
    let scene = Scene::new().await;
    let keys = scene.keys();
    let spared = format!("job:{}", scene.ended);
    let whole = scene.fleet.store.seed().await.expect("the view begins").records;
    for key in keys.iter().filter(|key| **key != spared) {
        by_hand(&scene.prefix, &format!("SET {key} x"));
    }
    let store = open_with(scene.options.clone());
    let seed = store.seed().await.expect("the view begins").records;
    assert_eq!(seed, whole, "as the log tells");
    let page = store.jobs(JobFilter::default(), None, 10).await.expect("the other one is listed");
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [scene.ended]);
    let asked = store.records(vec![RecordKey::Job(scene.waiting)]).await;
    let why = asked.expect_err("it is none").to_string();
    assert!(why.contains(&format!("job:{}", scene.waiting)), "{why}");
    let found = store.examine(Depth::Everything).await.expect("it is examined");
    let wrong = found.findings.iter().filter(|f| f.rule == FindingRule::WrongType).count();
    assert_eq!(wrong, keys.len() - 1, "{found:?}");
}

/// Only a server can mend a list, so it starts without, and its view is whole.
#[tokio::test]
async fn a_list_of_a_wrong_type_keeps_no_server_from_starting() {
    let scene = Scene::new().await;
    let seed = async || scene.fleet.store.seed().await.expect("the view begins").records;
    let lists = ["machines", "workers", "connectors", "alerts", "leases", "ended", "jobs"];
    for list in lists {
        let whole = seed().await;
        by_hand(&scene.prefix, &format!("DEL {list}"));
        by_hand(&scene.prefix, &format!("SET {list} x"));
        let store = open_with(scene.options.clone());
        let seed = store.seed().await.unwrap_or_else(|error| panic!("{list}: {error}"));
        assert_eq!(seed.records, whole, "{list}");
        store.pulse().await.unwrap_or_else(|error| panic!("{list}: {error}"));
        let mended = store.mend(None).await.expect("it is mended");
        let id = format!("wrong_type:index/{list}");
        let mended = mended.iter().find(|mended| mended.finding.id == id);
        assert_eq!(mended.map(|m| &m.outcome), Some(&MendOutcome::Quarantined), "{list}");
        let seed = open_with(scene.options.clone()).seed().await.expect("the view begins");
        assert_eq!(unnumbered(&seed.records), unnumbered(&whole), "{list} is made anew");
    }
}

/// Everything that is wrong is shown with it, so servers mend it unasked.
#[tokio::test]
async fn a_list_of_alerts_that_is_none_is_mended_by_itself() {
    let scene = Scene::new().await;
    let store = &scene.fleet.store;
    let raise = |subject: &str| {
        let alert = AlertId { rule: AlertRule::StoreFull, subject: subject.into() };
        let (message, action) = ("full".to_owned(), "make room".to_owned());
        Command::Raise(Raise { alert, severity: Severity::Warning, message, action })
    };
    by_hand(&scene.prefix, "DEL alerts");
    by_hand(&scene.prefix, "SET alerts x");
    scene.fleet.run(raise("other")).await.expect_err("it is refused");
    let found = store.examine(Depth::Fleet).await.expect("it is examined").findings;
    let by_itself: Vec<String> =
        found.into_iter().filter(Finding::is_repaired_by_itself).map(|f| f.id).collect();
    assert_eq!(by_itself, ["wrong_type:index/alerts"]);
    store.mend(Some(by_itself)).await.expect("it is mended");
    scene.fleet.run(raise("other")).await.expect("it is raised");
    let alerts = by_hand(&scene.prefix, "SCARD alerts");
    assert_eq!(alerts, redis::Value::Int(2));
}

#[tokio::test]
async fn a_machine_whose_workers_are_not_known_keeps_no_other_from_going_silent() {
    let scene = Scene::new().await;
    scene.fleet.worker("other", 1, &[]).await;
    by_hand(&scene.prefix, "SET machine:m-w:workers x");
    scene.fleet.advance(limits::SILENT_AFTER + Duration::from_secs(1));
    let store = open_with(scene.options.clone());
    let due = store.due(Due::Machines).await.expect("it is looked at");
    let silent: Vec<_> = due
        .iter()
        .filter_map(|due| match due {
            Reconcile::DisconnectMachine { machine, .. } => Some(machine.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(silent, ["m-other"]);
    store.pulse().await.expect("the others are told");
}

#[tokio::test]
async fn a_queue_that_is_none_keeps_no_other_from_being_shown_and_claimed() {
    let scene = Scene::new().await;
    let other = scene.fleet.worker("other", 2, &["x"]).await;
    let needs_x = scene.fleet.submit(JobSpec { requirements: needs("x"), ..spec(40) }).await;
    let whole = scene.fleet.store.queues(10).await.expect("they are shown").classes;
    by_hand(&scene.prefix, &format!("SET queue:{} x", whole[0].class));
    let store = open_with(scene.options.clone());
    let shown = store.queues(10).await.expect("the others are shown").classes;
    assert_eq!(shown[1..], whole[1..]);
    store.explain(scene.waiting).await.expect("it is explained");
    assert_eq!(scene.fleet.claim(&other).await.map(|held| held.job), Some(needs_x));
    scene.fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(scene.fleet.claim(&other).await.map(|held| held.job), Some(scene.waiting));
}

#[tokio::test]
async fn leases_that_are_none_keep_nobody_from_going_silent() {
    let scene = Scene::new().await;
    by_hand(&scene.prefix, "SET leases x");
    scene.fleet.advance(limits::SILENT_AFTER + Duration::from_secs(1));
    let due = scene.fleet.store.due(Due::Workers).await.expect("it is looked at");
    let [Reconcile::DeclareSilent { worker, .. }] = &due[..] else { panic!("{due:?}") };
    assert_eq!(*worker, scene.hand.worker);
    let due = scene.fleet.store.due(Due::Machines).await.expect("it is looked at");
    assert!(matches!(&due[..], [Reconcile::DisconnectMachine { .. }]), "{due:?}");
    scene.fleet.advance(limits::STALE_AFTER);
    let due = scene.fleet.store.due(Due::Connectors).await.expect("it is looked at");
    assert!(matches!(&due[..], [Reconcile::MarkStale { .. }]), "{due:?}");
}

#[tokio::test]
async fn an_index_that_is_none_keeps_nothing_else_from_being_removed() {
    let nothing = Retention { ended_bytes: 0, gone: 0, ..Retention::default() };
    for index in ["idempotency", "leases", "pulse", "log", "ended"] {
        let scene = Scene::new().await;
        let other = scene.fleet.worker("other", 1, &[]).await;
        let Hand { worker, incarnation, .. } = other;
        let leave = Command::Leave { worker: worker.clone(), incarnation };
        scene.fleet.run(leave).await.expect("it leaves");
        scene.fleet.advance(limits::SILENT_AFTER + Duration::from_secs(1));
        by_hand(&scene.prefix, &format!("DEL {index}"));
        by_hand(&scene.prefix, &format!("SET {index} x"));
        let due = async |what| scene.fleet.store.due(what).await.ok();
        let gone = vec![Reconcile::RemoveWorker { worker }];
        assert_eq!(due(Due::Gone(nothing)).await, (index != "pulse").then_some(gone), "{index}");
        let ended = vec![Reconcile::RemoveJob { job: scene.ended }];
        assert_eq!(due(Due::Ended(nothing)).await, (index != "ended").then_some(ended), "{index}");
        let is_done = !["idempotency", "log"].contains(&index);
        assert_eq!(due(Due::Leftovers).await, is_done.then_some(Vec::new()), "{index}");
    }
}

/// Then nobody can be heard, which is no silence of theirs.
#[tokio::test]
async fn a_pulse_that_is_none_costs_no_job() {
    let scene = Scene::new().await;
    by_hand(&scene.prefix, "DEL pulse");
    by_hand(&scene.prefix, "SET pulse x");
    for _ in 0..15 {
        scene.fleet.advance(Duration::from_secs(1));
        assert_eq!(scene.fleet.reconcile(Due::Leases).await, 0);
    }
    scene.fleet.store.mend(None).await.expect("it is mended");
    assert_eq!(scene.fleet.reconcile(Due::Leases).await, 0);
    scene.fleet.act(&scene.hand, scene.running, completed()).await.expect("it is still its own");
}

/// Nobody could be heard while it was none, and nobody is silent for that when it is mended.
#[tokio::test]
async fn when_pulse_or_leases_are_mended_every_deadline_begins_anew() {
    for index in ["pulse", "leases"] {
        let scene = Scene::new().await;
        let second = Duration::from_secs(1);
        let options = Options { contact_gap: Some(3 * second), ..scene.options.clone() };
        let store = open_with(options);
        for second_of in 0..40 {
            scene.fleet.advance(second);
            let held = vec![scene.running];
            if second_of < 20 {
                scene.fleet.renew(&scene.hand, held, ConnectorStatus::Idle).await.expect("heard");
            } else if second_of == 20 {
                by_hand(&scene.prefix, &format!("DEL {index}"));
                by_hand(&scene.prefix, &format!("SET {index} x"));
            }
            drop(store.due(Due::Machines).await);
        }
        store.mend(None).await.expect("it is mended");
        for what in [Due::Leases, Due::Workers, Due::Machines, Due::Connectors] {
            let due = store.due(what).await.expect("it is looked at");
            assert!(due.is_empty(), "{index}: {due:?}");
        }
        scene
            .fleet
            .renew(&scene.hand, vec![scene.running], ConnectorStatus::Idle)
            .await
            .expect("heard");
        store.mend(None).await.expect("what was set aside goes");
        scene.fleet.check().await.expect("nothing is wrong any more");
    }
}
