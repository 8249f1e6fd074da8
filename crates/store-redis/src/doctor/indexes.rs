//! The indexes as they are, beside what the records say.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::{
    RecordKey,
    doctor::{Finding, FindingRule},
    matching::{Class, ClassKey},
};
use pointsman_store::StoreError;

use super::{
    expected::{Expected, Scores},
    records::Look,
};
use crate::{
    link::{list, text},
    pack::Pack,
    plan::base_of,
    reads::pairs,
    store::Inner,
};

/// A command that makes an index right, for the function `reindex`.
#[derive(Debug)]
pub struct Repair {
    /// The finding that it is about.
    pub finding: String,
    pub command: Vec<u8>,
}

fn command(args: &[&str]) -> Vec<u8> {
    let mut pack = Pack::default();
    pack.list(args.len()).texts(args);
    pack.done()
}

impl Inner {
    /// Compares every index with the records of the look. While the log moves nothing can be said:
    /// `None`.
    pub async fn examine_indexes(
        &self,
        look: &mut Look,
    ) -> Result<Option<Vec<Repair>>, StoreError> {
        let Some(at) = look.seq else { return Ok(None) };
        let mut expected = Expected::of(&look.records);
        if !look.wrong.contains_key("resting") {
            for class in self.resting().await? {
                expected.rests(class);
            }
        }
        let mut differences = Vec::new();
        self.compare_scores(&expected, look, &mut differences).await?;
        self.compare_sets(&expected, look, &mut differences).await?;
        self.compare_counts(&expected, look, &mut differences).await?;
        self.compare_classes(&expected, look, &mut differences).await?;
        let (seq, _) = self.head().await?;
        if seq != at {
            return Ok(None);
        }
        let mut repairs = Vec::new();
        for (finding, commands) in differences {
            repairs.extend(
                commands.into_iter().map(|command| Repair { finding: finding.id.clone(), command }),
            );
            look.found.add(finding);
        }
        Ok(Some(repairs))
    }

