//! A machine: one host with its GPUs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Extra, Seq};
use crate::{
    ids::{Incarnation, MachineId},
    matching::Gpu,
    time::Timestamp,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MachineStatus {
    Starting,
    Ready,
    /// Ready, but something of it is broken; `reason` says what.
    Degraded,
    Stopping,
    /// Said goodbye.
    Offline,
    /// Went silent without a goodbye.
    Disconnected,
}

impl MachineStatus {
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Offline | Self::Disconnected)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    pub id: MachineId,
    /// Seq of the last change.
    pub rev: Seq,
    pub status: MachineStatus,
    pub reason: Option<String>,
    /// What mends it.
    pub action: Option<String>,
    /// Of the machine's agent; null for the machine of a bare worker, whose state follows from
    /// its workers.
    pub incarnation: Option<Incarnation>,
    pub gpus: Vec<Gpu>,
    pub connected_at: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_incarnations: Vec<Incarnation>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Extra,
}
