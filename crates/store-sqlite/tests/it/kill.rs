//! `kill -9` at any point: what was acknowledged is there, once, and the log tells of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command as Process, Stdio},
    sync::Arc,
};

use futures::future::join_all;
use pointsman_core::{Command, JobId, Record, RecordKey, record::JobStatus};
use pointsman_store::{
    Epoch, Store,
    conformance::fleet::{Fleet, completed, spec},
};
use pointsman_store_sqlite::{Options, SqliteStore};
use uuid::Uuid;

use crate::support::fleet;

/// Says in a child's working directory that it is one.
const MARK: &str = "this-is-the-child";

/// The child: submits, runs and ends jobs, and says what was acknowledged, until it is killed.
#[test]
#[ignore = "run by the test below, as a process of its own"]
fn child() {
    if Path::new(MARK).exists() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(work_until_killed());
    }
}

async fn work_until_killed() {
    let open = |_| -> (Arc<dyn Store>, Box<dyn std::any::Any>) {
        let options = Options { reserve_bytes: 0, ..Options::default() };
        (Arc::new(SqliteStore::open("store", options).unwrap()), Box::new(()))
    };
    let fleet = Fleet::new(&open);
    let submitting = join_all((0..8).map(|_| submit_on_and_on(&fleet)));
    tokio::join!(submitting, work_on_and_on(&fleet));
}

async fn submit_on_and_on(fleet: &Fleet) {
    loop {
        let mut submission = fleet.submission(spec(50));
        submission.id = JobId::from_uuid(Uuid::now_v7());
        submission.payload = submission.id.to_string().into_bytes().into();
        let id = submission.id;
        fleet.run(Command::Submit(submission)).await.unwrap();
        say("submitted", id);
    }
}

async fn work_on_and_on(fleet: &Fleet) {
    let mut hand = fleet.hand("w");
    hand.incarnation = pointsman_core::Incarnation::from_uuid(Uuid::new_v4());
    let register = Fleet::registration(&hand, 1_000, &[]);
    fleet.run(Command::Register(register)).await.unwrap();
    fleet.report(&hand, pointsman_core::record::ConnectorStatus::Idle).await;
    loop {
        let token = pointsman_core::Token::from_uuid(Uuid::new_v4());
        for held in fleet.claim_with(&hand, vec![token]).await {
            fleet.act(&hand, held, completed()).await.unwrap();
            say("ended", held.job);
        }
    }
}

/// One line in one write, so that a killed child leaves whole lines.
fn say(what: &str, id: JobId) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{what} {id}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What children acknowledged before they were killed.
#[derive(Default)]
struct Acknowledged {
    submitted: BTreeSet<JobId>,
    ended: BTreeSet<JobId>,
}

impl Acknowledged {
    /// Lets a child run until it has acknowledged so much, kills it, and hears it out.
    fn run_child(&mut self, dir: &Path, enough: usize) {
        let program = std::env::current_exe().unwrap();
        let arguments = ["--exact", "kill::child", "--ignored", "--nocapture", "--test-threads=1"];
        let mut child = Process::new(program)
            .args(arguments)
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut heard = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n') {
            heard += usize::from(self.hear(&String::from_utf8(line.unwrap()).unwrap()));
            if heard == enough {
                child.kill().unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "the child ended by itself: {status}");
    }

    fn hear(&mut self, line: &str) -> bool {
        let (into, id) = match line.split_once(' ') {
            Some(("submitted", id)) => (&mut self.submitted, id),
            Some(("ended", id)) => (&mut self.ended, id),
            _ => return false,
        };
        // The last line may be cut off.
        id.parse().is_ok_and(|id| into.insert(id))
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MARK), "").unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut epochs = BTreeSet::new();
    for enough in [1, 40, 7, 300, 90] {
        acknowledged.run_child(dir.path(), enough);
        epochs.insert(check(&dir.path().join("store"), &acknowledged).await.to_string());
    }
    assert_eq!(epochs.len(), 1, "nothing was lost: {epochs:?}");
}

async fn check(dir: &Path, acknowledged: &Acknowledged) -> Epoch {
    let fleet = fleet(dir);
    let page = fleet.store.jobs(Default::default(), None, usize::MAX).await.unwrap();
    let jobs: BTreeMap<_, _> = page.jobs.into_iter().map(|job| (job.id, job)).collect();
    let ids: Vec<_> = acknowledged.submitted.iter().copied().collect();
    let payloads = fleet.store.payloads(ids.clone()).await.unwrap();
    for (id, payload) in ids.iter().zip(payloads) {
        assert!(jobs.contains_key(id), "{id} was acknowledged and is gone");
        assert_eq!(payload.as_deref(), Some(id.to_string().as_bytes()));
    }
    for id in &acknowledged.ended {
        assert_eq!(jobs[id].status(), JobStatus::Completed, "{id} had ended");
        assert!(fleet.store.result(*id, None).await.unwrap().is_some());
    }
    check_log(&fleet, &jobs).await;
    // The dead child's last job still counts as running; nothing else may contradict anything.
    assert_eq!(fleet.check().await, Ok(()));
    fleet.store.close().await.unwrap();
    fleet.store.epoch()
}

/// The log is dense, tells of each submission once, and its end is the state.
async fn check_log(fleet: &Fleet, jobs: &BTreeMap<JobId, Arc<pointsman_core::record::Job>>) {
    let log = fleet.log().await;
    let seqs: Vec<_> = log.iter().map(|group| group.seq).collect();
    assert_eq!(seqs, (1..=fleet.seq().await).collect::<Vec<_>>());
    let mut submissions = BTreeSet::new();
    let mut last = BTreeMap::new();
    for event in log.iter().flat_map(|group| &group.events) {
        if let (RecordKey::Job(id), Some(Record::Job(job))) = (&event.key, &event.record) {
            let first = event.name != pointsman_core::EventName::JobSubmitted;
            assert!(first || submissions.insert(*id), "{id} was submitted twice");
            last.insert(*id, job.clone());
        }
    }
    assert_eq!(&last, jobs);
}
