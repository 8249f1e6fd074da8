//! Everything random that a worker draws: the names of its claims and of itself, and jitter.

use std::time::Duration;

use pointsman_core::{Incarnation, Token};
use uuid::Uuid;

pub(crate) fn token() -> Token {
    Token::from_uuid(Uuid::new_v4())
}

pub(crate) fn incarnation() -> Incarnation {
    Incarnation::from_uuid(Uuid::new_v4())
}

/// Between a half and the whole of `span`, so that workers that lost their server together do not
/// come back together.
pub(crate) fn jitter(span: Duration) -> Duration {
    let [.., a, b] = *Uuid::new_v4().as_bytes();
    let share = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
    span.mul_f64(0.5 + share / 2.0)
}
