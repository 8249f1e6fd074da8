//! The janitor: a thread that copies the write-ahead log into the database while the writer goes
//! on writing, and reminds the writer of what is due besides requests.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::mpsc::WeakSender;

use super::{database::checkpoint, request::Request};
use crate::OpenError;

/// Pages in the write-ahead log from which on it is copied at the latest (16 MiB).
const COPY_FROM: i32 = 4_096;
/// Pages from which on the writer itself copies them, so that the log has an end (256 MiB).
const COPY_NOW: i32 = 65_536;
/// Bytes that the log's file keeps when it starts anew: written over, they cost no new blocks.
pub(crate) const KEPT_FILE: i64 = 64 << 20;

/// Bytes.
const PAGE: u64 = 4_096;

const TICK: Duration = Duration::from_secs(1);

/// How long the write-ahead log is, in pages, after the last commit.
#[derive(Debug, Clone)]
pub(crate) struct WalPages {
    now: Arc<AtomicI32>,
    copy_from: i32,
}

impl WalPages {
    /// The log is kept so short that the reserve has room for a copy of it: only after a copy can
    /// a full disk's log be written over.
    pub fn new(reserve_bytes: u64) -> Self {
        let fitting = i32::try_from(reserve_bytes / 2 / PAGE).unwrap_or(i32::MAX);
        let copy_from = if fitting == 0 { COPY_FROM } else { fitting.min(COPY_FROM) };
        Self { now: Arc::default(), copy_from }
    }

    fn get(&self) -> i32 {
        self.now.load(Ordering::Relaxed)
    }

    pub fn is_long(&self) -> bool {
        self.get() >= self.copy_from
    }

    /// So long that the writer itself has to copy it.
    pub fn is_too_long(&self) -> bool {
        self.get() >= COPY_NOW
    }

    pub fn bytes(&self) -> u64 {
        u64::try_from(self.get()).unwrap_or(0) * PAGE
    }

    pub fn watch(&self, db: &mut Connection) -> rusqlite::Result<()> {
        let pages = self.now.clone();
        db.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, n: i32| {
            pages.store(n, Ordering::Relaxed);
            Ok(())
        }))
    }
}

/// The running thread; ends when it is dropped.
pub(crate) struct Janitor {
    wake: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    wal: WalPages,
}

impl Janitor {
    pub fn start(
        path: &Path,
        wal: WalPages,
        requests: WeakSender<Request>,
    ) -> Result<Self, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let (wake, woken) = mpsc::sync_channel(1);
        let pages = wal.clone();
        let thread = thread::Builder::new()
            .name("store-janitor".into())
            .spawn(move || run(&db, &pages, &woken, &requests))
            .map_err(OpenError::Thread)?;
        Ok(Self { wake: Some(wake), thread: Some(thread), wal })
    }

    /// After a commit: wakes the thread when the log has become long.
    pub fn committed(&self) {
        if self.wal.is_long() {
            // Full: it is awake already.
            let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    db: &Connection,
    wal: &WalPages,
    woken: &mpsc::Receiver<()>,
    requests: &WeakSender<Request>,
) {
    loop {
        match woken.recv_timeout(TICK) {
            Ok(()) => copy(db, wal, requests),
            Err(mpsc::RecvTimeoutError::Timeout) => tell(requests, Request::Tick),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Copies the bulk; what the writer added meanwhile is little, and the writer copies it between
/// two batches. Only then, with nothing left to copy, can the log start anew.
fn copy(db: &Connection, wal: &WalPages, requests: &WeakSender<Request>) {
    if !wal.is_long() {
        return;
    }
    match checkpoint(db, "PASSIVE") {
        Ok(done) => {
            tracing::debug!(logged = done.logged, copied = done.copied, "copied the log");
            tell(requests, Request::Checkpoint);
        }
        Err(error) => tracing::warn!(%error, "the write-ahead log could not be copied"),
    }
}

/// A full queue means that the writer is busy; it is reminded the next time.
fn tell(requests: &WeakSender<Request>, what: Request) {
    if let Some(requests) = requests.upgrade() {
        let _ = requests.try_send(what);
    }
}
