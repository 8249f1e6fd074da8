//! One machine's workers with their connectors.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use pointsman_connectors::{Limits as AttemptLimits, comfyui::Owner};
use pointsman_core::{
    MachineId, WorkerId,
    command::ConnectorReport,
    matching::{Capabilities, CustomerRules, LabelValue},
    record::ConnectorStatus,
};
use pointsman_machine::{Fitness, Hardware, Member};
use pointsman_worker::{Broker, Clock, Shutdown, Timings, Worker, WorkerConfig};
use tokio::sync::watch;

use crate::{args::Limits, identity::StoreId, services::ServiceArg};

/// Everything that makes one worker.
pub struct WorkerPlan {
    pub id: WorkerId,
    pub machine: MachineId,
    pub store: StoreId,
    pub services: Vec<ServiceArg>,
    pub labels: Vec<String>,
    pub customers: CustomerRules,
    pub limits: Limits,
    /// How long running jobs may go on after the first signal to stop.
    pub drain: Duration,
}

impl WorkerPlan {
    /// The worker, with its share of the machine's hardware.
    pub fn build(
        self,
        hardware: &Hardware,
        (worker, of): (usize, usize),
        broker: Arc<dyn Broker>,
        clock: Clock,
    ) -> anyhow::Result<Worker> {
        let owner = owner(&self.id, &self.store);
        let services = self.services.iter().map(|arg| arg.config(owner.clone()));
        let services = services.collect::<Result<_, _>>()?;
        let capabilities = Capabilities {
            hardware: hardware.share(worker, of),
            labels: labels(&self.labels)?,
            customers: self.customers,
            ..Capabilities::default()
        };
        let config = WorkerConfig {
            worker: self.id,
            machine: self.machine,
            services,
            capabilities,
            summary: String::new(),
            limits: limits(&self.limits),
            timings: Timings {
                health_check: Duration::from_secs(self.limits.health_check_s.into()),
                drain: self.drain,
                ..Timings::default()
            },
            clock,
        };
        Ok(Worker::new(config, broker)?)
    }
}

/// The worker as a member of its machine: fit while all its services are well.
pub fn member(id: WorkerId, worker: Worker, shutdown: Shutdown) -> Member {
    let mut reports = worker.reports();
    let now = move |reports: &[watch::Receiver<ConnectorReport>]| {
        let worst = reports.iter().map(|report| fitness_of(&report.borrow())).max();
        worst.unwrap_or(Fitness::Fit)
    };
    let (tell, fitness) = watch::channel(now(&reports));
    let follow = async move {
        loop {
            tell.send_replace(now(&reports));
            let changes = reports.iter_mut().map(|report| Box::pin(report.changed()));
            if futures::future::select_all(changes).await.0.is_err() {
                return std::future::pending().await;
            }
        }
    };
    let run = async move {
        tokio::select! {
            ended = worker.run(shutdown) => ended,
            never = follow => never,
        }
    };
    Member { worker: id, run: Box::pin(run), fitness }
}

fn fitness_of(report: &ConnectorReport) -> Fitness {
    let said = |unsaid: &str| {
        let said = report.error_message.as_deref().unwrap_or(unsaid);
        format!("{}: {said}", report.service)
    };
    match report.status {
        ConnectorStatus::Idle | ConnectorStatus::Active => Fitness::Fit,
        ConnectorStatus::Starting | ConnectorStatus::Connecting => {
            Fitness::Starting(said("it was not looked at yet"))
        }
        ConnectorStatus::Error | ConnectorStatus::Offline | ConnectorStatus::Unknown => {
            Fitness::Unfit(said("it does not say why"))
        }
    }
}

/// Whose a prompt is on a ComfyUI that several fleets may share: a worker's id says it within one
/// store only, and is the same by default in every store that a host serves.
fn owner(worker: &WorkerId, store: &StoreId) -> Owner {
    let (worker, store) = (worker.clone(), store.clone());
    Arc::new(move || format!("{worker}@{}", store()))
}

