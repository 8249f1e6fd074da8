//! Requirements that no worker could ever meet. Found at submission, because such a job would
//! wait for ever. The search is sound, not complete: what it refuses is certainly impossible.

use super::{
    Condition, LabelValue, Requirements,
    canonical::canonical_condition,
    refusal::{Pointer, RequirementError, RequirementErrorCode as Code},
};

pub(super) fn check(requirements: &Requirements) -> Result<(), RequirementError> {
    let root = Pointer::root();
    let must_not = &requirements.must_not;
    if let Some(model) = requirements.models.intersection(&must_not.models).next() {
        let message = format!("the model {model:?} is both required and in must_not.models");
        return Err(root.field("models").refuse(Code::Contradictory, message));
    }
    let labels = root.field("labels");
    for (label, condition) in &requirements.labels {
        let place = labels.field(label);
        possible(condition, &place, "no label can be")?;
        if let Some(unwanted) = must_not.labels.get(label)
            && implies(condition, unwanted)
        {
            let message = format!(
                "whatever is {condition} is ruled out by must_not.labels, which says {unwanted}"
            );
            return Err(place.refuse(Code::Contradictory, message));
        }
    }
    let unwanted = root.field("must_not").field("labels");
    must_not.labels.iter().try_for_each(|(label, condition)| {
        possible(condition, &unwanted.field(label), "this rules nobody out: no label can be")
    })
}

/// Refuses a condition that no value meets.
fn possible(
    condition: &Condition,
    place: &Pointer,
    complaint: &str,
) -> Result<(), RequirementError> {
    let possible = match candidates(condition) {
        Some(values) => values.iter().any(|value| condition.holds(value)),
        None => match condition.interval() {
            Some(numbers) => !numbers.is_empty() && condition.all.is_empty(),
            None => true,
        },
    };
    if possible {
        return Ok(());
    }
    Err(place.refuse(Code::Contradictory, format!("{complaint} {condition}")))
}

/// The only values that the condition may accept, where it names them.
fn candidates(condition: &Condition) -> Option<&[LabelValue]> {
    match &condition.eq {
        Some(value) => Some(std::slice::from_ref(value)),
        None if condition.one_of.is_empty() => None,
        None => Some(&condition.one_of),
    }
}

/// Whether every value that meets `wanted` meets `unwanted` too.
fn implies(wanted: &Condition, unwanted: &Condition) -> bool {
    if let Some(values) = candidates(wanted) {
        let mut accepted = values.iter().filter(|value| wanted.holds(value));
        return accepted.all(|value| unwanted.holds(value));
    }
    if canonical_condition(wanted) == canonical_condition(unwanted) {
        return true;
    }
    let only_bounds = candidates(unwanted).is_none() && unwanted.all.is_empty();
    match (wanted.interval(), unwanted.interval()) {
        (Some(wanted), Some(unwanted)) if only_bounds => wanted.is_within(&unwanted),
        (None, None) if candidates(unwanted).is_none() => unwanted.all.is_subset(&wanted.all),
        _ => false,
    }
}
