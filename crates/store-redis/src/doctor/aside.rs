//! What was set aside: told as long as it lies there, and whether anything is still missing.

use std::collections::BTreeMap;

use pointsman_core::doctor::{Finding, FindingRule, Mend, subject};
use pointsman_store::{Depth, StoreError};

use super::records::Look;
use crate::{keys, link::number, plan::parse_key, reads::pairs, store::Inner};

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

    /// What was set aside and still lies there.
    pub async fn examine_set_aside(&self, depth: Depth, look: &mut Look) -> Result<(), StoreError> {
        let noted = self.noted_asides().await?.unwrap_or_default();
        let mut asides: BTreeMap<String, Aside> =
            noted.into_iter().map(|aside| (aside.aside.clone(), aside)).collect();
        if depth == Depth::Everything {
            // What a version set aside that did not note it.
            let found = look.keys_of(&["quarantine:"]);
            for name in found.filter_map(|key| key.strip_prefix("quarantine:")) {
                let aside = || Aside::noted(name.to_owned(), name);
                asides.entry(name.to_owned()).or_insert_with(aside);
            }
        }
        let mut exist = redis::pipe();
        for Aside { aside, name, .. } in asides.values() {
            exist.cmd("EXISTS").arg(self.key(&format!("quarantine:{aside}")));
            exist.cmd("EXISTS").arg(self.key(name));
        }
        let exist = self.link.send_all(&exist).await?;
        for (aside, exist) in asides.into_values().zip(exist.chunks(2)) {
            let [lies_there, is_replaced] =
                [0, 1].map(|n| exist.get(n).and_then(number) == Some(1));
            if lies_there {
                look.found.add(self.set_aside(&aside, is_replaced || aside.is_made_anew));
            } else {
                look.taken_away.push(aside.aside);
            }
        }
        Ok(())
    }

    /// An index is always made anew, or begins empty, which is no key at all.
    fn set_aside(&self, Aside { aside, name, .. }: &Aside, is_replaced: bool) -> Finding {
        let key = self.key(&format!("quarantine:{aside}"));
        let problem = format!("{} is set aside as {key}", self.key(name));
        let record = parse_key(aside);
        let about = record.as_ref().map_or_else(|| format!("index/{aside}"), subject);
        let finding = Finding::new(FindingRule::Quarantined, about, problem);
        let consequence = match record {
            Some(_) if !is_replaced => {
                return Finding { cure: format!("{} (`DEL {key}`)", finding.cure), ..finding };
            }
            Some(_) => "none any more: a sound record has taken its place; it takes up memory",
            None => "nothing waits for it; it takes up memory",
        };
        let cure = format!("look at {key}, and repair it: it is deleted (`DEL {key}`)");
        Finding { consequence: consequence.to_owned(), cure, mend: Mend::Repair, ..finding }
    }

    /// Deletes what was set aside, where a repair may.
    pub async fn delete_aside(&self, finding: &Finding) -> Result<(), StoreError> {
        let aside = match finding.record() {
            Some(record) => keys::record(&record),
            None => finding.subject.trim_start_matches("index/").to_owned(),
        };
        let mut delete = redis::pipe();
        delete.cmd("UNLINK").arg(self.key(&format!("quarantine:{aside}")));
        delete.cmd("HDEL").arg(self.key("quarantined")).arg(&aside);
        self.link.send_typed(&delete).await?;
        Ok(())
    }

    /// Forgets what somebody else has deleted.
    pub async fn forget_asides(&self, look: &Look) -> Result<(), StoreError> {
        let mut forget = redis::pipe();
        for aside in &look.taken_away {
            forget.cmd("HDEL").arg(self.key("quarantined")).arg(aside);
        }
        self.link.send_typed(&forget).await?;
        Ok(())
    }
}
