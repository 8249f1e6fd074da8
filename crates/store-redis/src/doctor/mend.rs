//! Making right what was found: keys first, then indexes, then what records say of each other, as
//! commands like any other. What cannot be done about one finding is told, and stops no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pointsman_core::{
    Command, EventName, RecordKey, RecordKind,
    doctor::{Finding, FindingRule, Mend, MendOutcome, Mended},
};
use pointsman_store::{Depth, StoreError, Treatment};
use redis::Value;

use super::{
    indexes::Repair,
    records::{Look, Sound},
    witness::NoLook,
};
use crate::{
    encoding::keys,
    link::{list, number, text},
    reads::lists::is_in_view,
    store::Inner,
};

/// How often a repair of indexes is tried while the store changes.
const TRIES: usize = 5;
/// Commands of such a repair in one step.
const AT_ONCE: usize = 2_000;
const CHANGED: &str = "it changed meanwhile; look again";

/// Why a finding could not be mended, by its id.
type Refused = BTreeMap<String, String>;

impl Inner {
    /// Mends the findings with these ids, or all of them.
    pub async fn mend(
        self: &Arc<Self>,
        ids: Option<Vec<String>>,
    ) -> Result<Vec<Mended>, StoreError> {
        let look = self.look_over(Depth::Everything).await?;
        if look.is_cut_short {
            let treatment = Treatment::of(look.found.clone(), ids.as_deref(), |_| None);
            return Ok(treatment.report(&[] as &[Result<(), String>], &look.found));
        }
        let wanted = |finding: &Finding| ids.as_ref().is_none_or(|ids| ids.contains(&finding.id));
        self.forget_asides(&look).await?;
        let mut refused = Refused::new();
        let mut is_any_aside = false;
        for finding in look.found.findings.iter().filter(|finding| wanted(finding)) {
            match self.mend_key(finding, &look).await {
                Ok(is_aside) => is_any_aside |= is_aside,
                Err(why) => drop(refused.insert(finding.id.clone(), why)),
            }
        }
        // What this process remembers may be what was wrong.
        self.memory.clear();
        self.gone.clear();
        // What was set aside leaves indexes behind that do not fit any more.
        let follows = |finding: &Finding| is_any_aside || wanted(finding);
        self.mend_indexes(&follows, &mut refused).await?;
        let state = &mut self.state_of(&self.look_once(Depth::Everything).await?).await?;
        let treatment = state.treat(look.found, ids.as_deref(), self.link.now());
        let mut answers = Vec::new();
        for command in treatment.commands() {
            answers.push(self.mend_records(command).await);
        }
        let after = self.examine(Depth::Everything).await?;
        let mut mended = treatment.report(&answers, &after);
        for Mended { finding, outcome } in &mut mended {
            if let (MendOutcome::Left { why }, Some(refused)) =
                (outcome, refused.remove(&finding.id))
            {
                *why = refused;
            }
        }
        Ok(mended)
    }

