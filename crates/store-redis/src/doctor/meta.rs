//! `meta`, which every call reads first.

use pointsman_core::{
    Seq,
    doctor::{Finding, FindingRule, Mend},
};
use pointsman_store::{Epoch, StoreError};

use super::{
    indexes::{Differences, command},
    records::Look,
};
use crate::{
    link::{OpenError, list, number, text, whole},
    log::strays,
    store::Inner,
};

/// Entries behind the log's end named at once.
const STRAYS_NAMED: usize = 10;

const NOTHING: &str = "every command is refused, and nothing more can be examined";

impl Inner {
    /// Whether `meta` is such that the rest can be looked at; if not, that is a finding.
    pub async fn can_be_examined(&self, look: &mut Look) -> Result<bool, StoreError> {
        if look.wrong.contains_key("meta") {
            return Ok(false);
        }
        // In this order: what is written meanwhile is no contradiction.
        let last = self.last_of("seq", look).await?;
        let found = self.hash_of("meta", look).await?;
        if !found.contains_key("format") {
            look.found.add(self.lost());
            return Ok(false);
        }
        let whole_in = |field: &str| found.get(field).and_then(|value| whole(value));
        let least = [("seq", last), ("ended_no", 0)];
        let is_wrong = |(field, least): &(&str, i64)| whole_in(field).is_none_or(|n| n < *least);
        let wrong: Vec<&str> = least.iter().filter(|of| is_wrong(of)).map(|of| of.0).collect();
        if wrong.is_empty() {
            return Ok(true);
        }
        if !look.wrong.contains_key("log")
            && let Some(seq) = found.get("seq").and_then(|seq| seq.parse().ok())
            && let strays = strays(&self.link, seq).await?
            && !strays.is_empty()
        {
            look.found.add(self.strayed(seq, &strays));
            return Ok(false);
        }
        let said = wrong.iter().map(|field| match found.get(*field) {
            Some(value) if whole(value).is_some() => {
                format!("{field} is {value}, and the log has an entry {last}")
            }
            Some(value) => format!("{field} is {value:?}, which is no whole number"),
            None => format!("{field} is not there"),
        });
        let problem = said.collect::<Vec<_>>().join("; ");
        let mut right = Vec::new();
        for field in &wrong {
            right.push(format!("{field} {}", self.last_of(field, look).await?));
        }
        let (key, right) = (self.link.keys().meta(), right.join(" "));
        let cure = format!("stop the servers, `HSET {key} {right}`, and start them again");
        let finding = Finding::new(FindingRule::UnreadableField, "index/meta", problem);
        let consequence = NOTHING.to_owned();
        look.found.add(Finding { mend: Mend::None, consequence, cure, ..finding });
        Ok(false)
    }

    /// The last number that was given out, as far as other keys tell.
    async fn last_of(&self, field: &str, look: &Look) -> Result<i64, StoreError> {
        let key = if field == "seq" { "log" } else { "ended" };
        if look.wrong.contains_key(key) {
            return Ok(0);
        }
        if key == "ended" {
            let mut range = redis::cmd("ZRANGE");
            range.arg(self.key(key)).arg(-1).arg(-1).arg("WITHSCORES");
            let found = self.link.send(&range).await?;
            return Ok(list(&found).get(1).and_then(number).unwrap_or(0));
        }
        let mut range = redis::cmd("XREVRANGE");
        range.arg(self.key(key)).arg("+").arg("-").arg("COUNT").arg(1);
        let found = self.link.send(&range).await?;
        let last = list(&found).first().and_then(|entry| list(entry).first()).map(text);
        Ok(last.and_then(|id| id.split_once('-')?.0.parse().ok()).unwrap_or(0))
    }

    /// Entries that somebody put behind the log's end. While they are there, so is its last one.
    fn strayed(&self, seq: Seq, ids: &[String]) -> Finding {
        let log = self.key("log");
        let (named, others) = ids.split_at(ids.len().min(STRAYS_NAMED));
        let named = named.join(" ");
        let (more, then) = match others.len() {
            0 => (String::new(), "everything goes on at once"),
            n => (
                format!(" and at least {n} more"),
                "then look again, and delete what is named then, until nothing is: everything goes \
                 on at once",
            ),
        };
        let problem =
            format!("{log} ends with {seq}-0, and somebody put in behind it: {named}{more}");
        Finding {
            mend: Mend::None,
            consequence: NOTHING.to_owned(),
            cure: format!("`XDEL {log} {named}`: {then}; find out who wrote it"),
            ..Finding::new(FindingRule::UnreadableField, "index/log", problem)
        }
    }

    fn lost(&self) -> Finding {
        let problem = format!("{} is gone", self.link.keys().meta());
        let finding = Finding::new(FindingRule::UnreadableField, "index/meta", problem);
        let (consequence, cure) = (NOTHING.to_owned(), OpenError::CURE_OF_LOST.to_owned());
        Finding { mend: Mend::None, consequence, cure, ..finding }
    }

    /// What is found where `meta` is gone.
    pub fn without_meta(&self) -> Look {
        let mut look = Look { is_cut_short: true, ..Look::default() };
        look.found.add(self.lost());
        look
    }

    /// Fields that can be made right; counts and `classes_rev` are looked at by themselves.
    pub async fn compare_meta(&self, look: &Look, out: &mut Differences) -> Result<(), StoreError> {
        let found = self.hash_of("meta", look).await?;
        let said = |field: &str| found.get(field).map_or("not there", String::as_str);
        let whole_in = |field: &str| found.get(field).and_then(|value| whole(value));
        let mut problems = Vec::new();
        let mut commands = Vec::new();
        if found.get("epoch").is_none_or(|epoch| epoch.parse::<Epoch>().is_err()) {
            problems.push(format!("epoch is {}", said("epoch")));
            commands.push(command(&["HSET", "meta", "epoch", &self.link.epoch().to_string()]));
        }
        if whole_in("contact_since").is_none() {
            problems.push(format!("contact_since is {}", said("contact_since")));
            let now = self.link.now().as_millis().to_string();
            commands.push(command(&["HSET", "meta", "contact_since", &now]));
        }
        if found.contains_key("calm_until") && whole_in("calm_until").is_none() {
            problems.push(format!("calm_until is {}", said("calm_until")));
            commands.push(command(&["HDEL", "meta", "calm_until"]));
        }
        if !problems.is_empty() {
            let problem = format!("{}: that is not what it must be", problems.join("; "));
            let finding = Finding::new(FindingRule::UnreadableField, "index/meta", problem);
            let consequence = "every command is refused".to_owned();
            let cure = "repair it: deadlines begin anew".to_owned();
            out.push((Finding { mend: Mend::Repair, consequence, cure, ..finding }, commands));
        }
        if !look.wrong.contains_key("losses") {
            let right = self.link.send(redis::cmd("HLEN").arg(self.key("losses"))).await?;
            let right = text(&right);
            if said("losses") != right {
                let problem = format!("losses is {}, and must be {right}", said("losses"));
                let set = command(&["HSET", "meta", "losses", &right]);
                out.push((Finding::new(FindingRule::WrongCount, "index/meta", problem), vec![set]));
            }
        }
        Ok(())
    }
}
