//! Classes and workers from small alphabets, so that they meet, miss and contradict often.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection, option, prelude::*, sample::select};

use crate::{
    ids::{CustomerId, ServiceName, WorkerId},
    matching::{
        Capabilities, Class, Condition, CustomerNeeds, CustomerRules, Gpu, Hardware, Isolation,
        LabelValue, MustNot, OfferedHardware, Prefer, Requirements, ServiceCapabilities,
    },
};

fn set<T: Ord + std::fmt::Debug>(
    element: impl Strategy<Value = T>,
    max: usize,
) -> impl Strategy<Value = BTreeSet<T>> {
    collection::btree_set(element, 0..=max)
}

/// Mostly nothing: a class that asks for everything at once is met by nobody.
fn rarely<T: Default + std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = T> {
    option::weighted(0.25, strategy).prop_map(Option::unwrap_or_default)
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c"]).prop_map(String::from)
}

fn number() -> impl Strategy<Value = f64> {
    select(vec![-0.0, 0.0, 1.0, 1.5, 2.0, 3.0])
}

fn amount() -> impl Strategy<Value = Option<f64>> {
    option::weighted(0.5, number())
}

fn count() -> impl Strategy<Value = Option<u32>> {
    option::weighted(0.5, 0..3_u32)
}

fn isolation() -> impl Strategy<Value = Option<Isolation>> {
    option::weighted(0.3, select(vec![Isolation::Strict, Isolation::Loose]))
}

pub fn worker_id() -> impl Strategy<Value = WorkerId> {
    name().prop_map(|name| name.parse().unwrap())
}

fn customer() -> impl Strategy<Value = CustomerId> {
    name().prop_map(|name| name.parse().unwrap())
}

fn service() -> impl Strategy<Value = ServiceName> {
    select(vec!["comfyui", "comfyui", "comfyui", "a1111"]).prop_map(|name| name.parse().unwrap())
}

fn value() -> impl Strategy<Value = LabelValue> {
    prop_oneof![
        any::<bool>().prop_map(LabelValue::Flag),
        number().prop_map(LabelValue::Number),
        name().prop_map(LabelValue::Text),
        set(name(), 3).prop_map(LabelValue::List),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let texts = collection::btree_set(name(), 1..3);
    let one_operator = prop_oneof![
        value().prop_map(|value| Condition { eq: Some(value), ..Condition::default() }),
        number().prop_map(|n| Condition { gt: Some(n), ..Condition::default() }),
        number().prop_map(|n| Condition { gte: Some(n), ..Condition::default() }),
        number().prop_map(|n| Condition { lt: Some(n), ..Condition::default() }),
        number().prop_map(|n| Condition { lte: Some(n), ..Condition::default() }),
        collection::vec(value(), 1..5)
            .prop_map(|one_of| Condition { one_of, ..Condition::default() }),
        texts.prop_map(|all| Condition { all, ..Condition::default() }),
    ];
    collection::vec(one_operator, 1..=3).prop_map(|parts| {
        parts.into_iter().fold(Condition::default(), |merged, part| Condition {
            eq: part.eq.or(merged.eq),
            gt: part.gt.or(merged.gt),
            gte: part.gte.or(merged.gte),
            lt: part.lt.or(merged.lt),
            lte: part.lte.or(merged.lte),
            one_of: if part.one_of.is_empty() { merged.one_of } else { part.one_of },
            all: if part.all.is_empty() { merged.all } else { part.all },
        })
    })
}

fn conditions() -> impl Strategy<Value = BTreeMap<String, Condition>> {
    collection::btree_map(name(), condition(), 0..=1)
}

pub fn requirements() -> impl Strategy<Value = Requirements> {
    let hardware = (amount(), count(), count(), amount()).prop_map(
        |(gpu_memory_gb, gpu_count, cpu_cores, ram_gb)| Hardware {
            gpu_memory_gb,
            gpu_count,
            cpu_cores,
            ram_gb,
        },
    );
    let must_not = (set(name(), 1), set(worker_id(), 1), conditions())
        .prop_map(|(models, workers, labels)| MustNot { models, workers, labels });
    let sets = (rarely(set(name(), 2)), rarely(set(name(), 2)), rarely(set(name(), 1)));
    (rarely(hardware), sets, rarely(conditions()), must_not, isolation()).prop_map(
        |(hardware, (models, node_classes, preferred), labels, must_not, isolation)| Requirements {
            hardware,
            models,
            node_classes,
            labels,
            must_not,
            customer: CustomerNeeds { isolation },
            prefer: Prefer { models: preferred },
            unknown: None,
        },
    )
}

pub fn class() -> impl Strategy<Value = Class> {
    (service(), requirements(), option::of(customer()), rarely(set(worker_id(), 1))).prop_map(
        |(service, requirements, customer, excluded)| Class {
            service,
            requirements: requirements.into(),
            customer,
            excluded,
        },
    )
}

pub fn capabilities() -> impl Strategy<Value = Capabilities> {
    let offered = (option::of(name()), set(name(), 3), set(name(), 3)).prop_map(
        |(version, models, node_classes)| ServiceCapabilities { version, models, node_classes },
    );
    let gpu = (name(), number()).prop_map(|(name, memory_gb)| Gpu { name, memory_gb });
    let hardware = (collection::vec(gpu, 0..3), 0..3_u32, number())
        .prop_map(|(gpus, cpu_cores, ram_gb)| OfferedHardware { gpus, cpu_cores, ram_gb });
    let customers = (option::weighted(0.3, set(customer(), 3)), set(customer(), 1), isolation())
        .prop_map(|(allowed, denied, isolation)| CustomerRules { allowed, denied, isolation });
    (
        collection::btree_map(service(), offered, 1..=2),
        hardware,
        collection::btree_map(name(), value(), 0..=3),
        customers,
    )
        .prop_map(|(services, hardware, labels, customers)| Capabilities {
            services,
            hardware,
            labels,
            customers,
        })
}

/// JSON that looks like requirements and mostly is none.
pub fn near_requirements() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let keys = [
        "hardware",
        "gpu_memory_gb",
        "gpu_count",
        "models",
        "labels",
        "must_not",
        "workers",
        "eq",
        "gt",
        "lt",
        "in",
        "all",
        "customer",
        "isolation",
        "prefer",
        "newer",
        "a/b~",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec![-1_i64, 0, 1, 5, i64::MAX]).prop_map(Value::from),
        number().prop_map(Value::from),
        select(vec!["", "a", "strict"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            1 => collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            4 => collection::btree_map(select(keys.to_vec()), inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_string(), v)).collect()),
        ]
    })
}