    async fn mend_records(self: &Arc<Self>, command: Command) -> Result<(), String> {
        match self.carry_out(vec![command]).await {
            Ok(answers) => match answers.into_iter().next() {
                Some(Err(rejected)) => Err(rejected.to_string()),
                _ => Ok(()),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    /// What is done about one key: it becomes what the log says, or is set aside; of a record that is
    /// lost, the log is told. Answers whether indexes are left behind that name it.
    async fn mend_key(&self, finding: &Finding, look: &Look) -> Result<bool, String> {
        if let (Some(sound), Some(key)) = (look.sound.get(&finding.id), finding.record()) {
            self.rewrite(sound, &key).await?;
            return Ok(false);
        }
        if finding.is_replaced() {
            self.delete_aside(finding, look).await?;
            return Ok(false);
        }
        if let Some(job) = look.stray.get(&finding.id) {
            self.delete_stray(*job).await.map_err(|error| told(&error.to_string()))?;
            return Ok(false);
        }
        let is_lost = finding.rule == FindingRule::LostRecord;
        if finding.mend != Mend::Quarantine && !is_lost {
            return Ok(false);
        }
        let record = finding.record();
        let (key, event, index, id) = match &record {
            Some(key) => {
                let event = format!("{} {}", gone(key.kind()).as_str(), keys::record(key));
                (keys::record(key), event, keys::index(key), key.id())
            }
            None => {
                let key = finding.subject.strip_prefix("index/").unwrap_or(&finding.subject);
                (key.to_owned(), String::new(), "", String::new())
            }
        };
        let time = self.link.given_time();
        let is = match look.wrong.get(&key) {
            Some(is) => is,
            None if is_lost => "none",
            None => "",
        };
        let rev = look.unreadable.get(&finding.id).map_or("", String::as_str);
        let args = [&time, &key, &event, index, &id, is, rev].map(str::as_bytes);
        self.mending_step("set_aside", &args).await?;
        Ok(true)
    }

    async fn rewrite(&self, sound: &Sound, key: &RecordKey) -> Result<(), String> {
        let Sound { found, wrong, .. } = sound;
        let event = event_of(key);
        let (time, count) = (self.link.given_time(), sound.set.len().to_string());
        let mut args = vec![time, keys::record(key), found.clone(), wrong.clone(), event, count];
        for (field, value) in &sound.set {
            args.extend([field.clone(), value.clone()]);
        }
        args.extend(sound.del.iter().cloned());
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.mending_step("rewrite", &args).await.map(drop)
    }

    /// Calls a function that mends one thing. An error is why it is not mended.
    pub async fn mending_step(&self, function: &str, args: &[&[u8]]) -> Result<Value, String> {
        let answer = self.link.call(function, args).await;
        let answer = answer.map_err(|error| told(&error.to_string()))?;
        match text(&answer).as_str() {
            "changed" => Err(CHANGED.to_owned()),
            _ => Ok(answer),
        }
    }

    /// Of the records that indexes did not name those that views lack which began meanwhile.
    async fn lacked_by_views(
        &self,
        repairs: &[&Repair],
    ) -> Result<BTreeSet<RecordKey>, StoreError> {
        let (_, last_ended_no) = self.head().await?;
        let unseen: Vec<RecordKey> = repairs.iter().filter_map(|r| r.unseen.clone()).collect();
        let records = self.readable(&unseen).await?.into_iter();
        let lacked = records.filter(|record| is_in_view(record, last_ended_no));
        Ok(lacked.map(|record| record.key()).collect())
    }

    /// Makes indexes right. What changed meanwhile is worked out once more.
    async fn mend_indexes(
        &self,
        wanted: &impl Fn(&Finding) -> bool,
        refused: &mut Refused,
    ) -> Result<(), StoreError> {
        let mut changed = Refused::new();
        for attempt in 1..=TRIES {
            let (look, repairs) = match self.look_at_indexes().await {
                Err(NoLook::NoMoment) if attempt < TRIES => continue,
                looked => looked?,
            };
            let ids: BTreeSet<&str> = look
                .found
                .findings
                .iter()
                .filter(|finding| wanted(finding))
                .map(|finding| finding.id.as_str())
                .collect();
            let repairs: Vec<_> = repairs
                .iter()
                .filter(|repair| {
                    ids.contains(repair.finding.as_str()) && !refused.contains_key(&repair.finding)
                })
                .collect();
            let lacked = self.lacked_by_views(&repairs).await?;
            changed.clear();
            for repairs in repairs.chunks(AT_ONCE) {
                self.reindex(repairs, &lacked, refused, &mut changed).await;
            }
            if changed.is_empty() {
                break;
            }
        }
        refused.append(&mut changed);
        Ok(())
    }

    async fn look_at_indexes(&self) -> Result<(Look, Vec<Repair>), NoLook> {
        let mut look = Look::default();
        self.examine_types(Depth::Everything, &mut look).await?;
        self.look_at_records(Depth::Everything, &mut look).await?;
        let repairs = self.examine_indexes(&mut look).await?;
        Ok((look, repairs))
    }

    /// Carries out repairs. Of a record that views lack the log is told in the same step: what is not
    /// told is still found the next time.
    async fn reindex(
        &self,
        repairs: &[&Repair],
        lacked: &BTreeSet<RecordKey>,
        refused: &mut Refused,
        changed: &mut Refused,
    ) {
        let event = |key: &RecordKey| lacked.contains(key).then(|| event_of(key));
        let texts = repairs.iter().map(|repair| {
            let event = repair.unseen.as_ref().and_then(event).unwrap_or_default();
            (repair.at.to_string(), event)
        });
        let (time, texts) = (self.link.given_time(), texts.collect::<Vec<_>>());
        let mut args = vec![time.as_bytes()];
        for (repair, (at, event)) in repairs.iter().zip(&texts) {
            args.extend([at.as_bytes(), &repair.of, &repair.command, event.as_bytes()]);
        }
        let failed = match self.mending_step("reindex", &args).await {
            Ok(failed) => failed,
            Err(why) => {
                refused.extend(repairs.iter().map(|r| (r.finding.clone(), why.clone())));
                return;
            }
        };
        for pair in list(&failed).chunks_exact(2) {
            let at = number(&pair[0]).and_then(|at| usize::try_from(at).ok());
            let Some(repair) = at.and_then(|at| repairs.get(at)) else { continue };
            let why = text(&pair[1]);
            match why.as_str() {
                "changed" => changed.insert(repair.finding.clone(), CHANGED.to_owned()),
                _ => refused.insert(repair.finding.clone(), told(&why)),
            };
        }
    }
}

/// A refusal of Redis in words.
fn told(why: &str) -> String {
    let is_denied = ["NoPerm", "ACL failure", "can't run this command"];
    match is_denied.iter().any(|words| why.contains(words)) {
        true => format!(
            "Redis does not let this user do it ({why}): the user needs all that deploy/users.acl \
             gives, `+rename` with it"
        ),
        false => why.to_owned(),
    }
}

/// What the log is told of a record that was made right.
fn event_of(key: &RecordKey) -> String {
    format!("{} {}", mended(key.kind()).as_str(), keys::record(key))
}

fn mended(kind: RecordKind) -> EventName {
    match kind {
        RecordKind::Machine => EventName::MachineStateChanged,
        RecordKind::Worker => EventName::WorkerStateRepaired,
        RecordKind::Connector => EventName::ConnectorStatusChanged,
        RecordKind::Job => EventName::JobUpdated,
        RecordKind::Alert => EventName::AlertRaised,
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
