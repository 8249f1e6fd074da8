//! The log as witness: what it holds of records that do not fit, and what happened while somebody
//! looked.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use pointsman_core::{LogGroup, Record, RecordKey, Seq};
use pointsman_store::{Epoch, LogPage, StoreError};

use super::records::{Look, Raw};
use crate::{
    link::{CallError, list, text},
    log::{self, Newest},
    store::Inner,
};

const CHUNK: usize = 250;
/// Groups that may come while somebody looks; with more no moment can be made out.
const MOST_MEANWHILE: u64 = 100_000;

/// Why a look fails.
#[derive(Debug)]
pub enum NoLook {
    /// What happened while it went on cannot be told: nothing is known of what it saw, and another
    /// look may do.
    NoMoment,
    Store(StoreError),
}

impl From<StoreError> for NoLook {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CallError> for NoLook {
    fn from(error: CallError) -> Self {
        Self::Store(error.into())
    }
}

impl From<NoLook> for StoreError {
    fn from(error: NoLook) -> Self {
        match error {
            NoLook::Store(error) => error,
            NoLook::NoMoment => Self::Failed(
                "too much changed while it was looked at, or in a way that cannot be read: look \
                 again"
                    .to_owned(),
            ),
        }
    }
}

/// Hashes of records that were compared already, and are as they should be: of each a digest. What a
/// look at everything did not see any more, as it has changed or is gone, is forgotten with its end.
#[derive(Debug, Default)]
pub struct Verified {
    seen: HashSet<u64>,
    /// Until the look at everything has ended that goes on: from before it.
    before: HashSet<u64>,
}

impl Verified {
    /// Digests at most; then all are forgotten.
    const MOST: usize = 1_000_000;

    fn has(&self, key: &RecordKey, raw: &Raw) -> bool {
        let digest = digest(key, raw);
        self.seen.contains(&digest) || self.before.contains(&digest)
    }

    pub fn add(&mut self, key: &RecordKey, raw: &Raw) {
        let digest = digest(key, raw);
        self.before.remove(&digest);
        if self.seen.len() + self.before.len() >= Self::MOST {
            *self = Self::default();
        }
        self.seen.insert(digest);
    }

    /// A look at everything begins. One that failed before it has ended nothing.
    pub fn begin(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        match self.before.is_empty() {
            true => self.before = seen,
            false => self.before.extend(seen),
        }
    }

    /// It has seen everything.
    pub fn end(&mut self) {
        self.before = HashSet::new();
        self.seen.shrink_to_fit();
    }
}

fn digest(key: &RecordKey, raw: &Raw) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, raw).hash(&mut hasher);
    hasher.finish()
}

/// What the log was gone through for.
pub type Searched = lru::LruCache<RecordKey, Search>;

/// How far the log was gone through for a record's newest event, and which one that was.
#[derive(Debug, Clone)]
pub struct Search {
    epoch: Epoch,
    till: Seq,
    newest: Option<Newest>,
}

/// What the log says of a hash at its own `rev`.
#[derive(Debug)]
pub enum AtRev {
    /// It was compared before, and is the same.
    Verified,
    /// The record as it was then.
    Told(Record),
    /// The log does not reach back so far, or cannot be read there.
    Unkept,
    /// Nothing, though it has an entry there, or has none yet; or the hash has no such number.
    Silent,
}

impl Inner {
    /// The oldest entry that is kept.
    pub async fn oldest(&self, look: &Look) -> Result<Option<Seq>, StoreError> {
        if look.wrong.contains_key("log") {
            return Ok(None);
        }
        let mut range = redis::cmd("XRANGE");
        range.arg(self.key("log")).arg("-").arg("+").arg("COUNT").arg(1);
        let found = self.link.send(&range).await?;
        let id = list(&found).first().and_then(|entry| list(entry).first()).map(text);
        Ok(id.and_then(|id| id.split_once('-')?.0.parse().ok()))
    }

    /// What the log says of each hash at its `rev`.
    pub async fn at_their_revs(
        &self,
        hashes: &[(RecordKey, Raw)],
        oldest: Option<Seq>,
    ) -> Result<Vec<AtRev>, StoreError> {
        let rev_of = |raw: &Raw| raw.get("rev").and_then(|rev| rev.parse::<Seq>().ok());
        let verified: Vec<bool> = {
            let verified = self.verified.lock();
            hashes.iter().map(|(key, raw)| verified.has(key, raw)).collect()
        };
        let revs = hashes.iter().zip(&verified).filter(|(_, is_verified)| !**is_verified);
        let revs: BTreeSet<Seq> = revs.filter_map(|((_, raw), _)| rev_of(raw)).collect();
        let groups = match oldest {
            Some(_) => self.groups_at(revs).await?,
            None => BTreeMap::new(),
        };
        let (last, _) = self.head().await?;
        let told = hashes.iter().zip(verified).map(|((key, raw), is_verified)| {
            let rev = rev_of(raw).filter(|rev| *rev > 0);
            match (rev, oldest) {
                _ if is_verified => AtRev::Verified,
                (None, _) => AtRev::Silent,
                (_, None) => AtRev::Unkept,
                (Some(rev), Some(oldest)) if rev < oldest => AtRev::Unkept,
                (Some(rev), _) => match groups.get(&rev) {
                    Some(Some(group)) => {
                        group.latest(key).cloned().map_or(AtRev::Silent, AtRev::Told)
                    }
                    Some(None) => AtRev::Unkept,
                    None if rev > last => AtRev::Silent,
                    // Somebody took it out of the log.
                    None => AtRev::Unkept,
                },
            }
        });
        Ok(told.collect())
    }

