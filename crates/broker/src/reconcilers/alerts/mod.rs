//! What an operator should look at: jobs that nobody can run, classes that are lost again and again,
//! a full disk, a store that takes no new work. An alert is raised while its reason holds,
//! and cleared when it does not.

mod staff;
mod stuck;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use pointsman_core::{
    Command, WorkerId,
    command::Raise,
    decide::{Intake, limits},
    matching::ClassKey,
    record::{Alert, AlertId, AlertRule, Severity},
};
use pointsman_store::{ClassSummary, Health, Risk, Setting, StoreError};
use tokio::sync::Mutex;

use super::{Outcome, Reconciler, World};
use crate::FilesTrouble;
use stuck::Stuck;

/// Alerts of one rule at most: those of the oldest reasons. A thousand would tell no more.
const MAX_OF_RULE: usize = 100;

/// What alerts about the place for files are about. Each server looks after its own way there.
const FILES: &str = "files";

/// The rules that this reconciler raises and clears, beside the store's settings. The others belong
/// to those who raise them.
const OWN: [AlertRule; 5] = [
    AlertRule::NobodyAble,
    AlertRule::PoisonousClass,
    AlertRule::FlappingIncarnation,
    AlertRule::StoreFull,
    AlertRule::IntakeClosed,
];

#[derive(Default)]
pub(super) struct Alerts {
    stuck: Mutex<Stuck>,
    has_looked: AtomicBool,
    /// This server told that something is wrong with its place for files.
    told_files: AtomicBool,
}

#[async_trait]
impl Reconciler for Alerts {
    fn name(&self) -> &'static str {
        "alerts"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        let store = world.store();
        let now = store.now();
        let mut wanted = self.stuck.lock().await.look(world).await?;
        let mut poisonous: Vec<_> = store.poisonous().await?.into_iter().map(|(c, _)| c).collect();
        poisonous.truncate(MAX_OF_RULE);
        let waiting = store.class_summaries(poisonous.clone()).await?;
        wanted.extend(poisonous.into_iter().map(|class| {
            poisonous_class(class, waiting.iter().find(|summary| summary.class == class))
        }));
        wanted.extend(world.hub.with_view(|view| {
            let flapping = view.workers.values().filter(|worker| worker.is_flapping(now));
            flapping
                .take(MAX_OF_RULE)
                .map(|worker| flapping_incarnation(&worker.id))
                .collect::<Vec<_>>()
        }));
        if let Health::Full(why) = store.health() {
            wanted.push(store_full(&why));
        }
        let settings = store.settings();
        wanted.extend(settings.iter().filter_map(store_at_risk));
        let files = world.hub.files.lock().clone();
        wanted.extend(files.as_ref().map(files_trouble));
        if let Some(transfer) = world.hub.store.clone().transfer()
            && transfer.intake().await? == Intake::Closed
        {
            wanted.push(intake_closed());
        }
        // Another server may run with other settings. What one left behind that has ended goes
        // when the next one starts; who still sees it raises it anew.
        let is_first = !self.has_looked.load(Ordering::Acquire);
        let tells_files = files.is_some() || self.told_files.load(Ordering::Acquire);
        let judges = |alert: &AlertId| match alert.rule {
            AlertRule::StoreFull | AlertRule::StoreAtRisk if alert.subject == FILES => {
                is_first || tells_files
            }
            AlertRule::StoreAtRisk => {
                is_first || settings.iter().any(|setting| setting.name == alert.subject)
            }
            rule => OWN.contains(&rule),
        };
        let outcome = world.make_so(judges, wanted).await?;
        self.has_looked.store(true, Ordering::Release);
        self.told_files.store(files.is_some(), Ordering::Release);
        Ok(outcome)
    }
}

impl World {
    /// Makes the alerts of some rules exactly the wanted ones.
    pub(super) async fn bring_about(
        &self,
        rules: &[AlertRule],
        wanted: Vec<Raise>,
    ) -> Result<Outcome, StoreError> {
        self.make_so(|alert| rules.contains(&alert.rule), wanted).await
    }

