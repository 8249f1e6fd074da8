//! A machine: one host with its GPUs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Extra, Seq};
use crate::{
    ids::{Incarnation, MachineId},
    matching::Gpu,
    time::Timestamp,
};

/// How a machine is.
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

/// A machine as it is shown and stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    /// As its agent names it, or its workers.
    pub id: MachineId,
    /// Seq of the last change.
    pub rev: Seq,
    /// How it is.
    pub status: MachineStatus,
    /// Why it is in this status, where that needs saying.
    pub reason: Option<String>,
    /// What mends it.
    pub action: Option<String>,
    /// Of the machine's agent; null for the machine of a bare worker, whose state follows from
    /// its workers.
    pub incarnation: Option<Incarnation>,
    /// Its GPUs, as its agent counted them.
    pub gpus: Vec<Gpu>,
    /// When it registered.
    pub connected_at: Timestamp,
    /// Former incarnations, newest last; none may come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_incarnations: Vec<Incarnation>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Extra,
}
