//! Opens our store on a redis-server, as `--store redis://…` does it.

use std::sync::Arc;

use pointsman_redis_testing::RedisServer;
use pointsman_store::Store;
use pointsman_store_redis::{Options, RedisStore};

pub async fn open(server: &RedisServer) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(RedisStore::open(Options::new(server.url().parse()?)).await?))
}
