use super::*;

fn progress(value: f64) -> Message {
    Message::Progress { value, max: 9.0, prompt_id: None, node: None }
}

fn start(prompt_id: &str) -> Message {
    Message::ExecutionStart { prompt_id: prompt_id.into(), timestamp: None }
}

fn unknown(kind: usize) -> Message {
    Message::Unknown { kind: kind.to_string(), prompt_id: None }
}

fn drain(mailbox: &Mailbox) -> Vec<Result<Message, Disconnected>> {
    let mut taken = Vec::new();
    while let Some(next) = mailbox.try_take() {
        let ended = next.is_err();
        taken.push(next);
        if ended {
            break;
        }
    }
    taken
}

#[test]
fn everything_comes_out_in_order_when_it_is_taken_at_once() {
    let mailbox = Mailbox::default();
    for message in [start("a"), progress(1.0), unknown(1), progress(2.0)] {
        assert!(mailbox.put(message.clone(), 1));
        assert_eq!(mailbox.try_take(), Some(Ok(message)));
    }
    assert_eq!(mailbox.try_take(), None);
}

#[test]
fn a_slow_consumer_gets_every_control_message_and_the_newest_progress_in_its_place() {
    let mailbox = Mailbox::default();
    for message in [progress(1.0), start("a"), progress(2.0), progress(3.0), start("b"), unknown(1)]
    {
        mailbox.put(message, 1);
    }
    assert_eq!(
        drain(&mailbox),
        [Ok(start("a")), Ok(progress(3.0)), Ok(start("b")), Ok(unknown(1))]
    );
}

#[test]
fn noise_loses_its_oldest() {
    let mailbox = Mailbox::default();
    (0..MAX_NOISE_MESSAGES + 2).for_each(|n| assert!(mailbox.put(unknown(n), 1)));
    let left = drain(&mailbox);
    assert_eq!(left.len(), MAX_NOISE_MESSAGES);
    assert_eq!(left[0], Ok(unknown(2)));
}

#[test]
fn too_many_control_messages_end_the_stream_instead_of_losing_one_silently() {
    let mailbox = Mailbox::default();
    (0..MAX_CONTROL_MESSAGES).for_each(|_| assert!(mailbox.put(start("a"), 1)));
    assert!(!mailbox.put(start("one too many"), 1));
    assert!(!mailbox.put(start("later"), 1));
    let left = drain(&mailbox);
    assert_eq!(left.len(), MAX_CONTROL_MESSAGES + 1);
    assert_eq!(left.last(), Some(&Err(Disconnected::Overflowed)));
}

#[test]
fn what_waits_is_bounded_in_bytes_too() {
    const HALF: usize = MAX_WAITING_BYTES / 2;
    let mailbox = Mailbox::default();
    // Noise goes first, the oldest of it before the rest.
    (0..3).for_each(|n| assert!(mailbox.put(unknown(n), HALF)));
    assert!(mailbox.put(start("a"), HALF));
    assert_eq!(drain(&mailbox), [Ok(unknown(2)), Ok(start("a"))]);
    // What is only the newest of its kind makes room for what counts, and not the other way round.
    assert!(mailbox.put(progress(1.0), HALF));
    assert!(mailbox.put(progress(2.0), 2 * HALF));
    assert!(mailbox.put(start("b"), HALF));
    assert!(mailbox.put(progress(3.0), HALF + 1));
    assert!(mailbox.put(start("c"), HALF));
    assert!(!mailbox.put(start("one too many"), 1));
    assert_eq!(drain(&mailbox), [Ok(start("b")), Ok(start("c")), Err(Disconnected::Overflowed)]);
    assert_eq!(mailbox.state.lock().bytes, 0);
}

#[tokio::test]
async fn what_came_before_the_end_is_still_delivered_and_the_end_repeats() {
    let mailbox = Mailbox::default();
    mailbox.put(start("a"), 1);
    mailbox.close(Disconnected::Closed);
    mailbox.close(Disconnected::Overflowed);
    assert_eq!(mailbox.take().await, Ok(start("a")));
    assert_eq!(mailbox.take().await, Err(Disconnected::Closed));
    assert_eq!(mailbox.take().await, Err(Disconnected::Closed));
}

#[tokio::test]
async fn a_waiting_consumer_is_woken() {
    let mailbox = std::sync::Arc::new(Mailbox::default());
    let waiting = tokio::spawn({
        let mailbox = mailbox.clone();
        async move { mailbox.take().await }
    });
    tokio::task::yield_now().await;
    mailbox.put(start("a"), 1);
    assert_eq!(waiting.await.unwrap(), Ok(start("a")));
}
