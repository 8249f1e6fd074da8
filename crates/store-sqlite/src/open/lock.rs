//! One process a data directory.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use super::identity;
use crate::{OpenError, writer::database::database_path};

/// Held while the directory is in use. The operating system lets go of it when the process ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    held: File,
    /// The lock file as the process before left it.
    found: Metadata,
    database: PathBuf,
}

impl DirLock {
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { dir: dir.to_owned(), source };
        let mut made = DirBuilder::new();
        // Payloads lie in it: it is its owner's alone.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut made, 0o700);
        made.recursive(true).create(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let path = dir.join("lock");
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let found = file.metadata().map_err(failed)?;
        name(&file, &std::process::id().to_string()).map_err(failed)?;
        Ok(Self { held: file, found, database: database_path(dir) })
    }

    /// The directory's files as the process before left them.
    pub fn identity_found(&self) -> io::Result<String> {
        identity::of(&self.found, &self.database)
    }

    /// The directory's files as this process leaves them, if it comes to no orderly end.
    pub fn identity(&self) -> io::Result<String> {
        identity::of(&self.held.metadata()?, &self.database)
    }

    /// An orderly end: names no holder any more, which makes the files others than they were in
    /// any copy that was taken before.
    pub fn name_nobody(&self) -> io::Result<()> {
        name(&self.held, "nobody")
    }
}

/// Written over, not anew: on a full disk the file keeps the room that it has.
fn name(mut file: &File, holder: &str) -> io::Result<()> {
    let line = format!("{holder}\n");
    file.rewind()?;
    file.write_all(line.as_bytes())?;
    file.set_len(line.len() as u64)
}

/// Who holds the lock, as it wrote itself down.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}
