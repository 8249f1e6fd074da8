//! Why a job waits: rule by rule, how many workers pass or fail it, and which.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Capabilities, Class,
    ask::{Ask, Offer},
    lacking::Missing,
    rules::Rule,
    wording::EXCLUDED,
};
use crate::{ids::WorkerId, time::Timestamp};

/// Failing workers that are named for one rule.
const MAX_FAILING: usize = 20;
/// Workers that are not ready which are named.
const MAX_NOT_READY: usize = 5;

/// What a worker could do with a job at this moment, were it able to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Has a free slot.
    Free,
    /// Takes no more beside what it has.
    Full,
    /// Ordered to finish what it has and to take nothing new.
    Draining,
    /// Its process was told to stop: it finishes what it can, and leaves.
    Stopping,
    /// Reserved: nobody is paused yet.
    Paused,
    /// It is there, but its service cannot take a job now: starting, broken, not known, or on
    /// probation.
    NotReady,
    /// It said goodbye or fell silent.
    Offline,
}

/// What holds a job back whoever is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttle {
    /// See [`Explanation::intake_closed`].
    pub intake_closed: bool,
    /// See [`Explanation::calm_until`].
    pub calm_until: Option<Timestamp>,
    /// See [`Explanation::poisonous`].
    pub poisonous: Option<PoisonousClass>,
}

/// A class that lost job after job, and is held to one probe at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoisonousClass {
    /// Losses in a row, 5 or more; a completion ends the row.
    pub losses: u32,
    /// One of its jobs runs as the probe: none is claimed before that is over.
    pub probing: bool,
}

/// Why a job of a class waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The store was closed: it takes no new work, and no job is claimed, until it is opened again.
    #[serde(default)]
    pub intake_closed: bool,
    /// The store was restored, or, on Redis, restarted or failed over: no job is claimed until then, so
    /// that workers first take back what they run. Null: it was not, or that is over.
    #[serde(default)]
    pub calm_until: Option<Timestamp>,
    /// Jobs like this one were lost again and again, and it waits with them; null: they were not, or
    /// it does not wait.
    #[serde(default)]
    pub poisonous: Option<PoisonousClass>,
    /// Workers looked at.
    pub workers: usize,
    /// Those of them that are not there: they said goodbye or fell silent.
    #[serde(default)]
    pub offline: usize,
    /// Workers that pass every rule, and what they are doing.
    pub able: AbleWorkers,
    /// The first 5 able workers that are not ready, and why. Empty for a customer's token, which does
    /// not see the fleet.
    #[serde(default)]
    pub not_ready: Vec<NotReadyWorker>,
    /// Every rule that the class asks, in a fixed order, also those that everybody passes.
    pub rules: Vec<RuleOutcome>,
}

/// The able workers, by what they could do with a job now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct AbleWorkers {
    /// All of them: the sum of the others.
    pub total: usize,
    /// Have a free slot.
    pub free: usize,
    /// Every slot is taken.
    pub full: usize,
    /// Ordered to take no more jobs.
    pub draining: usize,
    /// Their process was told to stop: they take no more jobs, and leave.
    #[serde(default)]
    pub stopping: usize,
    /// Reserved: always 0 yet.
    pub paused: usize,
    /// There, but their service takes no job now: starting, broken, or on probation.
    pub not_ready: usize,
    /// Not there.
    pub offline: usize,
}

/// An able worker that takes no job now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotReadyWorker {
    pub worker: WorkerId,
    /// Such as `comfyui (error): connection refused`.
    pub why: String,
}

/// How the workers fared under one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleOutcome {
    /// Its place in the requirements.
    pub rule: Rule,
    /// What is asked, such as `a GPU with at least 24 GiB`.
    pub wanted: String,
    /// Which of the models or node classes asked for are missing, such as `the node class
    /// FaceDetailer`: those that no failing worker has or, where there are none, `some of` those that
    /// one or another lacks. Workers that are there count, or all where none is. Null where that is not
    /// known, and of other rules.
    #[serde(default)]
    pub missing: Option<String>,
    /// Workers that pass it.
    pub pass: usize,
    /// Workers that fail it.
    pub fail: usize,
    /// Workers that fail it and no other rule: so many more would be able without it.
    pub fail_only_this: usize,
    /// Of those that fail it, the ones that are there.
    #[serde(default)]
    pub fail_there: usize,
    /// Of those that fail it and no other rule, the ones that are there.
    #[serde(default)]
    pub fail_only_this_there: usize,
    /// The first 20 workers that fail it: those that are there before those that are offline, and of
    /// each those that fail only this first. A customer's token, which does not see the fleet, is told
    /// of none.
    pub failing: Vec<FailingWorker>,
}

/// A worker that fails a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailingWorker {
    /// Servers of before did not say it to a customer's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// What it has instead, such as `the largest has 12 GiB`.
    pub found: String,
    /// Why its service is not ready, if it is not and the rule is of what a service has: that is
    /// known only once it was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// Whether it passes every other rule.
    pub only_this: bool,
    /// Whether it is not there: it said goodbye or fell silent.
    #[serde(default)]
    pub offline: bool,
}

