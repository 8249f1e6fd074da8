//! What is wrong with what is stored. No transition makes any of it, so each finding is a fault of
//! this program, of the disk or of somebody's hand: it is shown, and stays shown until it is
//! mended. By itself only that is repaired which records leave no doubt of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use async_trait::async_trait;
use pointsman_core::{
    RecordKey, WorkerId,
    command::Raise,
    doctor::{Examination, Finding, FindingRule},
    record::{Alert, AlertId, AlertRule, Severity},
};
use pointsman_store::{Depth, StoreError};
use tokio::sync::Mutex;

use super::{Reconciler, World};

/// Alerts at most; the log and `doctor` have them all.
const MAX_SHOWN: usize = 100;
/// Of so many looks one is at everything: once a minute.
const LOOKS_A_ROUND: u32 = 12;

/// Looks often at machines, workers and connectors, and seldom at everything; at everything also
/// where a command met something wrong, when what is wrong with the former has changed, and when an
/// alert stands that another server has raised: that server may have ended. As long as anything is
/// wrong it looks at everything sooner, so that it is not shown much longer than it lasts; ever less
/// often while the same stays wrong, as each look is at everything that is stored.
#[derive(Default)]
pub(super) struct Consistency(Mutex<Known>);

/// What the last looks found.
#[derive(Default)]
struct Known {
    /// Ids of what is wrong.
    findings: BTreeSet<String>,
    /// Subjects of the alerts that the last look at everything raised, let stand or cleared.
    judged: BTreeSet<String>,
    /// What is wrong with machines, workers and connectors; none before the first look after one at
    /// everything.
    fleet: Option<BTreeSet<String>>,
    /// Looks since the last one at everything, after how many the next one is.
    looks: u32,
    round: u32,
    /// A command met something wrong before the last look at everything, which found nothing new: as it
    /// may meet that again and again, that is no reason for the next one.
    is_met: bool,
}

impl Known {
    /// Whether a look at machines, workers and connectors found nothing new.
    fn is_known(&mut self, fleet: BTreeSet<String>) -> bool {
        let is_known = match &self.fleet {
            Some(before) => *before == fleet,
            None => fleet.is_subset(&self.findings),
        };
        self.fleet = Some(fleet);
        is_known
    }

    fn saw_everything(&mut self, findings: BTreeSet<String>, is_over: bool, is_met: bool) {
        let is_same = findings == self.findings;
        let round = match (is_over, is_same) {
            (true, _) => LOOKS_A_ROUND,
            (false, true) => (2 * self.round).clamp(1, LOOKS_A_ROUND),
            (false, false) => 1,
        };
        let is_met = is_met && is_same;
        *self = Self { findings, fleet: None, looks: 1, round, is_met, ..Self::default() };
    }
}

fn ids(found: &Examination) -> BTreeSet<String> {
    found.findings.iter().map(|finding| finding.id.clone()).collect()
}

#[async_trait]
impl Reconciler for Consistency {
    fn name(&self) -> &'static str {
        "consistency"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn reconcile(&self, world: &World) -> Result<u64, StoreError> {
        let store = world.store();
        let mut known = self.0.lock().await;
        let is_met = world.hub.damage_met.swap(false, Relaxed);
        let is_news = is_met && !known.is_met;
        let is_anothers = |alert: &Alert| !known.judged.contains(&alert.id.subject);
        let has_anothers = !world.standing(is_anothers).is_empty();
        if !is_news && !has_anothers && known.looks < known.round {
            let found = store.examine(Depth::Fleet).await?;
            if known.is_known(ids(&found)) {
                known.looks += 1;
                return Ok(0);
            }
        }
        let mut found = store.examine(Depth::Everything).await?;
        for finding in found.findings.iter().filter(|finding| !known.findings.contains(&finding.id))
        {
            let Finding { id, problem, .. } = finding;
            match finding.is_harmless() {
                true => {
                    tracing::warn!(id, problem, "what is stored is inconsistent, and harms nothing")
                }
                false => tracing::error!(id, problem, "what is stored is inconsistent"),
            }
        }
        let certain = certain(&found);
        let mut mended = 0;
        if !certain.is_empty() {
            mended = store.mend(Some(certain)).await?.len();
            found = store.examine(Depth::Everything).await?;
        }
        let is_over = found.is_sound() && world.in_doubt(&found).is_empty();
        known.saw_everything(ids(&found), is_over, is_met);
        let standing = world.standing(|_| true).into_iter().map(|alert| alert.id.subject);
        let judged = standing.chain(found.findings.iter().map(|finding| finding.subject.clone()));
        let judged = judged.collect();
        let shown = world.show(&found).await?;
        known.judged = judged;
        Ok(shown + mended as u64)
    }
}

