use std::{future::pending, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use pointsman_comfyui::{ComfyClient, ConnectError, Disconnected, Events, Message};
use tokio::time::Instant;

/// The websocket of one prompt, opened again for as long as it is needed.
///
/// The old socket is dropped before a new one is opened: ComfyUI serves only one a client, and
/// closing the older one of two makes the newer one deaf.
pub(super) struct Ears {
    client: ComfyClient,
    prompt_id: String,
    again_after: Duration,
    state: State,
}

enum State {
    Listening(Events),
    Opening(BoxFuture<'static, Result<Events, ConnectError>>),
    Waiting(Instant),
}

/// What was heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message, not of another prompt.
    Message(Message),
    /// The socket is open; whatever came before was missed.
    Open,
    /// The socket is gone.
    Gone(Disconnected),
}

impl Ears {
    pub(super) fn new(client: &ComfyClient, prompt_id: &str, again_after: Duration) -> Self {
        let state = State::Opening(open(client, prompt_id));
        let (client, prompt_id) = (client.clone(), prompt_id.to_owned());
        Self { client, prompt_id, again_after, state }
    }

    /// Waits for the next thing. Cancel-safe.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            self.state = match &mut self.state {
                State::Listening(events) => match events.next_for(&self.prompt_id).await {
                    Ok(message) => return Heard::Message(message),
                    Err(why) => {
                        self.state = State::Opening(open(&self.client, &self.prompt_id));
                        return Heard::Gone(why);
                    }
                },
                State::Opening(opening) => match opening.await {
                    Ok(events) => {
                        self.state = State::Listening(events);
                        return Heard::Open;
                    }
                    Err(why) => {
                        tracing::debug!(prompt = self.prompt_id, %why, "no websocket yet");
                        State::Waiting(Instant::now() + self.again_after)
                    }
                },
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    State::Opening(open(&self.client, &self.prompt_id))
                }
            };
        }
    }

    pub(super) fn are_open(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }
}

fn open(client: &ComfyClient, prompt_id: &str) -> BoxFuture<'static, Result<Events, ConnectError>> {
    let (client, prompt_id) = (client.clone(), prompt_id.to_owned());
    async move { client.events(&prompt_id).await }.boxed()
}

/// Waits for the call that is out, if one is, and takes it out. Cancel-safe.
pub(super) async fn settled<T>(call: &mut Option<BoxFuture<'static, T>>) -> T {
    let answer = match call {
        Some(call) => call.await,
        None => pending().await,
    };
    *call = None;
    answer
}
