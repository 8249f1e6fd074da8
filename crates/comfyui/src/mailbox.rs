use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Disconnected, Message};

/// The most control messages that wait for a consumer. A prompt has about three a node, so a consumer that is this far
/// behind has stopped reading; its stream ends with [`Disconnected::Overflowed`] and the truth has to be read.
pub const MAX_CONTROL_MESSAGES: usize = 10_000;

/// The most log and unknown messages that wait for a consumer; beyond that the oldest are dropped.
pub const MAX_NOISE_MESSAGES: usize = 256;

/// Where the reader of a socket puts messages, without ever waiting for whoever takes them out.
///
/// ComfyUI sends to all clients from one loop, so a client that does not drain its socket blocks every other one
/// (ComfyUI source). Memory stays bounded because a newer progress, state, status, preview or text replaces the older
/// one that nobody took yet; what is left over comes out in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Counts arrivals; the order in which messages come out.
    arrivals: u64,
    control: VecDeque<(u64, Message)>,
    noise: VecDeque<(u64, Message)>,
    newest: [Option<(u64, Message)>; LATEST_LANES],
    closed: Option<Disconnected>,
}

const LATEST_LANES: usize = 5;

/// What becomes of a message while nobody takes it.
enum Lane {
    /// Every one counts.
    Control,
    /// Only the newest counts.
    Latest(usize),
    /// Nice to have.
    Noise,
}

fn lane(message: &Message) -> Lane {
    match message {
        Message::Status { .. } => Lane::Latest(0),
        Message::ProgressState { .. } => Lane::Latest(1),
        Message::Progress { .. } => Lane::Latest(2),
        Message::Preview(_) => Lane::Latest(3),
        Message::Text { .. } => Lane::Latest(4),
        Message::Logs(_) | Message::Unknown { .. } => Lane::Noise,
        Message::FeatureFlags(_)
        | Message::ExecutionStart { .. }
        | Message::ExecutionCached { .. }
        | Message::Executing { .. }
        | Message::Executed { .. }
        | Message::ExecutionSuccess { .. }
        | Message::ExecutionError(_)
        | Message::ExecutionInterrupted(_) => Lane::Control,
    }
}

impl Mailbox {
    /// Takes a message in. False when the mailbox is closed, which an overflow does too.
    pub(crate) fn put(&self, message: Message) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return false;
        }
        state.arrivals += 1;
        let entry = (state.arrivals, message);
        match lane(&entry.1) {
            Lane::Latest(slot) => state.newest[slot] = Some(entry),
            Lane::Noise => {
                if state.noise.len() == MAX_NOISE_MESSAGES {
                    state.noise.pop_front();
                }
                state.noise.push_back(entry);
            }
            Lane::Control if state.control.len() == MAX_CONTROL_MESSAGES => {
                state.closed = Some(Disconnected::Overflowed);
            }
            Lane::Control => state.control.push_back(entry),
        }
        let open = state.closed.is_none();
        drop(state);
        self.arrived.notify_one();
        open
    }

    /// Ends the stream behind what is already in it. The first reason stays.
    pub(crate) fn close(&self, reason: Disconnected) {
        self.state.lock().closed.get_or_insert(reason);
        self.arrived.notify_one();
    }

    /// The oldest message left, waiting for one if need be; after the last, why the stream ended.
    ///
    /// Cancel-safe. For one consumer.
    pub(crate) async fn take(&self) -> Result<Message, Disconnected> {
        loop {
            let arrived = self.arrived.notified();
            if let Some(taken) = self.try_take() {
                return taken;
            }
            arrived.await;
        }
    }

    fn try_take(&self) -> Option<Result<Message, Disconnected>> {
        let mut state = self.state.lock();
        match state.pop_oldest() {
            Some(message) => Some(Ok(message)),
            None => state.closed.clone().map(Err),
        }
    }
}

impl State {
    fn pop_oldest(&mut self) -> Option<Message> {
        let front =
            |queue: &VecDeque<(u64, Message)>| queue.front().map_or(u64::MAX, |entry| entry.0);
        let (control, noise) = (front(&self.control), front(&self.noise));
        let slot = self
            .newest
            .iter_mut()
            .min_by_key(|slot| slot.as_ref().map_or(u64::MAX, |entry| entry.0))?;
        let newest = slot.as_ref().map_or(u64::MAX, |entry| entry.0);
        let taken = if control < noise && control < newest {
            self.control.pop_front()
        } else if noise < newest {
            self.noise.pop_front()
        } else {
            slot.take()
        };
        taken.map(|(_, message)| message)
    }
}

#[cfg(test)]
mod tests;
