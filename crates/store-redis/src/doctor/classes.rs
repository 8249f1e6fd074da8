//! Classes as they are kept: what each is, its counts and its head, and their numbers.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::{
    doctor::{Finding, FindingRule},
    matching::{Class, ClassKey},
    to_json,
};
use pointsman_store::StoreError;

use super::{
    expected::Expected,
    indexes::{Differences, command, missing, surplus, wrong_counts},
    records::Look,
};
use crate::{
    encoding::keys,
    link::{list, number, text, whole},
    plan::excluded_text,
    reads::pairs,
    store::Inner,
};

const CHUNK: usize = 500;
const COUNTS: [&str; 3] = ["live", "held", "running"];

/// The hashes of classes.
pub type Hashes = BTreeMap<ClassKey, BTreeMap<String, String>>;

/// Which number each class has, those with a right one.
#[derive(Debug, Default)]
pub struct Numbers {
    pub of: BTreeMap<ClassKey, u64>,
    /// `classes_rev` as it should be.
    pub last: u64,
}

impl Inner {
    /// The hashes of all classes that there are or should be.
    pub async fn class_hashes(
        &self,
        expected: &Expected,
        look: &Look,
    ) -> Result<Hashes, StoreError> {
        let there =
            look.keys_of(&["class:"]).filter_map(|name| name.split_once(':')?.1.parse().ok());
        let keys: BTreeSet<ClassKey> = there.chain(expected.classes.keys().copied()).collect();
        self.hashes_of(&keys.into_iter().collect::<Vec<_>>()).await
    }

    async fn hashes_of(&self, keys: &[ClassKey]) -> Result<Hashes, StoreError> {
        let mut hashes = Hashes::new();
        for chunk in keys.chunks(CHUNK) {
            let mut get = redis::pipe();
            for key in chunk {
                get.cmd("HGETALL").arg(self.key(&keys::class(key)));
            }
            for (key, found) in chunk.iter().zip(self.link.send_typed(&get).await?) {
                // One of a wrong type is another finding.
                let Some(found) = found else { continue };
                let hash: BTreeMap<_, _> = pairs(&found).into_iter().collect();
                if !hash.is_empty() {
                    hashes.insert(*key, hash);
                }
            }
        }
        Ok(hashes)
    }

