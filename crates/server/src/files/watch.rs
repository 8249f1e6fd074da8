//! Whether files can be stored, looked at now and then. Workers that share the directory can only
//! wait where they cannot; here an operator is told.

use std::time::Duration;

use pointsman_broker::{Broker, FilesTrouble};
use tokio_util::sync::CancellationToken;

use super::Files;

const EVERY: Duration = Duration::from_secs(10);
/// Bytes that are to be free.
const ROOM: u64 = 64 << 20;

impl Files {
    /// Looks now and then until told to stop.
    pub(crate) async fn keep_watched(self, broker: Broker, stop: CancellationToken) {
        let look = async {
            let mut told = None;
            loop {
                let trouble = self.trouble(ROOM).await;
                match &trouble {
                    Some(why) if trouble != told => tracing::warn!("{why}"),
                    None if told.is_some() => tracing::info!("files can be stored again"),
                    _ => {}
                }
                broker.tell_files(trouble.clone());
                told = trouble;
                tokio::time::sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(look).await;
    }

    pub(super) async fn trouble(&self, room: u64) -> Option<FilesTrouble> {
        if let Err(why) = self.check_there().await {
            return Some(FilesTrouble::Away(why.to_string()));
        }
        let root = self.root.clone();
        let found = match self.looks.look(move || Ok(rustix::fs::statvfs(&*root)?)).await {
            Ok(found) => found,
            Err(why) => return Some(FilesTrouble::Away(self.away(why).to_string())),
        };
        let is_full = found.f_bavail.saturating_mul(found.f_frsize) < room;
        is_full.then(|| FilesTrouble::Full(self.root.display().to_string()))
    }
}
