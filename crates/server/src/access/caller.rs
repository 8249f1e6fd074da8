//! A caller and what it may do.

use std::sync::Arc;

use pointsman_api::{ErrorCode, Problem};
use pointsman_core::{CustomerId, record::Job};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Submits jobs, looks at them, cancels and retries them.
    Submit,
    /// Looks; at payloads, results and pictures only with `payloads`.
    View,
    /// Runs jobs.
    Worker,
    /// Everything.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Submit, Self::View, Self::Worker, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::View => "view",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// See jobs.
    View,
    /// See the whole fleet: all customers' jobs, workers, machines, the log.
    Fleet,
    /// See payloads, results, files and pictures.
    Payloads,
    Submit,
    /// Speak the worker protocol.
    Work,
    /// Drain, resume, repair and remove.
    Operate,
}

impl Permission {
    /// The roles that have it, for the refusal.
    fn needs(self) -> &'static str {
        match self {
            Self::View => "view, submit or admin",
            Self::Fleet => "view, submit or admin, and no customer,",
            Self::Payloads => "submit, worker or admin, or view with --payloads,",
            Self::Submit => "submit or admin",
            Self::Work => "worker or admin, and no customer,",
            Self::Operate => "admin, and no customer,",
        }
    }
}

/// What tells a token from all others, also from a later one of its name.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    name: String,
    sha256: String,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// None on loopback without a token.
    token: Option<Arc<Token>>,
    role: Role,
    /// Sees only this customer's jobs.
    customer: Option<CustomerId>,
    payloads: bool,
}

impl Caller {
    /// Somebody on this machine.
    pub fn local() -> Self {
        Self { token: None, role: Role::Admin, customer: None, payloads: true }
    }

    pub fn with_token(record: &super::TokenRecord) -> Self {
        let (name, sha256) = (record.name.clone(), record.sha256.clone());
        Self {
            token: Some(Token { name, sha256 }.into()),
            role: record.role,
            customer: record.customer.clone(),
            payloads: record.payloads,
        }
    }

    /// A customer's token has nothing to do with the fleet: not even as a worker, which runs
    /// everybody's jobs.
    pub fn may(&self, permission: Permission) -> bool {
        use Permission as P;
        match (self.role, permission) {
            (_, P::Fleet | P::Work | P::Operate) if self.customer.is_some() => false,
            (Role::Admin, _) => true,
            (Role::Submit, P::View | P::Fleet | P::Payloads | P::Submit) => true,
            (Role::View, P::View | P::Fleet) => true,
            (Role::View, P::Payloads) => self.payloads,
            (Role::Worker, P::Work | P::Payloads) => true,
            _ => false,
        }
    }

    /// Whose jobs a request is about, that asks at `place` for those of somebody: with a customer's
    /// token that customer's, and nobody else's.
    pub fn own_customer(
        &self,
        asked: Option<CustomerId>,
        does: &str,
        place: &str,
    ) -> Result<Option<CustomerId>, Problem> {
        match (&self.customer, asked) {
            (Some(own), Some(other)) if *own != other => {
                let detail = format!("this token {does} jobs of {own}, not of {other}");
                Err(Problem::new(ErrorCode::Forbidden, detail).at(place))
            }
            (Some(own), _) => Ok(Some(own.clone())),
            (None, asked) => Ok(asked),
        }
    }

    pub fn check(&self, permission: Permission) -> Result<(), Refusal> {
        if self.may(permission) {
            return Ok(());
        }
        let name = self.token.as_ref().map_or("(none)", |token| &token.name);
        let (role, needs) = (self.role.as_str(), permission.needs());
        let whose = self.customer.as_ref().map_or(String::new(), |id| format!(" of customer {id}"));
        let detail = format!("the token {name:?} has the role {role}{whose}; {needs} is needed");
        Err(Problem::new(ErrorCode::Forbidden, detail).at("Authorization").into())
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub fn customer(&self) -> Option<&CustomerId> {
        self.customer.as_ref()
    }

    /// Whether the caller may know of this job.
    pub fn sees(&self, job: &Job) -> bool {
        self.customer.is_none() || self.customer == job.spec.customer_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, customer: bool, payloads: bool) -> Caller {
        let customer = customer.then(|| CustomerId::new("acme").unwrap());
        Caller { token: None, role, customer, payloads }
    }

    #[test]
    fn each_role_may_what_it_is_for_and_no_more() {
        use Permission as P;
        let all = [P::View, P::Fleet, P::Payloads, P::Submit, P::Work, P::Operate];
        let may = |caller: Caller| all.map(|permission| caller.may(permission));
        let (y, n) = (true, false);
        assert_eq!(may(Caller::local()), [y, y, y, y, y, y]);
        assert_eq!(may(caller(Role::Submit, false, false)), [y, y, y, y, n, n]);
        assert_eq!(may(caller(Role::View, false, false)), [y, y, n, n, n, n]);
        assert_eq!(may(caller(Role::View, false, true)), [y, y, y, n, n, n]);
        assert_eq!(may(caller(Role::Worker, false, false)), [n, n, y, n, y, n]);
        assert_eq!(may(caller(Role::Submit, true, false)), [y, n, y, y, n, n]);
        assert_eq!(may(caller(Role::View, true, true)), [y, n, y, n, n, n]);
        assert_eq!(may(caller(Role::Worker, true, false)), [n, n, y, n, n, n]);
        assert_eq!(may(caller(Role::Admin, true, false)), [y, n, y, y, n, n]);
    }
}
