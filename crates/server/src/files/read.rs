//! Reading a file back.

use std::{io, ops::Range};

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{GetOptions, path::Path};

use super::{ByteStream, Files, FilesError};

/// A file that is there to be read.
#[derive(Debug, Clone)]
pub struct FileReader {
    files: Files,
    place: Path,
    /// Bytes.
    pub size: u64,
}

impl FileReader {
    pub(super) fn new(files: Files, place: Path, size: u64) -> Self {
        Self { files, place, size }
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// The file's bytes, or those of a range within it; none when the file is gone.
    pub async fn read(&self, range: Option<Range<u64>>) -> Result<Option<ByteStream>, FilesError> {
        if self.size == 0 {
            return Ok(Some(futures::stream::empty().boxed()));
        }
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        match self.files.store.get_opts(&self.place, options).await {
            Ok(got) => Ok(Some(got.into_stream().map_err(io::Error::other).boxed())),
            Err(object_store::Error::NotFound { .. }) => self.files.none().await,
            Err(error) => Err(error.into()),
        }
    }
}

impl Files {
    /// What to say of a file that should be there.
    pub fn missing(&self, name: &str) -> String {
        format!("{name:?} is not in {} of this server", self.root.display())
    }
}
