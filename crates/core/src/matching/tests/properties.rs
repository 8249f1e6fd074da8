//! What holds for every class and every worker.

use std::sync::Arc;

use proptest::{collection, prelude::*};
use serde_json::{from_value, to_value};

use super::{arbitrary, mismatches, reference};
use crate::matching::{
    Availability, Capabilities, Class, RequirementErrorCode, Requirements, able,
    canonical::canonical_class, complete_from_graph, digest, excludes, explain,
};

proptest! {
    #[test]
    fn the_rules_agree_with_the_plain_ones(
        class in arbitrary::class(),
        worker in arbitrary::worker_id(),
        has in arbitrary::capabilities(),
    ) {
        let runs = able(&class, &has) && !excludes(&class, &worker);
        let json = (to_value(&class).unwrap(), to_value(&has).unwrap());
        prop_assert_eq!(runs, reference::may_run(&json.0, worker.as_str(), &json.1));
    }

    #[test]
    fn there_is_a_mismatch_exactly_where_a_worker_may_not(
        class in arbitrary::class(),
        worker in arbitrary::worker_id(),
        has in arbitrary::capabilities(),
    ) {
        let runs = able(&class, &has) && !excludes(&class, &worker);
        let found = mismatches(&class, &worker, &has);
        prop_assert_eq!(runs, found.is_empty());

        let explained = explain(&class, crate::matching::Throttle::default(), [(&worker, &has, Availability::Free)], |_| None);
        prop_assert_eq!(explained.able.free, usize::from(runs));
        let failed: Vec<_> = explained.rules.iter().filter(|rule| rule.fail == 1).collect();
        prop_assert_eq!(failed.len(), found.len());
        for (outcome, mismatch) in failed.into_iter().zip(found) {
            prop_assert_eq!(&outcome.rule, &mismatch.rule);
            prop_assert_eq!(&outcome.failing[0].found, &mismatch.found);
        }
    }

    #[test]
    fn jobs_of_one_key_are_equal_to_every_worker(
        classes in collection::vec(arbitrary::class(), 2..20),
        has in arbitrary::capabilities(),
    ) {
        let named = |class| (Class::key(class), canonical_class(class), able(class, &has));
        let named: Vec<_> = classes.iter().map(named).collect();
        for (key, canonical, is_able) in &named {
            for (other_key, other_canonical, other_is_able) in &named {
                prop_assert_eq!(key == other_key, canonical == other_canonical);
                prop_assert!(key != other_key || is_able == other_is_able);
            }
        }
    }

    #[test]
    fn a_key_knows_neither_order_nor_spelling_nor_preference(
        class in arbitrary::class(),
        preferred in arbitrary::requirements(),
    ) {
        let mut other = class.clone();
        let asked = Arc::make_mut(&mut other.requirements);
        asked.prefer = preferred.prefer;
        for condition in asked.labels.values_mut() {
            condition.one_of.reverse();
            condition.one_of.extend(condition.one_of.first().cloned());
        }
        prop_assert_eq!(class.key(), other.key());
    }

    #[test]
    fn records_survive_json(class in arbitrary::class(), has in arbitrary::capabilities()) {
        let read: Class = from_value(to_value(&class).unwrap()).unwrap();
        prop_assert_eq!(&read, &class);
        prop_assert_eq!(read.key(), class.key());
        let read: Capabilities = from_value(to_value(&has).unwrap()).unwrap();
        prop_assert_eq!(&read, &has);
        prop_assert_eq!(digest(&read), digest(&has));
    }

    #[test]
    fn what_is_called_impossible_is_met_by_nobody(
        class in arbitrary::class(),
        workers in collection::vec(arbitrary::capabilities(), 1..20),
    ) {
        if let Err(error) = class.requirements.check()
            && error.code == RequirementErrorCode::Contradictory
            && error.pointer.starts_with("/must_not")
        {
            // A must_not that rules nobody out is refused as a mistake, not as impossible.
        } else if class.requirements.check().is_err() {
            prop_assert!(!workers.iter().any(|has| able(&class, has)));
        }
    }

    #[test]
    fn parsing_takes_what_checking_takes(requirements in arbitrary::requirements()) {
        let parsed = Requirements::parse(&to_value(&requirements).unwrap());
        prop_assert_eq!(parsed, requirements.check().map(|()| requirements));
    }

    #[test]
    fn completing_only_ever_narrows(
        class in arbitrary::class(),
        needs in arbitrary::requirements(),
        has in arbitrary::capabilities(),
    ) {
        let mut narrower = class.clone();
        let brought = needs.prefer.models.clone();
        let requirements = Arc::make_mut(&mut narrower.requirements);
        complete_from_graph(requirements, needs.node_classes, needs.models, &brought);
        prop_assert!(!able(&narrower, &has) || able(&class, &has));
        let asked = &class.requirements.models;
        let added = narrower.requirements.models.difference(asked);
        prop_assert!(added.into_iter().all(|model| !brought.contains(model)));
    }

    #[test]
    fn a_refusal_points_into_what_was_sent(value in arbitrary::near_requirements()) {
        if let Err(error) = Requirements::parse(&value) {
            prop_assert!(value.pointer(&error.pointer).is_some(), "{} in {}", error, value);
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_met_by_nobody(
        value in arbitrary::near_requirements(),
        class in arbitrary::class(),
        has in arbitrary::capabilities(),
    ) {
        let requirements: Requirements = from_value(value.clone()).unwrap();
        let understood = Requirements::read(&value);
        prop_assert_eq!(understood.is_err(), requirements.unknown.is_some());
        if understood.is_err() {
            prop_assert_eq!(to_value(&requirements).unwrap(), value);
            prop_assert!(requirements.check().is_err());
            let class = Class { requirements: requirements.into(), ..class };
            prop_assert!(!able(&class, &has));
        }
    }
}
