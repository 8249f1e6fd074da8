//! The indexes as they are, beside what the records say.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::take,
};

use pointsman_core::{
    RecordKey, RecordKind, Seq,
    doctor::{Finding, FindingRule},
};
use pointsman_store::StoreError;

use super::{
    classes::{Hashes, compare_classes},
    expected::{Expected, Scores},
    records::Look,
    window::Window,
    witness::NoLook,
};
use crate::{
    encoding::{keys, pack::Pack},
    store::Inner,
};

/// The field of `meta` for what ended jobs take.
const ENDED_BYTES: &str = "ended_bytes";

/// Readings of counts at most, where others write.
const COUNTED: usize = 20;

/// A command that makes an index right, with the key's name first of its arguments.
pub type Command = Vec<String>;

/// A command for the function `reindex`.
#[derive(Debug)]
pub struct Repair {
    /// The finding that it is about.
    pub finding: String,
    pub command: Vec<u8>,
    /// The moment at which it was worked out.
    pub at: Seq,
    /// What must be as it was: key, field and value. Where there is none nothing at all may have
    /// changed since.
    pub of: Vec<u8>,
    /// The record that views which began meanwhile lack, as the index did not name it.
    pub unseen: Option<RecordKey>,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Scores,
    Sets,
    Meta,
    Profiles,
    Idempotency,
}

