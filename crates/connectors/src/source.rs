use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};

/// The bytes of a file, as they come.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Where the bytes of a file come from. It can be opened again, because storing them may have to
/// be tried again.
#[async_trait]
pub trait Source: Send + Sync {
    /// Opens it at its beginning.
    ///
    /// # Errors
    /// [`SourceError`] when there is nothing to read.
    async fn open(&self) -> Result<ByteStream, SourceError>;
}

/// A source could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The file is not there.
    #[error("the file is gone")]
    Gone,
    /// Its service refuses to hand it over, and will again.
    #[error("refused: {0}")]
    Refused(String),
    /// It may be there, and readable another time.
    #[error("not readable: {0}")]
    Unreadable(String),
    /// It could not be read for too long, or lies elsewhere, though its service lives and knows the run.
    #[error("not readable: {0}")]
    Stalled(String),
    /// It could not be read, and its service is dead or knows nothing of the run any more.
    #[error("not readable, and the service lost the run: {0}")]
    Lost(String),
}

#[async_trait]
impl Source for Bytes {
    async fn open(&self) -> Result<ByteStream, SourceError> {
        Ok(one_chunk(self.clone()))
    }
}

/// A stream of one chunk.
#[must_use]
pub fn one_chunk(bytes: Bytes) -> ByteStream {
    futures::stream::iter([Ok(bytes)]).boxed()
}
