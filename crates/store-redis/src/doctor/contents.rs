//! What keys hold. One of a wrong type holds nothing: that is a finding of its own.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_store::StoreError;

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
        if look.wrong.contains_key(name) {
            return Ok(BTreeMap::new());
        }
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.key(name)).arg(0).arg(-1).arg("WITHSCORES");
        Ok(pairs(&self.link.send(&range).await?).into_iter().collect())
    }

    pub async fn set_of(&self, name: &str, look: &Look) -> Result<BTreeSet<String>, StoreError> {
        if look.wrong.contains_key(name) {
            return Ok(BTreeSet::new());
        }
        let found = self.link.send(redis::cmd("SMEMBERS").arg(self.key(name))).await?;
        Ok(list(&found).iter().map(text).collect())
    }

    /// The fields of a hash.
    pub async fn hash_of(
        &self,
        name: &str,
        look: &Look,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        if look.wrong.contains_key(name) {
            return Ok(BTreeMap::new());
        }
        let found = self.link.send(redis::cmd("HGETALL").arg(self.key(name))).await?;
        Ok(pairs(&found).into_iter().collect())
    }
}
