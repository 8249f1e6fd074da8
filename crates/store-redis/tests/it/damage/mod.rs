//! Damage to keys that are no records: what jobs are found by, and what may be served. Another
//! process, which remembers nothing, finds it, too.

mod meta;

use pointsman_core::{
    Answer, Command,
    command::{Idempotency, Submit},
    decide::limits,
    doctor::{Examination, Finding, FindingRule, Mend, MendOutcome, Mended},
    record::{ConnectorStatus, JobSpec},
};
use pointsman_store::{
    Depth, Due, Store, StoreError,
    conformance::fleet::{Fleet, Hand, completed, needs, spec},
};
use pointsman_store_redis::Options;

use crate::support::{by_hand, connection, fleet_on, open_with, prefix};

/// A fleet with a worker that runs one job of a workflow; one job waits, one that nobody can run
/// waits, too, and the class of an ended one rests.
struct Scene {
    fleet: Fleet,
    options: Options,
    prefix: String,
    hand: Hand,
    /// Its classes: the first two live, nobody serves the second, the third rests.
    classes: [String; 3],
    profile: String,
    job: String,
}

fn first(prefix: &str, command: &str, key: &str) -> String {
    let mut read = redis::cmd(command);
    read.arg(format!("{prefix}{key}"));
    if command == "ZRANGE" {
        read.arg(0).arg(-1);
    }
    let found: Vec<String> = read.query(&mut connection()).expect("members");
    found.first().expect("a member").clone()
}

impl Scene {
    async fn new() -> Self {
        let (fleet, options) = fleet_on();
        let prefix = prefix(&options);
        let hand = fleet.worker("w", 2, &["x"]).await;
        let workflow_id = Some("flow".parse().expect("an id"));
        fleet.submit(JobSpec { workflow_id, ..spec(90) }).await;
        let held = fleet.claim(&hand).await.expect("a job");
        fleet.submit(JobSpec { requirements: needs("y"), ..spec(50) }).await;
        let labelled = JobSpec { requirements: needs("x"), ..spec(50) };
        fleet.submit(labelled).await;
        let other = fleet.claim(&hand).await.expect("a job");
        fleet.act(&hand, other, completed()).await.expect("it ends");
        let waiting = fleet.submit(spec(50)).await;
        let mut classes = redis::cmd("ZRANGE");
        classes.arg(format!("{prefix}classes")).arg(0).arg(-1);
        let classes: Vec<String> = classes.query(&mut connection()).expect("classes");
        let profile = first(&prefix, "SMEMBERS", "profiles");
        assert_eq!(fleet.job(held.job).await.id, held.job);
        let classes = classes.try_into().expect("three classes");
        Self { fleet, options, prefix, hand, classes, profile, job: waiting.to_string() }
    }

    async fn examine(&self) -> Examination {
        self.fleet.store.examine(Depth::Everything).await.expect("it is examined")
    }

    /// What a process finds that remembers nothing.
    async fn examine_anew(&self) -> Examination {
        let other = open_with(self.options.clone());
        let found = other.examine(Depth::Everything).await.expect("it is examined");
        other.close().await.expect("it closes");
        found
    }

    /// Damage is found, and mended in one run; nothing but what was set aside is told afterwards.
    async fn is_mended(&self, damage: &str, id: &str) -> Finding {
        by_hand(&self.prefix, damage);
        let anew = self.examine_anew().await;
        assert!(anew.has(id), "{damage}: {anew:?}");
        let found = self.examine().await;
        let finding = found.findings.iter().find(|finding| finding.id == id);
        let finding = finding.unwrap_or_else(|| panic!("{damage}: {found:?}")).clone();
        assert!(!finding.consequence.is_empty() && !finding.cure.is_empty());
        let mended = self.fleet.store.mend(None).await.expect("it is mended");
        let left = mended.iter().find(|m| matches!(m.outcome, MendOutcome::Left { .. }));
        assert!(left.is_none(), "{damage}: {left:?}");
        for aside in self.examine().await.findings {
            assert_eq!(aside.rule, FindingRule::Quarantined, "{damage}: {aside:?}");
            assert!(aside.cure.contains("DEL "), "{aside:?}");
            let name = aside.subject.strip_prefix("index/").expect("it is no record");
            by_hand(&self.prefix, &format!("DEL quarantine:{name}"));
        }
        assert!(self.examine_anew().await.is_sound(), "{damage}");
        finding
    }

