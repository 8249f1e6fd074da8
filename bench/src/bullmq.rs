//! BullMQ, run by Node on a redis-server of ours.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use pointsman_redis_testing::RedisServer;
use tokio::process::Command;

use crate::workloads::redis::{Figures, Task};

/// Where `bullmq.mjs` and its packages are.
pub struct BullMq(PathBuf);

impl BullMq {
    pub fn at(directory: &Path) -> anyhow::Result<Self> {
        let installed = directory.join("node_modules/bullmq").exists();
        ensure!(installed, "run `npm ci` in {} first: BullMQ is not there", directory.display());
        Ok(Self(directory.to_owned()))
    }

    /// Does the task on this server, which has to be empty.
    pub async fn measure(&self, server: &RedisServer, task: Task) -> anyhow::Result<Figures> {
        let (name, at_once, workers) = match task {
            Task::Drain { at_once, workers, .. } => ("drain", at_once, workers),
            Task::SubmitSingle { .. } => ("submit-single", 1, 1),
            Task::SubmitBulk { .. } => ("submit-bulk", 1, 1),
            Task::Start { .. } => ("start", 1, 1),
        };
        let numbers = [task.jobs(), at_once, workers].map(|n| n.to_string());
        let child = Command::new("node")
            .arg("bullmq.mjs")
            .args([name, &server.url()])
            .args(numbers)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output();
        let output = child.await.context("cannot start node")?;
        ensure!(output.status.success(), "bullmq.mjs {name} ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("bullmq.mjs: one line of JSON")
    }
}
