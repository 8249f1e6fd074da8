//! What an operator should look at: jobs that nobody can run, classes that are lost again and again,
//! a service that stays broken, a full disk, a store that takes no new work. An alert is raised while
//! its reason holds, and cleared when it does not.

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
    bounds::brief,
    command::Raise,
    decide::{Intake, limits},
    matching::ClassKey,
    record::{Alert, AlertId, AlertRule, Connector, ConnectorStatus, Severity},
};
use pointsman_store::{ClassSummary, Health, Judgement, Risk, Setting, StoreError};
use tokio::sync::Mutex;

use super::{Reconciler, World};
use crate::FilesTrouble;
use stuck::Stuck;

/// Alerts of one rule at most, the same ones as long as their reasons last. A thousand would tell no
/// more.
const MAX_OF_RULE: usize = 100;

/// A service may come out of its error by itself; after this long somebody should look.
const BROKEN_AFTER: Duration = Duration::from_secs(60);

/// What alerts about the place for files are about. Each server looks after its own way there.
const FILES: &str = "files";

#[derive(Default)]
pub(super) struct Alerts {
    stuck: Mutex<Stuck>,
    has_looked: AtomicBool,
    /// What this server raised, or tried to, of that which others may not see.
    told: Mutex<BTreeSet<AlertId>>,
}

/// What should stand of the rules that could be looked at. One that could not, as what it is about
/// is damaged, keeps its alerts and keeps nobody from the others'.
#[derive(Default)]
struct Looked {
    wanted: Vec<Raise>,
    rules: Vec<AlertRule>,
    error: Option<StoreError>,
}

impl Looked {
    fn at(&mut self, rule: AlertRule, wanted: Result<Vec<Raise>, StoreError>) {
        match wanted {
            Ok(wanted) => {
                self.rules.push(rule);
                self.wanted.extend(wanted);
            }
            Err(error) => drop(self.error.get_or_insert(error)),
        }
    }
}

#[async_trait]
impl Reconciler for Alerts {
    fn name(&self) -> &'static str {
        "alerts"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn reconcile(&self, world: &World) -> Result<u64, StoreError> {
        let mut looked = Looked::default();
        looked.at(AlertRule::NobodyAble, self.stuck.lock().await.look(world).await);
        looked.at(AlertRule::PoisonousClass, poisonous_classes(world).await);
        looked.at(AlertRule::BrokenService, Ok(broken_services(world)));
        looked.at(AlertRule::FlappingIncarnation, Ok(flapping_incarnations(world)));
        looked.at(AlertRule::IntakeClosed, closed_intake(world).await);
        let Looked { mut wanted, rules, error } = looked;
        let own = own_trouble(world);
        let own_ids: BTreeSet<AlertId> = own.iter().map(|raise| raise.alert.clone()).collect();
        wanted.extend(own);
        let settings = world.store().settings();
        wanted.extend(settings.iter().filter_map(store_at_risk));
        // Another server may run with other settings, and see other trouble. What one left behind
        // that has ended goes when the next one starts; who still sees it raises it anew. What this
        // one cannot tell stands as it is.
        let is_first = !self.has_looked.load(Ordering::Acquire);
        let mut told = self.told.lock().await;
        told.extend(own_ids.iter().cloned());
        let judges = |alert: &AlertId| match alert.rule {
            AlertRule::StoreFull | AlertRule::StoreAtRisk => {
                match settings.iter().find(|setting| store_at_risk_id(setting) == *alert) {
                    Some(setting) => setting.judgement != Judgement::NotKnown,
                    None => is_first || told.contains(alert),
                }
            }
            rule => rules.contains(&rule),
        };
        let done = world.make_so(judges, wanted).await?;
        self.has_looked.store(true, Ordering::Release);
        *told = own_ids;
        error.map_or(Ok(done), Err)
    }
}