    /// A job like the one that rests, and one like the one that waits, run.
    async fn works(&self) {
        let labelled = JobSpec { requirements: needs("x"), ..spec(99) };
        for spec in [labelled, spec(98)] {
            let job = self.fleet.submit(spec).await;
            let held = self.fleet.claim(&self.hand).await.expect("a job to claim");
            assert_eq!(held.job, job);
            self.fleet.act(&self.hand, held, completed()).await.expect("it ends");
        }
        self.fleet.check().await.expect("nothing is wrong");
    }
}

#[tokio::test]
async fn what_is_missing_of_a_class_is_found() {
    let scene = Scene::new().await;
    let [live, _, resting] = &scene.classes;
    for class in [live, resting] {
        for count in ["live", "held", "running"] {
            let id = format!("wrong_count:class/{class}");
            scene.is_mended(&format!("HDEL class:{class} {count}"), &id).await;
            scene.works().await;
        }
        let id = format!("contradiction:class/{class}");
        scene.is_mended(&format!("HDEL class:{class} base"), &id).await;
        scene.works().await;
    }
    let id = format!("wrong_count:class/{live}");
    scene.is_mended(&format!("DEL class:{live}"), &id).await;
    scene.works().await;
    scene.is_mended(&format!("DEL class:{resting}"), "index_without_record:index/classes").await;
    scene.works().await;
    by_hand(&scene.prefix, &format!("ZREM classes {resting}"));
    let id = format!("index_without_record:class/{resting}");
    scene.is_mended(&format!("ZREM resting {resting}"), &id).await;
    scene.works().await;
}

#[tokio::test]
async fn classes_that_no_profile_would_look_at_are_numbered_anew() {
    let scene = Scene::new().await;
    let [live, ..] = &scene.classes;
    let cases = [
        ("HSET meta classes_rev 1", "wrong_count:index/meta"),
        ("HSET meta classes_rev garbage", "wrong_count:index/meta"),
        ("HSET meta classes_rev 03", "wrong_count:index/meta"),
        ("HDEL meta classes_rev", "wrong_count:index/meta"),
        (&format!("ZADD classes 0 {live}"), "record_without_index:index/classes"),
        (&format!("ZREM classes {live}"), "record_without_index:index/classes"),
    ];
    for (damage, id) in cases {
        scene.is_mended(damage, id).await;
        // A profile that was not there before knows the class, too.
        let fresh = scene.fleet.worker("fresh", 1, &["z"]).await;
        let job = scene.fleet.submit(spec(99)).await;
        let held = scene.fleet.claim(&fresh).await.unwrap_or_else(|| panic!("{damage}"));
        assert_eq!(held.job, job, "{damage}");
        scene.fleet.act(&fresh, held, completed()).await.expect("it ends");
        let leave = Command::Leave { worker: fresh.worker.clone(), incarnation: fresh.incarnation };
        scene.fleet.run(leave).await.expect("it leaves");
        scene.works().await;
    }
}

