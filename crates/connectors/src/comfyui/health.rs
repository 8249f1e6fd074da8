use pointsman_comfyui::RequestError;
use pointsman_core::{
    address::without_password, matching::ServiceCapabilities, record::ConnectorStatus,
};
use tokio::time::Instant;

use super::{ComfyUiConnector, cancel::is_cut_off};
use crate::{Health, Unavailable};

/// Looks without an answer that an idle server may have in a row.
const SILENT_LOOKS: u32 = 2;

impl ComfyUiConnector {
    /// Looks how the server is, with the cheapest question there is.
    pub(super) async fn look(&self) -> Health {
        let question = self.client.queue_remaining();
        let answer = tokio::time::timeout(self.settings.pace.probe, question).await;
        match answer {
            Ok(Ok(_)) => {
                {
                    let mut condition = self.condition.lock();
                    condition.was_up = true;
                    condition.silent_looks = 0;
                }
                match self.full() {
                    Some(why) => Health::new(ConnectorStatus::Error, why),
                    None => self.unless_poisoned().await,
                }
            }
            Ok(Err(RequestError::Unreachable { reason, refused })) => {
                let mut condition = self.condition.lock();
                if refused {
                    condition.poisoned_by = None;
                }
                match condition.was_up {
                    true => {
                        Health::new(ConnectorStatus::Offline, format!("not reachable: {reason}"))
                    }
                    false => Health::new(
                        ConnectorStatus::Connecting,
                        format!("waiting for ComfyUI at {}: {reason}", without_password(self.client.base_url())),
                    ),
                }
            }
            Ok(Err(error)) => self.silent(&error.to_string(), is_cut_off(&error)),
            Err(_) => self.silent("no answer", false),
        }
    }

    /// Something listens and does not answer. While a prompt runs that is usual: some nodes let
    /// nothing else run in ComfyUI's process. Connections that are cut off are not.
    fn silent(&self, why: &str, cut_off: bool) -> Health {
        let mut condition = self.condition.lock();
        condition.silent_looks += 1;
        let busy = condition.runs > 0 && !cut_off;
        let usual = condition.was_up && (busy || condition.silent_looks < SILENT_LOOKS);
        match usual {
            true => Health::new(ConnectorStatus::Idle, "HTTP does not answer at the moment"),
            false => Health::new(ConnectorStatus::Error, format!("HTTP does not answer: {why}")),
        }
    }

    /// A full disk fails whatever saves something, so no job is given to it for a while; then one
    /// shows whether there is room again.
    fn full(&self) -> Option<String> {
        let mut condition = self.condition.lock();
        condition.full.take_if(|(until, _)| Instant::now() >= *until);
        condition.full.as_ref().map(|(_, why)| format!("ComfyUI's disk is full: {why}"))
    }

    /// After an error of its device every prompt of the process fails. A restart is told by its
    /// history, which no longer has the prompt that broke it.
    async fn unless_poisoned(&self) -> Health {
        let Some((prompt_id, why)) = self.condition.lock().poisoned_by.clone() else {
            return Health::idle();
        };
        match self.client.history(&prompt_id).await {
            Ok(None) => {
                self.condition.lock().poisoned_by = None;
                Health::idle()
            }
            _ => Health::new(ConnectorStatus::Error, format!("restart ComfyUI: {why}")),
        }
    }

    /// Asks for the version, the node classes and the model files.
    pub(super) async fn what_it_has(&self) -> Result<ServiceCapabilities, Unavailable> {
        let unavailable = |error: RequestError| Unavailable(error.to_string());
        let (stats, info) = tokio::try_join!(self.client.system_stats(), self.client.object_info())
            .map_err(unavailable)?;
        self.condition.lock().output_classes = info.output_classes();
        Ok(ServiceCapabilities {
            version: stats.system.comfyui_version,
            models: info.models(),
            node_classes: info.node_classes(),
        })
    }
}
