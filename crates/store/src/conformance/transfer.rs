//! Moving stores: whatever lived in one is the same in the other.

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pointsman_core::{
    Answer, Command, JobId, Record, RecordKey, Rejected,
    command::{Held, Idempotency, IdempotencyKey, Op, OpAnswer, Reconcile, Submit},
    decide::{KeptIdempotency, Side},
    hex,
    record::{Job, JobStatus, Orders, Worker},
};
use proptest::{prelude::*, test_runner::TestRunner};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::{
    fleet::{Fleet, completed, late, spec},
    model::{Script, actions},
};
use crate::{
    Depth, Examination, Intake, JobFilter, LogPage, ManualClock, MemStore, Store, Transfer,
    TransferError,
    transfer::{ExportOptions, FORMAT, Imported, Item, check, export, import},
};

/// Opens an empty store, as [`Open`](super::Open) does.
pub type OpenTransfer = fn(ManualClock) -> (Arc<dyn Transfer>, Box<dyn Any>);

pub fn memory(clock: ManualClock) -> (Arc<dyn Transfer>, Box<dyn Any>) {
    (Arc::new(MemStore::new(Arc::new(clock))), Box::new(()))
}

type Kept = Arc<Mutex<Option<Arc<dyn Transfer>>>>;

/// Opens as [`Open`](super::Open), and keeps the store as one that can be moved.
fn keeping(
    open: OpenTransfer,
    kept: Kept,
) -> impl Fn(ManualClock) -> (Arc<dyn Store>, Box<dyn Any>) {
    move |clock| {
        let (store, beside) = open(clock);
        *kept.lock() = Some(store.clone());
        (store, beside)
    }
}

/// A fleet, and its store as one that can be moved.
struct Home {
    fleet: Fleet,
    store: Arc<dyn Transfer>,
}

fn home(open: OpenTransfer) -> Home {
    let kept = Kept::default();
    let fleet = Fleet::new(&keeping(open, kept.clone()));
    let store = kept.lock().take().expect("it was opened");
    Home { fleet, store }
}

async fn exported(store: &dyn Transfer, with_running: bool) -> Result<Vec<u8>, TransferError> {
    let options = ExportOptions { made_by: "a test".to_owned(), with_running };
    let mut stream = Vec::new();
    let (header, counts) = export(store, &options, &mut stream, &mut |_| ()).await?;
    assert_eq!(check(&stream[..]).await.expect("a whole stream"), (header, counts));
    Ok(stream)
}

async fn imported(store: &dyn Transfer, stream: &[u8]) -> Result<Imported, TransferError> {
    import(store, stream, &mut |_| ()).await
}

/// Moves everything from one to the other.
async fn moved(from: &dyn Transfer, to: &dyn Transfer) -> Imported {
    let stream = exported(from, true).await.expect("an export");
    imported(to, &stream).await.expect("an import")
}