#[tokio::test]
async fn what_a_profile_can_serve_is_looked_at_in_the_store() {
    let scene = Scene::new().await;
    let ([live, unserved, _], profile) = (&scene.classes, &scene.profile);
    let key = format!("profile:{profile}");
    let serves = format!("serves:{profile}:simulation");
    let missing = format!("record_without_index:index/{serves}");
    let surplus = format!("index_without_record:index/{serves}");
    let contradiction = format!("contradiction:index/{key}");
    let cases = [
        (format!("DEL {serves}"), missing.as_str()),
        (format!("SREM {serves} {live}"), &missing),
        (format!("SADD {serves} {unserved}"), &surplus),
        (format!("HSET {key} classes_rev garbage"), &contradiction),
        (format!("HSET {key} classes_rev 99"), &contradiction),
        (format!("HSET {key} classes_rev 03"), &contradiction),
        (format!("HDEL {key} classes_rev"), &contradiction),
        (format!("HSET {key} services other"), &contradiction),
        (format!("HSET {key} users 7"), &format!("wrong_count:index/{key}")),
        (format!("SREM profiles {profile}"), "record_without_index:index/profiles"),
        ("SREM services simulation".into(), "record_without_index:index/services"),
        (
            format!("SADD profiles {:032x}", 7),
            &format!("index_without_record:index/profile:{:032x}", 7),
        ),
        (format!("DEL {key}"), "unknown_capabilities:worker/w"),
        (format!("HSET {key} capabilities gar}}bage"), "unknown_capabilities:worker/w"),
        (format!("SET {key} x"), "unknown_capabilities:worker/w"),
    ];
    for (damage, id) in cases {
        scene.is_mended(&damage, id).await;
        scene.works().await;
    }
    // Who does not remember the capabilities leaves them to the worker.
    by_hand(&scene.prefix, &format!("DEL {key}"));
    let found = scene.examine_anew().await;
    assert_eq!(found.findings[0].mend, Mend::None, "{found:?}");
    assert!(found.findings[0].cure.contains("restart"), "{found:?}");
}

#[tokio::test]
async fn keys_of_a_wrong_type_are_set_aside_and_made_anew() {
    let scene = Scene::new().await;
    let ([live, ..], profile) = (&scene.classes, &scene.profile);
    let group = redis::cmd("KEYS")
        .arg(format!("{}group:*", scene.prefix))
        .query::<Vec<String>>(&mut connection())
        .expect("keys");
    let group = group[0].strip_prefix(&scene.prefix).expect("a key of the fleet").to_owned();
    let keys = [
        "jobs".to_owned(),
        "workers".into(),
        "leases".into(),
        "classes".into(),
        "resting".into(),
        "ended".into(),
        "present".into(),
        "pulse".into(),
        format!("class:{live}"),
        format!("queue:{live}"),
        "heads:simulation".into(),
        format!("base:{live}"),
        "machine:m-w:workers".into(),
        format!("serves:{profile}:simulation"),
        format!("profile:{profile}"),
        "waiting:simulation".into(),
        format!("wake:{profile}:simulation"),
        group,
        format!("results:{}", scene.job),
        format!("idempotency:{:032x}", 7),
        "log".into(),
    ];
    for key in keys {
        by_hand(&scene.prefix, &format!("DEL {key}"));
        let damage = match key.starts_with("idempotency:") {
            true => format!("RPUSH {key} x"),
            false => format!("SET {key} x"),
        };
        let finding = scene.is_mended(&damage, &format!("wrong_type:index/{key}")).await;
        assert_eq!(finding.mend, Mend::Quarantine, "{key}");
        scene.works().await;
    }
}

#[tokio::test]
async fn a_lost_payload_is_told_and_stops_no_other_repair() {
    let scene = Scene::new().await;
    let payload = format!("payload:{}", scene.job);
    by_hand(&scene.prefix, &format!("DEL {payload}"));
    by_hand(&scene.prefix, &format!("RPUSH {payload} x"));
    by_hand(&scene.prefix, &format!("RPUSH payload:{} x", uuid::Uuid::nil()));
    by_hand(&scene.prefix, "SADD workers ghost");
    let mended = scene.fleet.store.mend(None).await.expect("the rest is mended");
    assert_eq!(mended.len(), 3, "each is told once: {mended:?}");
    for mended in mended {
        let is_left = matches!(mended.outcome, MendOutcome::Left { .. });
        assert_eq!(is_left, mended.finding.subject == format!("index/{payload}"), "{mended:?}");
        if is_left {
            assert_eq!(mended.finding.mend, Mend::None);
            assert!(mended.finding.cure.contains("submit it again"), "{mended:?}");
        }
    }
    let left: Vec<String> = scene.examine().await.findings.into_iter().map(|f| f.id).collect();
    let aside = format!("quarantined:index/payload:{}", uuid::Uuid::nil());
    assert_eq!(left, [format!("wrong_type:index/{payload}"), aside]);
}