    /// The classes that rest, those of which the store says what they are: also those that were made
    /// since the hashes were read.
    pub async fn add_resting(
        &self,
        hashes: &mut Hashes,
        expected: &mut Expected,
        look: &Look,
    ) -> Result<(), StoreError> {
        if look.wrong.contains_key("resting") {
            return Ok(());
        }
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.key("resting")).arg(0).arg(-1);
        let found = self.link.send(&range).await?;
        let resting = list(&found).iter().filter_map(|key| text(key).parse().ok());
        let resting: Vec<ClassKey> = resting.collect();
        let new = resting.iter().filter(|key| !hashes.contains_key(*key)).copied();
        hashes.extend(self.hashes_of(&new.collect::<Vec<_>>()).await?);
        for key in resting {
            let definition = hashes.get(&key).and_then(|hash| hash.get("definition"));
            let class = definition.and_then(|text| serde_json::from_str::<Class>(text).ok());
            if let Some(class) = class.filter(|class| class.key() == key) {
                expected.rests(key, class);
            }
        }
        Ok(())
    }

    /// Classes are numbered by their birth, and `classes_rev` is the last number: a profile that
    /// was worked out up to it knows them all.
    pub async fn compare_numbers(
        &self,
        expected: &Expected,
        look: &Look,
        out: &mut Differences,
    ) -> Result<Numbers, StoreError> {
        let mut get = redis::cmd("HGET");
        let rev = text(&self.link.send(get.arg(self.key("meta")).arg("classes_rev")).await?);
        let found = self.scores_of("classes", look).await?;
        let mut numbers = Numbers::default();
        for (member, score) in &found {
            let key = member.parse::<ClassKey>().ok().filter(|key| {
                expected.classes.contains_key(key) || expected.resting.contains_key(key)
            });
            match (key, score.parse::<u64>()) {
                (Some(key), Ok(number)) if number > 0 => drop(numbers.of.insert(key, number)),
                (Some(_), _) => {}
                (None, _) => {
                    // It is made anew when a job needs it.
                    let commands = [
                        command(&["ZREM", "classes", member]),
                        command(&["DEL", &keys::class(member)]),
                    ];
                    out.push((surplus("classes", member), commands.into()));
                }
            }
        }
        let highest = numbers.of.values().copied().max().unwrap_or(0);
        let known = whole(&rev).and_then(|rev| rev.try_into().ok());
        numbers.last = highest.max(known.unwrap_or(0));
        if known != Some(numbers.last) {
            let is = if rev.is_empty() { "not there" } else { &rev };
            let problem = format!("classes_rev is {is}, and the last class has number {highest}");
            let finding = Finding::new(FindingRule::WrongCount, "index/meta", problem);
            let consequence = "no worker gets a job".to_owned();
            let set = command(&["HSET", "meta", "classes_rev", &numbers.last.to_string()]);
            out.push((Finding { consequence, ..finding }, vec![set]));
        }
        if look.wrong.contains_key("classes") {
            return Ok(numbers);
        }
        let mut next = numbers.last;
        for (key, _) in expected.all_classes().filter(|(key, _)| !numbers.of.contains_key(key)) {
            // With a new number it is looked at for every profile.
            next += 1;
            let (key, n) = (key.to_string(), next.to_string());
            let set = [
                command(&["ZADD", "classes", &n, &key]),
                command(&["HSET", "meta", "classes_rev", &n]),
            ];
            out.push((missing("classes", &key), set.into()));
        }
        Ok(numbers)
    }

    /// `classes_rev` of a profile, if it is a number.
    pub async fn worked_out(&self, profile: &str) -> Result<Option<i64>, StoreError> {
        let mut get = redis::cmd("HGET");
        Ok(number(&self.link.send(get.arg(self.key(profile)).arg("classes_rev")).await?))
    }
}

/// What each class is, its counts and its head.
pub fn compare_classes(hashes: &Hashes, expected: &Expected, look: &Look, out: &mut Differences) {
    let nothing = BTreeMap::new();
    for (key, class) in expected.all_classes() {
        let name = keys::class(key);
        if look.wrong.contains_key(&name) {
            continue;
        }
        let found = hashes.get(key).unwrap_or(&nothing);
        out.extend(wrong_counts(&name, &expected.counts[&name], found, false));
        let right = fields_of(class, expected, key);
        let known = found.keys().filter(|field| !COUNTS.contains(&field.as_str()));
        let names: BTreeSet<&String> = right.keys().chain(known).collect();
        let wrong = names.into_iter().filter(|field| right.get(*field) != found.get(*field));
        let wrong: Vec<&str> = wrong.map(String::as_str).collect();
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
    let is_known = |key| expected.classes.contains_key(key) || expected.resting.contains_key(key);
    for key in hashes.keys().filter(|key| !is_known(*key)) {
        let problem = "it is kept, has no jobs and is not among those that rest";
        let subject = format!("class/{key}");
        let finding = Finding::new(FindingRule::IndexWithoutRecord, subject, problem);
        out.push((finding, vec![command(&["DEL", &keys::class(key)])]));
    }
}

fn fields_of(class: &Class, expected: &Expected, key: &ClassKey) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::from([
        ("service".to_owned(), class.service.to_string()),
        ("base".to_owned(), class.base().to_string()),
        ("excluded".to_owned(), excluded_text(class)),
        ("definition".to_owned(), to_json(class)),
    ]);
    if let Some((score, member)) = expected.heads.get(key) {
        fields.insert("head".to_owned(), member.clone());
        fields.insert("head_score".to_owned(), score.to_string());
    }
    fields
}
