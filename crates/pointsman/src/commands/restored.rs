//! `pointsman restored`: on an embedded store, while no server has it open.

use serde_json::json;

use super::print;
use crate::{
    args,
    exit::Exit,
    store_url::{Purpose, StoreUrl, open_sqlite},
};

pub async fn restored(args: &args::Restored, in_json: bool) -> Result<(), Exit> {
    let StoreUrl::Sqlite(dir) = &args.store else {
        return Err(Exit::Usage(
            "a store on Redis sees by itself that it came back: `restored` is for sqlite:DIR"
                .to_owned(),
        ));
    };
    let store = open_sqlite(dir, Purpose::Restore)?;
    let epoch = pointsman_store::Store::epoch(&store).to_string();
    pointsman_store::Store::close(&store).await.map_err(anyhow::Error::from)?;
    match in_json {
        true => print::json(&json!({"epoch": epoch})),
        false => print::line(&format!("{} begins the epoch {epoch}", args.store)),
    }
}