#[tokio::test]
async fn a_payload_that_is_gone_is_told() {
    let scene = Scene::new().await;
    let id = format!("lost_payload:job/{}", scene.job);
    by_hand(&scene.prefix, &format!("DEL payload:{}", scene.job));
    let found = scene.examine().await.findings;
    assert_eq!(found.iter().map(|f| &f.id).collect::<Vec<_>>(), [&id]);
    assert!(found[0].cure.contains("submit it again"), "{found:?}");
    let mended = scene.fleet.store.mend(None).await.expect("nothing is to be done");
    assert!(matches!(&mended[..], [Mended { outcome: MendOutcome::Left { .. }, .. }]));
    let job = scene.job.parse().expect("an id");
    scene.fleet.run(Command::Cancel { job }).await.expect("it is cancelled");
    assert_eq!(scene.examine().await.findings, []);
}

/// What follows from a record that is set aside is made right in the same run.
#[tokio::test]
async fn a_worker_that_is_set_aside_is_counted_no_more() {
    let scene = Scene::new().await;
    by_hand(&scene.prefix, "DEL log");
    by_hand(&scene.prefix, "HSET worker:w presence nowhere");
    let broken = scene.examine().await;
    let broken: Vec<String> = broken.findings.into_iter().map(|finding| finding.id).collect();
    assert!(broken.contains(&"unreadable_field:worker/w".to_owned()), "{broken:?}");
    scene.fleet.store.mend(Some(vec!["unreadable_field:worker/w".into()])).await.expect("aside");
    let left = scene.examine().await;
    let by_worker = |f: &Finding| f.rule == FindingRule::UnknownWorker;
    let others: Vec<_> = left.findings.iter().filter(|finding| !by_worker(finding)).collect();
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(others[0].id, "quarantined:worker/w");
    let register = Fleet::registration(&scene.hand, 2, &["x"]);
    scene.fleet.run(Command::Register(register)).await.expect("it registers anew");
    let left = scene.examine().await.findings;
    let is_left = |f: &Finding| match f.rule {
        FindingRule::Quarantined => f.mend == Mend::Repair,
        rule => rule == FindingRule::WrongList,
    };
    assert!(left.iter().all(is_left), "{left:?}");
    scene.fleet.store.mend(None).await.expect("it is mended");
    scene.fleet.check().await.expect("nothing is wrong any more");
}

/// A machine may be called as the key is that names a machine's workers.
#[tokio::test]
async fn a_machine_may_have_any_name() {
    let (fleet, _) = fleet_on();
    let hand = Hand { machine: "workers".parse().expect("an id"), ..fleet.hand("w") };
    fleet.run(Command::Register(Fleet::registration(&hand, 1, &[]))).await.expect("it registers");
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined");
    assert!(found.is_sound(), "{found:?}");
}

/// Capabilities of another digest are not those of the profile's workers.
#[tokio::test]
async fn capabilities_that_are_not_the_profiles_own_are_mended() {
    let scene = Scene::new().await;
    let profile = &scene.profile;
    let id = "unknown_capabilities:worker/w";
    scene.is_mended(&format!("HSET profile:{profile} capabilities {{}}"), id).await;
    scene.works().await;
}

