use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use reqwest::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{RequestBuilder, StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::task::AbortOnDropHandle;

use crate::client::expect_status;
use crate::mailbox::Mailbox;
use crate::{FrameError, Message, RequestError};

/// The largest message that is accepted, in bytes. Finished pictures of custom nodes come as frames, so it is large.
pub const MAX_FRAME_BYTES: usize = 128 << 20;

/// The first thing a client says: without it previews come without the prompt they belong to (ComfyUI source; the
/// service looks at no later message for it).
const FEATURE_FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

type Socket = WebSocketStream<Upgraded>;

/// The messages of one websocket.
///
/// A task of its own drains the socket at once, whatever the consumer does: ComfyUI serves all clients from one loop,
/// and one that reads slowly stops them all. So a slow consumer misses intermediate progress and previews, and never a
/// control message: beyond [`crate::MAX_CONTROL_MESSAGES`] the stream ends instead.
///
/// Use **one client_id per prompt and one socket per client_id**. ComfyUI keeps only the newest socket of an id, and
/// closing the older one then makes the newer one deaf (recording socket_reconnects.json; ComfyUI source). Nothing is
/// replayed after a reconnect: read the truth instead.
///
/// Dropping it closes the connection.
#[derive(Debug)]
pub struct Events {
    mailbox: Arc<Mailbox>,
    _reader: AbortOnDropHandle<()>,
}

/// A websocket could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered within the limit.
    #[error("websocket not open within {} ms", .after.as_millis())]
    TimedOut {
        /// The limit that ran out.
        after: Duration,
    },
    /// The connection or its handshake failed.
    #[error("websocket refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// Why a stream of messages ended. Nothing about any prompt follows from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disconnected {
    /// The service closed the websocket properly.
    #[error("closed by the service")]
    Closed,
    /// The connection broke: the service died or restarted, or the network did.
    #[error("connection broke: {0}")]
    Broken(String),
    /// The consumer did not take its messages.
    #[error("consumer fell behind")]
    Overflowed,
}

impl Events {
    /// Opens a websocket by a request for it, which carries the `clientId`, and says what this client can do.
    pub(crate) async fn open(
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let connecting = async {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MAX_FRAME_BYTES))
                .max_frame_size(Some(MAX_FRAME_BYTES));
            let upgraded = upgrade(request, limit).await.map_err(|error| error.to_string())?;
            let mut socket = Socket::from_raw_socket(upgraded, Role::Client, Some(config)).await;
            socket.send(Frame::text(FEATURE_FLAGS)).await.map_err(|error| error.to_string())?;
            Ok(socket)
        };
        let socket = tokio::time::timeout(limit, connecting)
            .await
            .map_err(|_| ConnectError::TimedOut { after: limit })?
            .map_err(|reason: String| ConnectError::Refused { reason })?;
        let mailbox = Arc::new(Mailbox::default());
        let reader = tokio::spawn(read(socket, mailbox.clone()));
        Ok(Self { mailbox, _reader: AbortOnDropHandle::new(reader) })
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// [`Disconnected`] when no more will come; again at every further call.
    pub async fn next(&mut self) -> Result<Message, Disconnected> {
        self.mailbox.take().await
    }

    /// The next message that does not name another prompt. Those that name none (status, previews without metadata)
    /// come through. Cancel-safe.
    ///
    /// # Errors
    /// As [`Events::next`].
    pub async fn next_for(&mut self, prompt_id: &str) -> Result<Message, Disconnected> {
        loop {
            let message = self.next().await?;
            if !message.is_foreign_to(prompt_id) {
                return Ok(message);
            }
        }
    }
}

/// Shakes hands (RFC 6455, 4.1). It goes by a connection of reqwest's, which brings the password, and the probes that
/// find out when the other end is gone.
async fn upgrade(request: RequestBuilder, limit: Duration) -> Result<Upgraded, RequestError> {
    let key = generate_key();
    let request = request
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let transport = |error: reqwest::Error| RequestError::from_transport(&error);
    let response = request.send().await.map_err(transport)?;
    let response = expect_status(response, StatusCode::SWITCHING_PROTOCOLS, limit).await?;
    let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|accepted| accepted != derive_accept_key(key.as_bytes()).as_str()) {
        return Err(RequestError::malformed("no websocket's handshake"));
    }
    response.upgrade().await.map_err(transport)
}

/// Drains the socket until it ends or the mailbox is full.
async fn read(mut socket: Socket, mailbox: Arc<Mailbox>) {
    let end = loop {
        let (parsed, bytes) = match socket.next().await {
            Some(Ok(Frame::Text(text))) => (Message::from_text(&text), text.len()),
            Some(Ok(Frame::Binary(bytes))) => (Message::from_binary(&bytes), bytes.len()),
            Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => continue,
            Some(Ok(Frame::Close(_))) | None => break Disconnected::Closed,
            Some(Err(error)) => break Disconnected::Broken(error.to_string()),
        };
        if !mailbox.put(parsed.unwrap_or_else(unreadable), bytes) {
            break Disconnected::Overflowed;
        }
    };
    mailbox.close(end);
}

/// A frame that cannot be read is no reason to stop listening.
fn unreadable(error: FrameError) -> Message {
    tracing::debug!(%error, "unreadable websocket frame");
    let kind = match error {
        FrameError::Text { kind, .. } => kind,
        FrameError::Binary { .. } => "binary".to_owned(),
    };
    Message::Unknown { kind, prompt_id: None }
}
