//! What the command line says about services and stores.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::anyhow;
use pointsman_core::ServiceName;
use pointsman_store::Transfer;
use pointsman_store_sqlite::{OpenError, Options, SqliteStore};

/// `NAME[:SLOTS][=URL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceArg {
    pub name: ServiceName,
    pub slots: u32,
    pub url: Option<String>,
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

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    Sqlite(PathBuf),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", dir)) if !dir.is_empty() => Ok(Self::Sqlite(dir.into())),
            _ => Err(format!("{text:?} is not a store: use sqlite:DIR")),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(dir) => write!(f, "sqlite:{}", dir.display()),
        }
    }
}

/// What a store is opened for, beside serving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read it, or to open or close its intake: it is there.
    Export,
    /// To fill it: it is made where it is missing, and what an import that broke off left is
    /// deleted.
    Import,
}

impl StoreUrl {
    /// Opens the store for a command that acts on it without a server.
    pub async fn open(&self, purpose: Purpose) -> anyhow::Result<Arc<dyn Transfer>> {
        match self {
            Self::Sqlite(dir) => Ok(Arc::new(open_sqlite(dir, purpose)?)),
        }
    }
}

fn open_sqlite(dir: &Path, purpose: Purpose) -> anyhow::Result<SqliteStore> {
    let opened = match purpose {
        Purpose::Export if !SqliteStore::is_in(dir) => {
            anyhow::bail!("there is no store in {}: use the server's data directory", dir.display())
        }
        Purpose::Export => SqliteStore::open(dir, Options::default()),
        Purpose::Import => SqliteStore::open_for_import(dir, Options::default()),
    };
    opened.map_err(|error| match error {
        OpenError::Locked { holder, .. } => {
            anyhow!("{} is in use by {holder}: stop the server first", dir.display())
        }
        error => anyhow!(error).context(format!("cannot open the store in {}", dir.display())),
    })
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

    #[test]
    fn an_unknown_store_is_refused() {
        assert!("sqlite:data".parse::<StoreUrl>().is_ok());
        for wrong in ["", "sqlite:", "postgres://x", "data"] {
            assert!(wrong.parse::<StoreUrl>().is_err(), "{wrong}");
        }
    }
}
