use proptest::prelude::*;

use super::*;

fn text_frame(node: &[u8], text: &[u8]) -> Bytes {
    let mut frame = vec![0, 0, 0, 3];
    frame.extend(u32::try_from(node.len()).unwrap().to_be_bytes());
    frame.extend(node);
    frame.extend(text);
    frame.into()
}

#[test]
fn a_text_frame_names_its_node() {
    let message = Message::from_binary(&text_frame(b"12", "50 % – warten".as_bytes())).unwrap();
    assert_eq!(message, Message::Text { node: "12".into(), text: "50 % – warten".into() });
}

#[test]
fn an_unknown_type_passes_and_says_its_prompt() {
    let message =
        Message::from_text(r#"{"type":"crystools.monitor","data":{"prompt_id":"p","x":1}}"#)
            .unwrap();
    assert_eq!(
        message,
        Message::Unknown { kind: "crystools.monitor".into(), prompt_id: Some("p".into()) }
    );
    assert!(message.is_about("p") && !message.is_foreign_to("p") && message.is_foreign_to("q"));
    let bare = Message::from_text(r#"{"type":"ping"}"#).unwrap();
    assert_eq!(bare, Message::Unknown { kind: "ping".into(), prompt_id: None });
    assert!(!bare.is_foreign_to("p") && !bare.is_about("p"));
}

#[test]
fn a_known_type_without_what_it_needs_is_an_error_that_names_it() {
    let error = Message::from_text(r#"{"type":"execution_start","data":{}}"#).unwrap_err();
    assert!(matches!(error, FrameError::Text { kind, .. } if kind == "execution_start"));
    assert!(Message::from_text("null").is_err());
}

#[test]
fn an_error_with_an_odd_description_is_still_an_error() {
    let text = r#"{"type":"execution_error","data":{"prompt_id":"p","node_id":"2","exception_type":"E","traceback":"none","executed":null}}"#;
    let Message::ExecutionError(error) = Message::from_text(text).unwrap() else { panic!() };
    assert_eq!(
        (error.prompt_id.as_str(), error.node_id.as_str(), error.exception_type.as_str()),
        ("p", "2", "E")
    );
}

#[test]
fn what_python_writes_and_json_does_not_allow_is_read() {
    let text = r#"{"type":"executed","data":{"node":"2","prompt_id":"p","output":{"score":[NaN,-Infinity],"text":["bad \ud83d"]}}}"#;
    let Message::Executed { output, .. } = Message::from_text(text).unwrap() else { panic!() };
    assert_eq!(output, serde_json::json!({"score": [null, null], "text": ["bad \u{fffd}"]}));
    let text =
        r#"{"type":"progress","data":{"value":NaN,"max":Infinity,"prompt_id":"p","node":"2"}}"#;
    let progress = Message::from_text(text).unwrap();
    assert!(matches!(progress, Message::Progress { value: 0.0, max: 0.0, .. }), "{progress:?}");
}

#[test]
fn what_ends_a_prompt() {
    let ends = |text: &str| Message::from_text(text).unwrap().ends_prompt();
    assert!(ends(r#"{"type":"execution_success","data":{"prompt_id":"p"}}"#));
    assert!(ends(r#"{"type":"executing","data":{"node":null,"prompt_id":"p"}}"#));
    assert!(!ends(r#"{"type":"executing","data":{"node":"1"}}"#));
    assert!(ends(
        r#"{"type":"execution_error","data":{"prompt_id":"p","exception_type":"RuntimeError"}}"#
    ));
    assert!(!ends(
        r#"{"type":"execution_error","data":{"prompt_id":"p","exception_type":"ExecutionBlocked"}}"#
    ));
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic(frame: Vec<u8>, kind in 0u8..6) {
        let typed: Vec<u8> = [0, 0, 0, kind].into_iter().chain(frame.iter().copied()).collect();
        let _ = Message::from_binary(&Bytes::from(frame.clone()));
        let _ = Message::from_binary(&Bytes::from(typed));
        let _ = Message::from_text(&String::from_utf8_lossy(&frame));
    }
}