/// Random lives are lived in one store, and go on in the other.
pub fn moves(from: OpenTransfer, to: OpenTransfer) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
    let outcome = TestRunner::new(config).run(&actions(80), |actions| {
        runtime.block_on(async {
            let kept = Kept::default();
            let mut script = Script::new(&keeping(from, kept.clone())).await;
            let from = kept.lock().take().expect("it was opened");
            for action in &actions {
                script.act(action).await;
            }
            let new = home(to);
            // Clocks of different stores differ.
            new.fleet.advance(Duration::from_secs(7));
            let imported = moved(&*from, &*new.store).await;
            prop_assert_eq!(compare(&*from, &*new.store, &imported).await, Ok(()));
            for submit in &script.submissions {
                repeat(&script.fleet, &new.fleet, submit).await?;
            }
            Ok(())
        })
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

macro_rules! same {
    ($new:expr, $old:expr, $($about:tt)*) => {{
        let (new, old) = (&$new, &$old);
        if new != old {
            return Err(format!("{}: {new:?}, and it was {old:?}", format_args!($($about)*)));
        }
    }};
}

async fn all_jobs(store: &dyn Store) -> BTreeMap<JobId, Arc<Job>> {
    let page = store.jobs(JobFilter::default(), None, 10_000).await.expect("the store works");
    page.jobs.into_iter().map(|job| (job.id, job)).collect()
}

async fn compare(
    from: &dyn Transfer,
    to: &dyn Transfer,
    imported: &Imported,
) -> Result<(), String> {
    same!(from.intake().await, Ok(Intake::Closed), "the old store's intake");
    same!(to.intake().await, Ok(Intake::Open), "the new store's intake");
    same!(to.epoch(), imported.epoch, "the new epoch");
    if to.epoch() == from.epoch() {
        return Err("both logs have the same epoch".to_owned());
    }
    same!(to.examine(Depth::Everything).await, Ok(Examination::default()), "findings");
    let (old, new) = (all_jobs(from).await, all_jobs(to).await);
    same!(new.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>(), "the jobs");
    for (id, old) in &old {
        same_job(&new[id], old)?;
        same!(to.payloads(vec![*id]).await, from.payloads(vec![*id]).await, "payload of {id}");
        same!(to.results(*id).await, from.results(*id).await, "results of {id}");
        same!(to.result(*id, None).await, from.result(*id, None).await, "last result of {id}");
    }
    same!(queue(to, &new).await, in_order(&new), "the queue");
    same_workers(from, to).await?;
    same_keys(from, to, imported).await?;
    log_begins_after(to, imported).await
}

/// All that stays of a job, and what becomes of one that ran.
fn same_job(new: &Job, old: &Job) -> Result<(), String> {
    if !old.is_running() {
        same!(new, old, "job {}", old.id);
        return Ok(());
    }
    let status = match old.cancel_requested_at {
        Some(_) => JobStatus::Cancelled,
        None => JobStatus::Pending,
    };
    same!(new.status(), status, "status of {}", old.id);
    same!(new.spec, old.spec, "spec of {}", old.id);
    let fence = |job: &Job| (job.run, job.attempt, job.token);
    same!(fence(new), fence(old), "attempt of {}", old.id);
    let place = |job: &Job| (job.place, job.queued_seq);
    same!(place(new), place(old), "place of {}", old.id);
    let against = |job: &Job| (job.losses, job.failures);
    same!(against(new), against(old), "losses and failures of {}", old.id);
    let past = new.past.last().map(|past| (past.attempt, Some(past.token)));
    same!(past, Some((old.attempt, old.token)), "newest earlier attempt of {}", old.id);
    Ok(())
}

/// The jobs in the order in which they wait, as their records say.
fn in_order(jobs: &BTreeMap<JobId, Arc<Job>>) -> Vec<JobId> {
    let mut waiting: Vec<_> = jobs.values().filter(|job| job.is_waiting()).collect();
    waiting.sort_by_key(|job| {
        (u8::MAX - job.spec.effective_priority(), job.place, job.queued_seq, job.id)
    });
    waiting.into_iter().map(|job| job.id).collect()
}

/// As the store says.
async fn queue(store: &dyn Store, jobs: &BTreeMap<JobId, Arc<Job>>) -> Vec<JobId> {
    let queues = store.queues(10_000).await.expect("the store works");
    let waiting = queues.pending.into_iter().map(|job| job.id);
    waiting.filter(|id| jobs[id].is_waiting()).collect()
}

async fn workers(store: &dyn Store) -> Vec<Arc<Worker>> {
    let records = store.seed().await.expect("the store works").records;
    let workers = records.into_iter().filter_map(|record| match record {
        Record::Worker(worker) => Some(worker),
        _ => None,
    });
    workers.collect()
}

async fn same_workers(from: &dyn Store, to: &dyn Store) -> Result<(), String> {
    let (old, new) = (workers(from).await, workers(to).await);
    same!(new.len(), old.len(), "the number of workers");
    for (new, old) in new.iter().zip(&old) {
        let kept = |w: &Worker| {
            let identity = (w.id.clone(), w.incarnation, w.orders, w.capabilities_digest);
            (identity, w.suspect_jobs.clone(), w.jobs_completed, w.jobs_failed)
        };
        same!(kept(new), kept(old), "worker {}", old.id);
        same!(new.is_offline(), true, "worker {} is offline", old.id);
        let digest = old.capabilities_digest;
        let capabilities = to.capabilities(digest).await;
        same!(capabilities, from.capabilities(digest).await, "capabilities of {}", old.id);
    }
    Ok(())
}

async fn same_keys(
    from: &dyn Transfer,
    to: &dyn Transfer,
    imported: &Imported,
) -> Result<(), String> {
    let old = from.idempotency(None, 10_000).await.expect("the store works");
    let new = to.idempotency(None, 10_000).await.expect("the store works");
    same!(new.len(), old.len(), "the number of idempotency keys");
    for ((key, new), (old_key, old)) in new.iter().zip(&old) {
        same!(key, old_key, "an idempotency key");
        same!((new.job, new.body), (old.job, old.body), "what {key:?} stands for");
        let remaining = (new.until.since(to.now()), old.until.since(imported.header.at));
        same!(remaining.0, remaining.1, "the time that remains to {key:?}");
    }
    Ok(())
}

/// The new log begins where the old one ended, is dense, and says what became of the running.
async fn log_begins_after(to: &dyn Store, imported: &Imported) -> Result<(), String> {
    let begin = imported.header.seq;
    let log = to.log(begin, usize::MAX).await.expect("the store works");
    let LogPage::Groups(groups) = log else { return Err(format!("the log is cut: {log:?}")) };
    for (group, seq) in groups.iter().zip(begin + 1..) {
        same!(group.seq, seq, "a seq of the log");
    }
    let end = to.seed().await.expect("the store works").position.seq;
    same!(begin + groups.len() as u64, end, "the log's end");
    let earlier = to.log(begin.saturating_sub(1), 1).await.expect("the store works");
    match begin > 0 && !matches!(earlier, LogPage::Cut { .. }) {
        true => Err("the log says that it has what was before".to_owned()),
        false => Ok(()),
    }
}

/// The same submission once more, under a new id, gives the same job in the new store as it would
/// have in the old one.
async fn repeat(old: &Fleet, new: &Fleet, submit: &Submit) -> Result<(), TestCaseError> {
    let again = Submit { id: old.submission(spec(50)).id, ..submit.clone() };
    let kept = |answer: Result<_, Rejected>| match answer {
        Ok((Answer::Submitted { id, existing }, _)) => existing.map(|_| id),
        _ => None,
    };
    // The old store is closed: what is not kept is refused there.
    let expected = kept(old.run(Command::Submit(again.clone())).await);
    prop_assert_eq!(kept(new.run(Command::Submit(again)).await), expected);
    Ok(())
}

pub async fn a_moved_jobs_old_attempt_hands_in_late(open: OpenTransfer) {
    let (old, new) = (home(open), home(open));
    let hand = old.fleet.worker("w", 1, &[]).await;
    let held = old.fleet.running(&hand).await;
    let imported = moved(&*old.store, &*new.store).await;
    assert_eq!(imported.given_back, 1);
    let stale = Rejected::StaleAttempt { job: held.job, current: held.attempt };
    assert_eq!(new.fleet.act(&hand, held, completed()).await, Err(stale));
    let kept = new.fleet.act(&hand, held, late()).await;
    assert_eq!(kept, Ok(OpAnswer::LateKept { won: true }));
    let job = new.fleet.job(held.job).await;
    assert_eq!((job.status(), job.losses), (JobStatus::Completed, 0));
    assert_eq!(new.fleet.check().await, Ok(()));
}

pub async fn a_cancelled_attempt_is_over_after_the_move(open: OpenTransfer) {
    let (old, new) = (home(open), home(open));
    let hand = old.fleet.worker("w", 1, &[]).await;
    let held = old.fleet.running(&hand).await;
    old.fleet.run(Command::Cancel { job: held.job }).await.expect("a valid cancel");
    moved(&*old.store, &*new.store).await;
    assert_eq!(new.fleet.job(held.job).await.status(), JobStatus::Cancelled);
    assert_eq!(new.fleet.check().await, Ok(()));
}

pub async fn a_closed_intake_lets_jobs_end(open: OpenTransfer) {
    let Home { fleet, store } = home(open);
    let hand = fleet.worker("w", 4, &[]).await;
    let held = fleet.running(&hand).await;
    let ended = fleet.running(&hand).await;
    fleet.act(&hand, ended, completed()).await.expect("a valid ending");
    let submit = fleet.submission(spec(50));
    fleet.run(Command::Submit(submit.clone())).await.expect("a valid submission");
    let is_told_closed = async || {
        let explained = store.explain(submit.id).await.expect("the store works");
        explained.expect("there is such a job").0.intake_closed
    };
    assert!(!is_told_closed().await);
    store.set_intake(false).await.expect("the store works");
    assert!(is_told_closed().await);

    let refused = fleet.run(Command::Submit(fleet.submission(spec(50)))).await;
    assert_eq!(refused.err(), Some(Rejected::IntakeClosed));
    let refused = fleet.run(Command::Retry { job: ended.job, run: None }).await;
    assert_eq!(refused.err(), Some(Rejected::IntakeClosed));
    assert_eq!(fleet.claim(&hand).await, None);
    // An exact repeat is no new work; neither is the repeat of a claim.
    fleet.run(Command::Submit(submit.clone())).await.expect("its first answer");
    assert_eq!(fleet.claim_with(&hand, vec![held.token]).await, vec![held]);

    let status = pointsman_core::record::ConnectorStatus::Active;
    let renewed = fleet.renew(&hand, vec![held], status).await.expect("a valid renewal");
    assert!(renewed.lost.is_empty());
    fleet.act(&hand, held, completed()).await.expect("a valid ending");
    // What its worker runs although the store lost it is no new work either.
    let lost = Held { job: submit.id, attempt: 1, token: fleet.token() };
    let reclaimed = fleet.act(&hand, lost, Op::Reclaim { started: true }).await;
    assert_eq!(reclaimed, Ok(OpAnswer::Reclaimed));
    fleet.act(&hand, lost, completed()).await.expect("a valid ending");
    assert_eq!(fleet.check().await, Ok(()));

    store.set_intake(true).await.expect("the store works");
    assert!(!is_told_closed().await);
    let id = fleet.submit(spec(50)).await;
    assert_eq!(fleet.claim(&hand).await.map(|held| held.job), Some(id));
}

pub async fn running_jobs_are_taken_along_only_when_told(open: OpenTransfer) {
    let Home { fleet, store } = home(open);
    let hand = fleet.worker("w", 2, &[]).await;
    let held = fleet.running(&hand).await;
    let refused = exported(&*store, false).await;
    assert!(matches!(refused, Err(TransferError::Running(1))), "{refused:?}");
    assert_eq!(store.intake().await, Ok(Intake::Closed), "so that they end and none begins");
    exported(&*store, true).await.expect("an export");
    fleet.act(&hand, held, completed()).await.expect("a valid ending");
    exported(&*store, false).await.expect("an export");
}

pub async fn a_change_during_the_export_is_told(open: OpenTransfer) {
    let Home { fleet, store } = home(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let options = ExportOptions { made_by: "a test".to_owned(), with_running: true };
    // A pipe so short that the export waits for its reader within the first line.
    let (to, mut from) = tokio::io::duplex(16);
    let ending = async {
        from.read_u8().await.expect("the export begins");
        fleet.act(&hand, held, completed()).await.expect("a valid ending");
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.expect("the export ends");
        rest
    };
    let mut untold = |_: &_| ();
    let exporting = export(&*store, &options, to, &mut untold);
    let (outcome, rest) = tokio::join!(exporting, ending);
    assert!(matches!(outcome, Err(TransferError::Changed { .. })), "{outcome:?}");
    assert!(!String::from_utf8_lossy(&rest).contains("footer"), "nobody takes it for whole");
}

pub async fn only_an_empty_store_is_filled(open: OpenTransfer) {
    let (old, new) = (home(open), home(open));
    old.fleet.submit(spec(50)).await;
    let stream = exported(&*old.store, false).await.expect("an export");
    let kept = new.fleet.submit(spec(50)).await;
    let before = super::model::picture(&*new.store).await;
    let refused = imported(&*new.store, &stream).await;
    assert!(matches!(refused, Err(TransferError::NotEmpty(1))), "{refused:?}");
    assert_eq!(super::model::picture(&*new.store).await, before);
    assert!(new.fleet.job(kept).await.is_waiting());
    // Also one whose records are all gone again.
    let removed = home(open);
    let job = removed.fleet.submit(spec(50)).await;
    removed.fleet.run(Command::Cancel { job }).await.expect("a valid cancel");
    let remove = pointsman_core::command::Reconcile::RemoveJob { job };
    removed.fleet.run(Command::Reconcile(remove)).await.expect("a valid removal");
    let refused = imported(&*removed.store, &stream).await;
    assert!(matches!(refused, Err(TransferError::NotEmpty(_))), "{refused:?}");
}

/// Cut, altered, newer and foreign streams: refused by the check, refused by the import, and the
/// store is as empty as before, so that the whole stream still goes in.
pub async fn a_broken_stream_changes_nothing(open: OpenTransfer) {
    let (old, new) = (home(open), home(open));
    let hand = old.fleet.worker("w", 2, &[]).await;
    let held = old.fleet.running(&hand).await;
    old.fleet.act(&hand, held, completed()).await.expect("a valid ending");
    old.fleet.submit(spec(70)).await;
    let stream = exported(&*old.store, false).await.expect("an export");
    let text = String::from_utf8(stream.clone()).expect("an export is text");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let without = |n: usize| [&lines[..n], &lines[n + 1..]].concat().concat();

    let newer = format!("NewerFormat({})", FORMAT + 1);
    let mut broken = vec![
        ("nothing", String::new(), "NotAnExport"),
        ("foreign", "{\"jobs\":[]}\n".to_owned(), "NotAnExport"),
        ("binary", "\u{0}\u{1}".to_owned(), "NotAnExport"),
        ("newer", of_format(&text, FORMAT + 1), &newer),
        ("no footer", lines[..lines.len() - 1].concat(), "Cut"),
        ("half a line", text[..text.len() / 2].to_owned(), "Cut"),
        ("half a footer", text[..text.len() - 10].to_owned(), "Cut"),
        ("more after it", format!("{text}{}", lines[1]), "Altered"),
        ("another priority", text.replacen("\"priority\":70", "\"priority\":71", 1), "Altered"),
        ("an unknown kind", format!("{}{{\"new\":{{}}}}\n", lines[0]), "unknown variant `new`"),
        ("two headers", [lines[0], &text].concat(), "a second header"),
        ("rev beyond", text.replacen("\"seq\":", "\"seq\":0,\"was\":", 1), "beyond"),
    ];
    broken.extend((1..lines.len() - 1).map(|n| ("a line less", without(n), "")));
    for (what, stream, why) in broken {
        let checked = check(stream.as_bytes()).await.expect_err(what);
        let refused = imported(&*new.store, stream.as_bytes()).await.expect_err(what);
        let (checked, refused) = (format!("{checked:?}"), format!("{refused:?}"));
        assert_eq!(checked, refused, "{what}");
        assert!(refused.contains(why), "{what}: {refused}");
        assert_eq!(new.store.intake().await, Ok(Intake::Open), "{what}");
        assert_eq!(new.fleet.seq().await, 0, "{what}");
        assert!(all_jobs(&*new.store).await.is_empty(), "{what}");
        assert!(workers(&*new.store).await.is_empty(), "{what}");
    }
    let older = of_format(&text, 1);
    assert_eq!(check(older.as_bytes()).await.expect("an older version's").0.format, 1);
    let done = imported(&*new.store, &stream).await.expect("an import");
    assert_eq!(done.header.format, FORMAT);
    assert_eq!(compare(&*old.store, &*new.store, &done).await, Ok(()));
}

/// The export as of another format, whole.
fn of_format(text: &str, format: u32) -> String {
    let [was, is] = [FORMAT, format].map(|format| format!("{{\"header\":{{\"format\":{format},"));
    let lines = text.strip_prefix(&was).expect("a header of this version's format");
    let lines = [&is, lines].concat();
    let (_, footer) = text.trim_end().rsplit_once('\n').expect("lines");
    let (_, sha256) = footer.rsplit_once("\"sha256\":\"").expect("a digest");
    let whole = lines.strip_suffix(&format!("{footer}\n")).expect("a footer");
    let mended = hex::encode(Sha256::digest(whole));
    lines.replace(&sha256[..64], &mended)
}

pub async fn a_store_that_is_filled_serves_nobody(open: OpenTransfer) {
    let (old, new) = (home(open), home(open));
    old.fleet.submit(spec(50)).await;
    let stream = exported(&*old.store, false).await.expect("an export");
    let (header, _) = check(&stream[..]).await.expect("a whole stream");
    new.store.begin_import(&header).await.expect("an empty store");
    let refused = new.fleet.run(Command::Submit(new.fleet.submission(spec(50)))).await;
    assert_eq!(refused.err(), Some(Rejected::Importing));
    let hand = new.fleet.hand("w");
    let register = Command::Register(Fleet::registration(&hand, 1, &[]));
    let job = new.fleet.submission(spec(50)).id;
    let removal = Command::Reconcile(Reconcile::RemoveJob { job });
    for command in [register, Command::Cancel { job }, removal] {
        assert_eq!(new.fleet.run(command).await.err(), Some(Rejected::Importing));
    }
    assert!(matches!(new.store.set_intake(true).await, Err(TransferError::Importing)));
    let refused = imported(&*new.store, &stream).await;
    assert!(matches!(refused, Err(TransferError::Importing)), "{refused:?}");
    // The time of a key may be over once its turn comes.
    let key = IdempotencyKey { customer: None, key: "k".into() };
    let kept = KeptIdempotency { job, body: [7; 32], until: new.fleet.store.now() };
    let over = Item::Side(Side::Idempotency { key, kept });
    new.store.import(vec![over]).await.expect("it is left out");
    new.store.clear_import().await.expect("a half import");
    imported(&*new.store, &stream).await.expect("an import");
    assert!(matches!(new.store.clear_import().await, Err(TransferError::NotImporting)));
    assert!(matches!(new.store.import(Vec::new()).await, Err(TransferError::NotImporting)));
    let records = new.store.records(vec![RecordKey::Worker(hand.worker)]).await;
    assert_eq!(records, Ok(Vec::new()));
}

pub async fn idempotency_keys_keep_the_time_that_remained(open: OpenTransfer) {
    let (old, new) = (home(open), home(open));
    let hand = old.fleet.worker("w", 1, &[]).await;
    let orders = Orders { drain: true };
    let drain = Command::SetOrders { worker: hand.worker.clone(), orders };
    old.fleet.run(drain).await.expect("a known worker");
    let mut submit = old.fleet.submission(spec(50));
    submit.idempotency = Some(Idempotency { key: "k".into(), body: [7; 32] });
    old.fleet.run(Command::Submit(submit.clone())).await.expect("a valid submission");
    old.fleet.advance(Duration::from_secs(20 * 3600));
    // The move takes longer than the four hours that remain.
    new.fleet.advance(Duration::from_secs(60 * 3600));
    moved(&*old.store, &*new.store).await;
    assert_eq!(new.fleet.worker_record(&hand).await.orders, orders);
    new.fleet.advance(Duration::from_secs(4 * 3600 - 1));
    let again = Submit { id: old.fleet.submission(spec(50)).id, ..submit.clone() };
    let answer = new.fleet.run(Command::Submit(again.clone())).await.expect("a repeat").0;
    let Answer::Submitted { id, existing: Some(_) } = answer else { panic!("{answer:?}") };
    assert_eq!(id, submit.id);
    new.fleet.advance(Duration::from_secs(1));
    let answer = new.fleet.run(Command::Submit(again)).await.expect("a new job").0;
    assert!(matches!(answer, Answer::Submitted { existing: None, .. }), "{answer:?}");
}
