//! What can be wrong with what is stored: findings, and what became of them. No transition makes
//! any, so each is a fault of this program, of the disk, or of somebody's hand.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event::{RecordKey, RecordKind};

/// The subject of what is wrong with the count by which `--keep-gib` goes.
const ENDED_BYTES: &str = "index/bytes_of_ended_jobs";

/// One thing that is wrong with what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `RULE:SUBJECT`; the same as long as the same is wrong.
    pub id: String,
    pub rule: FindingRule,
    /// What it is about: `worker/gpu-1-worker-0`, `job/UUID`, `class/KEY`, `index/NAME`.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// What that leads to.
    pub consequence: String,
    /// What makes it right.
    pub cure: String,
    pub mend: Mend,
}

/// What a repair does about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mend {
    /// Makes it right.
    Repair,
    /// Sets it aside, where the monitor goes on showing it.
    Quarantine,
    /// Nothing: a person must.
    None,
}

/// A finding that was to be mended, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mended {
    pub finding: Finding,
    #[serde(flatten)]
    pub outcome: MendOutcome,
}

/// What became of a finding that was to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum MendOutcome {
    Repaired,
    Quarantined,
    /// It is as it was.
    Left {
        /// Why nothing was done.
        why: String,
    },
}

/// Everything that a look found wrong, each thing once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Examination {
    /// At most 1,000.
    pub findings: Vec<Finding>,
    /// There are more than are listed; they come to light when these are mended.
    pub more: bool,
    /// Ids of findings that may be true: what they are about changed with every look.
    #[serde(default)]
    pub undecided: Vec<String>,
}

impl Examination {
    /// Findings at most: somebody is to read them.
    pub const MAX: usize = 1_000;

    pub fn add(&mut self, finding: Finding) {
        if self.more || self.has(&finding.id) {
            return;
        }
        match self.findings.len() < Self::MAX {
            true => self.findings.push(finding),
            false => self.more = true,
        }
    }

    pub fn has(&self, id: &str) -> bool {
        self.findings.iter().any(|finding| finding.id == id)
    }

    /// What makes it doubtful whether every job that is kept is listed, with what was submitted: the id
    /// of the first finding. What only jobs name must not be removed then.
    pub fn doubts_jobs(&self) -> Option<&str> {
        let doubts = |id: &str, rule: Option<FindingRule>| {
            let subject = id.split_once(':').map_or("", |(_, subject)| subject);
            let is_of_all = matches!(subject, "index/jobs" | "index/meta");
            is_of_all || (subject.starts_with("job/") && rule != Some(FindingRule::LostPayload))
        };
        let wrong = self.findings.iter().filter(|finding| !finding.is_replaced());
        let mut wrong = wrong.filter(|finding| doubts(&finding.id, Some(finding.rule)));
        // What is counted is never at rest on a busy store; a job that is missing is told beside it.
        let is_count = |id: &&String| id.starts_with(FindingRule::WrongCount.as_str());
        let undecided = || self.undecided.iter().find(|id| !is_count(id) && doubts(id, None));
        // Whatever else there is may be about any job.
        let more = || self.findings.first().filter(|_| self.more);
        let first = wrong.next().or_else(more).map(|finding| &finding.id).or_else(undecided);
        first.map(String::as_str)
    }

    /// Nothing is known to be wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $mend:ident, $consequence:literal, $cure:literal;)*) => {
        /// What kind of thing is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum FindingRule {
            $($(#[$doc])* $variant,)*
        }

        impl FindingRule {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            const fn words(self) -> (Mend, &'static str, &'static str) {
                match self { $(Self::$variant => (Mend::$mend, $consequence, $cure),)* }
            }
        }
    };
}

