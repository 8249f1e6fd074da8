use std::{future::pending, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use pointsman_comfyui::{ComfyClient, ConnectError, Disconnected, Events, Message};
use tokio::time::Instant;

/// The longest pause before it is opened again. One that lived longer is opened again at once.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// The websocket of one prompt, opened again for as long as it is needed.
///
/// The old socket is dropped before a new one is opened: ComfyUI serves only one a client, and
/// closing the older one of two makes the newer one deaf.
pub(super) struct Ears {
    client: ComfyClient,
    prompt_id: String,
    again_after: Duration,
    /// How long to wait after the next failure; doubles with each.
    pause: Duration,
    state: State,
}

enum State {
    Listening(Events, Instant),
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
        Self { client, prompt_id, again_after, pause: again_after, state }
    }

    /// Waits for the next thing. Cancel-safe.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            self.state = match &mut self.state {
                State::Listening(events, since) => match events.next_for(&self.prompt_id).await {
                    Ok(message) => return Heard::Message(message),
                    Err(why) => {
                        let has_lived = since.elapsed() >= PAUSE_MOST;
                        self.state = match has_lived {
                            true => {
                                self.pause = self.again_after;
                                State::Opening(open(&self.client, &self.prompt_id))
                            }
                            false => self.wait(),
                        };
                        return Heard::Gone(why);
                    }
                },
                State::Opening(opening) => match opening.await {
                    Ok(events) => {
                        self.state = State::Listening(events, Instant::now());
                        return Heard::Open;
                    }
                    Err(why) => {
                        tracing::debug!(prompt = self.prompt_id, %why, "no websocket yet");
                        self.wait()
                    }
                },
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    State::Opening(open(&self.client, &self.prompt_id))
                }
            };
        }
    }

    fn wait(&mut self) -> State {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MOST);
        State::Waiting(until)
    }

    pub(super) fn are_open(&self) -> bool {
        matches!(self.state, State::Listening(..))
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
