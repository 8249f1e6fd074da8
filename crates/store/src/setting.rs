//! Settings of what a store lies on.

use std::fmt;

/// A setting on which it depends whether work may be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Tells it from the others, also from those that other processes judge.
    pub name: String,
    pub judgement: Judgement,
}

impl Setting {
    pub fn risk(&self) -> Option<&Risk> {
        match &self.judgement {
            Judgement::AtRisk(risk) => Some(risk),
            Judgement::Sound | Judgement::NotKnown => None,
        }
    }
}

/// Whether a setting may lose work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    Sound,
    AtRisk(Risk),
    /// What this process has seen does not tell. Another one may know: what it says of it stands.
    NotKnown,
}

impl From<Option<Risk>> for Judgement {
    fn from(risk: Option<Risk>) -> Self {
        risk.map_or(Self::Sound, Self::AtRisk)
    }
}

/// How a setting may lose work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Risk {
    /// How it is set, and what is lost by that.
    pub message: String,
    /// What to set instead, or where to look.
    pub action: String,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.action)
    }
}
