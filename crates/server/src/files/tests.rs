use std::time::Duration;

use futures::TryStreamExt as _;
use pointsman_broker::{Broker, BrokerConfig, BrokerTasks, FilesTrouble};
use pointsman_core::{
    Answer, Command, Event, EventName, JobId, Record, Timestamp, Transition,
    command::{Reconcile, Submit},
    record::{ArtifactType, Ended, JobSpec, JobState},
};
use pointsman_store::{ManualClock, MemStore};
use uuid::Uuid;

use super::{
    sweep::{Swept, remove_unless_renewed},
    *,
};

fn held(n: u128) -> Held {
    let (job, token) = (Uuid::from_u128(1), Uuid::from_u128(n));
    Held { job: JobId::from_uuid(job), attempt: 1, token: Token::from_uuid(token) }
}

/// As strict as a stream may be: it panics when it is asked again behind its end.
fn stream(pieces: Vec<io::Result<Bytes>>) -> ByteStream {
    let next = async |mut rest: std::vec::IntoIter<_>| Some((rest.next()?, rest));
    futures::stream::unfold(pieces.into_iter(), next).boxed()
}

fn whole(bytes: &[u8]) -> ByteStream {
    stream(bytes.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect())
}

fn owner() -> Owner {
    Owner { fleet: "default".into(), store_made_at: None }
}

/// Without reconcilers: on a slow disk a test takes long enough for them to remove its jobs.
async fn broker_on(store: Arc<MemStore>) -> (Broker, BrokerTasks) {
    let config = BrokerConfig { reconcile: false, ..BrokerConfig::default() };
    Broker::start(store, config).await.unwrap()
}

/// All files but the one that says whose they are.
fn everything_under(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("owner.json") => {}
                _ if path.is_dir() => open.push(path),
                _ => found.push(path),
            }
        }
    }
    found
}

#[tokio::test]
async fn an_artifact_is_never_overwritten_and_a_repeat_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    for size in [0, 5, 3 << 20] {
        let name = format!("9-0-{size} ü#.png");
        let bytes = vec![7_u8; size];
        let stored = files.put_artifact(held(2), &name, whole(&bytes), None).await.unwrap();
        assert_eq!(stored.size, size as u64);
        let again = files.put_artifact(held(2), &name, whole(&bytes), Some(&stored.sha256)).await;
        assert_eq!(again.unwrap(), stored);
        let other = files.put_artifact(held(2), &name, whole(b"other"), None).await;
        assert!(matches!(other, Err(FilesError::Exists { .. })));
        assert!(files.put_artifact(held(3), &name, whole(b"other"), None).await.is_ok());
        // Another server, or this one after a start, reads what this one remembers.
        for files in [&files, &Files::open(dir.path(), None).unwrap()] {
            let now = files.stored_artifact(held(2).job, held(2).token, &name).await.unwrap();
            assert_eq!(now.as_ref(), Some(&stored));
        }
    }
}

#[tokio::test]
async fn what_breaks_off_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    for size in [10, 3 << 20] {
        let pieces = vec![Ok(vec![1; size].into()), Err(io::Error::other("gone"))];
        let broken = files.put_artifact(held(2), "a.png", stream(pieces), None).await;
        assert!(matches!(broken, Err(FilesError::BrokenOff(_))), "{broken:?}");
        let bytes = whole(&vec![1; size]);
        let wrong = Sha256Hex::of([0; 32]);
        let wrong = files.put_artifact(held(2), "a.png", bytes, Some(&wrong)).await;
        assert!(matches!(wrong, Err(FilesError::OtherDigest { .. })), "{wrong:?}");
    }
    assert_eq!(everything_under(dir.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn an_input_is_named_by_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    let bytes = vec![9_u8; 2 << 20];
    let stored = files.put_input(whole(&bytes)).await.unwrap();
    assert_eq!(files.put_input(whole(&bytes)).await.unwrap(), stored);
    assert_eq!(everything_under(dir.path()).len(), 1);
    let reader = files.input(&stored.sha256).await.unwrap().unwrap();
    let read: Vec<Bytes> =
        reader.read(Some(10..20)).await.unwrap().unwrap().try_collect().await.unwrap();
    assert_eq!(read.concat(), &bytes[10..20]);
    assert!(files.input(&Sha256Hex::of([0; 32])).await.unwrap().is_none());
}

#[tokio::test]
async fn no_name_leaves_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    for name in ["../x", "..", "a/b", "a\\b", "", ".x", "a\0"] {
        let refused = files.put_artifact(held(2), name, whole(b"x"), None).await;
        assert!(matches!(refused, Err(FilesError::Invalid(_))), "{name:?}");
    }
    let long = "ü".repeat(100);
    files.put_artifact(held(2), &long, whole(b"x"), None).await.unwrap();
    let found = everything_under(dir.path());
    assert!(found.iter().all(|path| path.starts_with(dir.path().join("files/artifacts"))));
}

