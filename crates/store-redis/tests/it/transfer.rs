//! Moving house to and from Redis, and what of it survives that everybody goes away.

use std::{any::Any, sync::Arc};

use pointsman_core::{Command, Record, RecordKey, Rejected, command::Idempotency, record::Job};
use pointsman_store::{
    Intake, ManualClock, MemStore, Store, Transfer, TransferError,
    conformance::{
        fleet::{Fleet, Hand, completed, late, spec},
        transfer::moves,
    },
    transfer::{ExportOptions, Item, check, export, import},
};
use pointsman_store_redis::{OpenError, Opening, Options, RedisStore};
use pointsman_store_sqlite::SqliteStore;

use crate::{
    keyspace::dump,
    support::{by_hand, call_by_hand, connection, open_with, options, prefix, try_open},
};

fn open(clock: ManualClock) -> (Arc<dyn Transfer>, Box<dyn Any>) {
    (Arc::new(open_with(options(&clock))), Box::new(()))
}

pointsman_store::transfer_tests!(open);

fn sqlite(clock: ManualClock) -> (Arc<dyn Transfer>, Box<dyn Any>) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = pointsman_store_sqlite::Options {
        clock: Some(Arc::new(clock)),
        reserve_bytes: 0,
        ..Default::default()
    };
    let store = SqliteStore::open(dir.path(), options).expect("the store opens");
    (Arc::new(store), Box::new(dir))
}

#[test]
fn everything_moves_from_sqlite() {
    moves(sqlite, open);
}

#[test]
fn everything_moves_to_sqlite() {
    moves(open, sqlite);
}

/// A store in memory with an ended, a running and a waiting job, as a stream.
async fn stream(clock: &ManualClock) -> (Fleet, Hand, Arc<Job>, Vec<u8>) {
    let store = Arc::new(MemStore::new(Arc::new(clock.clone())));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("w", 2, &["x"]).await;
    let ended = fleet.running(&hand).await;
    fleet.act(&hand, ended, completed()).await.expect("it ends");
    let held = fleet.running(&hand).await;
    fleet.submit(spec(50)).await;
    let running = fleet.job(held.job).await;
    let options = ExportOptions { made_by: "a test".to_owned(), with_running: true };
    let mut stream = Vec::new();
    export(&*store, &options, &mut stream, &mut |_| ()).await.expect("an export");
    (fleet, hand, running, stream)
}

fn for_import(options: &Options) -> Options {
    Options { opening: Opening::Import, ..options.clone() }
}

fn importing(options: &Options) -> Arc<RedisStore> {
    Arc::new(open_with(for_import(options)))
}

#[tokio::test]
async fn an_imported_store_serves_whoever_opens_it() {
    let clock = ManualClock::default();
    let options = options(&clock);
    let (_, hand, running, stream) = stream(&clock).await;
    let store = importing(&options);
    let done = import(&*store, &stream[..], &mut |_| ()).await.expect("an import");
    store.close().await.expect("it closes");

    let again = Arc::new(open_with(options.clone()));
    assert_eq!(again.epoch(), done.epoch);
    let fleet = Fleet::on(&again);
    let job = fleet.job(running.id).await;
    let past = job.past.last().expect("the attempt that ran");
    let held =
        pointsman_core::command::Held { job: job.id, attempt: past.attempt, token: past.token };
    fleet.act(&hand, held, late()).await.expect("it is kept");
    assert_eq!(again.results(job.id).await.map(|results| results.len()), Ok(1));
    // Its queue serves a worker that comes back.
    let back = fleet.worker("w2", 2, &["x"]).await;
    assert!(fleet.claim(&back).await.is_some());
    assert_eq!(fleet.check().await, Ok(()));
}

