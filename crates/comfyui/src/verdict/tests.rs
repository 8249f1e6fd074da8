use serde_json::{Value, json};

use super::*;

fn entry(number: f64, prompt_id: &str, client_id: Option<&str>) -> QueueEntry {
    let client_id = client_id.map(str::to_owned);
    let (owner, create_time, graph) = (None, None, None);
    let outputs_to_execute = None;
    QueueEntry {
        number,
        prompt_id: prompt_id.into(),
        client_id,
        owner,
        create_time,
        graph,
        outputs_to_execute,
    }
}

fn history(status_str: &str, messages: &[&str]) -> HistoryEntry {
    let messages: Vec<Value> =
        messages.iter().map(|kind| json!([kind, {"prompt_id": "p", "node_id": "2"}])).collect();
    let status = json!({"status_str": status_str, "completed": status_str == "success", "messages": messages});
    let outputs =
        json!({"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}});
    let reply =
        json!({"p": {"prompt": [1, "p", {}, {}, ["9"]], "outputs": outputs, "status": status}});
    HistoryEntry::parse(reply.to_string().as_bytes(), "p").unwrap().unwrap()
}

fn judge(status_str: &str, messages: &[&str]) -> Verdict {
    verdict("p", &QueueState::default(), Some(&history(status_str, messages)))
}

#[test]
fn success_needs_the_message_and_the_status() {
    assert!(
        matches!(judge("success", &["execution_start", "execution_success"]), Verdict::Succeeded(files) if files.len() == 1)
    );
    assert_eq!(
        judge("success", &["execution_start"]),
        Verdict::FailedInternal { status: "success".into() }
    );
    assert_eq!(
        judge("error", &["execution_success"]),
        Verdict::FailedInternal { status: "error".into() }
    );
}

#[test]
fn an_error_counts_whatever_the_status_says() {
    assert!(matches!(
        judge("success", &["execution_error", "execution_success"]),
        Verdict::Failed(_)
    ));
    assert!(
        matches!(judge("error", &["execution_error"]), Verdict::Failed(error) if error.node_id == "2")
    );
    assert!(matches!(
        judge("error", &["execution_error", "execution_interrupted"]),
        Verdict::Interrupted(_)
    ));
}

#[test]
fn a_history_without_status_is_no_success() {
    let reply = json!({"p": {"prompt": [1, "p", {}, {}, []], "outputs": {}}}).to_string();
    let entry = HistoryEntry::parse(reply.as_bytes(), "p").unwrap();
    let expected = Verdict::FailedInternal { status: "no status".into() };
    assert_eq!(verdict("p", &QueueState::default(), entry.as_ref()), expected);
}

#[test]
fn position_counts_who_is_ahead_and_whose_they_are() {
    let queue = QueueState {
        running: vec![entry(4.0, "r", Some("other"))],
        pending: vec![
            entry(-1.0, "a", None),
            entry(5.0, "b", Some("me")),
            entry(6.0, "p", Some("me")),
        ],
    };
    assert_eq!(verdict("p", &queue, None), Verdict::Pending { position: 3, foreign_ahead: 2 });
    assert_eq!(verdict("r", &queue, None), Verdict::Running);
    assert_eq!(verdict("x", &queue, None), Verdict::Lost);
}

#[test]
fn a_prompt_that_ended_between_the_two_reads_has_ended() {
    let queue = QueueState { running: vec![entry(1.0, "p", None)], pending: vec![] };
    let ended = history("success", &["execution_success"]);
    assert!(verdict("p", &queue, Some(&ended)).is_final());
    assert!(!verdict("p", &queue, None).is_final());
}

#[test]
fn pending_is_sorted_out_of_heap_order() {
    let item = |number: i64| json!([number, number.to_string(), {}, {}, []]);
    let reply =
        json!({"queue_running": [], "queue_pending": [item(-7), item(3), item(1), item(9)]})
            .to_string();
    let queue = QueueState::parse(reply.as_bytes(), false).unwrap();
    let order: Vec<&str> = queue.iter().map(|entry| entry.prompt_id.as_str()).collect();
    assert_eq!(order, ["-7", "1", "3", "9"]);
}
