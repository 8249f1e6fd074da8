//! The services that a worker drives: as the command line names them, and the connector of each.

use std::{str::FromStr, sync::Arc};

use anyhow::Context as _;
use pointsman_connectors::{
    Connector,
    comfyui::{ComfyUiConnector, ComfyUiSettings, Owner},
    simulation::SimulationConnector,
};
use pointsman_core::{ServiceName, address::without_password};
use pointsman_worker::ServiceConfig;

/// `NAME[:SLOTS][=URL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceArg {
    pub name: ServiceName,
    pub slots: u32,
    pub url: Option<String>,
}

impl ServiceArg {
    pub fn new(name: &str, slots: u32, url: Option<String>) -> anyhow::Result<Self> {
        Ok(Self { name: ServiceName::new(name)?, slots, url })
    }

    /// The service with its connector; `owner` says whose prompts are.
    pub fn config(&self, owner: Owner) -> anyhow::Result<ServiceConfig> {
        let connector: Arc<dyn Connector> = match (self.name.as_str(), &self.url) {
            ("comfyui", Some(url)) => {
                let settings = ComfyUiSettings::new(self.name.clone(), url, owner);
                let shown = || format!("service {} at {:?}", self.name, without_password(url));
                Arc::new(ComfyUiConnector::new(settings).with_context(shown)?)
            }
            ("comfyui", None) => {
                anyhow::bail!("service comfyui needs its address: comfyui=http://127.0.0.1:8188")
            }
            ("simulation", None) => Arc::new(SimulationConnector::new(self.name.clone())),
            ("simulation", Some(_)) => {
                anyhow::bail!("service simulation runs here and has no address")
            }
            (other, _) => anyhow::bail!("service {other} is not known: use comfyui or simulation"),
        };
        Ok(ServiceConfig { connector, slots: self.slots })
    }
}

impl FromStr for ServiceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, url) = match text.split_once('=') {
            Some((head, url)) => (head, Some(url.to_owned())),
            None => (text, None),
        };
        let (name, slots) = match head.split_once(':') {
            Some((name, slots)) => {
                let wrong = |_| format!("{slots:?} is not a number of slots: use 1 to 1024");
                (name, slots.parse().map_err(wrong)?)
            }
            None => (head, 1),
        };
        if !(1..=1024).contains(&slots) {
            return Err(format!("{slots} slots: use 1 to 1024"));
        }
        let name = ServiceName::new(name).map_err(|error| error.to_string())?;
        Ok(Self { name, slots, url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_with_slots_and_address() {
        let parsed = |text: &str| text.parse::<ServiceArg>();
        let full = parsed("comfyui:2=http://127.0.0.1:8188").unwrap();
        assert_eq!((full.name.as_str(), full.slots), ("comfyui", 2));
        assert_eq!(full.url.as_deref(), Some("http://127.0.0.1:8188"));
        assert_eq!(parsed("simulation").unwrap().slots, 1);
        for wrong in ["", "a b", "simulation:0", "simulation:x", "simulation:1025"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
