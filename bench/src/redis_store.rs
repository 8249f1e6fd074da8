//! Opens our store on a redis-server, as `--store redis://…` does it.

use std::sync::Arc;

use pointsman_redis_testing::RedisServer;
use pointsman_store::Store;
use pointsman_store_redis::{Options, RedisStore};

pub async fn open(server: &RedisServer) -> anyhow::Result<Arc<dyn Store>> {
    open_at(&server.url()).await
}

pub async fn open_at(url: &str) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(RedisStore::open(Options::new(url.parse()?)).await?))
}