#[tokio::test]
async fn an_operator_sees_connectors_of_imported_workers() {
    let clock = ManualClock::default();
    let options = options(&clock);
    let from = Arc::new(MemStore::new(Arc::new(clock.clone())));
    let fleet = Fleet::on(&from);
    // Gone before the export: nothing is settled about it.
    let hand = fleet.worker("w", 1, &[]).await;
    let leave = Command::Leave { worker: hand.worker.clone(), incarnation: hand.incarnation };
    fleet.run(leave).await.expect("a known worker");
    let export_options = ExportOptions { made_by: "a test".to_owned(), with_running: false };
    let mut stream = Vec::new();
    export(&*from, &export_options, &mut stream, &mut |_| ()).await.expect("an export");
    import(&*importing(&options), &stream[..], &mut |_| ()).await.expect("an import");
    let shown: String = redis::cmd("HGET")
        .arg(format!("{}worker:w", prefix(&options)))
        .arg("connector_statuses")
        .query(&mut connection())
        .expect("it is shown");
    assert!(shown.contains("\"simulation\":{"), "{shown}");
}

#[tokio::test]
async fn a_closed_intake_stays_closed_for_everybody() {
    let options = options(&ManualClock::default());
    let (one, other) = (open_with(options.clone()), Arc::new(open_with(options.clone())));
    one.set_intake(false).await.expect("it closes");
    one.close().await.expect("it closes");
    let fleet = Fleet::on(&other);
    let refused = fleet.run(Command::Submit(fleet.submission(spec(50)))).await;
    assert_eq!(refused.err(), Some(Rejected::IntakeClosed));
    let again = Arc::new(open_with(options));
    assert_eq!(again.intake().await, Ok(Intake::Closed));
    again.set_intake(true).await.expect("it opens");
    fleet.submit(spec(50)).await;
}

/// It would be written over what is served.
#[tokio::test]
async fn what_is_not_being_imported_takes_no_items() {
    let clock = ManualClock::default();
    let options = options(&clock);
    let (fleet, .., stream) = stream(&clock).await;
    let (header, _) = check(&stream[..]).await.expect("a whole stream");
    let store = importing(&options);
    store.begin_import(&header).await.expect("it is empty");
    by_hand(&prefix(&options), "HDEL meta importing");
    let before = dump(&prefix(&options));
    let jobs = fleet.store.jobs(Default::default(), None, 10).await.expect("its jobs").jobs;
    let items = jobs.into_iter().map(|job| Item::Record(Record::Job(job))).collect();
    assert!(matches!(store.import(items).await, Err(TransferError::NotImporting)));
    assert!(before == dump(&prefix(&options)), "nothing was changed");
}

#[tokio::test]
async fn an_import_that_broke_off_is_told_and_begins_anew() {
    let clock = ManualClock::default();
    let options = options(&clock);
    let (fleet, .., stream) = stream(&clock).await;
    let (header, _) = check(&stream[..]).await.expect("a whole stream");
    let bystander = Arc::new(open_with(options.clone()));
    let store = importing(&options);
    store.begin_import(&header).await.expect("it is empty");
    let jobs = fleet.store.jobs(Default::default(), None, 10).await.expect("its jobs").jobs;
    let items: Vec<Item> = jobs.into_iter().map(|job| Item::Record(Record::Job(job))).collect();
    store.import(items.clone()).await.expect("they are put in");

    // Nobody is served meanwhile, whoever has it open already.
    let theirs = Fleet::on(&bystander);
    let refused = theirs.run(Command::Submit(theirs.submission(spec(50)))).await;
    assert_eq!(refused.err(), Some(Rejected::Importing));
    for opening in [Opening::Serve, Opening::Work] {
        let refused = try_open(Options { opening, ..options.clone() }).err();
        assert_eq!(refused, Some(OpenError::Importing));
    }

    // Another import takes its place; the first one can do nothing any more.
    let meta = dump(&prefix(&options)).remove(&format!("{}meta", prefix(&options)));
    let firsts = store.epoch().to_string();
    assert!(String::from_utf8_lossy(&meta.expect("meta")).contains(&firsts));
    let second = importing(&options);
    assert_eq!(dump(&prefix(&options)).len(), 1, "only meta is left");
    assert_eq!(second.intake().await, Ok(Intake::Open));
    second.begin_import(&header).await.expect("it is empty");
    second.import(items.clone()).await.expect("they are put in");
    let before = dump(&prefix(&options));
    assert!(matches!(store.import(items).await, Err(TransferError::Store(_))));
    assert!(matches!(store.finish_import(&header).await, Err(TransferError::Store(_))));
    assert!(matches!(store.clear_import().await, Err(TransferError::Store(_))));
    // Nor may it go on with what it was about.
    let jobs = format!("{}jobs", prefix(&options));
    let answer = call_by_hand(&prefix(&options), "clear_import", &[&firsts, &jobs]);
    assert!(format!("{answer:?}").contains("epoch"), "{answer:?}");
    assert!(before == dump(&prefix(&options)), "nothing was changed");
    second.clear_import().await.expect("it is its own");
    import(&*second, &stream[..], &mut |_| ()).await.expect("an import");
    let again = open_with(options);
    assert_eq!(again.jobs(Default::default(), None, 10).await.expect("its jobs").jobs.len(), 3);
}

