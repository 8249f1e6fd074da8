//! Connections that only read: payloads, results and the log, beside the writer.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use pointsman_store::StoreError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::open::schema::open_reader;

/// Reads at once.
const CONNECTIONS: usize = 4;

pub(crate) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub fn new(path: PathBuf) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        Self { path, permits, idle: Arc::default() }
    }

    /// Runs a read on a thread that may block.
    pub async fn read<T, E>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + std::fmt::Display + Send + 'static,
    {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().pop();
            let mut db = match kept {
                Some(db) => db,
                None => open_reader(&path)?,
            };
            let found = read(&mut db)?;
            idle.lock().push(db);
            drop(permit);
            Ok(found)
        });
        match reading.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(StoreError::Failed(E::to_string(&error))),
            Err(error) => Err(StoreError::Failed(error.to_string())),
        }
    }

    /// No more reads; waits for those that run.
    pub async fn close(&self) {
        let all = u32::try_from(CONNECTIONS).unwrap_or(1);
        if let Ok(permits) = self.permits.acquire_many(all).await {
            self.permits.close();
            drop(permits);
        }
        self.idle.lock().clear();
    }
}
