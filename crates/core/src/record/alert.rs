//! Alerts: what an operator should look at now.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Extra, Seq};
use crate::{
    ids::{IdError, read_from_text, string_schema},
    names::named,
    time::Timestamp,
};

named! {
    /// What an alert is about.
    pub enum AlertRule {
        /// Jobs wait that no worker can run.
        NobodyAble = "nobody_able",
        /// Jobs of one class are lost again and again.
        PoisonousClass = "poisonous_class",
        /// A worker broke several different jobs in a row.
        SuspectWorker = "suspect_worker",
        /// A worker's service has been in error for a minute.
        BrokenService = "broken_service",
        /// Two processes fight over one id.
        FlappingIncarnation = "flapping_incarnation",
        /// Records contradict each other.
        Inconsistent = "inconsistent",
        /// The store's disk or memory is full: new work is refused. Or there is no room for files.
        StoreFull = "store_full",
        /// The store's settings may lose work. Or a server does not reach its directory of files.
        StoreAtRisk = "store_at_risk",
        /// The store was closed for its export: new work is refused, and no job is claimed.
        IntakeClosed = "intake_closed",
    }
}

named! {
    /// How bad it is.
    pub enum Severity {
        Warning = "warning",
        Critical = "critical",
    }
}

/// Which rule, and what it is about: written `rule:subject`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId {
    pub rule: AlertRule,
    pub subject: String,
}

string_schema!(AlertId, "Which rule, and what it is about: written `rule:subject`.");
read_from_text!(AlertId);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rule.as_str(), self.subject)
    }
}

impl FromStr for AlertId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.split_once(':')
            .and_then(|(rule, subject)| {
                Some(Self { rule: AlertRule::named(rule)?, subject: subject.into() })
            })
            .ok_or_else(|| IdError::new("alert id", text, "use RULE:SUBJECT with a known rule"))
    }
}

impl Serialize for AlertId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// An alert that stands: it is gone when what it says is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Written `rule:subject`.
    pub id: AlertId,
    /// Seq of the last change.
    pub rev: Seq,
    /// Which rule raised it.
    pub rule: AlertRule,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a class, a worker, a machine, a record.
    pub subject: String,
    /// What is wrong, for people.
    pub message: String,
    /// What mends it.
    pub action: String,
    /// When it was raised.
    pub raised_at: Timestamp,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Extra,
}
