//! How a store notices that it came back from a backup.
//!
//! The database remembers how the directory's files were when the last process left them. The `lock`
//! file is written at each opening and each orderly end, and no program can set when a file was
//! changed last. So a copied directory has a later time than its database remembers, and a database
//! that was put back remembers an earlier one than the directory has. Where the last process was
//! killed, a copy that was taken while it ran still differs as a file, unless it was written over the
//! old one in place: that, and the return of a whole disk, nobody can see from here.

use std::{
    fs::{self, Metadata},
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the files apart from every copy of them. `lock` is the lock file's.
pub(crate) fn of(lock: &Metadata, database: &Path) -> io::Result<String> {
    Ok(format!("{}; {}", changed(lock), made(&fs::metadata(database)?)))
}

/// A file, and its last change.
#[cfg(unix)]
fn changed(file: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{} {}.{:09}", file.ino(), file.ctime(), file.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(file: &Metadata) -> String {
    format!("{:?} {:?}", since_1970(file.created()), since_1970(file.modified()))
}

/// A file, through all its changes. Its number alone may be that of one that was deleted.
fn made(file: &Metadata) -> String {
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(file);
    #[cfg(not(unix))]
    let number = "";
    format!("{number} {:?}", since_1970(file.created()))
}

/// Nanoseconds; none where the file system does not say.
fn since_1970(time: io::Result<SystemTime>) -> Option<u128> {
    Some(time.ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}