rules! {
    /// Two records that belong together disagree.
    Contradiction = "contradiction", Repair,
        "the monitor and the rules go by records that cannot both be true",
        "repair it: what follows from the other records is written anew";
    /// A field that no version of this program writes.
    ForeignField = "foreign_field", Repair,
        "nothing reads it; somebody else writes to this store",
        "repair it: the field is taken away; find out who wrote it";
    /// A field, or a whole record, that cannot be read.
    UnreadableField = "unreadable_field", Quarantine,
        "every command that needs the record is refused",
        "repair it: what cannot be read is set aside, and whom it belongs to registers anew";
    /// A record that something names, and that is gone.
    LostRecord = "lost_record", Repair,
        "it is missing from every list, and a job that was lost does not run",
        "repair it: it is written anew as the log has it";
    /// A job has not ended, and what it was submitted with is gone.
    LostPayload = "lost_payload", None,
        "the job fails when a worker takes it",
        "no repair brings a payload back: cancel the job and submit it again";
    /// A key that holds another type of value than it must.
    WrongType = "wrong_type", Quarantine,
        "every command that needs the key is refused",
        "repair it: the key is set aside; find out who wrote it";
    /// What could not be read is set aside.
    Quarantined = "quarantined", None,
        "it is missing from every list, and a job that was set aside does not run",
        "look at it where it was set aside, and delete it there once it is of no more use; a worker \
         or machine that still runs registers anew, a job must be submitted again";
    /// A record has a number that the log never gave out, or one that another record has.
    UnknownNumber = "unknown_number", Repair,
        "viewers may take the record for newer than it is, or not see it",
        "repair it: the record gets a new number";
    /// A job runs, and nothing ends its attempt when its worker dies.
    RunningWithoutLease = "running_without_lease", Repair,
        "if its worker is gone, the job stays in progress for ever",
        "repair it: it gets a lease, which its worker renews or which ends";
    /// A lease whose job does not run.
    LeaseWithoutJob = "lease_without_job", Repair,
        "the lease is looked at again and again, in vain",
        "repair it: the lease is dropped";
    /// An index names a record that is not there or does not belong into it.
    IndexWithoutRecord = "index_without_record", Repair,
        "claims and lists may come upon what is not there",
        "repair it: the index is made anew from the records";
    /// A record that an index should name, and does not.
    RecordWithoutIndex = "record_without_index", Repair,
        "it is not found: a job may wait for ever, a worker may be missing from its machine, and a \
         server that starts may not show it",
        "repair it: the index is made anew from the records, and every server shows them";
    /// A count that is not the number of records.
    WrongCount = "wrong_count", Repair,
        "figures and limits are wrong",
        "repair it: it is counted anew";
    /// A worker's or connector's list of jobs is not what the jobs' records say.
    WrongList = "wrong_list", Repair,
        "free slots are counted wrongly, and a status that follows from the list is wrong",
        "none needed: the list is made anew from the jobs' records within seconds";
    /// A status that does not follow from the rest of its record.
    WrongStatus = "wrong_status", Repair,
        "the monitor shows what is not so",
        "repair it: the status is derived anew";
    /// A record names a machine that does not exist.
    UnknownMachine = "unknown_machine", Repair,
        "it is shown without a machine, and orders to its machine do not reach it",
        "repair it: it gets the machine that its connectors name; or restart the worker";
    /// A record names a worker that does not exist, or has no such service.
    UnknownWorker = "unknown_worker", Repair,
        "a job that runs there does not end; a connector there does nothing",
        "repair it: such a job is given back and runs elsewhere, such a connector is removed";
    /// A worker has a service, and the service has no connector.
    MissingConnector = "missing_connector", Repair,
        "the worker gets no jobs of this service",
        "repair it: the connector is made anew, and its worker says how it is";
    /// What a worker is able to do is not kept.
    UnknownCapabilities = "unknown_capabilities", None,
        "the worker gets no jobs",
        "restart the worker: it registers with its capabilities";
}

impl Finding {
    /// With what the rule says of consequence and cure.
    pub fn new(rule: FindingRule, subject: impl Into<String>, problem: impl Into<String>) -> Self {
        let subject = subject.into();
        let id = format!("{}:{subject}", rule.as_str());
        let (mend, consequence, cure) = rule.words();
        let (consequence, cure) = (consequence.to_owned(), cure.to_owned());
        Self { id, rule, subject, problem: problem.into(), consequence, cure, mend }
    }

    /// About one record.
    pub fn about(rule: FindingRule, key: &RecordKey, problem: impl Into<String>) -> Self {
        Self::new(rule, subject(key), problem)
    }

    /// What ended jobs take is counted wrongly. Versions before this one did not count the files of
    /// late results.
    pub fn ended_bytes(problem: String) -> Self {
        let consequence = "ended jobs are kept for longer, or shorter, than `--keep-gib` says";
        let cure = "none needed: they are counted anew within minutes, or, where a job may be missing, once \
                    that is mended";
        let (consequence, cure) = (consequence.to_owned(), cure.to_owned());
        Self { consequence, cure, ..Self::new(FindingRule::WrongCount, ENDED_BYTES, problem) }
    }