impl World {
    /// One alert for each thing that something is wrong with, with the first that is.
    pub async fn show(&self, found: &Examination) -> Result<u64, StoreError> {
        let mut wanted: BTreeMap<AlertId, Raise> = BTreeMap::new();
        for raise in found.findings.iter().map(inconsistent) {
            if wanted.len() < MAX_SHOWN {
                wanted.entry(raise.alert.clone()).or_insert(raise);
            }
        }
        for Alert { id, severity, message, action, .. } in self.in_doubt(found) {
            wanted.entry(id.clone()).or_insert(Raise { alert: id, severity, message, action });
        }
        self.bring_about(&[AlertRule::Inconsistent], wanted.into_values().collect()).await
    }

    /// Alerts about what was wrong and may still be: they stay.
    fn in_doubt(&self, found: &Examination) -> Vec<Alert> {
        let subjects = found.undecided.iter().filter_map(|id| Some(id.split_once(':')?.1));
        let subjects: BTreeSet<&str> = subjects.collect();
        self.standing(|alert| subjects.contains(alert.id.subject.as_str()))
    }

    /// Those of the alerts about what is wrong that are meant.
    fn standing(&self, is_meant: impl Fn(&Alert) -> bool) -> Vec<Alert> {
        self.hub.with_view(|view| {
            let alerts = view.alerts.values().map(|alert| &**alert);
            let meant =
                alerts.filter(|alert| alert.rule == AlertRule::Inconsistent && is_meant(alert));
            meant.cloned().collect()
        })
    }
}

/// What is repaired without being asked: the list of alerts, what ended jobs take unless one of them
/// may be missing, and lists of workers with whom nothing else is wrong, since a worker is repaired as
/// a whole.
fn certain(found: &Examination) -> Vec<String> {
    let doubtful: BTreeSet<WorkerId> = found
        .findings
        .iter()
        .filter(|finding| !finding.is_repaired_by_itself())
        .filter_map(worker_of)
        .collect();
    let are_jobs_certain = found.doubts_jobs().is_none();
    let certain = found.findings.iter().filter(|finding| {
        finding.is_repaired_by_itself()
            && (are_jobs_certain || finding.rule != FindingRule::WrongCount)
            && worker_of(finding).is_none_or(|worker| !doubtful.contains(&worker))
    });
    certain.map(|finding| finding.id.clone()).collect()
}

fn worker_of(finding: &Finding) -> Option<WorkerId> {
    match finding.record()? {
        RecordKey::Worker(id) => Some(id),
        RecordKey::Connector(id) => Some(id.worker),
        _ => None,
    }
}

fn inconsistent(finding: &Finding) -> Raise {
    let Finding { subject, problem, consequence, cure, .. } = finding;
    let severity = match finding.is_harmless() {
        true => Severity::Warning,
        false => Severity::Critical,
    };
    Raise {
        alert: AlertId { rule: AlertRule::Inconsistent, subject: subject.clone() },
        severity,
        message: format!("{subject}: {problem}; {consequence}"),
        action: format!("{cure} (`pointsman doctor` lists everything)"),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::doctor::Mend;

    use super::*;

    #[test]
    fn what_everything_else_is_shown_with_is_repaired_unasked() {
        let finding = |rule, subject: &str| Finding::new(rule, subject, "");
        let findings = vec![
            finding(FindingRule::WrongType, "index/alerts"),
            finding(FindingRule::WrongType, "index/leases"),
            finding(FindingRule::WrongList, "worker/fine"),
            finding(FindingRule::WrongList, "worker/broken"),
            finding(FindingRule::WrongStatus, "worker/broken"),
        ];
        let found = Examination { findings, ..Default::default() };
        assert_eq!(certain(&found), ["wrong_type:index/alerts", "wrong_list:worker/fine"]);
    }

    #[test]
    fn bytes_of_ended_jobs_are_counted_anew_unasked_where_none_may_be_missing() {
        let bytes = || Finding::ended_bytes("0 are counted, and there are 9".to_owned());
        assert_eq!(inconsistent(&bytes()).severity, Severity::Warning);
        let mut found = Examination { findings: vec![bytes()], ..Default::default() };
        assert_eq!(certain(&found), [bytes().id]);
        found.findings.push(Finding::new(FindingRule::WrongCount, "index/pending_jobs", ""));
        assert_eq!(certain(&found), [bytes().id], "no other count is");
        let job = "job/01900000-0000-7000-8000-000000000001";
        found.findings.push(Finding::new(FindingRule::LostRecord, job, ""));
        assert!(certain(&found).is_empty(), "its bytes would be left out");
    }

    #[test]
    fn of_what_is_replaced_an_alert_only_warns() {
        let mut aside = Finding::new(FindingRule::Quarantined, "index/leases", "");
        assert_eq!(inconsistent(&aside).severity, Severity::Critical);
        aside.mend = Mend::Repair;
        assert_eq!(inconsistent(&aside).severity, Severity::Warning);
    }
}
