//! `pointsman restored`: on an embedded store, while no server has it open.

use serde_json::json;

use super::print;
use crate::{
    args,
    exit::Exit,
    store_url::{Purpose, RedisArgs},
};

pub async fn restored(args: &args::Restored, in_json: bool) -> Result<(), Exit> {
    let store = args.store.open(Purpose::Restore, &RedisArgs::default()).await?;
    let epoch = store.epoch().to_string();
    store.close().await.map_err(anyhow::Error::from)?;
    match in_json {
        true => print::json(&json!({"epoch": epoch})),
        false => print::line(&format!("{} begins the epoch {epoch}", args.store)),
    }
}