    /// Whether it is repaired without being asked: only what records leave no doubt of, a worker's list
    /// of jobs and what ended jobs take, and the list without which nothing else that is wrong can be
    /// shown.
    pub fn is_repaired_by_itself(&self) -> bool {
        match self.rule {
            FindingRule::WrongList => true,
            FindingRule::WrongCount => self.subject == ENDED_BYTES,
            FindingRule::WrongType => self.subject == "index/alerts",
            _ => false,
        }
    }

    /// It was set aside, and nothing is missing: something sound has taken its place, or it is of no use.
    pub fn is_replaced(&self) -> bool {
        self.rule == FindingRule::Quarantined && self.mend == Mend::Repair
    }

    /// Nothing is lost by it, and it passes by itself or by the next repair: a warning is enough.
    pub fn is_harmless(&self) -> bool {
        let passes = self.rule == FindingRule::RecordWithoutIndex && self.mend == Mend::None;
        let is_counted_anew = self.rule == FindingRule::WrongCount && self.subject == ENDED_BYTES;
        passes || is_counted_anew || self.is_replaced()
    }

    /// Whether a text can be the id of a finding.
    pub fn is_id(text: &str) -> bool {
        let named = text.split_once(':').filter(|(_, subject)| !subject.is_empty());
        named.is_some_and(|(name, _)| FindingRule::ALL.iter().any(|rule| rule.as_str() == name))
    }

    /// The record that it is about, if it is about one.
    pub fn record(&self) -> Option<RecordKey> {
        let (kind, id) = self.subject.split_once('/')?;
        RecordKey::parse(RecordKind::named(kind)?, id).ok()
    }
}

/// A record as findings name it: `KIND/ID`.
pub fn subject(key: &RecordKey) -> String {
    format!("{}/{}", key.kind().as_str(), key.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_as_json_names_them() {
        for rule in FindingRule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.as_str());
        }
    }

    #[test]
    fn a_finding_leads_back_to_its_record() {
        for key in [
            RecordKey::Worker("gpu-1-worker-0".parse().unwrap()),
            RecordKey::Connector("gpu-1-worker-0:comfyui".parse().unwrap()),
            RecordKey::Job("01900000-0000-7000-8000-000000000001".parse().unwrap()),
        ] {
            let finding = Finding::about(FindingRule::WrongStatus, &key, "");
            assert_eq!(finding.record(), Some(key));
            assert!(Finding::is_id(&finding.id));
        }
        assert_eq!(Finding::new(FindingRule::WrongCount, "index/jobs", "").record(), None);
        for wrong in ["", "nonsense", "worker/w", "wrong_status", "wrong_status:", "other:worker/w"]
        {
            assert!(!Finding::is_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn jobs_are_in_doubt_where_one_may_be_missing() {
        let found = |rule, subject: &str| {
            let findings = vec![Finding::new(rule, subject, "")];
            Examination { findings, ..Default::default() }
        };
        let job = "job/01900000-0000-7000-8000-000000000001";
        for (rule, subject, is_so) in [
            (FindingRule::RecordWithoutIndex, job, true),
            (FindingRule::UnreadableField, job, true),
            (FindingRule::Quarantined, job, true),
            (FindingRule::WrongType, "index/jobs", true),
            (FindingRule::LostPayload, job, false),
            (FindingRule::WrongList, "worker/w", false),
            (FindingRule::WrongType, "index/leases", false),
        ] {
            assert_eq!(found(rule, subject).doubts_jobs().is_some(), is_so, "{rule:?} {subject}");
        }
        let mut replaced = found(FindingRule::Quarantined, job);
        replaced.findings[0].mend = Mend::Repair;
        assert_eq!(replaced.doubts_jobs(), None);
        let undecided = vec![format!("lost_record:{job}")];
        let undecided = Examination { undecided, ..Default::default() };
        assert_eq!(undecided.doubts_jobs(), Some(&*undecided.undecided[0]));
        let counts = vec!["wrong_count:index/meta".to_owned()];
        assert_eq!(Examination { undecided: counts, ..Default::default() }.doubts_jobs(), None);
        let more = Examination { more: true, ..found(FindingRule::WrongList, "worker/w") };
        assert!(more.doubts_jobs().is_some());
    }

    #[test]
    fn an_examination_lists_each_finding_once_and_says_when_there_are_more() {
        let mut found = Examination::default();
        for n in (0..=Examination::MAX).flat_map(|n| [n, n]) {
            found.add(Finding::new(FindingRule::WrongCount, format!("index/{n}"), ""));
        }
        assert_eq!((found.findings.len(), found.more), (Examination::MAX, true));
    }
}
