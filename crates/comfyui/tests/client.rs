//! What the client makes of answers that are late, broken or missing.

use std::{pin::pin, time::Duration};

use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use pointsman_comfyui::{
    Cancelled, ComfyClient, ConnectError, Disconnected, Folder, MAX_NOISE_MESSAGES, Message,
    RequestError, Submission, SubmitError, SubmitReply, Timeouts,
};
use serde_json::{Map, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message as Frame;

mod server;
use server::{Reply, answering, listener, nobody, read_head, read_request};

/// Long enough for an answer on the same machine, short enough to wait for in a test.
const SHORT: Duration = Duration::from_secs(2);
/// Nothing here takes that long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

fn client(url: &str) -> ComfyClient {
    let timeouts =
        Timeouts { request: SHORT, submit: SHORT, transfer_idle: SHORT, ..Timeouts::default() };
    ComfyClient::with_timeouts(url, timeouts).unwrap()
}

async fn submit(url: &str) -> Result<SubmitReply, SubmitError> {
    let graph = json!({"1": {"class_type": "X", "inputs": {}}});
    let submission =
        Submission { graph: &graph, prompt_id: "p", client_id: "c", extra_data: &Map::new() };
    client(url).submit(&submission).await
}

async fn submit_answered(reply: Reply) -> Result<SubmitReply, SubmitError> {
    submit(&answering(vec![reply]).await).await
}

#[tokio::test]
async fn an_accepted_submission_says_what_will_not_run() {
    let body = r#"{"prompt_id":"p","number":3,"node_errors":{"5":{"errors":[],"dependent_outputs":["5"],"class_type":"X"}}}"#;
    let reply = submit_answered(Reply::Status(200, body)).await.unwrap();
    assert_eq!((reply.prompt_id.as_str(), reply.number), ("p", 3.0));
    assert!(reply.node_errors.contains_key("5"));
}

#[tokio::test]
async fn answers_that_mean_no_are_sure() {
    let rejected = r#"{"error":{"type":"no_prompt","message":"m","details":"d","extra_info":{}},"node_errors":{}}"#;
    let error = submit_answered(Reply::Status(400, rejected)).await.unwrap_err();
    assert!(
        matches!(&error, SubmitError::Rejected(rejection) if rejection.error.kind == "no_prompt")
    );
    assert!(!matches!(error, SubmitError::Unknown(_)));
    let error = submit_answered(Reply::Status(413, "")).await.unwrap_err();
    assert!(matches!(error, SubmitError::TooLarge { bytes } if bytes > 50));
    let error = submit_answered(Reply::Status(400, "nonsense")).await.unwrap_err();
    assert!(matches!(&error, SubmitError::Refused { status: 400, .. }));
    let error = submit_answered(Reply::Status(400, "<html>")).await.unwrap_err();
    assert!(matches!(&error, SubmitError::Unknown(_)), "a proxy's");
    let error = submit_answered(Reply::Status(403, "origin")).await.unwrap_err();
    assert!(matches!(&error, SubmitError::Refused { status: 403, .. }));
}

#[tokio::test]
async fn nobody_listening_is_sure() {
    let (_nobody, url) = nobody();
    let error = submit(&url).await.unwrap_err();
    assert!(matches!(error, SubmitError::Unreachable { .. }), "{error:?}");
    assert!(!matches!(error, SubmitError::Unknown(_)));
}

/// As with a process that is held up: it lives, and no more connections may wait for it.
#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_told_from_one_that_is_refused() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let connect = Duration::from_millis(300);
    let mut waiting = Vec::new();
    while let Ok(made) = tokio::time::timeout(connect, TcpStream::connect(addr)).await {
        waiting.push(made.unwrap());
    }
    let timeouts = Timeouts { connect, ..Timeouts::default() };
    let client = ComfyClient::with_timeouts(&format!("http://{addr}"), timeouts).unwrap();
    let late = client.queue().await;
    assert!(matches!(late, Err(RequestError::Unreachable { refused: false, .. })), "{late:?}");
    let (_nobody, url) = nobody();
    let refused = ComfyClient::new(&url).unwrap().queue().await;
    assert!(matches!(refused, Err(RequestError::Unreachable { refused: true, .. })), "{refused:?}");
}