fn names(sha256: &Sha256Hex, job: JobId) -> Submit {
    let spec = serde_json::json!({
        "service": "simulation", "priority": 50, "max_failures": 1, "max_losses": 1,
        "created_at": Timestamp::default(),
        "inputs": [{"node": "1", "field": "a", "name": "a", "from": format!("sha256:{sha256}")}],
    });
    let spec: JobSpec = serde_json::from_value(spec).unwrap();
    Submit { id: job, spec, payload: (*b"{}").into(), idempotency: None }
}

#[tokio::test]
async fn files_go_with_their_job_and_inputs_when_no_job_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(MemStore::new(clock));
    let (broker, _tasks) = broker_on(store).await;
    let named = files.put_input(whole(b"named")).await.unwrap();
    files.put_input(whole(b"unnamed")).await.unwrap();
    let job = held(2).job;
    broker.submit(vec![names(&named.sha256, job)]).await.unwrap().remove(0).unwrap();
    files.put_artifact(held(2), "a.png", whole(b"x"), None).await.unwrap();

    let uploaded = files.store.head(&place::input(&named.sha256)).await.unwrap().last_modified;
    let uploaded = Timestamp::from_millis(uploaded.timestamp_millis());
    let sweep = async |age: Duration| files.sweep(&broker, None, uploaded + age).await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(sweep(6 * day).await, Swept { jobs: 0, inputs: 0, transfers: 0 });
    assert_eq!(sweep(8 * day).await, Swept { jobs: 0, inputs: 1, transfers: 0 });
    assert_eq!(everything_under(dir.path()).len(), 2);

    broker.execute(Command::Cancel { job }).await.unwrap();
    broker.execute(Command::Reconcile(Reconcile::RemoveJob { job })).await.unwrap();
    assert_eq!(sweep(day).await, Swept { jobs: 1, inputs: 0, transfers: 0 });
    assert_eq!(sweep(8 * day).await, Swept { jobs: 0, inputs: 1, transfers: 0 });
    assert!(everything_under(dir.path()).is_empty());
}

/// Between the look at its age and its removal a job may be taken that names it.
#[tokio::test]
async fn an_old_input_that_a_submission_is_told_of_stays() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    let store = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
    let (broker, _tasks) = broker_on(store).await;
    let day = Duration::from_secs(86_400);
    let [named, other] = ["named", "other"].map(|text| text.as_bytes());
    let [named, other] = [
        files.put_input(whole(named)).await.unwrap().sha256,
        files.put_input(whole(other)).await.unwrap().sha256,
    ];
    let path = |sha256| files.root.join(place::input(sha256).as_ref());
    let now = std::fs::metadata(path(&named)).unwrap().modified().unwrap();
    for path in [&named, &other].map(path) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(now - 8 * day).unwrap();
    }
    let at = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let at = Timestamp::from_millis(at.try_into().unwrap());
    let hold = async |sha256| files.hold_input(sha256, at).await.unwrap();
    let none = Sha256Hex::of([0; 32]);
    assert!(hold(&named).await);
    assert!(!hold(&none).await);
    // As a sweep that had listed it before.
    let paths = [place::input(&named), place::staged()];
    let paths = paths.map(|place| files.root.join(place.as_ref()));
    assert!(!remove_unless_renewed(&paths, now - 7 * day).unwrap());
    assert_eq!(files.sweep(&broker, None, at).await.unwrap().inputs, 1);
    assert!(hold(&named).await);
    assert!(!hold(&other).await);
}

