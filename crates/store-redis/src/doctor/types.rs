//! The fleet's keys, those apart that hold another type of value than they must: they are left out
//! of everything else that is looked at.

use std::collections::BTreeSet;

use pointsman_core::{
    JobId,
    doctor::{Finding, FindingRule, Mend},
};
use pointsman_store::{Depth, StoreError};

use super::records::Look;
use crate::{encoding::keys, link::text, store::Inner};

/// Keys that every store has, and their types.
const KEYS: [(&str, &str); 21] = [
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
    ("ended", "zset"),
    ("idempotency", "zset"),
    ("quarantined", "hash"),
];

/// Keys of which there are many, by how they begin, and their types. Records are looked at by
/// themselves, and a preview is written over.
const MANY: [(&str, &str); 12] = [
    ("class:", "hash"),
    ("queue:", "zset"),
    ("heads:", "zset"),
    ("base:", "set"),
    ("group:", "zset"),
    ("profile:", "hash"),
    ("serves:", "set"),
    ("waiting:", "zset"),
    ("wake:", "list"),
    ("payload:", "string"),
    ("results:", "list"),
    ("idempotency:", "string"),
];

/// Of these only the wrong ones are remembered: nothing else is looked up by their names.
const NAMELESS: [&str; 5] = ["waiting:", "wake:", "payload:", "results:", "idempotency:"];

/// The type that a key must have, if it is known here.
fn kind_of(key: &str) -> Option<&'static str> {
    if keys::is_workers_of(key) {
        return Some("set");
    }
    let many = MANY.iter().find(|(begin, _)| key.starts_with(begin));
    many.map(|(_, kind)| *kind)
}

impl Inner {
    /// Looks at the types of the keys that every store has, or of all keys.
    pub async fn examine_types(&self, depth: Depth, look: &mut Look) -> Result<(), StoreError> {
        let keys: Vec<(String, &str)> =
            KEYS.iter().map(|(key, kind)| ((*key).to_owned(), *kind)).collect();
        self.compare_types(&keys, look).await?;
        if depth == Depth::Everything {
            self.list_keys(look).await?;
        }
        for (key, is) in look.wrong.clone() {
            // What can be done about a payload depends on its job.
            if !key.starts_with("payload:") {
                look.found.add(self.wrong_type(&key, &is));
            }
        }
        Ok(())
    }

    /// Goes through all keys under the fleet's prefix, some at a time.
    async fn list_keys(&self, look: &mut Look) -> Result<(), StoreError> {
        let prefix = self.link.keys().prefix();
        let mut scan = self.link.scan("*");
        while let Some(some) = scan.next().await? {
            let some = some.iter().map(text);
            let some: Vec<String> =
                some.filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)).collect();
            let typed: Vec<(String, &str)> =
                some.iter().filter_map(|key| Some((key.clone(), kind_of(key)?))).collect();
            self.compare_types(&typed, look).await?;
            let of = |begin: &str| {
                let ids = some.iter().filter_map(|key| key.strip_prefix(begin)?.parse().ok());
                ids.collect::<Vec<JobId>>()
            };
            look.payloads.extend(of("payload:"));
            look.results.extend(of("results:"));
            let kept = some
                .iter()
                .filter(|key| key.starts_with("idempotency:") && !look.wrong.contains_key(*key));
            look.kept.extend(kept.cloned());
            let named = some.into_iter().filter(|key| {
                !look.wrong.contains_key(key)
                    && !NAMELESS.iter().any(|begin| key.starts_with(begin))
            });
            look.keys.extend(named.collect::<BTreeSet<_>>());
        }
        Ok(())
    }

    /// Remembers those of these keys that are of another type than they must be.
    pub async fn compare_types(
        &self,
        keys: &[(String, &str)],
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let mut types = redis::pipe();
        for (key, _) in keys {
            types.cmd("TYPE").arg(self.key(key));
        }
        for ((key, kind), is) in keys.iter().zip(self.link.send_all(&types).await?) {
            let is = text(&is);
            if is != *kind && is != "none" {
                look.wrong.insert(key.clone(), is);
            }
        }
        Ok(())
    }

    pub fn wrong_type(&self, key: &str, is: &str) -> Finding {
        let known = KEYS.iter().find(|(name, _)| *name == key).map(|(_, kind)| *kind);
        let kind = known.or_else(|| kind_of(key)).unwrap_or("value of ours");
        let problem = format!("{} is a {is}, not a {kind}", self.key(key));
        let finding = Finding::new(FindingRule::WrongType, format!("index/{key}"), problem);
        let (consequence, cure) = words(key);
        let mend = if key == "meta" { Mend::None } else { finding.mend };
        Finding { mend, consequence: consequence.into(), cure: cure.into(), ..finding }
    }
}

/// What a wrong type of a key leads to, and what makes it right.
fn words(key: &str) -> (&'static str, &'static str) {
    let begin = key.find(':').map_or(key, |at| &key[..=at]);
    match begin {
        "meta" => (
            "nothing can be read or written",
            "restore the store from a backup; what can be done without one stands in \
             docs/operating.md under Repairs",
        ),
        "log" => (
            "every change is refused",
            "repair it: the key is set aside and a new log begins; viewers begin anew, and what \
             the old log told of records cannot be compared any more",
        ),
        "alerts" => (
            "no alert can be raised or cleared",
            "none needed: the key is set aside and made anew from the records within seconds; find \
             out who wrote it",
        ),
        "losses" => (
            "every job's end is refused",
            "repair it: the key is set aside; losses in a row are counted from none",
        ),
        "quarantined" => (
            "what is set aside is told of only after a look at every key",
            "repair it: the key is set aside and made anew when something is",
        ),
        "pulse" => (
            "nobody is heard: every report is refused",
            "repair it: the key is set aside; everybody is heard anew",
        ),
        "idempotency" => (
            "every submission with an idempotency key is refused",
            "repair it: the key is set aside; an export does not know the keys that were in it",
        ),
        "profile:" => (
            "workers with these capabilities get no jobs and cannot register",
            "repair it: the key is set aside and written anew if the server remembers what was in \
             it; else restart the workers, which register with their capabilities",
        ),
        "serves:" => (
            "workers with these capabilities get no jobs of this service",
            "repair it: the key is set aside, and what they can serve is worked out anew",
        ),
        "waiting:" | "wake:" => (
            "idle workers are not woken, and find jobs only when they look by themselves",
            "repair it: the key is set aside; it is made anew when somebody waits",
        ),
        "group:" => (
            "jobs of this workflow cannot be submitted or handed in",
            "repair it: the key is set aside and made anew from the records",
        ),
        "payload:" => (
            "the job's workflow is lost: whoever takes the job cannot run it",
            "cancel the job, submit it again, and delete the key",
        ),
        "results:" => (
            "the job's results are lost, and its worker cannot hand in another",
            "repair it: the key is set aside, and what is handed in from now on is kept",
        ),
        "idempotency:" => (
            "the submission with this idempotency key cannot be repeated: it is refused",
            "repair it: the key is set aside; which job was submitted with it is not known any \
             more, so a repeat makes a second one",
        ),
        _ => (
            "every command that needs the key is refused, or does not find what it should name",
            "repair it: the key is set aside and made anew from the records; find out who wrote it",
        ),
    }
}
