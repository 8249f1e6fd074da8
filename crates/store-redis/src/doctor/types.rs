//! Keys that hold another type of value than they must. They are left out of everything else that
//! is looked at.

use pointsman_core::doctor::{Finding, FindingRule, Mend};
use pointsman_store::StoreError;

use super::records::Look;
use crate::{link::text, store::Inner};

/// Keys that every store has, and their types.
const KEYS: [(&str, &str); 19] = [
    ("meta", "hash"),
    ("log", "stream"),
    ("jobs", "zset"),
    ("workers", "set"),
    ("machines", "set"),
    ("connectors", "set"),
    ("alerts", "set"),
    ("classes", "zset"),
    ("resting", "zset"),
    ("services", "set"),
    ("held", "set"),
    ("profiles", "set"),
    ("losses", "hash"),
    ("present", "hash"),
    ("leases", "zset"),
    ("pulse", "zset"),
    ("holds", "zset"),
    ("exclusions", "zset"),
    ("idempotency", "zset"),
];

impl Inner {
    pub async fn examine_types(&self, look: &mut Look) -> Result<(), StoreError> {
        let mut types = redis::pipe();
        for (key, _) in KEYS {
            types.cmd("TYPE").arg(self.key(key));
        }
        for ((key, kind), is) in KEYS.iter().zip(self.link.send_all(&types).await?) {
            let is = text(&is);
            if is != *kind && is != "none" {
                let problem = format!("{} is a {is}, not a {kind}", self.key(key));
                let finding = Finding::new(FindingRule::WrongType, format!("index/{key}"), problem);
                let by_hand = matches!(*key, "meta" | "log");
                look.found.add(if by_hand {
                    Finding { mend: Mend::None, ..finding }
                } else {
                    finding
                });
                look.wrong.insert((*key).to_owned(), is);
            }
        }
        Ok(())
    }
}