/// A job that cannot be listed may be the one that names them.
#[tokio::test]
async fn inputs_stay_while_a_job_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    let store = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
    let (broker, _tasks) = broker_on(store.clone()).await;
    let named = files.put_input(whole(b"named")).await.unwrap();
    files.put_input(whole(b"unnamed")).await.unwrap();
    let job = held(2).job;
    broker.submit(vec![names(&named.sha256, job)]).await.unwrap().remove(0).unwrap();
    let other = names(&named.sha256, JobId::from_uuid(Uuid::from_u128(2)));
    // A number that was never given out.
    let ended = Ended { ended_no: 99, ..Ended::default() };
    let other = Job { state: JobState::Completed(ended), ..Job::new(other.id, other.spec) };
    let transition = Transition {
        reads: Vec::new(),
        looked_up: Vec::new(),
        guards: Vec::new(),
        changes: vec![Event::put(EventName::JobCompleted, Record::Job(other.into()))],
        sides: Vec::new(),
        answer: Answer::Done,
    };
    store.commit(transition).await.unwrap();
    let uploaded = files.store.head(&place::input(&named.sha256)).await.unwrap().last_modified;
    let now = Timestamp::from_millis(uploaded.timestamp_millis()) + 8 * Duration::from_secs(86_400);
    let inputs = async || files.sweep(&broker, None, now).await.unwrap().inputs;
    assert_eq!(inputs().await, 0);
    let mended = broker.mend(None).await.unwrap();
    assert_eq!(mended.len(), 1, "{mended:?}");
    assert_eq!(inputs().await, 1);
    assert!(files.input(&named.sha256).await.unwrap().is_some());
}

#[tokio::test]
async fn what_a_process_that_died_left_behind_goes_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open_shared(dir.path(), &owner()).unwrap();
    let store = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
    let (broker, _tasks) = broker_on(store).await;
    files.put_input(whole(b"whole")).await.unwrap();
    let whole = everything_under(dir.path());
    let of_gone_job = place::artifact(held(2).job, held(2).token, "a.png");
    for place in [place::staged(), place::input(&Sha256Hex::of([0; 32])), of_gone_job] {
        let mut transfer = files.store.put_multipart(&place).await.unwrap();
        transfer.put_part("half of it".into()).await.unwrap();
        // As whoever dies tidies nothing up.
        std::mem::forget(transfer);
    }
    let left_behind = everything_under(dir.path());
    assert_eq!(left_behind.len(), 4);
    let written = std::fs::metadata(&left_behind[0]).unwrap().modified().unwrap();
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap();
    let hour = Duration::from_secs(3600);
    let sweep = async |age: Duration| {
        let now = Timestamp::from_millis((written + age).as_millis().try_into().unwrap());
        files.sweep(&broker, None, now).await.unwrap()
    };
    assert_eq!(sweep(23 * hour).await, Swept { jobs: 1, inputs: 0, transfers: 0 });
    assert_eq!(everything_under(dir.path()).len(), 3, "somebody may still be storing them");
    assert_eq!(sweep(25 * hour).await, Swept { jobs: 0, inputs: 0, transfers: 2 });
    assert_eq!(everything_under(dir.path()), whole);
}

#[tokio::test]
async fn what_others_are_just_storing_in_a_shared_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Files::open_shared(dir.path(), &owner()).unwrap();
    let staged = dir.path().join("files").join(place::STAGING).join("others");
    std::fs::write(&staged, "half of it").unwrap();
    Files::open_shared(dir.path(), &owner()).unwrap();
    assert!(staged.exists());
    Files::open(dir.path(), Some(&owner())).unwrap();
    assert!(staged.exists(), "servers of a fleet may have one --data");
    let file = dir.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let [file, missing] =
        [file, dir.path().join("missing")].map(|wrong| Files::open_shared(&wrong, &owner()));
    assert!(matches!(file, Err(FilesError::NoDirectory { .. })), "{file:?}");
    assert!(matches!(missing, Err(FilesError::Missing { .. })), "{missing:?}");
}

