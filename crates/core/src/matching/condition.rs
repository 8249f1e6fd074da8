//! Conditions on a worker's labels: the one open part of the requirements.

use std::{collections::BTreeSet, fmt, ops::Bound};

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

use super::wording::listed;

/// One condition on a label. Several operators in one condition must all hold; a worker without
/// the label fails every condition. Values of different types are never equal and never in order:
/// the text `"2"` is not the number 2.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "an object with at least one of the operators eq, gt, gte, lt, lte, in and all, \
                 such as {\"gte\": 2}"
)]
pub struct Condition {
    /// The label is exactly this; a list is equal to a list of the same texts in any order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<LabelValue>,
    /// The label is a number above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<f64>,
    /// The label is a number, this or above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<f64>,
    /// The label is a number below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<f64>,
    /// The label is a number, this or below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<f64>,
    /// The label is one of these, 1 to 100.
    #[serde(
        rename = "in",
        deserialize_with = "some_values",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub one_of: Vec<LabelValue>,
    /// The label is a list that holds all of these texts, 1 to 100.
    #[serde(deserialize_with = "some_values", skip_serializing_if = "BTreeSet::is_empty")]
    pub all: BTreeSet<String>,
}

/// A label's value: text, number (±9,007,199,254,740,991, so that every whole number is exact),
/// truth value, or a list of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text, a number, true or false, or a list of texts")]
pub enum LabelValue {
    Flag(bool),
    Number(f64),
    Text(String),
    List(BTreeSet<String>),
}

/// An empty list would read as "no such operator": it is refused instead of quietly dropped.
fn some_values<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
    for<'a> &'a T: IntoIterator,
{
    let values = T::deserialize(from)?;
    if (&values).into_iter().next().is_none() {
        return Err(de::Error::custom(
            "the list is empty: name at least one value, or leave the operator out",
        ));
    }
    Ok(values)
}

impl Condition {
    /// Whether a label with this value meets every operator. Where there is no operator at all,
    /// nothing does.
    pub fn holds(&self, value: &LabelValue) -> bool {
        let bound = |bound: Option<f64>, met: fn(&f64, &f64) -> bool| {
            bound.is_none_or(|b| matches!(value, LabelValue::Number(n) if met(n, &b)))
        };
        self.is_sound()
            && self.eq.as_ref().is_none_or(|wanted| wanted == value)
            && bound(self.gt, f64::gt)
            && bound(self.gte, f64::ge)
            && bound(self.lt, f64::lt)
            && bound(self.lte, f64::le)
            && (self.one_of.is_empty() || self.one_of.contains(value))
            && (self.all.is_empty()
                || matches!(value, LabelValue::List(held) if self.all.is_subset(held)))
    }

    /// Whether this, as one of the `must_not` conditions, rules a worker with this label out. A
    /// condition that says nothing clear rules out everybody: what must not be is never let
    /// through for want of a readable rule.
    pub(super) fn rules_out(&self, label: Option<&LabelValue>) -> bool {
        !self.is_sound() || label.is_some_and(|value| self.holds(value))
    }

    /// Whether there is an operator, and no bound is NaN.
    fn is_sound(&self) -> bool {
        let bounds = [self.gt, self.gte, self.lt, self.lte];
        !self.is_empty() && !bounds.iter().flatten().any(|bound| bound.is_nan())
    }

    /// Whether there is no operator.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The numbers that the four bounds leave; `None` when there are no bounds.
    pub(super) fn interval(&self) -> Option<Interval> {
        let low = match (self.gt, self.gte) {
            (Some(gt), Some(gte)) if gte > gt => Bound::Included(gte),
            (Some(gt), _) => Bound::Excluded(gt),
            (None, Some(gte)) => Bound::Included(gte),
            (None, None) => Bound::Unbounded,
        };
        let high = match (self.lt, self.lte) {
            (Some(lt), Some(lte)) if lte < lt => Bound::Included(lte),
            (Some(lt), _) => Bound::Excluded(lt),
            (None, Some(lte)) => Bound::Included(lte),
            (None, None) => Bound::Unbounded,
        };
        let bounded = low != Bound::Unbounded || high != Bound::Unbounded;
        bounded.then_some(Interval { low, high })
    }
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    low: Bound<f64>,
    high: Bound<f64>,
}

impl Interval {
    pub(super) fn is_empty(&self) -> bool {
        match (self.low, self.high) {
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (
                Bound::Included(low) | Bound::Excluded(low),
                Bound::Included(high) | Bound::Excluded(high),
            ) => low >= high,
            _ => false,
        }
    }

    /// Whether every number of `self` is one of `other`.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let end = |mine: Bound<f64>, theirs: Bound<f64>, inside: fn(&f64, &f64) -> bool| match (
            mine, theirs,
        ) {
            (_, Bound::Unbounded) => true,
            (Bound::Unbounded, _) => false,
            (Bound::Included(m), Bound::Excluded(t)) => m != t && inside(&m, &t),
            (Bound::Included(m) | Bound::Excluded(m), Bound::Included(t))
            | (Bound::Excluded(m), Bound::Excluded(t)) => inside(&m, &t),
        };
        end(self.low, other.low, f64::ge) && end(self.high, other.high, f64::le)
    }
}

impl fmt::Display for Condition {
    /// Such as `>= 2 and < 5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = [(">", self.gt), (">=", self.gte), ("<", self.lt), ("<=", self.lte)];
        let bounds =
            signs.iter().filter_map(|(sign, bound)| bound.map(|bound| format!("{sign} {bound}")));
        let mut parts = Vec::new();
        parts.extend(self.eq.iter().map(|value| format!("= {value}")));
        parts.extend(bounds);
        if !self.one_of.is_empty() {
            parts.push(format!("one of {}", listed(&self.one_of)));
        }
        if !self.all.is_empty() {
            parts.push(format!("holds all of {}", listed(self.all.iter().map(quoted))));
        }
        f.write_str(&parts.join(" and "))
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::List(texts) => write!(f, "[{}]", listed(texts.iter().map(quoted))),
        }
    }
}

fn quoted(text: &String) -> String {
    format!("{text:?}")
}