#[tokio::test]
async fn answers_that_do_not_come_are_not_sure() {
    for reply in [
        Reply::Never,
        Reply::Broken,
        Reply::Nothing,
        Reply::Status(200, "[]"),
        Reply::Status(500, "oops"),
        Reply::Status(502, ""),
    ] {
        let error = submit_answered(reply).await.unwrap_err();
        assert!(matches!(error, SubmitError::Unknown(_)), "{reply:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_failed_read_is_an_error_and_never_an_empty_queue() {
    for reply in [
        Reply::Never,
        Reply::Broken,
        Reply::Nothing,
        Reply::Status(200, "{}"),
        Reply::Status(500, ""),
    ] {
        assert!(client(&answering(vec![reply]).await).queue().await.is_err(), "{reply:?}");
    }
    let url = answering(vec![
        Reply::Status(200, r#"{"queue_running":[],"queue_pending":[]}"#),
        Reply::Nothing,
    ])
    .await;
    let truth = client(&url).truth("p").await;
    assert!(matches!(truth, Err(RequestError::AnswerLost { .. })), "{truth:?}");
    let url = answering(vec![Reply::Never]).await;
    assert!(
        matches!(client(&url).queue().await, Err(RequestError::TimedOut { after }) if after == SHORT)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_take_long_as_long_as_more_of_it_comes() {
    const HISTORY: &[&str] =
        &["{\"p\":", "{\"prompt\":", "[0,\"p\",{},{},[]]", ",\"outputs\":", "{}}}"];
    let history = |pause| async move {
        client(&answering(vec![Reply::Pieces(HISTORY, pause)]).await).history("p").await
    };
    assert!(history(SHORT * 3 / 4).await.unwrap().is_some());
    let late = history(SHORT * 5 / 4).await;
    assert!(matches!(late, Err(RequestError::TimedOut { after }) if after == SHORT), "{late:?}");
    let url = answering(vec![Reply::Pieces(&["{\"X\":", "{}}"], Duration::from_secs(50))]).await;
    assert!(client(&url).object_info().await.unwrap().has_class("X"));
    let body = &["{\"prompt_id\":\"p\",", "\"number\":3}"];
    let slow = submit_answered(Reply::Pieces(body, SHORT * 3 / 4)).await;
    assert_eq!(slow.unwrap().number, 3.0);
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_limit_and_a_refusal_only_at_its_beginning() {
    for (reply, is_queue) in [
        (Reply::Bytes(200, (64 << 20) + 1), true),
        (Reply::Announced((64 << 20) + 1), true),
        (Reply::Bytes(200, (1 << 20) + 1), false),
    ] {
        let client = client(&answering(vec![reply]).await);
        let error = match is_queue {
            true => client.queue().await.unwrap_err(),
            false => client.queue_remaining().await.unwrap_err(),
        };
        let (path, most) = if is_queue { ("/queue", 64 << 20) } else { ("/prompt", 1 << 20) };
        let said = format!("the answer to {path} is larger than {most} bytes");
        assert!(error.to_string().starts_with(&said), "{reply:?}: {error}");
    }
    let url = answering(vec![Reply::Bytes(500, 16 << 20)]).await;
    let error = client(&url).queue().await.unwrap_err();
    let RequestError::Status { status, body } = error else { panic!("{error:?}") };
    assert_eq!((status.as_u16(), body.len()), (500, 500));
    let url = answering(vec![Reply::Bytes(200, (64 << 20) + 1)]).await;
    let error = submit(&url).await.unwrap_err();
    assert!(matches!(error, SubmitError::Unknown(_)), "{error:?}");
}

#[tokio::test]
async fn cancel_falls_back_to_delete_and_interrupt() {
    let url = answering(vec![Reply::Status(200, r#"{"cancelled":true}"#)]).await;
    assert_eq!(client(&url).cancel("p").await.unwrap(), Cancelled::Confirmed(true));
    let url =
        answering(vec![Reply::Status(405, ""), Reply::Status(200, ""), Reply::Status(200, "")])
            .await;
    assert_eq!(client(&url).cancel("p").await.unwrap(), Cancelled::Requested);
    let url = answering(vec![Reply::Status(405, ""), Reply::Status(500, "")]).await;
    assert!(client(&url).cancel("p").await.is_err());
}

#[tokio::test]
async fn a_download_that_stops_is_an_error() {
    let url = answering(vec![Reply::Half]).await;
    let stream = client(&url).view("a.png", "", Folder::Output).await.unwrap();
    assert_eq!(stream.length, Some(10));
    assert!(stream.try_collect::<Vec<_>>().await.is_err());
    let url = answering(vec![Reply::Status(404, "")]).await;
    let gone = client(&url).view("a.png", "", Folder::Output).await.unwrap_err();
    assert!(gone.is_not_found());
}

/// Every version of ComfyUI sends its name with a file, and what stands before it does not.
#[tokio::test]
async fn what_comes_without_the_name_of_a_file_is_none() {
    let url = answering(vec![Reply::Status(200, r#"{"error":"login"}"#)]).await;
    let error = client(&url).view("a.png", "", Folder::Output).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("no content-disposition"), "{said}");
    assert!(said.contains("login") && !error.is_page(), "{said}");
    let url = answering(vec![Reply::Status(200, "<html>")]).await;
    assert!(client(&url).view("a.png", "", Folder::Output).await.unwrap_err().is_page());
}

/// A node may hold the whole process for minutes; meanwhile only its kernel confirms that it is there.
#[tokio::test]
async fn an_upload_to_a_process_that_is_held_up_is_waited_for() {
    let (listener, url) = listener().await;
    let unconfirmed = Duration::from_millis(200);
    let timeouts = Timeouts { unconfirmed, ..Timeouts::default() };
    let client = ComfyClient::with_timeouts(&url, timeouts).unwrap();
    // More than the buffers between the two hold.
    let mut upload = pin!(client.upload_image("a", "b.png", vec![0; 64 << 20]));
    let answer = tokio::time::timeout(SHORT, &mut upload).await;
    assert!(answer.is_err(), "{answer:?}");
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"name\":\"b.png\"}";
        stream.write_all(answer).await.unwrap();
    };
    let (reply, ()) = tokio::join!(upload, serve);
    assert_eq!(reply.unwrap().name, "b.png");
}

#[test]
fn only_http_addresses_are_taken() {
    for url in ["", "127.0.0.1:8188", "https://example.com", "ftp://x", "http://"] {
        assert!(ComfyClient::new(url).is_err(), "{url}");
    }
    assert_eq!(
        ComfyClient::new("http://127.0.0.1:8188").unwrap().base_url(),
        "http://127.0.0.1:8188/"
    );
    assert_eq!(ComfyClient::new("http://host/comfy").unwrap().base_url(), "http://host/comfy/");
}

type ServerSocket = tokio_tungstenite::WebSocketStream<TcpStream>;

/// A websocket pair: the client's end after its first words, and the server's.
async fn connected() -> (pointsman_comfyui::Events, ServerSocket) {
    let (listener, url) = listener().await;
    let accept = async {
        let mut socket =
            tokio_tungstenite::accept_async(listener.accept().await.unwrap().0).await.unwrap();
        let first = socket.next().await.unwrap().unwrap();
        (socket, first)
    };
    let client = client(&url);
    let (events, (socket, first)) = tokio::join!(client.events("c"), accept);
    let announced: serde_json::Value = serde_json::from_str(first.to_text().unwrap()).unwrap();
    assert_eq!(announced["type"], "feature_flags");
    assert_eq!(announced["data"]["supports_preview_metadata"], true);
    (events.unwrap(), socket)
}

/// Without it a socket whose other end is gone without a word is silent for ever, and that may be usual.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_silent_socket_is_probed_by_the_kernel() {
    const KEEPALIVE: &str = "02";
    let (_events, socket) = connected().await;
    let socket = socket.get_ref();
    let ends = [socket.peer_addr().unwrap(), socket.local_addr().unwrap()];
    // Another connection may have one of the ports, so both ends are looked for.
    let [here, there] = ends.map(|end| format!(":{:04X}", end.port()));
    let is_probed = || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|line| {
            line[1].ends_with(&here) && line[2].ends_with(&there) && line[5].starts_with(KEEPALIVE)
        })
    };
    // It may be missing from the list, which is read while it changes.
    let probed = async {
        while !is_probed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, probed).await.expect("no keepalive timer");
}

#[tokio::test]
async fn the_password_of_the_address_goes_to_the_websocket_too_and_nowhere_else() {
    let (listener, url) = listener().await;
    let url = url.replace("//", "//me:secret@");
    let client = client(&url);
    let seen = async { read_head(&mut listener.accept().await.unwrap().0).await };
    let (_, head) = tokio::join!(client.events("c"), seen);
    assert!(head.contains("\r\nauthorization: basic bwu6c2vjcmv0\r\n"), "{head}");
    assert!(!head.contains("origin") && !head.contains("secret"), "{head}");
    for url in ["https://me:sec/ret@host", "me:secret@host:8188"] {
        let why = ComfyClient::new(url).unwrap_err().to_string();
        assert!(why.contains("not the address of a ComfyUI") && !why.contains("ret"), "{why}");
    }
}

#[tokio::test]
async fn frames_that_cannot_be_read_do_not_end_the_stream() {
    let (mut events, mut socket) = connected().await;
    for frame in [
        Frame::text("not json"),
        Frame::binary(vec![1, 2]),
        Frame::text(r#"{"type":"executing","data":5}"#),
    ] {
        socket.send(frame).await.unwrap();
    }
    socket
        .send(Frame::text(r#"{"type":"execution_start","data":{"prompt_id":"p"}}"#))
        .await
        .unwrap();
    for kind in ["untyped", "binary", "executing"] {
        assert_eq!(
            events.next().await.unwrap(),
            Message::Unknown { kind: kind.into(), prompt_id: None }
        );
    }
    assert!(events.next().await.unwrap().is_about("p"));
}

#[tokio::test]
async fn a_frame_of_64_mib_is_taken() {
    let (mut events, mut socket) = connected().await;
    let mut frame = vec![0, 0, 0, 1, 0, 0, 0, 2];
    frame.resize(8 + (64 << 20), 7);
    let send = socket.send(Frame::binary(frame));
    let (sent, received) = tokio::join!(send, events.next());
    sent.unwrap();
    let Message::Preview(preview) = received.unwrap() else { panic!("no preview") };
    assert_eq!(preview.image.len(), 64 << 20);
}

#[tokio::test]
async fn the_socket_is_drained_although_nobody_takes_the_messages() {
    let (mut events, mut socket) = connected().await;
    let noise = Frame::text(format!(r#"{{"type":"noise","data":"{}"}}"#, "x".repeat(10_000)));
    // Far more than any buffer between the two holds: this would hang if the client read only on demand.
    for _ in 0..5_000 {
        socket.send(noise.clone()).await.unwrap();
    }
    socket
        .send(Frame::text(r#"{"type":"execution_start","data":{"prompt_id":"p"}}"#))
        .await
        .unwrap();
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    let mut noises = 0;
    let started = loop {
        match events.next().await.unwrap() {
            Message::Unknown { .. } => noises += 1,
            other => break other,
        }
    };
    assert_eq!(noises, MAX_NOISE_MESSAGES);
    assert!(started.is_about("p"));
    assert_eq!(events.next().await, Err(Disconnected::Closed));
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_from_one_that_is_closed() {
    let (mut events, socket) = connected().await;
    drop(socket);
    assert!(matches!(events.next().await, Err(Disconnected::Broken(_))));
}

#[tokio::test]
async fn messages_of_other_prompts_are_left_out_on_request() {
    let (mut events, mut socket) = connected().await;
    for text in [
        r#"{"type":"execution_start","data":{"prompt_id":"other"}}"#,
        r#"{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}}}}"#,
        r#"{"type":"execution_start","data":{"prompt_id":"p"}}"#,
    ] {
        socket.send(Frame::text(text)).await.unwrap();
    }
    assert_eq!(
        events.next_for("p").await.unwrap(),
        Message::Status { queue_remaining: 1, sid: None }
    );
    assert!(events.next_for("p").await.unwrap().is_about("p"));
}

#[tokio::test]
async fn a_server_that_does_not_greet_is_given_up() {
    let (_listener, url) = listener().await;
    let timeouts = Timeouts { connect: SHORT, ..Timeouts::default() };
    let client = ComfyClient::with_timeouts(&url, timeouts).unwrap();
    let silent = client.events("c").await.unwrap_err();
    assert_eq!(silent, ConnectError::TimedOut { after: SHORT });
    let (_nobody, url) = nobody();
    let refused = ComfyClient::new(&url).unwrap().events("c").await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused:?}");
}

/// Whoever answers could else have addresses read, and orders given, that only this machine reaches.
#[tokio::test]
async fn where_it_is_sent_elsewhere_nobody_goes() {
    let elsewhere = answering(vec![Reply::Status(200, r#"{"name":"secret"}"#); 8]).await;
    let to: &str = format!("{elsewhere}/secret").leak();
    for status in [301, 302, 303, 307, 308] {
        let client = client(&answering(vec![Reply::Redirect(status, to); 4]).await);
        let viewed = client.view("a.png", "", Folder::Output).await.unwrap_err();
        let read = client.queue().await.unwrap_err();
        let uploaded = client.upload_image("", "a.png", "x").await.unwrap_err();
        let heard = client.events("c").await.unwrap_err();
        let submitted = submit_answered(Reply::Redirect(status, to)).await.unwrap_err();
        assert!(matches!(submitted, SubmitError::Refused { status: is, .. } if is == status));
        let said = [viewed.to_string(), read.to_string(), uploaded.to_string()];
        for said in said.into_iter().chain([heard.to_string(), submitted.to_string()]) {
            let named = said.contains(&status.to_string()) && said.contains(to);
            assert!(named && said.contains("not followed"), "{said}");
        }
    }
}

#[tokio::test]
async fn no_origin_is_sent() {
    let (listener, url) = listener().await;
    let seen = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        head
    };
    let client = client(&url);
    let (_, head) = tokio::join!(client.queue_remaining(), seen);
    assert!(head.starts_with("get /prompt http/1.1") && !head.contains("origin"), "{head}");
}