/// The store beside the files lets nobody else in.
#[tokio::test]
async fn what_was_being_stored_is_removed_at_the_start_of_who_is_alone_with_it() {
    let dir = tempfile::tempdir().unwrap();
    Files::open(dir.path(), None).unwrap();
    let staged = dir.path().join("files").join(place::STAGING).join("own");
    std::fs::write(&staged, "half of it").unwrap();
    Files::open(dir.path(), None).unwrap();
    assert!(!staged.exists());
}

#[test]
fn servers_of_a_fleet_that_start_at_once_in_one_directory_all_start() {
    for _ in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let begin = std::sync::Barrier::new(4);
        let start = || {
            begin.wait();
            Files::open(dir.path(), Some(&owner())).map(drop)
        };
        std::thread::scope(|scope| {
            let started = [0; 4].map(|_| scope.spawn(start));
            started.map(|started| started.join().unwrap().unwrap())
        });
    }
}

#[tokio::test]
async fn an_artifact_is_an_input_once_a_job_ended_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    let store = MemStore::new(Arc::new(ManualClock::default()));
    let held = held(2);
    let stored = files.put_artifact(held, "a.png", whole(b"picture"), None).await.unwrap();
    let from = format!("artifact:{}/a.png", held.job);
    assert!(files.open_input(&store, &from).await.unwrap().is_none(), "no such job");
    let artifact = Artifact {
        name: "a.png".into(),
        size: stored.size,
        media_type: "image/png".into(),
        sha256: stored.sha256.to_string(),
        node: None,
        kind: ArtifactType::Output,
    };
    let spec = JobSpec::new("simulation".parse().unwrap(), Timestamp::default());
    let ended = Ended { artifacts: vec![artifact], ..Ended::default() };
    let job = Job {
        attempt: held.attempt,
        token: Some(held.token),
        state: JobState::Completed(ended),
        ..Job::new(held.job, spec)
    };
    let transition = Transition {
        reads: Vec::new(),
        looked_up: Vec::new(),
        guards: Vec::new(),
        changes: vec![Event::put(EventName::JobCompleted, Record::Job(job.into()))],
        sides: Vec::new(),
        answer: Answer::Done,
    };
    store.commit(transition).await.unwrap();
    let opened = files.open_input(&store, &from).await.unwrap().unwrap();
    let read: Vec<Bytes> = opened.try_collect().await.unwrap();
    assert_eq!(read.concat(), b"picture");
}

#[tokio::test]
async fn a_file_that_comes_byte_by_byte_is_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    let bytes =
        stream(b"picture".iter().map(|byte| Ok(Bytes::copy_from_slice(&[*byte]))).collect());
    let Body::Memory(payload) = receive(&files, bytes).await.unwrap().body else {
        panic!("a small file is in memory")
    };
    let pieces: Vec<Bytes> = payload.into_iter().collect();
    assert_eq!(pieces, [Bytes::from_static(b"picture")]);
}

