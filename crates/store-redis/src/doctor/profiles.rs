//! What workers are able to do, and which classes that serves: as the store has it, not as this
//! process remembers it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pointsman_core::{
    Record, RecordKey, WorkerId,
    doctor::{Finding, FindingRule, Mend},
    matching::{Capabilities, CapabilitiesDigest, ClassKey, able, digest},
    to_json,
};
use pointsman_store::StoreError;

use super::{
    classes::Numbers,
    expected::Expected,
    indexes::{Command, Differences, command, missing, surplus},
    records::Look,
};
use crate::{
    encoding::keys,
    link::{number, text, whole},
    plan::services_text,
    store::Inner,
};

impl Inner {
    /// The capabilities of these profiles, those that can be read.
    pub async fn kept_profiles(
        &self,
        digests: BTreeSet<CapabilitiesDigest>,
    ) -> Result<BTreeMap<CapabilitiesDigest, Arc<Capabilities>>, StoreError> {
        let mut get = redis::pipe();
        for digest in &digests {
            get.cmd("HGET").arg(self.key(&keys::profile(digest))).arg("capabilities");
        }
        let found = self.link.send_each(&get).await?;
        let kept = digests.into_iter().zip(found).filter_map(|(profile, found)| {
            Some((profile, Arc::new(capabilities_of(profile, &text(&found.ok()?))?)))
        });
        Ok(kept.collect())
    }

    /// Capabilities that the store lost, if this process remembers them.
    async fn remembered(&self, profile: CapabilitiesDigest) -> Option<Arc<Capabilities>> {
        let known = self.definitions.profile(&self.link, profile).await.ok().flatten()?;
        (digest(&known) == profile).then_some(known)
    }

    /// A worker's lost capabilities are mended where this process remembers them. It says so in the
    /// same words where it does not: servers tell of a finding as one alert.
    pub async fn mendable_capabilities(&self, finding: Finding, look: &Look) -> Finding {
        let (FindingRule::UnknownCapabilities, Some(key)) = (finding.rule, finding.record()) else {
            return finding;
        };
        let profile = look.records.iter().find_map(|record| match record {
            Record::Worker(worker) if record.key() == key => Some(worker.capabilities_digest),
            _ => None,
        });
        let is_remembered = match profile {
            Some(profile) => self.remembered(profile).await.is_some(),
            None => false,
        };
        let mend = if is_remembered { Mend::Repair } else { Mend::None };
        let cure = "restart the worker: it registers with its capabilities; or repair it at a server \
                    that remembers them and writes them anew. Where a newer version wrote them, \
                    update this server";
        Finding { mend, cure: cure.to_owned(), ..finding }
    }