fn limits(limits: &Limits) -> AttemptLimits {
    let minutes = limits.total_minutes.map(|minutes| minutes.saturating_mul(60));
    let total = limits.total_s.into_iter().chain(minutes).min();
    let seconds = |s: u32| Duration::from_secs(s.into());
    let usual = AttemptLimits::default();
    let stall = limits.stall_after_s.map(seconds);
    AttemptLimits {
        silence_after: seconds(limits.silence_after_s),
        stall_after: stall.unwrap_or(usual.stall_after),
        blind_stall_after: stall.unwrap_or(usual.blind_stall_after),
        total: total.map(seconds),
    }
}

/// # Errors
/// Also when one is given twice: a worker has one value of each.
fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, LabelValue>> {
    let mut labels = BTreeMap::new();
    for label in given {
        let (name, value) = parse_label(label)?;
        if labels.contains_key(&name) {
            anyhow::bail!("label {name} is given twice: a worker has one value of it");
        }
        labels.insert(name, value);
    }
    Ok(labels)
}

/// `NAME=VALUE`: a number or truth value where it reads as one, else text. A number has digits
/// alone, with a sign and a point: `nan`, `inf` and a commit hash such as `5e91234` are text.
fn parse_label(label: &str) -> anyhow::Result<(String, LabelValue)> {
    let (name, value) = label
        .split_once('=')
        .with_context(|| format!("label {label:?}: use NAME=VALUE, such as tier=2"))?;
    let value = match value {
        "true" => LabelValue::Flag(true),
        "false" => LabelValue::Flag(false),
        text => number(text).map_or_else(|| LabelValue::Text(text.into()), LabelValue::Number),
    };
    Ok((name.to_owned(), value))
}

fn number(text: &str) -> Option<f64> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_total_wins_and_without_one_there_is_none() {
        let of = |total_s, total_minutes| {
            let given = Limits {
                silence_after_s: 20,
                stall_after_s: Some(90),
                total_s,
                total_minutes,
                health_check_s: 5,
            };
            limits(&given)
        };
        let seconds = Duration::from_secs;
        for (total_s, total_minutes, total) in [
            (Some(600), Some(5), Some(300)),
            (Some(100), Some(5), Some(100)),
            (Some(600), None, Some(600)),
            (None, Some(2), Some(120)),
            (None, None, None),
        ] {
            let total = total.map(seconds);
            assert_eq!(of(total_s, total_minutes).total, total, "{total_s:?} {total_minutes:?}");
        }
        let set = of(None, None);
        assert_eq!(set.silence_after, seconds(20));
        assert_eq!((set.stall_after, set.blind_stall_after), (seconds(90), seconds(90)));
    }

    #[test]
    fn a_label_has_one_value() {
        let given = |all: &[&str]| labels(&all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(given(&["x=1", "y=1"]).unwrap().len(), 2);
        for twice in [["x=1", "x=2"], ["x=1", "x=1"]] {
            let why = given(&twice).unwrap_err().to_string();
            assert!(why.contains("label x is given twice"), "{why}");
        }
    }

    #[test]
    fn a_label_is_a_number_only_where_it_is_written_as_one() {
        let value = |text: &str| parse_label(&format!("x={text}")).unwrap().1;
        for (text, number) in [("2", 2.0), ("-0.5", -0.5), ("+3", 3.0), ("007", 7.0)] {
            assert_eq!(value(text), LabelValue::Number(number));
        }
        for text in ["nan", "NaN", "inf", "-inf", "infinity", "5e91234", "1234e56", "1e3", "1.2.3"]
        {
            assert_eq!(value(text), LabelValue::Text(text.into()));
        }
        assert_eq!(value(&"9".repeat(400)), LabelValue::Text("9".repeat(400)));
        assert_eq!(value("true"), LabelValue::Flag(true));
    }
}
