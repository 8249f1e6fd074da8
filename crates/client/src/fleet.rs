//! Workers, machines, and the whole picture.

use pointsman_api::{IntakeState, LogPage, MendRequest, MendResult, Snapshot};
use pointsman_core::{
    MachineId, WorkerId,
    doctor::Examination,
    matching::{Capabilities, CapabilitiesDigest},
    record::{Machine, Worker},
};
use reqwest::Method;
use serde::Deserialize;

use crate::{
    Client, ClientError,
    connection::{CALL, LOOK},
};

#[derive(Deserialize)]
struct Workers {
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
struct Machines {
    machines: Vec<Machine>,
}

impl Client {
    /// # Errors
    /// [`ClientError`].
    pub async fn snapshot(&self) -> Result<Snapshot, ClientError> {
        self.get(&["snapshot"]).await
    }

    /// The raw log after a position (`epoch.seq`), at most `limit` groups and about 4 MiB; go on after
    /// `next` until it stays the same.
    ///
    /// # Errors
    /// [`ClientError`]; `log_cut` when that is no longer kept.
    pub async fn log(&self, after: &str, limit: usize) -> Result<LogPage, ClientError> {
        let request = self.api(Method::GET, &["log"]);
        let query = [("after", after.to_owned()), ("limit", limit.to_string())];
        self.answer(request.query(&query).timeout(CALL)).await
    }

    /// Whether the store takes new work, and what still runs.
    pub async fn intake(&self) -> Result<IntakeState, ClientError> {
        self.get(&["intake"]).await
    }

    /// Opens the store's intake, or closes it.
    pub async fn set_intake(&self, open: bool) -> Result<IntakeState, ClientError> {
        let verb = if open { "open" } else { "close" };
        self.post(&["intake", verb], &()).await
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn workers(&self) -> Result<Vec<Worker>, ClientError> {
        Ok(self.get::<Workers>(&["workers"]).await?.workers)
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn machines(&self) -> Result<Vec<Machine>, ClientError> {
        Ok(self.get::<Machines>(&["machines"]).await?.machines)
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Capabilities, ClientError> {
        self.get(&["capabilities", &digest.to_string()]).await
    }

    /// The worker takes no more jobs; running ones go on to their end.
    pub async fn drain(&self, id: &WorkerId) -> Result<Worker, ClientError> {
        self.order(id, "drain").await
    }

    /// The worker takes jobs again, also one that was suspect.
    pub async fn resume(&self, id: &WorkerId) -> Result<Worker, ClientError> {
        self.order(id, "resume").await
    }

    async fn order(&self, id: &WorkerId, order: &str) -> Result<Worker, ClientError> {
        self.post(&["workers", id.as_str(), order], &()).await
    }

    /// Everything that is wrong with what is stored.
    pub async fn examine(&self) -> Result<Examination, ClientError> {
        let request = self.api(Method::GET, &["doctor"]);
        self.answer(request.timeout(LOOK)).await
    }

    /// Mends the findings with these ids, or all of them.
    pub async fn mend(&self, ids: Option<Vec<String>>) -> Result<MendResult, ClientError> {
        let request = self.api(Method::POST, &["doctor", "repair"]);
        self.answer(request.json(&MendRequest { ids }).timeout(LOOK)).await
    }

    /// Removes a worker that is gone.
    pub async fn remove_worker(&self, id: &WorkerId) -> Result<(), ClientError> {
        self.remove("workers", id.as_str()).await
    }

    /// Removes a machine that is gone.
    pub async fn remove_machine(&self, id: &MachineId) -> Result<(), ClientError> {
        self.remove("machines", id.as_str()).await
    }

    async fn remove(&self, kind: &str, id: &str) -> Result<(), ClientError> {
        let request = self.api(Method::DELETE, &[kind, id]);
        self.send(request.timeout(CALL)).await.map(drop)
    }
}
