//! Jobs that cannot run: no worker is able to run them, or none that is able works.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use pointsman_core::{
    ServiceName, Timestamp,
    command::Raise,
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey, able},
    record::{AlertId, AlertRule, Severity},
};
use pointsman_store::{ClassSummary, StoreError, oldest_first};

use super::{
    MAX_OF_RULE, many,
    staff::{Staff, plight},
};
use crate::reconcilers::World;

/// A worker may be about to come, or to come back; after this long none seems to be.
const NOBODY_AFTER: Duration = Duration::from_secs(10);
/// Classes looked at before others get their turn.
const AT_ONCE: usize = 100;

pub(super) type Profiles = HashMap<CapabilitiesDigest, Arc<Capabilities>>;

#[derive(Default)]
pub(super) struct Stuck {
    /// Since when this process has seen that nobody runs the jobs of a class.
    since: HashMap<ClassKey, Timestamp>,
    /// What the workers offer that were there the last time.
    profiles: Profiles,
}

impl Stuck {
    /// The alerts that should stand: one for a class; one for a service of which no worker works at
    /// all, however many classes wait for it.
    pub async fn look(&mut self, world: &World) -> Result<Vec<Raise>, StoreError> {
        let now = world.store().now();
        let waiting = world.store().waiting_classes().await?;
        if waiting.is_empty() {
            self.since.clear();
            return Ok(Vec::new());
        }
        let staffs = world.hub.with_view(|view| Staff::of(view, now));
        self.learn(world, staffs.values()).await?;
        let stuck = self.stuck(waiting, &staffs).await;
        self.since.retain(|key, _| stuck.contains_key(key));
        for key in stuck.keys() {
            self.since.entry(*key).or_insert(now);
        }

        let classes = world.store().class_summaries(stuck.keys().copied().collect()).await?;
        let mut by_subject: BTreeMap<String, Vec<ClassSummary>> = BTreeMap::new();
        for class in oldest_first(classes).into_iter().filter(|class| class.waiting > 0) {
            let somebody = staffs.get(&class.service).is_some_and(|s| !s.working.is_empty());
            let subject =
                if somebody { class.class.to_string() } else { class.service.to_string() };
            by_subject.entry(subject).or_default().push(class);
        }
        let mut found: Vec<(AlertId, Vec<ClassSummary>)> = by_subject
            .into_iter()
            .map(|(subject, classes)| (AlertId { rule: AlertRule::NobodyAble, subject }, classes))
            .collect();
        let is_old = |class: &ClassSummary| {
            self.since.get(&class.class).is_some_and(|since| now.since(*since) >= NOBODY_AFTER)
        };
        world.hub.with_view(|view| {
            found
                .retain(|(id, classes)| view.alerts.contains_key(id) || classes.iter().any(is_old));
        });
        found.sort_by_key(|(_, classes)| classes.first().and_then(|class| class.oldest_at));
        found.truncate(MAX_OF_RULE);
        let none = Staff::default();
        let raises = found.into_iter().filter_map(|(alert, classes)| {
            let staff = staffs.get(&classes.first()?.service).unwrap_or(&none);
            let class = stuck.get(&classes.first()?.class)?;
            self.raise(alert, &classes, class, staff, now)
        });
        Ok(raises.collect())
    }

    /// Keeps in mind what these workers offer, and forgets the others.
    async fn learn(
        &mut self,
        world: &World,
        staffs: impl Iterator<Item = &Staff>,
    ) -> Result<(), StoreError> {
        let mut known = std::mem::take(&mut self.profiles);
        for member in staffs.flat_map(|staff| &staff.members) {
            let digest = member.worker.capabilities_digest;
            if self.profiles.contains_key(&digest) {
                continue;
            }
            let offer = match known.remove(&digest) {
                None => world.store().capabilities(digest).await?,
                known => known,
            };
            self.profiles.extend(offer.map(|offer| (digest, offer)));
        }
        Ok(())
    }

    /// Those of the classes that nobody who works is able to run.
    async fn stuck(
        &self,
        waiting: Vec<(ClassKey, Arc<Class>)>,
        staffs: &BTreeMap<ServiceName, Staff>,
    ) -> HashMap<ClassKey, Arc<Class>> {
        let mut stuck = HashMap::new();
        for (n, (key, class)) in waiting.into_iter().enumerate() {
            let offers = |digest: &CapabilitiesDigest| {
                self.profiles.get(digest).is_some_and(|offer| able(&class, offer))
            };
            let staff = staffs.get(&class.service);
            if !staff.is_some_and(|staff| staff.working.serves(&class, offers)) {
                stuck.insert(key, class);
            }
            if n % AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        stuck
    }

    /// `class` is the first of the classes, whole.
    fn raise(
        &self,
        alert: AlertId,
        classes: &[ClassSummary],
        class: &Class,
        staff: &Staff,
        now: Timestamp,
    ) -> Option<Raise> {
        let first = classes.first()?;
        let is_service = staff.working.is_empty();
        let wants = class.wants().map(|wants| format!(" ({wants})")).unwrap_or_default();
        let members = match is_service {
            true => staff.members.iter().collect(),
            false => staff.able(class, &self.profiles),
        };
        let (why, cure) = match (is_service, &members[..]) {
            (true, []) => ("no worker for it is registered".to_owned(), "start one"),
            (false, []) => (
                format!(
                    "no worker offers what they ask for: {}",
                    staff.lacking(class, &self.profiles, now)
                ),
                "start a worker that does, or cancel them",
            ),
            (_, members) => {
                let (plight, cure) = plight(members, now);
                let of = if is_service { " for it" } else { " that offers what they ask for" };
                let wants = if is_service { "" } else { &wants };
                (format!("no worker{of}{wants} works: {plight}"), cure)
            }
        };
        let jobs = many(classes.iter().map(|class| class.waiting).sum(), "job");
        let see = first.oldest_job.map(|job| format!("; see `pointsman explain {job}`"));
        Some(Raise {
            alert,
            severity: if is_service { Severity::Critical } else { Severity::Warning },
            message: format!("{jobs} for {} cannot run: {why}", first.service),
            action: format!("{cure}{}", see.unwrap_or_default()),
        })
    }
}