impl Explanation {
    /// Forgets the workers, for those who do not see the fleet: counts stay. What a worker has, its
    /// labels too, may name its machine, and so may what a service says of itself.
    pub fn forget_workers(&mut self) {
        self.not_ready.clear();
        for rule in &mut self.rules {
            if rule.rule == Rule::Excluded {
                rule.wanted = EXCLUDED.into();
            }
            rule.failing.clear();
        }
    }
}

/// Holds a class against every worker. Costs one look at each requirement of each worker. `why` says
/// what keeps one from being ready.
pub fn explain<'a>(
    class: &Class,
    throttle: Throttle,
    workers: impl IntoIterator<Item = (&'a WorkerId, &'a Capabilities, Availability)>,
    why: impl Fn(&WorkerId) -> Option<String>,
) -> Explanation {
    let asks: Vec<Ask<'_>> = class.asks().collect();
    let mut tallies: Vec<(Tally<'a>, Missing<'_>)> =
        asks.iter().map(|_| Default::default()).collect();
    let (mut count, mut offline) = (0, 0);
    let mut able = AbleWorkers::default();
    let mut not_ready = Vec::new();
    for (worker, capabilities, availability) in workers {
        count += 1;
        offline += usize::from(availability == Availability::Offline);
        let offer = Offer::new(class, Some(worker), capabilities);
        let met: Vec<bool> = asks.iter().map(|ask| ask.is_met(&offer)).collect();
        let failed = met.iter().filter(|met| !**met).count();
        if failed == 0 {
            able.add(availability);
            if availability == Availability::NotReady && not_ready.len() < MAX_NOT_READY {
                let why = why(worker).unwrap_or_default();
                not_ready.push(NotReadyWorker { worker: worker.clone(), why });
            }
        }
        for ((ask, (tally, missing)), met) in asks.iter().zip(&mut tallies).zip(met) {
            if met {
                tally.pass += 1;
            } else {
                missing.add(ask, &offer, availability);
                tally.fail((offer, availability), failed == 1);
            }
        }
    }
    let rules = asks.iter().zip(tallies).map(|(ask, (tally, missing))| RuleOutcome {
        missing: missing.said(ask),
        ..tally.outcome(ask, &why)
    });
    let rules = rules.collect();
    let Throttle { intake_closed, calm_until, poisonous } = throttle;
    Explanation {
        intake_closed,
        calm_until,
        poisonous,
        workers: count,
        offline,
        able,
        not_ready,
        rules,
    }
}

/// The count for one ask. Words are made only for the workers that are named in the end.
#[derive(Default)]
struct Tally<'a> {
    pass: usize,
    /// Those that are there, and those that are offline.
    there: Failing<'a>,
    offline: Failing<'a>,
}

#[derive(Default)]
struct Failing<'a> {
    /// Those that fail only this.
    only_this: Failed<'a>,
    /// Those that fail other rules too.
    others: Failed<'a>,
}

#[derive(Default)]
struct Failed<'a> {
    /// The first of them.
    named: Vec<(Offer<'a>, Availability)>,
    count: usize,
}

impl<'a> Failing<'a> {
    fn count(&self) -> usize {
        self.only_this.count + self.others.count
    }

    /// With whether they fail only this.
    fn named(&self) -> impl Iterator<Item = (&(Offer<'a>, Availability), bool)> {
        let near = self.only_this.named.iter().map(|offer| (offer, true));
        near.chain(self.others.named.iter().map(|offer| (offer, false)))
    }
}

impl<'a> Tally<'a> {
    fn fail(&mut self, offer: (Offer<'a>, Availability), only_this: bool) {
        let is_offline = offer.1 == Availability::Offline;
        let failing = if is_offline { &mut self.offline } else { &mut self.there };
        let failed = if only_this { &mut failing.only_this } else { &mut failing.others };
        failed.count += 1;
        if failed.named.len() < MAX_FAILING {
            failed.named.push(offer);
        }
    }

    fn outcome(self, ask: &Ask<'_>, why: impl Fn(&WorkerId) -> Option<String>) -> RuleOutcome {
        let Self { pass, there, offline } = self;
        let named = there.named().chain(offline.named());
        let failing = named.filter_map(|((offer, availability), only_this)| {
            let worker = offer.worker?;
            let may_have = *availability == Availability::NotReady && ask.rule().is_learned();
            Some(FailingWorker {
                worker: Some(worker.clone()),
                found: ask.found(offer),
                not_ready: if may_have { why(worker) } else { None },
                only_this,
                offline: *availability == Availability::Offline,
            })
        });
        RuleOutcome {
            rule: ask.rule(),
            missing: None,
            wanted: ask.wanted(),
            pass,
            fail: there.count() + offline.count(),
            fail_only_this: there.only_this.count + offline.only_this.count,
            fail_there: there.count(),
            fail_only_this_there: there.only_this.count,
            failing: failing.take(MAX_FAILING).collect(),
        }
    }
}

impl AbleWorkers {
    fn add(&mut self, availability: Availability) {
        self.total += 1;
        *match availability {
            Availability::Free => &mut self.free,
            Availability::Full => &mut self.full,
            Availability::Draining => &mut self.draining,
            Availability::Stopping => &mut self.stopping,
            Availability::Paused => &mut self.paused,
            Availability::NotReady => &mut self.not_ready,
            Availability::Offline => &mut self.offline,
        } += 1;
    }
}
