//! Reading payloads: in pieces, as a large one on a slow line takes longer than an answer may, and
//! the renewals of leases share the line.

use std::sync::Arc;

use pointsman_core::{JobId, decide::limits::SLOWEST_LINE};
use pointsman_store::StoreError;

use crate::{encoding::keys, link::bytes, store::Inner};

/// Bytes that are asked for in one go: the slowest line brings them within what an answer may take.
const PIECES: usize = 4 * SLOWEST_LINE;
/// Bytes of one payload in it at least, where many are asked for.
const LEAST_PIECE: usize = 4 << 10;

impl Inner {
    /// The payloads of these jobs; `moved` is told of each piece of them.
    pub async fn payloads(
        &self,
        jobs: &[JobId],
        moved: &(dyn Fn() + Sync),
    ) -> Result<Vec<Option<Arc<[u8]>>>, StoreError> {
        let mut found: Vec<Option<Arc<[u8]>>> =
            jobs.iter().map(|job| self.claimed_payloads.lock().pop(job)).collect();
        let missing = found.iter().enumerate().filter(|(_, found)| found.is_none());
        let mut rest: Vec<(usize, Vec<u8>)> = missing.map(|(n, _)| (n, Vec::new())).collect();
        while !rest.is_empty() {
            let most = (PIECES / rest.len()).max(LEAST_PIECE);
            let mut get = redis::pipe();
            for (n, read) in &rest {
                let key = self.link.keys().full(&keys::payload(jobs[*n]));
                // From the last byte on that was read: where none comes, it is gone meanwhile.
                let from = read.len().saturating_sub(1);
                get.cmd("GETRANGE").arg(key).arg(from).arg(from + most - 1);
            }
            let pieces = self.link.send_all(&get).await?;
            moved();
            let read = std::mem::take(&mut rest).into_iter().zip(&pieces);
            for ((n, mut read), piece) in read {
                let piece = bytes(piece).unwrap_or_default();
                read.pop();
                read.extend_from_slice(piece);
                match piece.len() {
                    0 => {}
                    len if len < most => found[n] = Some(read.into()),
                    _ => rest.push((n, read)),
                }
            }
        }
        Ok(found)
    }
}
