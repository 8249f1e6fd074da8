//! Room on the disk. While there is some, a part of it is set aside; when the disk is full that
//! part is given up, so that running jobs can end, and new work is refused until it can be set
//! aside again.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use pointsman_store::Health;
use rusqlite::Connection;

use crate::Options;

/// The store's health, as anybody may ask for it at any time.
pub(crate) type SharedHealth = Arc<RwLock<Health>>;

const RESERVE: &str = "reserve";

/// Gives up the reserve of a store that is not open yet; says whether there was one.
pub(crate) fn give_up_file(dir: &Path) -> bool {
    fs::remove_file(dir.join(RESERVE)).is_ok()
}

pub(crate) struct Room {
    reserve: PathBuf,
    reserve_bytes: u64,
    max_bytes: Option<u64>,
    health: SharedHealth,
}

impl Room {
    /// Sets the reserve aside. A store that is opened on a full disk starts out full.
    pub fn new(dir: &Path, options: &Options, health: SharedHealth, db: &Connection) -> Self {
        let reserve = dir.join(RESERVE);
        let Options { reserve_bytes, max_bytes, .. } = *options;
        let room = Self { reserve, reserve_bytes, max_bytes, health };
        let set_aside = room.set_aside().map_err(|error| error.to_string());
        let limited = room.limit(db, false).map_err(|error| error.to_string());
        if let Err(why) = set_aside.and(limited) {
            tracing::error!(why, "no room for the reserve: new work is refused");
            *room.health.write() = Health::Full(why);
        }
        room
    }

    /// Whether so much fits into what was set aside.
    pub fn fits(&self, bytes: u64) -> bool {
        bytes <= self.reserve_bytes
    }

    pub fn full(&self) -> Option<String> {
        match &*self.health.read() {
            Health::Full(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// The disk is full: the reserve is given up.
    pub fn give_up(&self, db: &Connection, why: &str) {
        tracing::error!(why, "the disk is full: new work is refused until there is room");
        *self.health.write() = Health::Full(why.to_owned());
        if let Err(error) = fs::remove_file(&self.reserve) {
            tracing::warn!(%error, "the reserve could not be given up");
        }
        if let Err(error) = self.limit(db, true) {
            tracing::warn!(%error, "the reserve could not be given up");
        }
    }

    /// Looks whether there is room again; if so new work is taken again.
    pub fn look_again(&self, db: &Connection) {
        let again = self.has_pages(db).unwrap_or(false) && self.set_aside().is_ok();
        if again && self.limit(db, false).is_ok() {
            tracing::info!("there is room again: new work is taken");
            *self.health.write() = Health::Ready;
        }
    }

    fn set_aside(&self) -> io::Result<()> {
        if self.reserve_bytes == 0 || self.is_set_aside() {
            return Ok(());
        }
        let unfinished = self.reserve.with_extension("new");
        let written = fill(&unfinished, self.reserve_bytes);
        let written = written.and_then(|()| fs::rename(&unfinished, &self.reserve));
        if written.is_err() {
            // What is left of it takes the room that endings need.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    fn is_set_aside(&self) -> bool {
        fs::metadata(&self.reserve).is_ok_and(|file| file.len() == self.reserve_bytes)
    }

    /// Limits the database to what it may take, the reserve kept back or given up.
    fn limit(&self, db: &Connection, with_reserve: bool) -> rusqlite::Result<()> {
        let Some(max) = self.max_bytes else { return Ok(()) };
        let bytes = if with_reserve { max.saturating_add(self.reserve_bytes) } else { max };
        let pages = (bytes / page_size(db)?).clamp(1, u64::from(u32::MAX - 1));
        let limit = format!("PRAGMA max_page_count = {pages}");
        db.query_row(&limit, [], |_| Ok(()))
    }

    /// Whether a tenth of the pages that the database may have are free.
    fn has_pages(&self, db: &Connection) -> rusqlite::Result<bool> {
        let Some(max) = self.max_bytes else { return Ok(true) };
        let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let used = pragma("page_count")? - pragma("freelist_count")?;
        let allowed = max / page_size(db)?;
        Ok(used.cast_unsigned() + allowed / 10 < allowed)
    }
}

fn page_size(db: &Connection) -> rusqlite::Result<u64> {
    let size: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(size.cast_unsigned().max(512))
}

/// A file of that many bytes which really take their room.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Not zeros, for file systems that store those without taking room.
    let block = [0xa5; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(block.len() as u64);
        file.write_all(&block[..usize::try_from(size).unwrap_or(block.len())])?;
        left -= size;
    }
    // Not flushed: a file system counts the room from the write on.
    Ok(())
}