    /// Profiles as they are kept, and what each can serve.
    pub async fn compare_profiles(
        &self,
        expected: &Expected,
        numbers: &Numbers,
        look: &Look,
        out: &mut Differences,
    ) -> Result<(), StoreError> {
        let services: BTreeSet<&str> =
            expected.all_classes().map(|(_, class)| class.service.as_str()).collect();
        let known = self.set_of("services", look).await?;
        // What was a service once stays one.
        for service in services.iter().filter(|s| !known.contains(**s)) {
            if !look.wrong.contains_key("services") {
                out.push((
                    missing("services", service),
                    vec![command(&["SADD", "services", service])],
                ));
            }
        }
        let listed = self.set_of("profiles", look).await?;
        let kept = look.keys_of(&["profile:"]).filter_map(|name| name.split_once(':'));
        let kept = kept.map(|(_, digest)| digest).chain(listed.iter().map(String::as_str));
        let kept: BTreeSet<CapabilitiesDigest> = kept.filter_map(|d| d.parse().ok()).collect();
        let unused = kept.into_iter().filter(|digest| !expected.users.contains_key(digest));
        for profile in self.still_kept(unused.collect(), &listed).await? {
            let name = keys::profile(&profile);
            let prefix = keys::serves(&profile, "");
            let problem = format!("{name} is kept, and no worker has these capabilities");
            let finding =
                Finding::new(FindingRule::IndexWithoutRecord, format!("index/{name}"), problem);
            let mut commands = vec![command(&["DEL", &name])];
            if !look.wrong.contains_key("profiles") {
                commands.push(command(&["SREM", "profiles", &profile.to_string()]));
            }
            commands.extend(look.keys_of(&[&prefix]).map(|serves| command(&["DEL", serves])));
            out.push((finding, commands));
        }
        for (profile, workers) in &expected.users {
            let name = keys::profile(profile);
            if look.wrong.contains_key(&name) {
                continue;
            }
            if !listed.contains(&profile.to_string()) && !look.wrong.contains_key("profiles") {
                let add = command(&["SADD", "profiles", &profile.to_string()]);
                out.push((missing("profiles", &profile.to_string()), vec![add]));
            }
            self.compare_profile(*profile, workers, expected, numbers, look, out).await?;
            // Classes may be many.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Those of these profiles that are there now: keys were listed before the records were read.
    async fn still_kept(
        &self,
        profiles: Vec<CapabilitiesDigest>,
        listed: &BTreeSet<String>,
    ) -> Result<Vec<CapabilitiesDigest>, StoreError> {
        let mut ask = redis::pipe();
        for profile in &profiles {
            ask.cmd("EXISTS").arg(self.key(&keys::profile(profile)));
        }
        let there = self.link.send_all(&ask).await?;
        let both = profiles.into_iter().zip(there);
        let kept = both.filter(|(profile, there)| {
            number(there) != Some(0) || listed.contains(&profile.to_string())
        });
        Ok(kept.map(|(profile, _)| profile).collect())
    }

    async fn compare_profile(
        &self,
        profile: CapabilitiesDigest,
        workers: &[WorkerId],
        expected: &Expected,
        numbers: &Numbers,
        look: &Look,
        out: &mut Differences,
    ) -> Result<(), StoreError> {
        let name = keys::profile(&profile);
        let found = self.hash_of(&name, look).await?;
        let users = workers.len().to_string();
        let read = |text: &String| capabilities_of(profile, text);
        let Some(capabilities) = found.get("capabilities").and_then(read) else {
            if let Some(known) = self.remembered(profile).await {
                out.extend(written_anew(&name, &known, workers));
            }
            return Ok(());
        };
        let said = |field: &str| found.get(field).map_or("not there", String::as_str);
        let about = |rule, problem| Finding::new(rule, format!("index/{name}"), problem);
        let services = services_text(&capabilities);
        for (field, right, rule) in [
            ("users", users, FindingRule::WrongCount),
            ("services", services, FindingRule::Contradiction),
        ] {
            if said(field) != right {
                let problem = format!("{field} is {}, and must be {right}", said(field));
                let set = command(&["HSET", &name, field, &right]);
                out.push((about(rule, problem), vec![set]));
            }
        }
        let rev = found.get("classes_rev").and_then(|rev| whole(rev)?.try_into().ok());
        let Some(rev) = rev.filter(|rev| *rev <= numbers.last) else {
            let is = said("classes_rev");
            let problem = format!("classes_rev is {is}: no number up to {}", numbers.last);
            let finding = about(FindingRule::Contradiction, problem);
            let consequence = "workers with these capabilities get no jobs".to_owned();
            let cure = "repair it: what they can serve is worked out anew".to_owned();
            out.push((Finding { consequence, cure, ..finding }, vec![work_out_anew(&name)]));
            return Ok(());
        };
        let is_looked_at =
            |class: &ClassKey| numbers.of.get(class).is_some_and(|number| *number <= rev);
        let differences =
            self.compare_served(profile, &capabilities, is_looked_at, expected, look).await?;
        // Another process may have been about it.
        if self.worked_out(&name).await? == i64::try_from(rev).ok() {
            out.extend(differences);
        }
        Ok(())
    }

    /// Which classes a profile serves, of those that were looked at for it.
    async fn compare_served(
        &self,
        profile: CapabilitiesDigest,
        capabilities: &Capabilities,
        is_looked_at: impl Fn(&ClassKey) -> bool,
        expected: &Expected,
        look: &Look,
    ) -> Result<Differences, StoreError> {
        let mut differences = Differences::new();
        for service in capabilities.services.keys() {
            let serves = keys::serves(&profile, service);
            if look.wrong.contains_key(&serves) {
                continue;
            }
            let members = self.set_of(&serves, look).await?;
            let classes = expected.all_classes().filter(|(_, class)| class.service == *service);
            for (key, class) in classes {
                let member = key.to_string();
                match (able(class, capabilities), members.contains(&member)) {
                    (true, false) if is_looked_at(key) => {
                        let anew = work_out_anew(&keys::profile(&profile));
                        differences.push((missing(&serves, &member), vec![anew]));
                    }
                    (false, true) => {
                        let out = command(&["SREM", &serves, &member]);
                        differences.push((surplus(&serves, &member), vec![out]));
                    }
                    _ => {}
                }
            }
        }
        Ok(differences)
    }
}

/// What a profile's workers can serve is worked out anew, from the first class on.
fn work_out_anew(profile: &str) -> Command {
    command(&["HSET", profile, "classes_rev", "0"])
}

/// A profile that is written anew. That its capabilities are lost is a finding about each of its workers.
fn written_anew(name: &str, known: &Capabilities, workers: &[WorkerId]) -> Differences {
    let (json, services, users) = (to_json(known), services_text(known), workers.len().to_string());
    let set = ["HSET", name, "capabilities", &json, "services", &services];
    let set = command(&[&set[..], &["users", &users, "classes_rev", "0"]].concat());
    let finding = |worker: &WorkerId| {
        let key = RecordKey::Worker(worker.clone());
        Finding::about(FindingRule::UnknownCapabilities, &key, "")
    };
    workers.iter().map(|worker| (finding(worker), vec![set.clone()])).collect()
}

/// Capabilities as they are kept: those of another digest are somebody else's.
fn capabilities_of(profile: CapabilitiesDigest, json: &str) -> Option<Capabilities> {
    let known: Capabilities = serde_json::from_str(json).ok()?;
    (digest(&known) == profile).then_some(known)
}