/// What a repair is worked out of.
enum Of {
    /// One record, at this `rev`.
    Record(RecordKey, Option<Seq>),
    /// A sum in `meta` that was this: every change goes on adding to it what it changes, so that as
    /// long as it is the same, so is what it must be.
    Sum(&'static str, String),
    Several,
}

impl Of {
    /// As `Repair` has it.
    fn packed(self) -> Vec<u8> {
        match self {
            Self::Record(key, rev) => {
                let rev = rev.map_or_else(String::new, |rev| rev.to_string());
                packed(&[keys::record(&key), "rev".to_owned(), rev])
            }
            Self::Sum(field, value) => packed(&["meta".to_owned(), field.to_owned(), value]),
            Self::Several => Vec::new(),
        }
    }
}

/// Adds a finding, and what makes it right.
fn tell(
    finding: Finding,
    commands: &[Command],
    of: Of,
    look: &mut Look,
    repairs: &mut Vec<Repair>,
) {
    let of = of.packed();
    let at = look.seq;
    repairs.extend(commands.iter().map(|command| Repair {
        finding: finding.id.clone(),
        unseen: unseen_by_views(command),
        command: packed(command),
        of: of.clone(),
        at,
    }));
    look.found.add(finding);
}

/// Findings, each with the commands that make it right.
pub type Differences = Vec<(Finding, Vec<Command>)>;

pub fn command(args: &[&str]) -> Command {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn packed(args: &[String]) -> Vec<u8> {
    let mut pack = Pack::default();
    pack.list(args.len()).texts(args);
    pack.done()
}

impl Inner {
    /// Compares every index with the records, as they are when it is read. Nothing is said of what
    /// changed in between.
    pub async fn examine_indexes(&self, look: &mut Look) -> Result<Vec<Repair>, NoLook> {
        let (mut repairs, mut out) = (Vec::new(), Differences::new());
        let (head, _) = self.head().await?;
        self.roll_on(look.seq, head, look).await?;
        let mut now = Expected::of(&look.records);
        let mut hashes = self.class_hashes(&now, look).await?;
        self.add_resting(&mut hashes, &mut now, look).await?;
        compare_classes(&hashes, &now, look, &mut out);
        self.conclude(take(&mut out), &now, look, &mut repairs).await?;
        for part in [Part::Scores, Part::Sets, Part::Meta, Part::Profiles, Part::Idempotency] {
            self.renew(&mut now, &mut hashes, look).await?;
            match part {
                Part::Scores => self.compare_scores(&now, look, &mut out).await?,
                Part::Sets => self.compare_sets(&now, look, &mut out).await?,
                Part::Meta => self.compare_meta(look, &mut out).await?,
                Part::Profiles => {
                    let numbers = self.compare_numbers(&now, look, &mut out).await?;
                    self.compare_profiles(&now, &numbers, look, &mut out).await?;
                }
                Part::Idempotency => self.compare_kept(look, &mut out).await?,
            }
            self.conclude(take(&mut out), &now, look, &mut repairs).await?;
        }
        for (finding, commands, of) in self.compare_counts(look).await? {
            tell(finding, &commands, of, look, &mut repairs);
        }
        Ok(repairs)
    }

    /// Brings the look, and what indexes should be, to this moment.
    async fn renew(
        &self,
        expected: &mut Expected,
        hashes: &mut Hashes,
        look: &mut Look,
    ) -> Result<(), NoLook> {
        let (now, _) = self.head().await?;
        if now == look.seq {
            return Ok(());
        }
        self.roll_on(look.seq, now, look).await?;
        *expected = Expected::of(&look.records);
        Ok(self.add_resting(hashes, expected, look).await?)
    }

    /// Tells of differences, but for those about what changed while indexes were read.
    async fn conclude(
        &self,
        differences: Differences,
        expected: &Expected,
        look: &mut Look,
        repairs: &mut Vec<Repair>,
    ) -> Result<(), NoLook> {
        let (till, _) = self.head().await?;
        let groups = self.meanwhile(look.seq, till, look).await?;
        if differences.is_empty() {
            return Ok(());
        }
        let window = Window::of(&groups, look, expected);
        let revs = look.records.iter().map(|record| (record.key(), record.rev()));
        let revs: BTreeMap<RecordKey, Seq> = revs.collect();
        for (finding, commands) in differences {
            if window.touches(&finding, &commands) {
                look.undecided.insert(finding.id);
                continue;
            }
            let record = finding.record().or_else(|| commands.iter().find_map(unseen_by_views));
            let rev = |key: RecordKey| Of::Record(key.clone(), revs.get(&key).copied());
            let of = record.map_or(Of::Several, rev);
            tell(finding, &commands, of, look, repairs);
        }
        Ok(())
    }

    async fn compare_scores(
        &self,
        expected: &Expected,
        look: &Look,
        out: &mut Differences,
    ) -> Result<(), StoreError> {
        let mut names: BTreeSet<String> = expected.scored.keys().cloned().collect();
        // Classes have numbers, which are looked at by themselves.
        names.remove("classes");
        names.extend(look.keys_of(&["queue:", "heads:", "group:"]).map(str::to_owned));
        let nothing = Scores::new();
        for name in names.into_iter().filter(|name| !look.wrong.contains_key(name)) {
            let right = expected.scored.get(&name).unwrap_or(&nothing);
            let found = self.scores_of(&name, look).await?;
            for (member, score) in right {
                let there = found.get(member);
                let same = |there: &String| score.is_none_or(|score| there.parse() == Ok(score));
                if there.is_some_and(same) {
                    continue;
                }
                let score = match (score, name.as_str()) {
                    (Some(score), _) => score.to_string(),
                    // It gets a whole lease, from which its worker goes on or is found gone.
                    (None, "leases") => (self.link.now() + pointsman_core::decide::limits::LEASE)
                        .as_millis()
                        .to_string(),
                    (None, _) => "0".to_owned(),
                };
                out.push((missing(&name, member), vec![command(&["ZADD", &name, &score, member])]));
            }
            for member in found.keys().filter(|member| !right.contains_key(*member)) {
                let commands = vec![command(&["ZREM", &name, member])];
                out.push((surplus(&name, member), commands));
            }
        }
        Ok(())
    }

    async fn compare_sets(
        &self,
        expected: &Expected,
        look: &Look,
        out: &mut Differences,
    ) -> Result<(), StoreError> {
        let mut names: BTreeSet<String> = expected.sets.keys().cloned().collect();
        let kept = look.keys_of(&["machine:", "base:"]).filter(|name| is_index(name));
        names.extend(kept.map(str::to_owned));
        let nothing = BTreeSet::new();
        for name in names.into_iter().filter(|name| !look.wrong.contains_key(name)) {
            let right = expected.sets.get(&name).unwrap_or(&nothing);
            let found = self.set_of(&name, look).await?;
            for member in right.difference(&found) {
                out.push((missing(&name, member), vec![command(&["SADD", &name, member])]));
            }
            for member in found.difference(right) {
                out.push((surplus(&name, member), vec![command(&["SREM", &name, member])]));
            }
        }
        Ok(())
    }

    /// Counts of all records: `meta` is read with the moment that it is of, so these are compared as
    /// they were then.
    async fn compare_counts(
        &self,
        look: &mut Look,
    ) -> Result<Vec<(Finding, Vec<Command>, Of)>, NoLook> {
        let mut differences = Vec::new();
        for _ in 0..COUNTED {
            let before = self.hash_of("meta", look).await?;
            let present = self.hash_of("present", look).await?;
            let after = self.hash_of("meta", look).await?;
            if before.get("seq") != after.get("seq") {
                continue;
            }
            let seq = after.get("seq").and_then(|seq| seq.parse::<Seq>().ok());
            let Some(seq) = seq else { break };
            self.roll_on(look.seq, seq, look).await?;
            let expected = Expected::of(&look.records);
            differences.extend(wrong_ended_bytes(expected.ended_bytes, &after));
            for (name, found) in [("meta", after), ("present", present)] {
                let right = &expected.counts[name];
                // Every field of `present` is a count; in `meta` there is more.
                let others =
                    found.keys().filter(|field| name == "present" && !right.contains_key(*field));
                let mut counts = right.clone();
                counts.extend(others.map(|field| (field.clone(), 0)));
                let wrong = wrong_counts(name, &counts, &found, true);
                differences.extend(wrong.map(|(finding, set)| (finding, set, Of::Several)));
            }
            return Ok(differences);
        }
        for name in ["meta", "present", "bytes_of_ended_jobs"] {
            look.undecided.insert(format!("{}:index/{name}", FindingRule::WrongCount.as_str()));
        }
        Ok(differences)
    }
}

/// A finding by itself: it alone is made right unasked.
fn wrong_ended_bytes(
    right: i64,
    meta: &BTreeMap<String, String>,
) -> Option<(Finding, Vec<Command>, Of)> {
    let right = BTreeMap::from([(ENDED_BYTES.to_owned(), right)]);
    let (wrong, set) = wrong_counts("meta", &right, meta, true)?;
    let found = meta.get(ENDED_BYTES).cloned().unwrap_or_default();
    Some((Finding::ended_bytes(wrong.problem), set, Of::Sum(ENDED_BYTES, found)))
}

/// Counts in the fields of a hash; where it may be, an absent one is 0.
pub fn wrong_counts(
    hash: &str,
    right: &BTreeMap<String, i64>,
    found: &BTreeMap<String, String>,
    may_be_absent: bool,
) -> Option<(Finding, Vec<Command>)> {
    let is_wrong = |(field, right): &(&String, &i64)| match found.get(*field) {
        // What reads as the same number elsewhere, as "01", Redis and our functions refuse.
        Some(there) => *there != right.to_string(),
        None => !may_be_absent || **right != 0,
    };
    let wrong: Vec<(&String, &i64)> = right.iter().filter(is_wrong).collect();
    let said = wrong.iter().map(|(field, right)| {
        let there = found.get(*field).map_or("not there", String::as_str);
        format!("{field} is {there}, and must be {right}")
    });
    let said: Vec<String> = said.collect();
    let subject = match hash.strip_prefix("class:") {
        Some(class) => format!("class/{class}"),
        None => format!("index/{hash}"),
    };
    let finding = Finding::new(FindingRule::WrongCount, subject, said.join("; "));
    let set =
        wrong.iter().map(|(field, right)| command(&["HSET", hash, field, &right.to_string()]));
    let commands: Vec<Command> = set.collect();
    (!commands.is_empty()).then_some((finding, commands))
}

/// The record that such a command enters in an index of which views are made.
fn unseen_by_views(command: &Command) -> Option<RecordKey> {
    let [_, index, .., member] = &command[..] else { return None };
    let is_entered = matches!(command[0].as_str(), "SADD" | "ZADD");
    let kind = RecordKind::ALL.iter().find(|kind| match kind {
        RecordKind::Job => matches!(index.as_str(), "leases" | "ended"),
        kind => index == keys::index_of(**kind),
    });
    RecordKey::parse(*kind.filter(|_| is_entered)?, member).ok()
}

/// A set beside records that begin the same.
fn is_index(name: &str) -> bool {
    !name.starts_with("machine:") || keys::is_workers_of(name)
}

/// The job that a member of an index is about, if it is about one.
fn job(index: &str, member: &str) -> Option<RecordKey> {
    let is_of_jobs = matches!(index, "jobs" | "leases" | "ended" | "holds" | "exclusions");
    let id = match index.split_once(':') {
        Some(("queue", _)) => member.split_once(':')?.1,
        Some(("group", _)) => member,
        _ if is_of_jobs => member,
        _ => return None,
    };
    id.parse().ok().map(RecordKey::Job)
}

pub fn missing(index: &str, member: &str) -> Finding {
    let problem = format!("index {index} has no entry for {member}, or a wrong one");
    match (index, job(index, member)) {
        ("leases", Some(job)) => {
            Finding::about(FindingRule::RunningWithoutLease, &job, "it runs and has no lease")
        }
        (_, Some(job)) => Finding::about(FindingRule::RecordWithoutIndex, &job, problem),
        _ => Finding::new(FindingRule::RecordWithoutIndex, format!("index/{index}"), problem),
    }
}

pub fn surplus(index: &str, member: &str) -> Finding {
    let problem = format!("index {index} names {member}, which does not belong there");
    match (index, job(index, member)) {
        ("leases", Some(job)) => {
            Finding::about(FindingRule::LeaseWithoutJob, &job, "it has a lease and does not run")
        }
        (_, Some(job)) => Finding::about(FindingRule::IndexWithoutRecord, &job, problem),
        _ => Finding::new(FindingRule::IndexWithoutRecord, format!("index/{index}"), problem),
    }
}