    /// The groups with these seqs, those that are kept; none for one that cannot be read.
    async fn groups_at(
        &self,
        revs: BTreeSet<Seq>,
    ) -> Result<BTreeMap<Seq, Option<Arc<LogGroup>>>, StoreError> {
        let revs: Vec<Seq> = revs.into_iter().collect();
        let mut groups = BTreeMap::new();
        for chunk in revs.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for rev in chunk {
                let id = format!("{rev}-0");
                pipeline.cmd("XRANGE").arg(self.key("log")).arg(&id).arg(&id);
            }
            for (rev, found) in chunk.iter().zip(self.link.send_all(&pipeline).await?) {
                if !list(&found).is_empty() {
                    groups.insert(*rev, log::groups(&found).ok().and_then(|mut some| some.pop()));
                }
            }
        }
        Ok(groups)
    }

    /// The newest event about each of the records, where the log has one.
    pub async fn newest(
        &self,
        keys: &BTreeSet<RecordKey>,
        look: &Look,
    ) -> Result<BTreeMap<RecordKey, Newest>, StoreError> {
        if keys.is_empty() || look.wrong.contains_key("log") {
            return Ok(BTreeMap::new());
        }
        let (till, _) = self.head().await?;
        let epoch = self.link.epoch();
        let known: BTreeMap<RecordKey, Search> = {
            let mut searched = self.searched.lock();
            let mut known =
                |key: &RecordKey| searched.get(key).filter(|s| s.epoch == epoch).cloned();
            keys.iter().filter_map(|key| Some((key.clone(), known(key)?))).collect()
        };
        let down_to = |key: &RecordKey| known.get(key).map_or(0, |search| search.till);
        let wanted = keys.iter().map(|key| (key.clone(), down_to(key))).collect();
        let mut newest = log::newest_of(&self.link, wanted).await?;
        let mut searched = self.searched.lock();
        for key in keys {
            if !newest.contains_key(key)
                && let Some(before) = known.get(key).and_then(|search| search.newest.clone())
            {
                newest.insert(key.clone(), before);
            }
            let search = Search { epoch: epoch.clone(), till, newest: newest.get(key).cloned() };
            searched.put(key.clone(), search);
        }
        Ok(newest)
    }

    /// What happened between two moments.
    ///
    /// # Errors
    ///
    /// [`NoLook::NoMoment`] where that cannot be told, besides what [`StoreError`] tells.
    pub async fn meanwhile(
        &self,
        from: Seq,
        till: Seq,
        look: &Look,
    ) -> Result<Vec<Arc<LogGroup>>, NoLook> {
        let count = till.saturating_sub(from);
        if count == 0 {
            return Ok(Vec::new());
        }
        if look.wrong.contains_key("log") || count > MOST_MEANWHILE {
            return Err(NoLook::NoMoment);
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        match log::page(&self.link, from, count).await {
            Ok(LogPage::Groups(groups)) if groups.len() == count => Ok(groups),
            Ok(_) | Err(StoreError::Failed(_)) => Err(NoLook::NoMoment),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_look_at_everything_sees_no_more_is_forgotten_with_its_end() {
        let key = RecordKey::Worker("w".parse().expect("an id"));
        let raw = |rev: usize| Raw::from([("rev".to_owned(), rev.to_string())]);
        let mut verified = Verified::default();
        let has = |verified: &Verified, rev| verified.has(&key, &raw(rev));
        for rev in 1..=3 {
            verified.add(&key, &raw(rev));
        }
        verified.begin();
        assert!(has(&verified, 1) && has(&verified, 3), "until its end they save a comparison");
        verified.add(&key, &raw(3));
        // It fails, and the next one sees another change.
        verified.begin();
        verified.add(&key, &raw(4));
        assert!((1..=4).all(|rev| has(&verified, rev)));
        verified.add(&key, &raw(3));
        verified.end();
        assert!(has(&verified, 3) && has(&verified, 4));
        assert!(!has(&verified, 1) && !has(&verified, 2));
        for rev in 0..=Verified::MOST {
            verified.add(&key, &raw(rev));
            assert!(verified.seen.len() + verified.before.len() <= Verified::MOST);
        }
    }
}
