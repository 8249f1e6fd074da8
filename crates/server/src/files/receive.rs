//! Taking a file in: small ones in memory, large ones on disk beside their place.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream::Fuse};
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart, path::Path};
use pointsman_api::Sha256Hex;
use sha2::{Digest as _, Sha256};

use super::{ByteStream, Files, FilesError, MAX_FILE, StoredFile, place};

/// Bytes of a part of a file, and how many wait for the disk at most. A file of one part is held in
/// memory until it is whole.
const PART: usize = 1 << 20;
const WAITING_PARTS: usize = 2;
/// Bytes of one file that are in memory at most: its waiting parts, the next, and the one that comes.
pub(crate) const RECEIVING: usize = (WAITING_PARTS + 2) * PART;

/// A whole file that has no place yet.
pub struct Received {
    size: u64,
    sha256: Sha256Hex,
    pub body: Body,
}

pub enum Body {
    Memory(PutPayload),
    Staged(Path),
}

impl Received {
    pub fn stored(&self) -> StoredFile {
        StoredFile { size: self.size, sha256: self.sha256.clone() }
    }
}

/// A file as it comes, in parts. Its pieces are copied together: they may be of a byte each, and kept
/// as they are they would take many times the memory that is counted, and a write each.
struct Parts {
    /// Asked once more behind its end, which not every stream bears.
    bytes: Fuse<ByteStream>,
    next: BytesMut,
    tally: Tally,
}

impl Parts {
    /// The next part, of [`PART`] bytes unless it is the last; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, FilesError> {
        while self.next.len() < PART {
            let Some(piece) = self.bytes.next().await else {
                let last = std::mem::take(&mut self.next);
                return Ok((!last.is_empty()).then(|| last.freeze()));
            };
            let piece = piece.map_err(FilesError::BrokenOff)?;
            self.tally.add(&piece)?;
            self.next.extend_from_slice(&piece);
        }
        Ok(Some(self.next.split_to(PART).freeze()))
    }
}

/// Takes the whole stream in.
pub async fn receive(files: &Files, bytes: ByteStream) -> Result<Received, FilesError> {
    let mut parts = Parts { bytes: bytes.fuse(), next: BytesMut::new(), tally: Tally::default() };
    let first = parts.next().await?.unwrap_or_default();
    let body = match parts.next().await? {
        None => Body::Memory(first.into()),
        Some(second) => {
            files.check_there().await?;
            Body::Staged(stage(&files.store, [first, second], &mut parts).await?)
        }
    };
    Ok(parts.tally.received(body))
}

async fn stage(
    store: &Arc<dyn ObjectStore>,
    begin: [Bytes; 2],
    rest: &mut Parts,
) -> Result<Path, FilesError> {
    let staged = place::staged();
    // Dropped before it is finished, it removes what it wrote.
    let mut writer = WriteMultipart::new_with_chunk_size(store.put_multipart(&staged).await?, PART);
    for part in begin {
        writer.put(part);
    }
    loop {
        match rest.next().await {
            Ok(Some(part)) => {
                writer.wait_for_capacity(WAITING_PARTS).await?;
                writer.put(part);
            }
            Ok(None) => break,
            Err(error) => {
                writer.abort().await?;
                return Err(error);
            }
        }
    }
    writer.finish().await?;
    Ok(staged)
}

#[derive(Default)]
struct Tally {
    size: u64,
    hash: Sha256,
}

impl Tally {
    fn add(&mut self, piece: &Bytes) -> Result<(), FilesError> {
        self.size += piece.len() as u64;
        if self.size > MAX_FILE {
            return Err(FilesError::TooLarge);
        }
        self.hash.update(piece);
        Ok(())
    }

    fn received(self, body: Body) -> Received {
        let sha256 = Sha256Hex::of(self.hash.finalize().into());
        Received { size: self.size, sha256, body }
    }
}
