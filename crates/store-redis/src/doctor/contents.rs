//! What keys hold. One of a wrong type holds nothing: that is a finding of its own.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_store::StoreError;
use redis::Value;

use super::records::Look;
use crate::{
    link::{list, text},
    reads::pairs,
    store::Inner,
};

impl Inner {
    /// Members with their scores.
    pub async fn scores_of(
        &self,
        name: &str,
        look: &Look,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let found = self.held_by(name, look, "ZRANGE", &["0", "-1", "WITHSCORES"]).await?;
        Ok(pairs(&found).into_iter().collect())
    }

    pub async fn set_of(&self, name: &str, look: &Look) -> Result<BTreeSet<String>, StoreError> {
        let found = self.held_by(name, look, "SMEMBERS", &[]).await?;
        Ok(list(&found).iter().map(text).collect())
    }

    /// The fields of a hash.
    pub async fn hash_of(
        &self,
        name: &str,
        look: &Look,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        Ok(pairs(&self.held_by(name, look, "HGETALL", &[]).await?).into_iter().collect())
    }

    async fn held_by(
        &self,
        name: &str,
        look: &Look,
        command: &str,
        rest: &[&str],
    ) -> Result<Value, StoreError> {
        if look.wrong.contains_key(name) {
            return Ok(Value::Array(Vec::new()));
        }
        Ok(self.link.send(redis::cmd(command).arg(self.key(name)).arg(rest)).await?)
    }
}
