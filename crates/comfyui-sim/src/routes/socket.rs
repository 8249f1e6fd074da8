use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Query, State, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::App;
use super::info::server_features;
use crate::hub::Subscription;
use crate::life::{Life, queue_info};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Who {
    #[serde(default)]
    client_id: String,
}

/// `GET /ws?clientId=…`.
pub(super) async fn open(
    State(app): State<App>,
    Query(who): Query<Who>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let sid = Some(who.client_id)
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| Uuid::new_v4().simple().to_string());
    if app.sim.faults().socket_deaf {
        return upgrade.on_upgrade(|mut socket| async move { ignore(&mut socket).await });
    }
    // ComfyUI has entered a socket before its client hears that it is open, so a client may submit at once (ComfyUI
    // source: nothing waits between the two).
    let subscription = app.life.hub.enter(&sid);
    greet(&app.life, &sid);
    let (life, failed) = (app.life.clone(), sid.clone());
    upgrade.on_failed_upgrade(move |_| life.hub.leave(&failed)).on_upgrade(
        move |mut socket| async move {
            serve(&app, &sid, &mut socket, subscription).await;
            // Before the connection goes: a client that saw it close may come back at once.
            app.life.hub.leave(&sid);
        },
    )
}

/// A socket that is open and hears nothing.
async fn ignore(socket: &mut WebSocket) {
    while let Some(Ok(_)) = socket.recv().await {}
}

/// The first messages: the length of the queue, and after a reconnect in mid-run the node that runs, without its prompt
/// (recording socket_reconnects.json).
fn greet(life: &Life, sid: &str) {
    let status = queue_info(&life.queue.lock());
    life.hub.send(Some(sid), "status", &json!({ "status": status, "sid": sid }));
    let current = life.current.lock().clone();
    if let Some(current) = current.filter(|current| current.client_id == sid) {
        life.hub.send(Some(sid), "executing", &json!({ "node": current.node }));
    }
}

/// Passes messages on until either side ends. Dropping the socket cuts the connection without a close frame.
async fn serve(app: &App, sid: &str, socket: &mut WebSocket, mut subscription: Subscription) {
    let mut first = true;
    loop {
        tokio::select! {
            () = subscription.cut.cancelled() => return,
            Some(message) = subscription.messages.recv() => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => {
                    if std::mem::take(&mut first) {
                        negotiate(app, sid, &text);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
}

/// Answers the first text message of a client if it says what the client can do.
fn negotiate(app: &App, sid: &str, text: &str) {
    let Ok(message) = serde_json::from_str::<Value>(text) else { return };
    if message["type"] != "feature_flags" {
        return;
    }
    if message["data"]["supports_preview_metadata"] == true {
        app.life.hub.announce_preview_metadata(sid);
    }
    let features = server_features(app.sim.config.version.is_newer());
    app.life.hub.send(Some(sid), "feature_flags", &features);
}