    /// Makes the alerts that it judges exactly the wanted ones. Those that stand as they should
    /// cost no command.
    async fn make_so(
        &self,
        judges: impl Fn(&AlertId) -> bool,
        wanted: Vec<Raise>,
    ) -> Result<Outcome, StoreError> {
        let standing: BTreeMap<AlertId, std::sync::Arc<Alert>> = self.hub.with_view(|view| {
            let judged = view.alerts.iter().filter(|(id, _)| judges(id));
            judged.map(|(id, alert)| (id.clone(), alert.clone())).collect()
        });
        let ids: BTreeSet<AlertId> = wanted.iter().map(|raise| raise.alert.clone()).collect();
        let over = standing.keys().filter(|id| !ids.contains(id)).cloned();
        let mut commands: Vec<Command> = over.map(|alert| Command::Clear { alert }).collect();
        let new = wanted.into_iter().filter(|raise| {
            standing.get(&raise.alert).is_none_or(|alert| {
                alert.message != raise.message
                    || alert.action != raise.action
                    || alert.severity != raise.severity
            })
        });
        commands.extend(new.map(Command::Raise));
        self.execute(commands).await
    }
}

/// How many, roughly from ten on: an alert that says something new is an event.
fn many(n: u64, what: &str) -> String {
    if n < 10 {
        return format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    }
    let ten = 10_u64.pow(n.ilog10());
    let step = [5, 2].into_iter().map(|by| by * ten).find(|step| *step <= n);
    format!("{} or more {what}s", step.unwrap_or(ten))
}

/// `summary`: of the class, where jobs without exclusions are left in it.
fn poisonous_class(class: ClassKey, summary: Option<&ClassSummary>) -> Raise {
    let wants = summary.and_then(ClassSummary::wants);
    let wants = wants.map(|wants| format!(" ({wants})")).unwrap_or_default();
    let kind = match summary {
        Some(summary) => format!("for {}{wants}", summary.service),
        None => "of one class".to_owned(),
    };
    let waiting = match summary.map_or(0, |summary| summary.waiting) {
        0 => String::new(),
        n => format!("; {} waiting", many(n, "job")),
    };
    let look = match summary.and_then(|summary| summary.oldest_job) {
        Some(job) => format!("`pointsman job {job}`"),
        None => "the attempts of the one that runs".into(),
    };
    Raise {
        alert: AlertId { rule: AlertRule::PoisonousClass, subject: class.to_string() },
        severity: Severity::Critical,
        message: format!(
            "jobs {kind} were lost {} times in a row or more; they run one at a time until one completes{waiting}",
            limits::POISONOUS_AFTER
        ),
        action: format!("look at {look}; cancel them if they break their workers"),
    }
}

fn flapping_incarnation(worker: &WorkerId) -> Raise {
    Raise {
        alert: AlertId { rule: AlertRule::FlappingIncarnation, subject: worker.to_string() },
        severity: Severity::Critical,
        message: format!("processes fight over the worker id {worker}: three changes in a minute"),
        action: "give each worker an id of its own, or stop the surplus process".into(),
    }
}

fn store_full(why: &str) -> Raise {
    Raise {
        alert: AlertId { rule: AlertRule::StoreFull, subject: "store".into() },
        severity: Severity::Critical,
        message: format!("the store is full, new work is refused: {why}"),
        action: "free space on the disk that holds the data directory, or give Redis more memory"
            .into(),
    }
}

fn files_trouble(trouble: &FilesTrouble) -> Raise {
    let (rule, message, action) = match trouble {
        FilesTrouble::Full(_) => (
            AlertRule::StoreFull,
            "there is next to no room left for the files of jobs: what does not fit waits to be \
             stored, and its jobs with it",
            "free space on the disk that --artifacts names, or --data where there is none",
        ),
        FilesTrouble::Away(_) => (
            AlertRule::StoreAtRisk,
            "a server does not reach its directory of files: what is to be stored there waits",
            "mount it again; the log of that server says which one it is",
        ),
    };
    Raise {
        alert: AlertId { rule, subject: FILES.into() },
        severity: Severity::Critical,
        message: message.into(),
        action: action.into(),
    }
}

fn store_at_risk(setting: &Setting) -> Option<Raise> {
    let Risk { message, action } = setting.risk.clone()?;
    Some(Raise {
        alert: AlertId { rule: AlertRule::StoreAtRisk, subject: setting.name.clone() },
        severity: Severity::Warning,
        message,
        action,
    })
}

fn intake_closed() -> Raise {
    Raise {
        alert: AlertId { rule: AlertRule::IntakeClosed, subject: "store".into() },
        severity: Severity::Warning,
        message: "the store takes no new work: it was closed for its export; jobs that wait stay \
                  where they are, jobs that run go on"
            .into(),
        action: "end this server once the export is imported elsewhere, or open the store again \
                 with `pointsman intake open`"
            .into(),
    }
}
