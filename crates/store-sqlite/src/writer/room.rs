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

/// Bytes that are free on the file system of a directory.
type Free = fn(&Path) -> io::Result<u64>;

/// New work is taken again with so much more free than the reserve takes at least, bytes.
const MIN_MARGIN: u64 = 1 << 20;

pub(crate) struct Room {
    dir: PathBuf,
    reserve: PathBuf,
    reserve_bytes: u64,
    max_bytes: Option<u64>,
    free: Free,
    health: SharedHealth,
}

impl Room {
    /// Sets the reserve aside. A store that is opened on a full disk starts out full.
    pub fn new(dir: &Path, options: &Options, health: SharedHealth, db: &Connection) -> Self {
        let (dir, reserve) = (dir.to_owned(), dir.join(RESERVE));
        let Options { reserve_bytes, max_bytes, .. } = *options;
        let room = Self { dir, reserve, reserve_bytes, max_bytes, free, health };
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
        let has_room = self.has_pages(db).unwrap_or(false) && self.has_bytes();
        if has_room && self.set_aside().is_ok() && self.limit(db, false).is_ok() {
            tracing::info!("there is room again: new work is taken");
            *self.health.write() = Health::Ready;
        }
    }

    /// Whether clearly more is free than the reserve takes: with just that, the next submissions would
    /// fill the disk again.
    fn has_bytes(&self) -> bool {
        let margin = (self.reserve_bytes / 2).max(MIN_MARGIN);
        let wanted = if self.is_set_aside() { margin } else { self.reserve_bytes + margin };
        match (self.free)(&self.dir) {
            Ok(free) => free >= wanted,
            Err(error) => {
                tracing::warn!(%error, "how much of the disk is free cannot be seen");
                false
            }
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

fn free(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn room(dir: &Path, free: Free) -> Room {
        let options = Options { reserve_bytes: 4 << 20, ..Options::default() };
        let health = SharedHealth::new(RwLock::new(Health::Ready));
        let db = Connection::open_in_memory().unwrap();
        Room { free, ..Room::new(dir, &options, health, &db) }
    }

    #[test]
    fn with_no_more_than_the_reserve_free_a_full_disk_stays_full() {
        let db = Connection::open_in_memory().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let full = room(dir.path(), |_| Ok((4 << 20) + 4_096));
        assert!(full.is_set_aside());
        full.give_up(&db, "no space left on device");
        full.look_again(&db);
        assert!(full.full().is_some(), "the next submission would fill it again");
        assert!(!full.is_set_aside(), "nothing was written");
        let roomy = Room { free: |_| Ok(6 << 20), ..full };
        roomy.look_again(&db);
        assert_eq!((roomy.full(), roomy.is_set_aside()), (None, true));
        // What is set aside needs no more room.
        let set_aside = Room { free: |_| Ok(2 << 20), ..roomy };
        *set_aside.health.write() = Health::Full("it has come to its limit".into());
        set_aside.look_again(&db);
        assert_eq!(set_aside.full(), None);
    }
}