async fn poisonous_classes(world: &World) -> Result<Vec<Raise>, StoreError> {
    let store = world.store();
    let mut poisonous: Vec<_> = store.poisonous().await?.into_iter().map(|(c, _)| c).collect();
    poisonous.truncate(MAX_OF_RULE);
    let waiting = store.class_summaries(poisonous.clone()).await?;
    let raises = poisonous
        .into_iter()
        .map(|class| poisonous_class(class, waiting.iter().find(|summary| summary.class == class)));
    Ok(raises.collect())
}

fn flapping_incarnations(world: &World) -> Vec<Raise> {
    let now = world.store().now();
    world.hub.with_view(|view| {
        let flapping = view.workers.values().filter(|worker| worker.is_flapping(now));
        flapping.take(MAX_OF_RULE).map(|worker| flapping_incarnation(&worker.id)).collect()
    })
}

fn broken_services(world: &World) -> Vec<Raise> {
    let now = world.store().now();
    world.hub.with_view(|view| {
        let broken = view.connectors.values().filter(|connector| {
            let is_old = now.since(connector.timestamp) >= BROKEN_AFTER;
            connector.status == ConnectorStatus::Error && is_old
        });
        broken.take(MAX_OF_RULE).map(|connector| broken_service(connector)).collect()
    })
}

async fn closed_intake(world: &World) -> Result<Vec<Raise>, StoreError> {
    let Some(transfer) = world.hub.store.clone().transfer() else { return Ok(Vec::new()) };
    let is_closed = transfer.intake().await? == Intake::Closed;
    Ok(is_closed.then(intake_closed).into_iter().collect())
}

/// What other servers may not see, or see a little later: they leave it alone.
fn own_trouble(world: &World) -> Vec<Raise> {
    let full = match world.store().health() {
        Health::Full(why) => Some(store_full(&why)),
        _ => None,
    };
    let files = world.hub.files.lock().as_ref().map(files_trouble);
    let failing = world.statuses.failing(world.store().now()).into_iter();
    full.into_iter().chain(files).chain(failing.map(reconciler_fails)).collect()
}

impl World {
    /// Makes the alerts of some rules exactly the wanted ones.
    pub(super) async fn bring_about(
        &self,
        rules: &[AlertRule],
        wanted: Vec<Raise>,
    ) -> Result<u64, StoreError> {
        self.make_so(|alert| rules.contains(&alert.rule), wanted).await
    }

    /// Makes the alerts that it judges exactly the wanted ones. Those that stand as they should
    /// cost no command.
    async fn make_so(
        &self,
        judges: impl Fn(&AlertId) -> bool,
        wanted: Vec<Raise>,
    ) -> Result<u64, StoreError> {
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

fn broken_service(connector: &Connector) -> Raise {
    let Connector { service_type: service, worker_id, machine_id, .. } = connector;
    let why = connector.error_message.as_deref().map_or("it does not say why".into(), brief);
    Raise {
        alert: AlertId { rule: AlertRule::BrokenService, subject: connector.id.to_string() },
        severity: Severity::Warning,
        message: format!("{service} of worker {worker_id} has taken no jobs for a minute: {why}"),
        action: format!(
            "mend or restart {service} on machine {machine_id}: it gets jobs again by itself"
        ),
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

fn reconciler_fails((name, why): (&str, String)) -> Raise {
    Raise {
        alert: AlertId { rule: AlertRule::StoreAtRisk, subject: name.to_owned() },
        severity: Severity::Warning,
        message: format!(
            "what a server does by itself about {} fails again and again: {why}",
            name.replace('_', " ")
        ),
        action: "if Redis refuses a command, give its user the rights in deploy/users.acl; else \
                 `pointsman doctor` says what is damaged"
            .into(),
    }
}

fn store_at_risk_id(setting: &Setting) -> AlertId {
    AlertId { rule: AlertRule::StoreAtRisk, subject: setting.name.clone() }
}

fn store_at_risk(setting: &Setting) -> Option<Raise> {
    let Risk { message, action } = setting.risk()?.clone();
    Some(Raise { alert: store_at_risk_id(setting), severity: Severity::Warning, message, action })
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
