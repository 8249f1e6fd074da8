//! Taking a file in: small ones in memory, large ones on disk beside their place.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart, path::Path};
use pointsman_api::Sha256Hex;
use sha2::{Digest as _, Sha256};

use super::{ByteStream, Files, FilesError, MAX_FILE, StoredFile, place};

/// Files up to this size, bytes, are held in memory until they are whole.
const IN_MEMORY: u64 = 1 << 20;
/// Bytes of a part of a large file, and how many wait for the disk at most.
const PART: usize = 1 << 20;
const WAITING_PARTS: usize = 2;
/// Bytes of one file that are in memory at most: its beginning, or its waiting parts and the next.
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

/// Takes the whole stream in.
pub async fn receive(files: &Files, mut bytes: ByteStream) -> Result<Received, FilesError> {
    let mut tally = Tally::default();
    let mut small: Vec<Bytes> = Vec::new();
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(FilesError::BrokenOff)?;
        tally.add(&piece)?;
        small.push(piece);
        if tally.size > IN_MEMORY {
            files.check_there().await?;
            return stage(&files.store, bytes, tally, small).await;
        }
    }
    let body = Body::Memory(small.into_iter().collect());
    Ok(tally.received(body))
}

async fn stage(
    store: &Arc<dyn ObjectStore>,
    mut bytes: ByteStream,
    mut tally: Tally,
    begin: Vec<Bytes>,
) -> Result<Received, FilesError> {
    let staged = place::staged();
    // Dropped before it is finished, it removes what it wrote.
    let mut writer = WriteMultipart::new_with_chunk_size(store.put_multipart(&staged).await?, PART);
    for piece in begin {
        writer.put(piece);
    }
    while let Some(piece) = bytes.next().await {
        let piece = match piece.map_err(FilesError::BrokenOff).and_then(|piece| {
            tally.add(&piece)?;
            Ok(piece)
        }) {
            Ok(piece) => piece,
            Err(error) => {
                writer.abort().await?;
                return Err(error);
            }
        };
        writer.wait_for_capacity(WAITING_PARTS).await?;
        writer.put(piece);
    }
    writer.finish().await?;
    Ok(tally.received(Body::Staged(staged)))
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
