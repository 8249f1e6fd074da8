//! Where a store is, as the command line says it, and opening it.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use pointsman_store::Transfer;
use pointsman_store_redis::{Address, Opening, RedisStore};
use pointsman_store_sqlite::{OpenError, Options, SqliteStore};

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    Sqlite(PathBuf),
    Redis(Address),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if Address::looks_like(text) {
            return text.parse().map(Self::Redis).map_err(|error| format!("{error}"));
        }
        match text.split_once(':') {
            Some(("sqlite", dir)) if !dir.is_empty() => Ok(Self::Sqlite(dir.into())),
            _ => Err("this is no store: use sqlite:DIR or redis://HOST:PORT".to_owned()),
        }
    }
}

/// What a worker works on: a server, or the store itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerUrl {
    Server(String),
    Redis(Address),
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if Address::looks_like(text) {
            return text.parse().map(Self::Redis).map_err(|error| format!("{error}"));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Server(text.to_owned()));
        }
        let what = match text.starts_with("sqlite:") {
            true => "an embedded store is reached through its server",
            false => "this is no broker",
        };
        Err(format!("{what}: use http://HOST:PORT of a server, or redis://HOST:PORT of a Redis"))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(dir) => write!(f, "sqlite:{}", dir.display()),
            Self::Redis(address) => address.fmt(f),
        }
    }
}

/// Which store on a Redis it is, and how safe its writes are.
#[derive(Debug, Clone, clap::Args)]
pub struct RedisArgs {
    /// The fleet: the store of this name on a Redis (1 to 64 characters: a-z, 0-9, '.', '_', '-').
    #[arg(long, default_value = "default", value_parser = fleet)]
    pub fleet: String,
    /// Replicas of a Redis that must have a submission or an ending before it is answered.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
    pub acks: u32,
}

fn fleet(text: &str) -> Result<String, String> {
    // The same alphabet as a machine's: it stands in the names of keys.
    pointsman_core::MachineId::new(text)
        .map(|name| name.to_string())
        .map_err(|error| error.to_string().replace("machine id", "fleet"))
}

/// Opens the store on a Redis, to serve from it.
pub async fn open_redis(address: &Address, args: &RedisArgs) -> anyhow::Result<RedisStore> {
    open_redis_for(address, args, Opening::Serve).await
}

async fn open_redis_for(
    address: &Address,
    args: &RedisArgs,
    opening: Opening,
) -> anyhow::Result<RedisStore> {
    let options = pointsman_store_redis::Options {
        fleet: args.fleet.clone(),
        acks: args.acks,
        opening,
        ..pointsman_store_redis::Options::new(address.clone())
    };
    RedisStore::open(options).await.with_context(|| format!("cannot open the store at {address}"))
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
    pub async fn open(
        &self,
        purpose: Purpose,
        redis: &RedisArgs,
    ) -> anyhow::Result<Arc<dyn Transfer>> {
        match self {
            Self::Sqlite(dir) => Ok(Arc::new(open_sqlite(dir, purpose)?)),
            Self::Redis(address) => {
                let opening = match purpose {
                    Purpose::Export => Opening::Existing,
                    Purpose::Import => Opening::Import,
                };
                Ok(Arc::new(open_redis_for(address, redis, opening).await?))
            }
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
    fn an_unknown_store_is_refused() {
        assert!("sqlite:data".parse::<StoreUrl>().is_ok());
        assert!("redis://127.0.0.1:6379/1".parse::<StoreUrl>().is_ok());
        for wrong in ["", "sqlite:", "postgres://x", "data", "redis://host:port"] {
            assert!(wrong.parse::<StoreUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_broker_is_a_server_or_a_redis() {
        let server = "http://127.0.0.1:7780";
        assert_eq!(server.parse(), Ok(BrokerUrl::Server(server.to_owned())));
        assert!(matches!("redis://127.0.0.1:1".parse(), Ok(BrokerUrl::Redis(_))));
        for wrong in ["", "sqlite:data", "127.0.0.1:7780", "postgres://x"] {
            let why = wrong.parse::<BrokerUrl>().unwrap_err();
            assert!(why.contains("http://HOST:PORT") && why.contains("redis://HOST:PORT"), "{why}");
        }
        assert!("sqlite:data".parse::<BrokerUrl>().unwrap_err().contains("through its server"));
    }

    #[test]
    fn a_fleet_has_a_name_that_keys_can_have() {
        assert_eq!(fleet("gpu-1").as_deref(), Ok("gpu-1"));
        assert!(fleet("a}b").unwrap_err().contains("fleet"));
    }
}
