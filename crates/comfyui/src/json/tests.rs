use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn value(text: &str) -> Value {
    read(text.as_bytes()).unwrap()
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

fn depth(value: &Value) -> usize {
    value.get(0).map_or(1, |within| 1 + depth(within))
}

#[test]
fn what_is_no_number_is_null() {
    let text = r#"{"a": [NaN, Infinity, -Infinity, -1, 0.5], "NaN": "-Infinity NaN"}"#;
    assert_eq!(value(text), json!({"a": [null, null, null, -1, 0.5], "NaN": "-Infinity NaN"}));
}

#[test]
fn half_a_surrogate_pair_is_replaced() {
    assert_eq!(
        value(r#"["caf\udce9.png", "\ud83d end"]"#),
        json!(["caf\u{fffd}.png", "\u{fffd} end"])
    );
    assert_eq!(value(r#"["\ud83d\ud83d\ude00\ude00"]"#), json!(["\u{fffd}\u{1f600}\u{fffd}"]));
    assert_eq!(value(r#"[NaN, "\\ud83d", "\"NaN"]"#), json!([null, "\\ud83d", "\"NaN"]));
}

#[test]
fn what_lies_too_deep_is_null() {
    for (levels, kept) in [(1, 1), (120, 120), (121, 121), (150, 121), (100_000, 121)] {
        assert_eq!(depth(&value(&nested(levels))), kept, "{levels}");
    }
    let text = format!(r#"{{"deep": {}, "after": "]}}"}}"#, nested(150));
    assert_eq!(value(&text)["after"], "]}");
}

#[test]
fn what_is_no_json_stays_an_error() {
    for text in ["", "<html>", "[1", "NaN NaN", "[nan]", "\"\\", "\"\\u", "\"\\ud8", "]]", "[1,}"] {
        assert!(read::<Value>(text.as_bytes()).is_err(), "{text}");
    }
}

/// Any JSON, not deeper than it may be.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[NaIfinty\\\\\"ud8e-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// As Python writes it: nothing but ASCII, and surrogate pairs beyond 16 bits.
fn as_ascii(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            ' '..='~' => text.push(c),
            c => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| text += &format!("\\u{unit:04x}")),
        }
    }
    text
}

proptest! {
    #[test]
    fn json_is_read_as_it_is(value in any_json()) {
        prop_assert_eq!(as_json(value.to_string().as_bytes()), None);
        prop_assert_eq!(as_json(as_ascii(&value).as_bytes()), None);
        prop_assert_eq!(read::<Value>(as_ascii(&value).as_bytes()).unwrap(), value);
    }

    #[test]
    fn what_python_adds_changes_nothing_else(value in any_json(), word in 0_usize..3) {
        let word = ["NaN", "Infinity", "-Infinity"][word];
        let text = format!(r#"[{word}, {}, "\udc80", {}]"#, as_ascii(&value), nested(200));
        let read: Value = read(text.as_bytes()).unwrap();
        prop_assert_eq!((&read[0], &read[1], &read[2]), (&Value::Null, &value, &json!("\u{fffd}")));
    }

    #[test]
    fn no_text_makes_it_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",:NaIfinty\\\\ud8c-]{0,60}") {
        let _ = read::<Value>(&bytes);
        if let Some(json) = as_json(text.as_bytes()) {
            prop_assert!(std::str::from_utf8(&json).is_ok());
            prop_assert!(as_json(&json).is_none_or(|again| again.len() <= json.len()));
        }
        let _ = read::<Value>(text.as_bytes());
    }
}
