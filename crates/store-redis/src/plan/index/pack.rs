//! The parts of a plan that indexes are.

use pointsman_core::to_json;

use super::{
    super::{parts::Parts, services_text},
    Indexes, ProfileChange,
};
use crate::encoding::keys::Keys;

/// Members in one command: Lua's stack is bounded.
const AT_ONCE: usize = 1_000;

impl Indexes {
    /// Parts 6 to 12 of a transition.
    pub fn pack(&self, parts: &mut Parts, names: &Keys) {
        let pack = parts.begin();
        for ((key, flag), scores) in &self.scores {
            let flag = Some(*flag).filter(|flag| !flag.is_empty());
            for scores in scores.chunks(AT_ONCE) {
                pack.text_or_false(flag).len(scores.len() * 2).text(&names.full(key));
                for (score, member) in scores {
                    pack.text(score).text(member);
                }
            }
        }
        let pack = parts.begin();
        for ((kind, key), members) in &self.members {
            let (kind, command) = kind.command();
            for members in members.chunks(AT_ONCE) {
                pack.text(kind).len(2 + members.len()).text(command).text(&names.full(key));
                pack.texts(members);
            }
        }
        for (kind, command, key, values) in &self.ops {
            pack.text(kind).len(2 + values.len()).text(command).text(&names.full(key));
            for value in values {
                pack.bytes(value);
            }
        }
        let pack = parts.begin();
        for (status, by) in self.counts.iter().filter(|(_, by)| **by != 0) {
            pack.text(status).int(*by);
        }
        self.pack_queue(parts);
        self.pack_health(parts);
    }

    fn pack_queue(&self, parts: &mut Parts) {
        let pack = parts.begin();
        for change in &self.queue {
            let sign = if change.push { "+" } else { "-" };
            pack.text(sign).text(&change.class.to_string()).int(i64::from(change.rank));
            pack.int(change.place.cast_signed()).int(change.queued_seq.cast_signed());
            pack.text(&change.job);
        }
        let pack = parts.begin();
        for (key, class) in &self.classes {
            pack.text(&key.to_string()).int(class.live).int(class.held).int(class.running);
            pack.text(&class.service).text(&class.base).text(&class.excluded);
            pack.text(&class.definition).flag(class.is_asked_for);
        }
    }

    fn pack_health(&self, parts: &mut Parts) {
        let pack = parts.begin();
        for (n, (base, times)) in self.losses.iter().enumerate() {
            // A batch of completions proves a class once.
            if times.is_none() && self.losses[..n].last() == Some(&(*base, None)) {
                continue;
            }
            let kind = if times.is_some() { "loss" } else { "proof" };
            let (from, till) = times.unwrap_or_default();
            pack.text(kind).text(&base.to_string()).int(from).int(till);
        }
        let pack = parts.begin();
        for (digest, change) in &self.profiles {
            let ProfileChange { users, present, capabilities } = change;
            pack.text(&digest.to_string()).int(*users).int(*present);
            let services = capabilities.as_deref().map(services_text);
            let json = capabilities.as_ref().map(to_json);
            pack.text_or_false(json.as_deref()).text_or_false(services.as_deref());
        }
    }
}
