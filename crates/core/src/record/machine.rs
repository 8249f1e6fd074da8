//! A machine: one host with its GPUs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Extra, Orders, Seq};
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
    pub const ALL: [Self; 6] = [
        Self::Starting,
        Self::Ready,
        Self::Degraded,
        Self::Stopping,
        Self::Offline,
        Self::Disconnected,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Offline => "offline",
            Self::Disconnected => "disconnected",
        }
    }

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
    /// What an operator told it: its workers got these orders then, and a worker that comes to it
    /// gets them when it registers. They outlive restarts. Absent: none.
    #[serde(default, skip_serializing_if = "Orders::are_none")]
    pub orders: Orders,
    /// Its GPUs, as its agent counted them.
    pub gpus: Vec<Gpu>,
    /// When it registered.
    pub connected_at: Timestamp,
    /// When `status` last changed; absent: before that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status_change: Option<Timestamp>,
    /// Former incarnations, newest last; none may come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_incarnations: Vec<Incarnation>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Extra,
}

impl Machine {
    /// Since when it is gone, if it is; of a record that does not tell, since it registered.
    pub fn gone_since(&self) -> Option<Timestamp> {
        self.status.is_gone().then(|| self.last_status_change.unwrap_or(self.connected_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_before_is_read_and_written_as_it_was() {
        let old = serde_json::json!({
            "id": "gpu-1", "rev": 7, "status": "disconnected", "reason": null, "action": null,
            "incarnation": null, "gpus": [], "connected_at": "2026-01-01T00:00:00.000Z",
        });
        let machine: Machine = serde_json::from_value(old.clone()).unwrap();
        assert_eq!(machine.gone_since(), Some(machine.connected_at));
        assert_eq!(serde_json::to_value(&machine).unwrap(), old);
    }
}
