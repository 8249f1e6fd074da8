//! What the rules refuse, as a problem and back again: a worker that comes in over HTTP needs to
//! know exactly what the store said.

use pointsman_core::{Rejected, decide::limits};

use crate::{ErrorCode, Problem, problem::Facts};

impl From<&Rejected> for Problem {
    fn from(rejected: &Rejected) -> Self {
        let mut problem = Self::new(code_of(rejected), rejected.to_string());
        problem.facts = facts_of(rejected);
        if let Rejected::ServiceNotRegistered { .. } = rejected {
            let cure =
                "name services of the worker's registration, or register again with this one";
            problem = problem.cure(cure);
        }
        problem
    }
}

impl From<Rejected> for Problem {
    fn from(rejected: Rejected) -> Self {
        Self::from(&rejected)
    }
}

fn code_of(rejected: &Rejected) -> ErrorCode {
    use ErrorCode as C;
    match rejected {
        Rejected::JobNotFound(_) => C::JobNotFound,
        Rejected::WorkerNotFound(_) => C::WorkerNotFound,
        Rejected::MachineNotFound(_) => C::MachineNotFound,
        Rejected::NotFound(_) => C::NotFound,
        Rejected::StaleAttempt { .. } => C::StaleAttempt,
        Rejected::AlreadyEnded { .. } => C::AlreadyEnded,
        Rejected::NotEnded { .. } => C::NotEnded,
        Rejected::UnknownAttempt(_) => C::UnknownAttempt,
        Rejected::Superseded(_) => C::Superseded,
        Rejected::IdempotencyConflict(_) => C::IdempotencyConflict,
        Rejected::JobGone(_) => C::JobGone,
        Rejected::NotGone { .. } => C::NotGone,
        Rejected::TooManyClasses(_) => C::TooManyClasses,
        Rejected::IntakeClosed => C::IntakeClosed,
        Rejected::Importing => C::Importing,
        Rejected::ServiceNotRegistered { .. } => C::UnknownService,
        Rejected::Damaged(_) => C::StoreDamaged,
        Rejected::Invalid(_) | Rejected::NotDue => C::InvalidState,
    }
}

fn facts_of(rejected: &Rejected) -> Facts {
    let none = Facts::default();
    match rejected {
        Rejected::JobNotFound(job)
        | Rejected::UnknownAttempt(job)
        | Rejected::IdempotencyConflict(job)
        | Rejected::JobGone(job) => Facts { job: Some(*job), ..none },
        Rejected::WorkerNotFound(id) | Rejected::MachineNotFound(id) | Rejected::NotFound(id) => {
            Facts { subject: Some(id.clone()), ..none }
        }
        Rejected::NotGone { id, .. } => Facts { subject: Some(id.clone()), ..none },
        Rejected::StaleAttempt { job, current } => {
            Facts { job: Some(*job), current_attempt: Some(*current), ..none }
        }
        Rejected::AlreadyEnded { job, status } | Rejected::NotEnded { job, status } => {
            Facts { job: Some(*job), job_status: Some(*status), ..none }
        }
        Rejected::Superseded(incarnation) => Facts { incarnation: Some(*incarnation), ..none },
        Rejected::Damaged(what) => Facts { subject: Some(what.clone()), ..none },
        Rejected::TooManyClasses(_)
        | Rejected::IntakeClosed
        | Rejected::Importing
        | Rejected::ServiceNotRegistered { .. }
        | Rejected::Invalid(_)
        | Rejected::NotDue => none,
    }
}

impl Problem {
    /// What the rules said, if this problem is theirs.
    pub fn rejected(&self) -> Option<Rejected> {
        use ErrorCode as C;
        let facts = &self.facts;
        let subject = || facts.subject.clone();
        Some(match self.error_code()? {
            C::JobNotFound => Rejected::JobNotFound(facts.job?),
            C::WorkerNotFound => Rejected::WorkerNotFound(subject()?),
            C::MachineNotFound => Rejected::MachineNotFound(subject()?),
            C::NotFound => Rejected::NotFound(subject()?),
            C::StaleAttempt => {
                Rejected::StaleAttempt { job: facts.job?, current: facts.current_attempt? }
            }
            C::AlreadyEnded => {
                Rejected::AlreadyEnded { job: facts.job?, status: facts.job_status? }
            }
            C::NotEnded => Rejected::NotEnded { job: facts.job?, status: facts.job_status? },
            C::UnknownAttempt => Rejected::UnknownAttempt(facts.job?),
            C::Superseded => Rejected::Superseded(facts.incarnation?),
            C::IdempotencyConflict => Rejected::IdempotencyConflict(facts.job?),
            C::JobGone => Rejected::JobGone(facts.job?),
            C::NotGone => Rejected::NotGone { id: subject()?, why: "the server says so" },
            C::TooManyClasses => Rejected::TooManyClasses(limits::MAX_CLASSES),
            C::IntakeClosed => Rejected::IntakeClosed,
            C::Importing => Rejected::Importing,
            C::StoreDamaged => Rejected::Damaged(subject()?),
            C::InvalidState | C::ArtifactMissing | C::DigestMismatch => {
                Rejected::Invalid(self.detail.clone())
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::{Incarnation, JobId, record::JobStatus};

    use super::*;

    #[test]
    fn what_the_rules_said_survives_the_wire() {
        let job = JobId::from_uuid(uuid::Uuid::from_u128(7));
        let incarnation = Incarnation::from_uuid(uuid::Uuid::from_u128(8));
        for rejected in [
            Rejected::JobNotFound(job),
            Rejected::WorkerNotFound("w".into()),
            Rejected::MachineNotFound("m".into()),
            Rejected::NotFound("alert x".into()),
            Rejected::StaleAttempt { job, current: 3 },
            Rejected::AlreadyEnded { job, status: JobStatus::Completed },
            Rejected::NotEnded { job, status: JobStatus::Pending },
            Rejected::UnknownAttempt(job),
            Rejected::Superseded(incarnation),
            Rejected::IdempotencyConflict(job),
            Rejected::JobGone(job),
            Rejected::TooManyClasses(10_000),
            Rejected::IntakeClosed,
            Rejected::Importing,
            Rejected::Damaged("job:1: priority is x".into()),
        ] {
            let json = serde_json::to_string(&Problem::from(&rejected)).unwrap();
            let problem: Problem = serde_json::from_str(&json).unwrap();
            assert_eq!(problem.rejected(), Some(rejected));
        }
    }
}
