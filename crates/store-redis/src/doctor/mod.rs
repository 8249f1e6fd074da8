//! What is wrong with what is stored, and making it right. The log is the witness: a record's `rev`
//! names the entry of the log that holds it whole, so what somebody changed by hand is found and
//! put back. What records say of each other is examined as in every store, on a
//! [`State`](pointsman_store::State) made of them.

mod expected;
mod indexes;
mod records;

use std::sync::Arc;

use pointsman_core::{
    EventName, RecordKey, RecordKind,
    doctor::{Examination, Finding, FindingRule, Mend, Mended},
};
use pointsman_store::{Depth, State, StoreError};
pub use records::Verified;
use records::{Look, Sound};

use crate::{
    keys,
    link::{list, text},
    store::Inner,
};

/// How often a repair of indexes is tried while the store changes.
const TRIES: usize = 20;

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
    pub async fn examine(&self, depth: Depth) -> Result<Examination, StoreError> {
        Ok(self.look_over(depth).await?.found)
    }

    async fn look_over(&self, depth: Depth) -> Result<Look, StoreError> {
        let mut look = Look::default();
        self.examine_keys(&mut look.found).await?;
        if !look.found.is_sound() {
            // What the rest would read cannot be read.
            return Ok(look);
        }
        self.look_at_records(depth, &mut look).await?;
        let among_records = self.state_of(&look).await?.examine(depth);
        for finding in among_records.findings {
            look.found.add(finding);
        }
        if depth == Depth::Everything {
            self.examine_indexes(&mut look).await?;
        }
        self.examine_set_aside(&mut look.found).await?;
        Ok(look)
    }

    async fn examine_keys(&self, found: &mut Examination) -> Result<(), StoreError> {
        let mut types = redis::pipe();
        for (key, _) in KEYS {
            types.cmd("TYPE").arg(self.key(key));
        }
        for ((key, kind), found_kind) in KEYS.iter().zip(self.link.send_all(&types).await?) {
            let found_kind = text(&found_kind);
            if found_kind != *kind && found_kind != "none" {
                let problem = format!("{} is a {found_kind}, not a {kind}", self.key(key));
                let finding = Finding::new(FindingRule::WrongType, format!("index/{key}"), problem);
                let by_hand = matches!(*key, "meta" | "log");
                found.add(if by_hand { Finding { mend: Mend::None, ..finding } } else { finding });
            }
        }
        Ok(())
    }

    /// The records as the specification holds them, with what they are able to do.
    async fn state_of(&self, look: &Look) -> Result<State, StoreError> {
        let mut state = State::new(self.link.epoch(), self.link.now());
        for record in &look.records {
            if let pointsman_core::Record::Worker(worker) = record {
                let digest = worker.capabilities_digest;
                if let Some(profile) = self.definitions.profile(&self.link, digest).await? {
                    state.restore_capabilities(digest, &profile);
                }
            }
        }
        for record in &look.records {
            state.restore(record.clone());
        }
        let (seq, ended_no) = self.head().await?;
        state.restore_position(seq, ended_no);
        Ok(state)
    }

    /// What was set aside, while nothing stands in its place.
    async fn examine_set_aside(&self, found: &mut Examination) -> Result<(), StoreError> {
        for key in self.scan("quarantine:*").await? {
            let Some(name) = key.strip_prefix("quarantine:") else { continue };
            let exists = self.link.send(redis::cmd("EXISTS").arg(self.key(name))).await?;
            if text(&exists) == "0" {
                let problem = format!("{} is set aside as {}", self.key(name), self.key(&key));
                found.add(Finding::new(FindingRule::Quarantined, subject_of(name), problem));
            }
        }
        Ok(())
    }

    /// Keys under the fleet's prefix, without it.
    async fn scan(&self, pattern: &str) -> Result<Vec<String>, StoreError> {
        let (prefix, mut keys) = (self.link.keys().prefix(), Vec::new());
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(self.key(pattern)).arg("COUNT").arg(1_000);
            let found = self.link.send(&scan).await?;
            let [next, some] = list(&found) else { break };
            let some = list(some).iter().map(text);
            keys.extend(some.filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)));
            cursor = text(next);
            if cursor == "0" {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Mends the findings with these ids, or all of them.
    pub async fn mend(
        self: &Arc<Self>,
        ids: Option<Vec<String>>,
    ) -> Result<Vec<Mended>, StoreError> {
        let look = self.look_over(Depth::Everything).await?;
        let wanted = |finding: &Finding| ids.as_ref().is_none_or(|ids| ids.contains(&finding.id));
        for finding in look.found.findings.iter().filter(|finding| wanted(finding)) {
            self.mend_key(finding, &look).await?;
        }
        // What this process remembers may be what was wrong.
        self.memory.clear();
        self.mend_indexes(&wanted).await?;
        let state = &mut self.state_of(&self.look_over(Depth::Everything).await?).await?;
        let treatment = state.treat(look.found, ids.as_deref(), self.link.now());
        let commands = treatment.commands();
        let answers = match commands.is_empty() {
            true => Vec::new(),
            false => self.carry_out(commands).await?,
        };
        Ok(treatment.report(&answers, &self.examine(Depth::Everything).await?))
    }

    /// What is done about one key: it becomes what the log says, or is set aside.
    async fn mend_key(&self, finding: &Finding, look: &Look) -> Result<(), StoreError> {
        if let Some(sound) = look.sound.get(&finding.id) {
            return self.rewrite(sound).await;
        }
        if finding.mend != Mend::Quarantine {
            return Ok(());
        }
        let record = finding.record();
        let (key, event, index, id) = match &record {
            Some(key) => {
                let event = format!("{} {}", gone(key.kind()).as_str(), keys::record(key));
                (keys::record(key), event, keys::index(key), key.id())
            }
            None => {
                let key = finding.subject.trim_start_matches("index/").to_owned();
                (key, String::new(), "", String::new())
            }
        };
        let time = self.link.given_time();
        let args = [&time, &key, &event, index, &id].map(str::as_bytes);
        self.link.call("set_aside", &args).await?;
        Ok(())
    }

    async fn rewrite(&self, sound: &Sound) -> Result<(), StoreError> {
        let mut args = vec![sound.key.clone(), sound.rev.to_string(), sound.set.len().to_string()];
        for (field, value) in &sound.set {
            args.extend([field.clone(), value.clone()]);
        }
        args.extend(sound.del.iter().cloned());
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.link.call("rewrite", &args).await?;
        Ok(())
    }

    async fn mend_indexes(&self, wanted: &impl Fn(&Finding) -> bool) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let mut look = Look::default();
            self.look_at_records(Depth::Everything, &mut look).await?;
            let repairs = self.examine_indexes(&mut look).await?;
            let commands: Vec<&Vec<u8>> = repairs
                .iter()
                .filter(|repair| {
                    look.found.findings.iter().any(|f| f.id == repair.finding && wanted(f))
                })
                .map(|repair| &repair.command)
                .collect();
            if commands.is_empty() {
                return Ok(());
            }
            let seq = look.seq.to_string();
            let mut args: Vec<&[u8]> = vec![seq.as_bytes()];
            args.extend(commands.iter().map(|command| command.as_slice()));
            if text(&self.link.call("reindex", &args).await?) == "ok" {
                return Ok(());
            }
        }
        tracing::warn!("the store changed whenever its indexes were to be repaired");
        Ok(())
    }
}

/// A key as findings name it.
fn subject_of(key: &str) -> String {
    match crate::plan::parse_key(key) {
        Some(record) => pointsman_core::doctor::subject(&record),
        None => format!("index/{key}"),
    }
}

fn gone(kind: RecordKind) -> EventName {
    match kind {
        RecordKind::Machine => EventName::MachineRemoved,
        RecordKind::Worker => EventName::WorkerRemoved,
        RecordKind::Connector => EventName::ConnectorStatusChanged,
        RecordKind::Job => EventName::JobRemoved,
        RecordKind::Alert => EventName::AlertCleared,
    }
}

/// Names records in an order that is always the same.
fn sorted(mut keys: Vec<RecordKey>) -> Vec<RecordKey> {
    keys.sort();
    keys.dedup();
    keys
}
