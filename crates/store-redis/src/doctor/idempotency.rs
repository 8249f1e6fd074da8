//! What is kept of idempotency keys, and the index by which they are found again.

use std::collections::BTreeMap;

use pointsman_core::{
    command::IdempotencyKey,
    decide::KeptIdempotency,
    doctor::{Finding, FindingRule, Mend},
};
use pointsman_store::StoreError;

use super::{
    indexes::{Differences, command},
    records::Look,
};
use crate::{encoding::keys, execute::sight, link::text, store::Inner};

const CHUNK: usize = 1_000;
const INDEX: &str = "idempotency";

impl Inner {
    /// Compares what is kept with the index. A key whose time is over may be in either.
    pub async fn compare_kept(
        &self,
        look: &mut Look,
        out: &mut Differences,
    ) -> Result<(), StoreError> {
        if look.wrong.contains_key(INDEX) {
            return Ok(());
        }
        let names = std::mem::take(&mut look.kept);
        let mut kept = self.kept_by_name(&names, look).await?;
        let members = self.scores_of(INDEX, look).await?;
        let key_of = |member: &String| keys::parse_idempotency_member(member);
        let named: BTreeMap<String, &String> = members
            .keys()
            .filter_map(|member| Some((keys::idempotency(&key_of(member)?), member)))
            .collect();
        // What does not fit is looked at once more, after the index: a submission writes both at once,
        // and may have come since the keys were listed.
        let fits = |name: &String, kept: &KeptIdempotency| {
            let score = named.get(name).and_then(|member| members.get(*member));
            score.is_some_and(|score| *score == kept.until.as_millis().to_string())
        };
        let known = named.keys().filter(|name| !kept.contains_key(*name)).cloned();
        let misfits = kept.iter().filter(|(name, kept)| !fits(name, kept)).map(|(name, _)| name);
        let doubtful: Vec<String> = known.chain(misfits.cloned()).collect();
        kept.retain(|name, kept| fits(name, kept));
        kept.extend(self.kept_by_name(&doubtful, look).await?);
        let now = self.link.now();
        let nameless =
            kept.iter().filter(|(name, kept)| !named.contains_key(*name) && kept.until > now);
        if let Some(finding) = self::nameless(nameless.count()) {
            look.found.add(finding);
        }
        for (name, kept) in &kept {
            let Some(member) = named.get(name) else { continue };
            let until = kept.until.as_millis().to_string();
            if members.get(*member).is_none_or(|score| *score != until) {
                let problem = format!("{name} is kept until {until}, and the index says otherwise");
                let finding = about(FindingRule::RecordWithoutIndex, name, problem);
                out.push((finding, vec![command(&["ZADD", INDEX, &until, member])]));
            }
        }
        for (member, score) in &members {
            let is_over = score.parse::<i64>().is_ok_and(|until| until <= now.as_millis());
            let key: Option<IdempotencyKey> = key_of(member);
            let name = key.as_ref().map(keys::idempotency);
            let is_right = name.as_ref().is_some_and(|name| {
                kept.contains_key(name) || look.wrong.contains_key(name) || is_over
            });
            if is_right {
                continue;
            }
            let problem = match &key {
                Some(key) => format!("the key {:?} is listed, and nothing is kept of it", key.key),
                None => format!("{member:?} is listed, which is no idempotency key"),
            };
            let finding = about(FindingRule::IndexWithoutRecord, INDEX, problem);
            let consequence =
                "a submission with this key is taken for a new one; an export may fail";
            let finding = Finding { consequence: consequence.to_owned(), ..finding };
            out.push((finding, vec![command(&["ZREM", INDEX, member])]));
        }
        Ok(())
    }

    /// What is kept, by the name of its key. What cannot be read is a finding.
    async fn kept_by_name(
        &self,
        names: &[String],
        look: &mut Look,
    ) -> Result<BTreeMap<String, KeptIdempotency>, StoreError> {
        let mut all = BTreeMap::new();
        for chunk in names.chunks(CHUNK) {
            let mut get = redis::pipe();
            for name in chunk {
                get.cmd("GET").arg(self.key(name));
            }
            for (name, found) in chunk.iter().zip(self.link.send_typed(&get).await?) {
                let Some(found) = found.filter(|found| *found != redis::Value::Nil) else {
                    continue;
                };
                match sight::kept(&text(&found)) {
                    Some(kept) => drop(all.insert(name.clone(), kept)),
                    None => look.found.add(unreadable(name)),
                }
            }
        }
        Ok(all)
    }
}

fn about(rule: FindingRule, name: &str, problem: String) -> Finding {
    Finding::new(rule, format!("index/{name}"), problem)
}

/// Their names are digests, which do not lead back to the keys. One finding for all, as one index lost
/// them; roughly how many from ten on, as they end one by one.
fn nameless(count: usize) -> Option<Finding> {
    let many = match count.checked_ilog10()? {
        0 => count.to_string(),
        digits => format!("{} or more", 10_usize.pow(digits)),
    };
    let problem = format!("{many} keys of submissions are kept, and the index does not name them");
    let finding = about(FindingRule::RecordWithoutIndex, INDEX, problem);
    Some(Finding {
        mend: Mend::None,
        consequence: "repeats are answered, and an export does not take them along".to_owned(),
        cure:
            "none needed, but to wait until they have gone by themselves before an export: a day \
               at most"
                .to_owned(),
        ..finding
    })
}

fn unreadable(name: &str) -> Finding {
    let problem = format!("{name} is not what is kept of an idempotency key");
    let finding = about(FindingRule::UnreadableField, name, problem);
    Finding {
        consequence: "a repeat of the submission with this key makes a second job".to_owned(),
        cure: "repair it: the key is set aside; find out who wrote it".to_owned(),
        ..finding
    }
}
