use pointsman_comfyui::RequestError;
use pointsman_core::{
    address::without_password, matching::ServiceCapabilities, record::ConnectorStatus,
};
use tokio::time::Instant;

use super::{ComfyUiConnector, Condition, cancel::is_cut_off};
use crate::{Health, Unavailable};

/// Looks without an answer that an idle server may have in a row.
const SILENT_LOOKS: u32 = 2;

impl ComfyUiConnector {
    /// Looks how the server is, with the cheapest question there is.
    pub(super) async fn look(&self) -> Health {
        let limit = self.settings.pace.probe;
        match tokio::time::timeout(limit, self.client.queue_remaining()).await {
            Ok(Ok(_)) => self.answered().await,
            Ok(Err(RequestError::Unreachable { reason, refused })) => {
                let mut condition = self.condition.lock();
                if refused {
                    condition.poisoned_by = None;
                }
                self.away(&condition, &reason)
            }
            Ok(Err(error)) => self.not_answered(&error),
            Err(_) => self.not_answered(&RequestError::TimedOut { after: limit }),
        }
    }

    async fn answered(&self) -> Health {
        {
            let mut condition = self.condition.lock();
            condition.was_up = true;
            condition.silent_looks = 0;
        }
        self.unless_restarted().await;
        let broken = self.condition.lock().broken();
        broken.map_or_else(Health::idle, |why| Health::new(ConnectorStatus::Error, why))
    }

    /// Nothing of it is there.
    fn away(&self, condition: &Condition, why: &str) -> Health {
        if condition.was_up {
            return Health::new(ConnectorStatus::Offline, format!("not reachable: {why}"));
        }
        let url = without_password(self.client.base_url());
        Health::new(ConnectorStatus::Connecting, format!("waiting for ComfyUI at {url}: {why}"))
    }

    /// Something listens and does not answer as ComfyUI does. While a prompt runs silence is usual: some
    /// nodes let nothing else run in its process. Connections that are cut off are not, nor is what a
    /// proxy answers that finds nothing behind it.
    fn not_answered(&self, error: &RequestError) -> Health {
        let mut condition = self.condition.lock();
        condition.silent_looks += 1;
        let cut_off = is_cut_off(error);
        let busy = condition.runs > 0 && !cut_off;
        if condition.was_up && (busy || condition.silent_looks < SILENT_LOOKS) {
            // What is known against it stands: a process whose device failed may end a moment later.
            return match condition.broken() {
                Some(why) => Health::new(ConnectorStatus::Error, why),
                None => Health::new(ConnectorStatus::Idle, format!("at the moment: {error}")),
            };
        }
        match cut_off {
            true => self.away(&condition, &error.to_string()),
            false => Health::new(ConnectorStatus::Error, format!("it cannot be used: {error}")),
        }
    }

    /// After an error of its device every prompt of the process fails. A restart is told by its
    /// history, which no longer has the prompt that broke it.
    async fn unless_restarted(&self) {
        let Some((prompt_id, _)) = self.condition.lock().poisoned_by.clone() else { return };
        if let Ok(None) = self.client.history(&prompt_id).await {
            self.condition.lock().poisoned_by.take_if(|(by, _)| *by == prompt_id);
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

impl Condition {
    /// Why the process can do nothing right, though it may answer. A disk that takes nothing fails whatever
    /// saves something, so no job is given to it for a while; then one shows whether it takes files again.
    fn broken(&mut self) -> Option<String> {
        self.full.take_if(|(until, _)| Instant::now() >= *until);
        let full = self.full.as_ref();
        let full = full.map(|(_, why)| format!("ComfyUI cannot write to its disk: {why}"));
        full.or_else(|| self.poisoned_by.as_ref().map(|(_, why)| format!("restart ComfyUI: {why}")))
    }
}