#[tokio::test]
async fn what_is_there_is_opened_and_never_made() {
    let options = options(&ManualClock::default());
    let existing = Options { opening: Opening::Work, ..options.clone() };
    let refused = try_open(existing.clone()).err();
    assert_eq!(refused, Some(OpenError::Missing { prefix: prefix(&options) }));
    assert!(dump(&prefix(&options)).is_empty());
    let made = Arc::new(open_with(options));
    let job = Fleet::on(&made).submit(spec(50)).await;
    let found = open_with(existing).records(vec![RecordKey::Job(job)]).await;
    assert_eq!(found.map(|records| records.len()), Ok(1));
}

/// More than fits in one page, one batch or one call; all keys end at the same moment.
#[tokio::test]
async fn many_jobs_move_with_their_keys() {
    const JOBS: u64 = 2_300;
    let clock = ManualClock::default();
    let from = Arc::new(MemStore::new(Arc::new(clock.clone())));
    let fleet = Fleet::on(&from);
    for n in 0..JOBS {
        let mut submit = fleet.submission(spec(50));
        submit.idempotency = Some(Idempotency { key: format!("key {n}"), body: [7; 32] });
        fleet.run(Command::Submit(submit)).await.expect("a valid submission");
    }
    let options = ExportOptions { made_by: "a test".to_owned(), with_running: false };
    let mut stream = Vec::new();
    export(&*from, &options, &mut stream, &mut |_| ()).await.expect("an export");
    let (between, _) = open(clock.clone());
    import(&*between, &stream[..], &mut |_| ()).await.expect("an import");
    let mut again = Vec::new();
    let (_, counts) =
        export(&*between, &options, &mut again, &mut |_| ()).await.expect("an export");
    assert_eq!((counts.jobs, counts.idempotency_keys), (JOBS, JOBS));
    let kept = async |store: &dyn Transfer| store.idempotency(None, 10_000).await;
    assert_eq!(kept(&*between).await, kept(&*from).await);
}

/// What an index lost is not left out without a word.
#[tokio::test]
async fn an_unsound_store_is_not_exported() {
    let clock = ManualClock::default();
    let options = options(&clock);
    let store = Arc::new(open_with(options.clone()));
    let job = Fleet::on(&store).submit(spec(50)).await;
    by_hand(&prefix(&options), &format!("ZREM jobs {job}"));
    let export_options = ExportOptions { made_by: String::new(), with_running: false };
    let mut stream = Vec::new();
    let refused = export(&*store, &export_options, &mut stream, &mut |_| ()).await;
    let why = refused.expect_err("it is refused").to_string();
    assert!(why.contains(&job.to_string()) && why.contains("doctor --repair"), "{why}");
    store.mend(None).await.expect("it is mended");
    let (_, counts) =
        export(&*store, &export_options, &mut stream, &mut |_| ()).await.expect("an export");
    assert_eq!(counts.jobs, 1);
}