/// The record has its worker's word for what the file contains.
#[tokio::test]
async fn a_result_that_is_kept_as_an_input_is_named_by_what_it_contains() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(dir.path(), None).unwrap();
    let held = held(2);
    let stored = files.put_artifact(held, "a.png", whole(b"picture"), None).await.unwrap();
    let mut artifact = Artifact {
        name: "a.png".into(),
        size: stored.size,
        media_type: "image/png".into(),
        sha256: "0".repeat(64),
        node: None,
        kind: ArtifactType::Output,
    };
    let place = place::artifact(held.job, held.token, "a.png");
    let path = dir.path().join("files").join(place.as_ref());
    let reader = FileReader::new(files.clone(), place, stored.size);
    for said in ["0".repeat(64), stored.sha256.to_string()] {
        artifact.sha256 = said;
        let kept = files.keep_as_input(&artifact, &reader).await.unwrap();
        assert_eq!(kept.as_ref(), Some(&stored.sha256));
        let input = files.input(&stored.sha256).await.unwrap().unwrap();
        let read: Vec<Bytes> =
            input.read(None).await.unwrap().unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), b"picture");
        assert_eq!(std::fs::metadata(&path).unwrap().nlink(), 2, "it takes no room");
    }
    let staged = std::fs::read_dir(dir.path().join("files").join(place::STAGING)).unwrap();
    assert_eq!(staged.count(), 0);
    // Its age counts from now, not from when the result was stored.
    let input = dir.path().join("files").join(place::input(&stored.sha256).as_ref());
    let old = std::fs::File::options().write(true).open(&input).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(files.keep_as_input(&artifact, &reader).await.unwrap(), Some(stored.sha256));
    assert_ne!(std::fs::metadata(&input).unwrap().modified().unwrap(), std::time::UNIX_EPOCH);
    std::fs::remove_file(&input).unwrap();
    assert_eq!(files.keep_as_input(&artifact, &reader).await.unwrap(), None, "it is gone");
    std::fs::rename(dir.path().join("files"), dir.path().join("away")).unwrap();
    let away = files.keep_as_input(&artifact, &reader).await.unwrap_err();
    assert!(matches!(away, FilesError::Away { .. }), "{away}");
}

/// A store that knows none of the jobs: another fleet's, or one that came up empty.
#[tokio::test]
async fn the_files_of_another_store_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let prod = Owner { fleet: "prod".into(), store_made_at: Some(Timestamp::from_millis(1)) };
    let files = Files::open_shared(dir.path(), &prod).unwrap();
    files.put_artifact(held(2), "a.png", whole(b"x"), None).await.unwrap();
    let other = Files::open_shared(dir.path(), &owner()).expect_err("another fleet");
    assert!(other.to_string().contains("fleet \"prod\", not of \"default\""), "{other}");
    assert!(Files::open(dir.path(), None).is_err());
    let made_anew = Owner { store_made_at: Some(Timestamp::from_millis(2)), ..prod };
    let files = Files::open_shared(dir.path(), &made_anew).unwrap();
    let store = Arc::new(MemStore::new(Arc::new(ManualClock::default())));
    let (broker, _tasks) = broker_on(store).await;
    let sweep = async |made_at| {
        files.sweep(&broker, Some(Timestamp::from_millis(made_at)), Timestamp::default()).await
    };
    let why = sweep(2).await.expect_err("another store's");
    assert!(matches!(why, FilesError::OtherStore { .. }), "{why}");
    assert_eq!(everything_under(dir.path()).len(), 1);
    assert_eq!(sweep(1).await.unwrap().jobs, 1);
}

#[tokio::test]
async fn a_disk_without_room_and_a_directory_that_is_away_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open_shared(dir.path(), &owner()).unwrap();
    assert_eq!(files.trouble(0).await, None);
    let full = files.trouble(u64::MAX).await;
    assert!(matches!(full, Some(FilesTrouble::Full(_))), "{full:?}");
    std::fs::remove_file(dir.path().join("files/owner.json")).unwrap();
    let away = files.trouble(0).await;
    assert!(matches!(away, Some(FilesTrouble::Away(_))), "{away:?}");
}

/// A directory that is not mounted would take what a worker stores, and nobody would find it.
#[tokio::test]
async fn who_only_uses_files_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let refused =
        Files::join_shared(dir.path(), &owner()).expect_err("no server keeps files there");
    assert!(refused.to_string().contains("is the directory mounted?"), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    Files::open_shared(dir.path(), &owner()).unwrap();
    Files::join_shared(dir.path(), &owner()).unwrap();
    let other = Owner { fleet: "other".into(), ..owner() };
    let refused = Files::join_shared(dir.path(), &other).expect_err("another fleet's");
    assert!(matches!(refused, FilesError::OtherFleet { .. }), "{refused}");
}
