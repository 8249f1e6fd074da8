//! Class keys and capability digests: what is equal, what is not, and that it stays so.

use super::*;
use crate::matching::{ClassKey, digest};

#[test]
fn equal_meaning_has_one_key() {
    for (one, other) in [
        (json!({"hardware": {"ram_gb": 24}}), json!({"hardware": {"ram_gb": 24.0}})),
        (json!({"hardware": {"ram_gb": 0, "gpu_count": 0}}), json!({})),
        (json!({"hardware": {"ram_gb": -0.0}}), json!({})),
        (json!({"models": ["a", "b"]}), json!({"models": ["b", "a", "b"]})),
        (json!({"labels": {"a": {"eq": 0}}}), json!({"labels": {"a": {"eq": -0.0}}})),
        (
            json!({"labels": {"a": {"in": [1, "x"]}}}),
            json!({"labels": {"a": {"in": ["x", 1, 1.0]}}}),
        ),
        (json!({"customer": {"isolation": "loose"}}), json!({})),
        (json!({"prefer": {"models": ["a"]}}), json!({})),
        (json!({"models": [], "must_not": {}}), json!({})),
    ] {
        assert_eq!(class(one.clone()).key(), class(other).key(), "{one}");
    }
}

#[test]
fn different_meaning_has_different_keys() {
    let mut keys: Vec<ClassKey> = [
        json!({}),
        json!({"hardware": {"gpu_count": 1}}),
        json!({"hardware": {"cpu_cores": 1}}),
        json!({"hardware": {"ram_gb": 1}}),
        json!({"hardware": {"gpu_memory_gb": 1}}),
        json!({"models": ["a"]}),
        json!({"models": ["a", "b"]}),
        json!({"models": ["ab"]}),
        json!({"node_classes": ["a"]}),
        json!({"must_not": {"models": ["a"]}}),
        json!({"must_not": {"workers": ["a"]}}),
        json!({"labels": {"a": {"eq": 1}}}),
        json!({"labels": {"a": {"eq": "1"}}}),
        json!({"labels": {"a": {"eq": ["1"]}}}),
        json!({"labels": {"a": {"gt": 1}}}),
        json!({"labels": {"a": {"gt": 1, "lt": 2}}}),
        json!({"labels": {"a": {"gt": 1}, "b": {"lt": 2}}}),
        json!({"labels": {"a": {"all": ["1"]}}}),
        json!({"labels": {"a": {"in": ["1"]}}}),
        json!({"must_not": {"labels": {"a": {"eq": 1}}}}),
        json!({"customer": {"isolation": "strict"}}),
    ]
    .map(|asked| class(asked).key())
    .into();
    let mut excluding = class(json!({}));
    excluding.excluded.insert(worker("a"));
    keys.push(excluding.key());
    keys.push(Class { customer: Some("a".parse().unwrap()), ..class(json!({})) }.key());
    keys.push(Class { service: "a1111".parse().unwrap(), ..class(json!({})) }.key());
    let newer = serde_json::from_value(json!({"newer": 1})).unwrap();
    keys.push(Class { requirements: newer, ..class(json!({})) }.key());

    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

/// Keys lie in stores: a change here gives waiting jobs another class than new ones.
#[test]
fn keys_stay_what_they_are() {
    let asked = class(json!({
        "hardware": {"gpu_memory_gb": 24},
        "models": ["a.safetensors"],
        "labels": {"tier": {"gte": 2}, "zone": {"in": ["b", "a"]}},
        "must_not": {"workers": ["w1"]},
    }));
    insta::assert_snapshot!(asked.key(), @"c4bf53353dc186991e15b82ea9f1d94c");
    insta::assert_snapshot!(class(json!({})).key(), @"7ef640096b2d54642d0e3974a074b242");
    insta::assert_snapshot!(digest(&ordinary()), @"cdddb139c2e367be235270aaf3fe3a20");
}

#[test]
fn a_key_is_written_as_32_lowercase_digits() {
    let key = ClassKey::from_bytes([0x0a; 16]);
    assert_eq!(key.to_string(), "0a".repeat(16));
    assert_eq!(key.to_string().parse::<ClassKey>().unwrap(), key);
    let text = serde_json::to_string(&key).unwrap();
    assert_eq!(serde_json::from_str::<ClassKey>(&text).unwrap(), key);
    for bad in ["", "0a", &"0A".repeat(16), &"+a".repeat(16), &"zz".repeat(16)] {
        assert!(bad.parse::<ClassKey>().is_err(), "{bad}");
    }
}

#[test]
fn a_digest_tells_nobody_from_anybody() {
    let mut none = ordinary();
    none.customers.allowed = Some([].into());
    assert_ne!(digest(&none), digest(&ordinary()));
}

/// Stores check what they read back: main memory is any fraction of a GiB.
#[test]
fn what_was_written_and_read_back_has_the_same_digest() {
    for mebibytes in (1..2_000_000).step_by(997) {
        let mut has = ordinary();
        has.hardware.ram_gb = f64::from(mebibytes) / 1000.0 / 3.0;
        let read = serde_json::from_slice(&serde_json::to_vec(&has).unwrap()).unwrap();
        assert_eq!(digest(&read), digest(&has), "{}", has.hardware.ram_gb);
    }
}
