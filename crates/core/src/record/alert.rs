//! Alerts: what an operator should look at now.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Extra, Seq};
use crate::{
    ids::{IdError, string_schema},
    time::Timestamp,
};

/// What an alert is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AlertRule {
    /// Jobs wait that no worker can run.
    NobodyAble,
    /// Jobs of one class are lost again and again.
    PoisonousClass,
    /// A worker broke several different jobs in a row.
    SuspectWorker,
    /// A worker's service has been in error for a minute.
    BrokenService,
    /// Two processes fight over one id.
    FlappingIncarnation,
    /// Records contradict each other.
    Inconsistent,
    /// The store's disk or memory is full: new work is refused. Or there is no room for files.
    StoreFull,
    /// The store's settings may lose work. Or a server does not reach its directory of files.
    StoreAtRisk,
    /// The store was closed for its export: new work is refused, and no job is claimed.
    IntakeClosed,
}

impl AlertRule {
    const ALL: [Self; 9] = [
        Self::NobodyAble,
        Self::PoisonousClass,
        Self::SuspectWorker,
        Self::BrokenService,
        Self::FlappingIncarnation,
        Self::Inconsistent,
        Self::StoreFull,
        Self::StoreAtRisk,
        Self::IntakeClosed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NobodyAble => "nobody_able",
            Self::PoisonousClass => "poisonous_class",
            Self::SuspectWorker => "suspect_worker",
            Self::BrokenService => "broken_service",
            Self::FlappingIncarnation => "flapping_incarnation",
            Self::Inconsistent => "inconsistent",
            Self::StoreFull => "store_full",
            Self::StoreAtRisk => "store_at_risk",
            Self::IntakeClosed => "intake_closed",
        }
    }
}

/// How bad it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Warning,
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Which rule, and what it is about: written `rule:subject`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId {
    pub rule: AlertRule,
    pub subject: String,
}

string_schema!(AlertId, "Which rule, and what it is about: written `rule:subject`.");

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
                let rule = AlertRule::ALL.into_iter().find(|r| r.as_str() == rule)?;
                Some(Self { rule, subject: subject.into() })
            })
            .ok_or_else(|| IdError {
                what: "alert id",
                text: text.chars().take(80).collect(),
                rule: "use RULE:SUBJECT with a known rule",
            })
    }
}

impl Serialize for AlertId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AlertId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
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
