use std::collections::{HashMap, HashSet};

use axum::extract::ws::{Message, Utf8Bytes};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that may wait for one socket; one that is further behind is given up.
const SOCKET_BACKLOG: usize = 10_000;

/// The websockets of one process, by client id.
///
/// It has ComfyUI's weakness on purpose: there is one entry an id, the newest socket takes it, and **whichever** socket
/// of that id closes first removes it (ComfyUI source), so an overlap makes the newer one deaf.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    sockets: Mutex<HashMap<String, Socket>>,
    log_subscribers: Mutex<HashSet<String>>,
}

#[derive(Debug)]
struct Socket {
    sender: mpsc::Sender<Message>,
    preview_metadata: bool,
    cut: CancellationToken,
}

/// What the task of a socket holds.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Kept so that the channel stays open when another socket takes the entry: the older one then just hears nothing.
    _sender: mpsc::Sender<Message>,
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) cut: CancellationToken,
}

impl Hub {
    /// Enters a socket, taking the place of an older one of that id.
    pub(crate) fn enter(&self, sid: &str) -> Subscription {
        let (sender, messages) = mpsc::channel(SOCKET_BACKLOG);
        let cut = CancellationToken::new();
        let socket = Socket { sender: sender.clone(), preview_metadata: false, cut: cut.clone() };
        self.sockets.lock().insert(sid.to_owned(), socket);
        Subscription { _sender: sender, messages, cut }
    }

    /// Removes the entry of an id, whosever it is by now.
    pub(crate) fn leave(&self, sid: &str) {
        self.sockets.lock().remove(sid);
    }

    /// Notes that a client takes previews with metadata.
    pub(crate) fn announce_preview_metadata(&self, sid: &str) {
        if let Some(socket) = self.sockets.lock().get_mut(sid) {
            socket.preview_metadata = true;
        }
    }

    /// Whether this client takes previews with metadata; no client does not.
    pub(crate) fn takes_preview_metadata(&self, sid: Option<&str>) -> bool {
        let sockets = self.sockets.lock();
        sid.and_then(|sid| sockets.get(sid)).is_some_and(|socket| socket.preview_metadata)
    }

    /// Sends to one client, or with None to everybody.
    pub(crate) fn send(&self, to: Option<&str>, kind: &str, data: &Value) {
        let text = Utf8Bytes::from(json!({ "type": kind, "data": data }).to_string());
        self.deliver(to, &Message::Text(text));
    }

    /// Sends a binary frame to one client, or with None to everybody.
    pub(crate) fn send_binary(&self, to: Option<&str>, frame: Bytes) {
        self.deliver(to, &Message::Binary(frame));
    }

    /// Drops every connection without a word.
    pub(crate) fn cut_all(&self) {
        self.sockets.lock().drain().for_each(|(_, socket)| socket.cut.cancel());
    }

    /// Turns the `logs` messages of a client on or off.
    pub(crate) fn subscribe_logs(&self, client_id: &str, enabled: bool) {
        let mut subscribers = self.log_subscribers.lock();
        if enabled {
            subscribers.insert(client_id.to_owned());
        } else {
            subscribers.remove(client_id);
        }
    }

    /// Sends log entries to those who asked for them.
    pub(crate) fn send_logs(&self, data: &Value) {
        let subscribers: Vec<String> = self.log_subscribers.lock().iter().cloned().collect();
        subscribers.iter().for_each(|sid| self.send(Some(sid), "logs", data));
    }

    fn deliver(&self, to: Option<&str>, message: &Message) {
        let mut sockets = self.sockets.lock();
        sockets.retain(|sid, socket| {
            let addressed = to.is_none_or(|to| to == sid);
            let delivered = !addressed || socket.sender.try_send(message.clone()).is_ok();
            if !delivered {
                socket.cut.cancel();
            }
            delivered
        });
    }
}