    /// Classes that rest, as far as it is known what they are.
    async fn resting(&self) -> Result<Vec<ClassKey>, StoreError> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.key("resting")).arg(0).arg(-1);
        let found = self.link.send(&range).await?;
        let keys = list(&found).iter().filter_map(|key| text(key).parse().ok());
        let keys: Vec<ClassKey> = keys.collect();
        let known = self.definitions.classes(&self.link, &keys).await?;
        Ok(known.into_keys().collect())
    }

    async fn compare_scores(
        &self,
        expected: &Expected,
        look: &Look,
        out: &mut Vec<(Finding, Vec<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let mut names: BTreeSet<String> = expected.scored.keys().cloned().collect();
        for pattern in ["queue:*", "heads:*"] {
            names.extend(self.scan(pattern).await?);
        }
        let nothing = Scores::new();
        for name in names.into_iter().filter(|name| !look.wrong.contains_key(name)) {
            let right = expected.scored.get(&name).unwrap_or(&nothing);
            let mut range = redis::cmd("ZRANGE");
            range.arg(self.key(&name)).arg(0).arg(-1).arg("WITHSCORES");
            let found = self.link.send(&range).await?;
            let found: BTreeMap<String, String> = pairs(&found).into_iter().collect();
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
                let mut commands = vec![command(&["ZREM", &name, member])];
                if name == "classes" {
                    // It is made anew when a job needs it.
                    commands.push(command(&["DEL", &format!("class:{member}")]));
                }
                out.push((surplus(&name, member), commands));
            }
        }
        Ok(())
    }

    async fn compare_sets(
        &self,
        expected: &Expected,
        look: &Look,
        out: &mut Vec<(Finding, Vec<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let mut names: BTreeSet<String> = expected.sets.keys().cloned().collect();
        for pattern in ["machine:*:workers", "base:*"] {
            names.extend(self.scan(pattern).await?);
        }
        let nothing = BTreeSet::new();
        for name in names.into_iter().filter(|name| !look.wrong.contains_key(name)) {
            let right = expected.sets.get(&name).unwrap_or(&nothing);
            let found = self.link.send(redis::cmd("SMEMBERS").arg(self.key(&name))).await?;
            let found: BTreeSet<String> = list(&found).iter().map(text).collect();
            for member in right.difference(&found) {
                out.push((missing(&name, member), vec![command(&["SADD", &name, member])]));
            }
            for member in found.difference(right) {
                out.push((surplus(&name, member), vec![command(&["SREM", &name, member])]));
            }
        }
        Ok(())
    }

    async fn compare_counts(
        &self,
        expected: &Expected,
        look: &Look,
        out: &mut Vec<(Finding, Vec<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        for (hash, fields) in &expected.counts {
            if look.wrong.contains_key(hash) {
                continue;
            }
            let found = self.link.send(redis::cmd("HGETALL").arg(self.key(hash))).await?;
            let found: BTreeMap<String, String> = pairs(&found).into_iter().collect();
            let wrong = fields.iter().filter(|(field, right)| {
                let there = found.get(*field).map_or(Some(0), |n| n.parse::<i64>().ok());
                there != Some(**right)
            });
            let wrong: Vec<_> = wrong.collect();
            if wrong.is_empty() {
                continue;
            }
            let said = wrong.iter().map(|(field, right)| {
                let there = found.get(*field).map_or("0", String::as_str);
                format!("{field} is {there}, and there are {right}")
            });
            let said: Vec<String> = said.collect();
            let subject = match hash.strip_prefix("class:") {
                Some(class) => format!("class/{class}"),
                None => format!("index/{hash}"),
            };
            let finding = Finding::new(FindingRule::WrongCount, subject, said.join("; "));
            let commands = wrong
                .iter()
                .map(|(field, right)| command(&["HSET", hash, field, &right.to_string()]));
            out.push((finding, commands.collect()));
        }
        Ok(())
    }

    /// A class's own hash, without its counts: what it is, and its head.
    async fn compare_classes(
        &self,
        expected: &Expected,
        look: &Look,
        out: &mut Vec<(Finding, Vec<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        for (key, class) in &expected.classes {
            let name = format!("class:{key}");
            if look.wrong.contains_key(&name) {
                continue;
            }
            let found = self.link.send(redis::cmd("HGETALL").arg(self.key(&name))).await?;
            let mut found: BTreeMap<String, String> = pairs(&found).into_iter().collect();
            for count in ["live", "held", "running"] {
                found.remove(count);
            }
            let right = fields_of(class, expected, &key.to_string());
            let wrong: Vec<&str> = right
                .keys()
                .chain(found.keys())
                .filter(|field| right.get(*field) != found.get(*field))
                .map(String::as_str)
                .collect();
            if wrong.is_empty() {
                continue;
            }
            let commands = wrong.iter().map(|field| match right.get(*field) {
                Some(value) => command(&["HSET", &name, field, value]),
                None => command(&["HDEL", &name, field]),
            });
            let problem = format!("{} of its hash is not what its jobs say", wrong.join(", "));
            let finding = Finding::new(FindingRule::Contradiction, format!("class/{key}"), problem);
            out.push((finding, commands.collect()));
        }
        Ok(())
    }
}

fn fields_of(class: &Class, expected: &Expected, key: &str) -> BTreeMap<String, String> {
    let excluded = class.excluded.union(&class.requirements.must_not.workers);
    let excluded: String = excluded.map(|worker| format!(" {worker} ")).collect();
    let mut fields = BTreeMap::from([
        ("service".to_owned(), class.service.to_string()),
        ("base".to_owned(), base_of(class).to_string()),
        ("excluded".to_owned(), excluded),
        ("definition".to_owned(), serde_json::to_string(class).unwrap_or_default()),
    ]);
    let heads = expected.scored.get(&format!("heads:{}", class.service));
    let suffix = format!(":{key}");
    let head = heads.and_then(|heads| heads.iter().find(|(member, _)| member.ends_with(&suffix)));
    if let Some((member, Some(score))) = head {
        fields.insert("head".to_owned(), member.clone());
        fields.insert("head_score".to_owned(), score.to_string());
    }
    fields
}

/// The job that a member of an index is about, if it is about one.
fn job(index: &str, member: &str) -> Option<RecordKey> {
    let is_of_jobs = matches!(index, "jobs" | "leases" | "ended" | "holds" | "exclusions");
    let id = match index.split_once(':') {
        Some(("queue", _)) => member.split_once(':')?.1,
        _ if is_of_jobs => member,
        _ => return None,
    };
    id.parse().ok().map(RecordKey::Job)
}

fn missing(index: &str, member: &str) -> Finding {
    let problem = format!("index {index} has no entry for {member}, or a wrong one");
    match (index, job(index, member)) {
        ("leases", Some(job)) => {
            Finding::about(FindingRule::RunningWithoutLease, &job, "it runs and has no lease")
        }
        (_, Some(job)) => Finding::about(FindingRule::RecordWithoutIndex, &job, problem),
        _ => Finding::new(FindingRule::RecordWithoutIndex, format!("index/{index}"), problem),
    }
}

fn surplus(index: &str, member: &str) -> Finding {
    let problem = format!("index {index} names {member}, which does not belong there");
    match (index, job(index, member)) {
        ("leases", Some(job)) => {
            Finding::about(FindingRule::LeaseWithoutJob, &job, "it has a lease and does not run")
        }
        (_, Some(job)) => Finding::about(FindingRule::IndexWithoutRecord, &job, problem),
        _ => Finding::new(FindingRule::IndexWithoutRecord, format!("index/{index}"), problem),
    }
}
