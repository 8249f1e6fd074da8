//! What is known of classes and capabilities, and which profile can serve which class: worked out
//! in Rust once for each class and profile, and kept in Redis for the function that chooses.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    sync::Arc,
};

use lru::LruCache;
use parking_lot::Mutex;
use pointsman_core::{
    ServiceName,
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, able},
};
use pointsman_store::StoreError;

use crate::{
    encoding::keys,
    link::{Link, list, number, text},
};

/// Definitions are small, and as many as a store has classes.
const DEFINITIONS: usize = 20_000;
const PROFILES: usize = 10_000;
/// Classes looked at for a profile in one call.
const CHUNK: usize = 1_000;

/// Definitions never change: a class's key and a profile's digest are digests of them.
pub struct Definitions {
    classes: Mutex<LruCache<ClassKey, Arc<Class>>>,
    profiles: Mutex<LruCache<CapabilitiesDigest, Arc<Capabilities>>>,
}

impl Default for Definitions {
    fn default() -> Self {
        let most = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            classes: Mutex::new(LruCache::new(most(DEFINITIONS))),
            profiles: Mutex::new(LruCache::new(most(PROFILES))),
        }
    }
}

impl Definitions {
    /// The live ones of these classes.
    pub async fn classes(
        &self,
        link: &Link,
        keys: &[ClassKey],
    ) -> Result<HashMap<ClassKey, Arc<Class>>, StoreError> {
        let mut known = HashMap::new();
        let mut missing = Vec::new();
        for key in keys {
            match self.classes.lock().get(key) {
                Some(class) => drop(known.insert(*key, class.clone())),
                None => missing.push(*key),
            }
        }
        for chunk in missing.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for key in chunk {
                pipeline.cmd("HGET").arg(link.keys().full(&keys::class(key)));
                pipeline.arg("definition");
            }
            for (key, found) in chunk.iter().zip(link.send_typed(&pipeline).await?) {
                // One of a wrong type is as good as gone: the doctor tells of it.
                let found = found.as_ref().map(text).unwrap_or_default();
                if found.is_empty() {
                    continue;
                }
                // One that this version cannot read is nobody's: never a match. The doctor tells of it.
                match serde_json::from_str::<Class>(&found) {
                    Ok(class) => {
                        let class = Arc::new(class);
                        self.classes.lock().put(*key, class.clone());
                        known.insert(*key, class);
                    }
                    Err(error) => tracing::debug!(%key, %error, "a class cannot be read"),
                }
            }
        }
        Ok(known)
    }

    /// Capabilities that cannot be read, for they are damaged or a newer version's, are nobody's:
    /// never a match, and in nobody else's way. The doctor tells of them.
    pub async fn profile(
        &self,
        link: &Link,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError> {
        let read = self.read_profile(link, digest).await?;
        Ok(read.unwrap_or_else(|why| {
            tracing::debug!(why, "nobody with these capabilities counts as able");
            None
        }))
    }

    /// The capabilities, or why what is kept cannot be read.
    async fn read_profile(
        &self,
        link: &Link,
        digest: CapabilitiesDigest,
    ) -> Result<Result<Option<Arc<Capabilities>>, String>, StoreError> {
        if let Some(known) = self.profiles.lock().get(&digest) {
            return Ok(Ok(Some(known.clone())));
        }
        let key = link.keys().full(&keys::profile(&digest));
        let mut get = redis::pipe();
        get.cmd("HGET").arg(&key).arg("capabilities");
        let Some(found) = link.send_typed(&get).await?.pop().flatten() else {
            return Ok(Err(format!("{key} is no hash")));
        };
        if found == redis::Value::Nil {
            return Ok(Ok(None));
        }
        let read = serde_json::from_str::<Capabilities>(&text(&found)).map(Arc::new);
        if let Ok(capabilities) = &read {
            self.profiles.lock().put(digest, capabilities.clone());
        }
        Ok(read.map(Some).map_err(|error| format!("{key}: capabilities cannot be read: {error}")))
    }

    pub fn clear(&self) {
        self.classes.lock().clear();
        self.profiles.lock().clear();
    }

    pub fn know_profile(&self, digest: CapabilitiesDigest, capabilities: &Arc<Capabilities>) {
        self.profiles.lock().put(digest, capabilities.clone());
    }

    /// Works out which of the classes that came since the last time a profile can serve. Where the
    /// store has another history meanwhile, it is for whoever asks again.
    pub async fn work_out(
        &self,
        link: &Link,
        digest: CapabilitiesDigest,
    ) -> Result<(), StoreError> {
        let read = self.read_profile(link, digest).await?.map_err(StoreError::Failed)?;
        let Some(capabilities) = read else { return Ok(()) };
        // Before the first look: what is seen in another one is nothing in this.
        let epoch = link.epoch().to_string();
        let mut known = redis::cmd("HGET");
        known.arg(link.keys().full(&keys::profile(&digest))).arg("classes_rev");
        let mut rev = number(&link.send(&known).await?).unwrap_or(0);
        let mut head = redis::cmd("HGET");
        head.arg(link.keys().meta()).arg("classes_rev");
        let head = number(&link.send(&head).await?).unwrap_or(0);
        loop {
            let mut range = redis::cmd("ZRANGE");
            range.arg(link.keys().full("classes")).arg(format!("({rev}")).arg("+inf");
            range.arg("BYSCORE").arg("LIMIT").arg(0).arg(CHUNK).arg("WITHSCORES");
            let found = link.send(&range).await?;
            let parts = list(&found);
            let pairs = parts.chunks_exact(2);
            let is_last = pairs.len() < CHUNK;
            let keys: Vec<ClassKey> =
                pairs.clone().filter_map(|pair| text(&pair[0]).parse().ok()).collect();
            let last = pairs.last().and_then(|pair| number(&pair[1]));
            let from = rev;
            // Classes that came and went meanwhile count as looked at.
            rev = last.filter(|_| !is_last).unwrap_or(head.max(last.unwrap_or(0)));
            let classes = self.classes(link, &keys).await?;
            let mut args =
                vec![epoch.clone(), digest.to_string(), from.to_string(), rev.to_string()];
            let mut served: BTreeMap<&ServiceName, Vec<&ClassKey>> = BTreeMap::new();
            for (key, class) in classes.iter().filter(|(_, class)| able(class, &capabilities)) {
                served.entry(&class.service).or_default().push(key);
            }
            for (service, classes) in served {
                args.extend([service.to_string(), classes.len().to_string()]);
                args.extend(classes.into_iter().map(ClassKey::to_string));
            }
            let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
            let served = link.call("serve", &args).await?;
            if link.is_of_another_epoch(&served) || is_last {
                return Ok(());
            }
        }
    }
}
