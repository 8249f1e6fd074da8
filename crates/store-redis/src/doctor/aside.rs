//! What was set aside: told as long as it lies there, and whether anything is still missing.

use std::{collections::BTreeMap, iter::once};

use pointsman_core::{
    RecordKey,
    doctor::{Finding, FindingRule, Mend},
};
use pointsman_store::{Depth, StoreError};

use super::records::Look;
use crate::{encoding::keys, link::number, plan::parse_key, reads::pairs, store::Inner};

/// Names that are forgotten in one step.
const AT_ONCE: usize = 2_000;

/// Follows the key's name in what `quarantined` holds, where its record was made anew in the same step
/// (lua/doctor.lua).
const MADE_ANEW: &str = " anew";

/// A key that was set aside: what follows `quarantine:` in its name now, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aside {
    pub aside: String,
    pub name: String,
    is_made_anew: bool,
}

impl Aside {
    fn noted(aside: String, noted: &str) -> Self {
        let (name, is_made_anew) = match noted.strip_suffix(MADE_ANEW) {
            Some(name) => (name, true),
            None => (noted, false),
        };
        Self { aside, name: name.to_owned(), is_made_anew }
    }

    /// By its name alone: what was set aside once more has a number behind it, but for ids that end in
    /// one themselves.
    fn unnoted(aside: &str) -> Self {
        let is_number = |n: &str| !n.is_empty() && n.bytes().all(|digit| digit.is_ascii_digit());
        let first = aside.rsplit_once(':').filter(|(_, n)| is_number(n)).map(|(first, _)| first);
        let name = match first {
            Some(first) if parse_key(aside).is_none() && parse_key(first).is_some() => first,
            _ => aside,
        };
        Self { aside: aside.to_owned(), name: name.to_owned(), is_made_anew: false }
    }
}

impl Inner {
    /// What is known to have been set aside; none where that cannot be read.
    pub async fn noted_asides(&self) -> Result<Option<Vec<Aside>>, StoreError> {
        let mut known = redis::pipe();
        known.cmd("HGETALL").arg(self.key("quarantined"));
        let known = self.link.send_typed(&known).await?.pop().flatten();
        let noted = |known| pairs(&known).into_iter().map(|(aside, to)| Aside::noted(aside, &to));
        Ok(known.map(|known| noted(known).collect()))
    }

    /// What was set aside and still lies there: one finding for all that was one record, so that
    /// none of it is taken for something else.
    pub async fn examine_set_aside(&self, depth: Depth, look: &mut Look) -> Result<(), StoreError> {
        let noted = self.noted_asides().await?.unwrap_or_default();
        let mut asides: BTreeMap<String, Aside> =
            noted.into_iter().map(|aside| (aside.aside.clone(), aside)).collect();
        if depth == Depth::Everything {
            // What a version set aside that did not note it.
            let found = look.keys_of(&["quarantine:"]);
            for name in found.filter_map(|key| key.strip_prefix("quarantine:")) {
                let aside = || Aside::unnoted(name);
                asides.entry(name.to_owned()).or_insert_with(aside);
            }
        }
        let mut exist = redis::pipe();
        for aside in asides.keys() {
            exist.cmd("EXISTS").arg(self.key(&keys::aside(aside)));
        }
        let exist = self.link.send_all(&exist).await?;
        let mut records: BTreeMap<RecordKey, Vec<Aside>> = BTreeMap::new();
        for (aside, exist) in asides.into_values().zip(exist) {
            match parse_key(&aside.name) {
                _ if number(&exist) != Some(1) => look.taken_away.push(aside.aside),
                Some(record) => records.entry(record).or_default().push(aside),
                None => {
                    let finding = self.index_aside(&aside);
                    look.asides.insert(finding.id.clone(), vec![aside.aside]);
                    look.found.add(finding);
                }
            }
        }
        let wanted: Vec<RecordKey> = records.keys().cloned().collect();
        for (record, read) in self.read_records(&wanted).await? {
            let Some(asides) = records.remove(&record) else { continue };
            // What cannot be read takes nobody's place.
            let is_there = matches!(read, Ok(Some(_)));
            let is_replaced = is_there || asides.iter().all(|aside| aside.is_made_anew);
            let finding = self.record_aside(&record, &asides, is_replaced);
            let asides = asides.into_iter().map(|aside| aside.aside).collect();
            look.asides.insert(finding.id.clone(), asides);
            look.found.add(finding);
        }
        Ok(())
    }

    fn record_aside(&self, record: &RecordKey, asides: &[Aside], is_replaced: bool) -> Finding {
        let lie = asides.iter().map(|Aside { aside, .. }| self.key(&keys::aside(aside)));
        let lie: Vec<String> = lie.collect();
        let (all, delete) = (lie.join(" and "), format!("`DEL {}`", lie.join(" ")));
        let problem = format!("{} is set aside as {all}", self.key(&keys::record(record)));
        let finding = Finding::about(FindingRule::Quarantined, record, problem);
        if !is_replaced {
            return Finding { cure: format!("{} ({delete})", finding.cure), ..finding };
        }
        let consequence = "none any more: a sound record has taken its place; it takes up memory";
        repairable(finding, consequence, &all, &delete)
    }

    /// An index is always made anew, or begins empty, which is no key at all.
    fn index_aside(&self, Aside { aside, name, .. }: &Aside) -> Finding {
        let key = self.key(&keys::aside(aside));
        let problem = format!("{} is set aside as {key}", self.key(name));
        let finding = Finding::new(FindingRule::Quarantined, format!("index/{aside}"), problem);
        let consequence = "nothing waits for it; it takes up memory";
        repairable(finding, consequence, &key, &format!("`DEL {key}`"))
    }

    /// Deletes what was set aside, where a repair may; what another server set aside since stays.
    pub async fn delete_aside(&self, finding: &Finding, look: &Look) -> Result<(), String> {
        let record = finding.record().map(|key| keys::record(&key)).unwrap_or_default();
        let asides = look.asides.get(&finding.id).into_iter().flatten();
        let args: Vec<&[u8]> = once(&record).chain(asides).map(|arg| arg.as_bytes()).collect();
        self.mending_step("delete_asides", &args).await.map(drop)
    }

    /// Forgets what somebody else has deleted.
    pub async fn forget_asides(&self, look: &Look) -> Result<(), StoreError> {
        for asides in look.taken_away.chunks(AT_ONCE) {
            let asides: Vec<&[u8]> = asides.iter().map(|aside| aside.as_bytes()).collect();
            self.link.call("forget_asides", &asides).await?;
        }
        Ok(())
    }
}

fn repairable(finding: Finding, consequence: &str, keys: &str, delete: &str) -> Finding {
    let cure = format!("look at {keys}, and repair it: it is deleted ({delete})");
    Finding { consequence: consequence.to_owned(), cure, mend: Mend::Repair, ..finding }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_set_aside_once_more_is_known_by_its_name() {
        let job = "job:01900000-0000-7000-8000-000000000001";
        for (aside, name) in [
            (job, job),
            (&format!("{job}:2"), job),
            (&format!("{job}:x"), &format!("{job}:x")),
            ("worker:w:3", "worker:w"),
            // Its subject is so.
            ("alert:machine_disconnected:2", "alert:machine_disconnected:2"),
            ("leases:2", "leases:2"),
        ] {
            assert_eq!(Aside::unnoted(aside).name, name, "{aside}");
        }
    }
}