#[tokio::test]
async fn what_is_kept_of_idempotency_keys_is_looked_at() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let idempotency = Some(Idempotency { key: "once".to_owned(), body: [7; 32] });
    let submission = Submit { idempotency, ..fleet.submission(spec(50)) };
    let job = submission.id;
    fleet.run(Command::Submit(submission.clone())).await.expect("it is submitted");
    let mut keys = redis::cmd("KEYS");
    keys.arg(format!("{prefix}idempotency:*"));
    let kept: Vec<String> = keys.query(&mut connection()).expect("KEYS works");
    let kept = kept[0].strip_prefix(&prefix).expect("a key of the fleet");
    let member = first(&prefix, "ZRANGE", "idempotency");
    let examine = async || fleet.store.examine(Depth::Everything).await.expect("it is examined");
    let mend = async || fleet.store.mend(None).await.expect("it is mended");
    assert!(examine().await.is_sound());

    by_hand(&prefix, "ZADD idempotency 99999999999999 foreign");
    by_hand(&prefix, &format!("ZADD idempotency 5 {member}"));
    let found = examine().await;
    assert!(found.has("index_without_record:index/idempotency"), "{found:?}");
    assert!(found.has(&format!("record_without_index:index/{kept}")), "{found:?}");
    mend().await;
    assert!(examine().await.is_sound(), "{:?}", examine().await);
    let again = fleet.run(Command::Submit(submission)).await.expect("it is answered again");
    assert!(matches!(again.0, Answer::Submitted { id, existing: Some(_) } if id == job));

    by_hand(&prefix, &format!("SET {kept} garbage"));
    let id = format!("unreadable_field:index/{kept}");
    assert!(examine().await.has(&id), "{:?}", examine().await);
    let mended = mend().await;
    assert!(mended.iter().any(|m| m.finding.id == id && m.outcome == MendOutcome::Quarantined));
    by_hand(&prefix, &format!("DEL quarantine:{kept}"));
    assert!(examine().await.is_sound(), "{:?}", examine().await);
}

/// Their names do not lead back to the keys, so nothing can be done about it, and nothing needs to be.
#[tokio::test]
async fn keys_that_their_index_lost_are_one_harmless_finding() {
    let (fleet, options) = fleet_on();
    for n in 0..12 {
        let idempotency = Some(Idempotency { key: format!("key-{n}"), body: [7; 32] });
        let submission = Submit { idempotency, ..fleet.submission(spec(50)) };
        fleet.run(Command::Submit(submission)).await.expect("it is submitted");
    }
    by_hand(&prefix(&options), "DEL idempotency");
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined").findings;
    let [lost] = &found[..] else { panic!("{found:?}") };
    assert_eq!(lost.id, "record_without_index:index/idempotency");
    assert!(lost.problem.starts_with("10 or more keys") && lost.is_harmless(), "{lost:?}");
}

/// Of what was asked for together some may stand when the rest fails: then it is not told as refused.
#[tokio::test]
async fn a_batch_that_fails_half_way_is_not_told_as_refused() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let of = |flow: &str| {
        let workflow_id = Some(flow.parse().expect("an id"));
        Command::Submit(fleet.submission(JobSpec { workflow_id, ..spec(50) }))
    };
    fleet.run(of("broken")).await.expect("it is submitted");
    let mut keys = redis::cmd("KEYS");
    keys.arg(format!("{prefix}group:*"));
    let group: Vec<String> = keys.query(&mut connection()).expect("KEYS works");
    by_hand(&prefix, &format!("SET {} x", group[0].strip_prefix(&prefix).expect("a key")));
    let alone = fleet.store.execute(vec![of("broken")]).await;
    assert!(matches!(alone, Err(StoreError::Failed(_))), "{alone:?}");
    let both = fleet.store.execute(vec![of("fine"), of("broken")]).await;
    assert!(matches!(both, Err(StoreError::Unknown(_))), "{both:?}");
}

/// Somebody deleted what tells when workers were heard: one that is gone must not seem to be there for
/// ever.
#[tokio::test]
async fn a_worker_that_is_not_known_to_be_heard_goes_offline() {
    let (fleet, options) = fleet_on();
    let (gone, there) = (fleet.worker("gone", 1, &[]).await, fleet.worker("there", 1, &[]).await);
    by_hand(&prefix(&options), "DEL pulse");
    fleet.advance(limits::SILENT_AFTER);
    fleet.report(&there, ConnectorStatus::Idle).await;
    assert_eq!(fleet.reconcile(Due::Workers).await, 1);
    assert!(fleet.worker_record(&gone).await.is_offline());
    assert!(!fleet.worker_record(&there).await.is_offline());
}
