use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Disconnected, Message};

/// The most control messages that wait for a consumer. A prompt has about three a node, so a consumer that is this far
/// behind has stopped reading; its stream ends with [`Disconnected::Overflowed`] and the truth has to be read.
pub const MAX_CONTROL_MESSAGES: usize = 10_000;

/// The most log and unknown messages that wait for a consumer; beyond that the oldest are dropped.
pub const MAX_NOISE_MESSAGES: usize = 256;

/// The most bytes, as they came over the wire, that wait for a consumer: as many as the largest frame has. Beyond that
/// noise is dropped, for a control message the newest of the others too; for one that still finds no room the stream
/// ends as above.
pub const MAX_WAITING_BYTES: usize = crate::MAX_FRAME_BYTES;

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
    /// Of all that wait.
    bytes: usize,
    control: VecDeque<Entry>,
    noise: VecDeque<Entry>,
    newest: [Option<Entry>; LATEST_LANES],
    closed: Option<Disconnected>,
}

#[derive(Debug)]
struct Entry {
    arrival: u64,
    bytes: usize,
    message: Message,
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
    /// Takes a message in that came in so many bytes. False when the mailbox is closed, which an overflow does too.
    pub(crate) fn put(&self, message: Message, bytes: usize) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return false;
        }
        state.put(message, bytes);
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
    fn put(&mut self, message: Message, bytes: usize) {
        self.arrivals += 1;
        let lane = lane(&message);
        let entry = Entry { arrival: self.arrivals, bytes, message };
        match lane {
            Lane::Latest(slot) => {
                let older = self.newest[slot].take();
                self.left(older);
                if self.make_room(bytes) {
                    self.bytes += bytes;
                    self.newest[slot] = Some(entry);
                }
            }
            Lane::Noise => {
                if self.noise.len() == MAX_NOISE_MESSAGES {
                    let oldest = self.noise.pop_front();
                    self.left(oldest);
                }
                if self.make_room(bytes) {
                    self.bytes += bytes;
                    self.noise.push_back(entry);
                }
            }
            Lane::Control => {
                let has_room = self.control.len() < MAX_CONTROL_MESSAGES
                    && (self.make_room(bytes) || self.make_room_of_newest(bytes));
                match has_room {
                    true => {
                        self.bytes += bytes;
                        self.control.push_back(entry);
                    }
                    false => self.closed = Some(Disconnected::Overflowed),
                }
            }
        }
    }

    /// Drops noise until so many bytes have room, and says whether they have.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.bytes + bytes > MAX_WAITING_BYTES {
            let Some(oldest) = self.noise.pop_front() else { return false };
            self.left(Some(oldest));
        }
        true
    }

    fn make_room_of_newest(&mut self, bytes: usize) -> bool {
        for slot in 0..LATEST_LANES {
            let newest = self.newest[slot].take();
            self.left(newest);
        }
        self.make_room(bytes)
    }

    /// An entry waits no more.
    fn left(&mut self, entry: Option<Entry>) -> Option<Message> {
        let entry = entry?;
        self.bytes -= entry.bytes;
        Some(entry.message)
    }

    fn pop_oldest(&mut self) -> Option<Message> {
        let front = |queue: &VecDeque<Entry>| queue.front().map_or(u64::MAX, |e| e.arrival);
        let (control, noise) = (front(&self.control), front(&self.noise));
        let slot = self
            .newest
            .iter_mut()
            .min_by_key(|slot| slot.as_ref().map_or(u64::MAX, |entry| entry.arrival))?;
        let newest = slot.as_ref().map_or(u64::MAX, |entry| entry.arrival);
        let taken = if control < noise && control < newest {
            self.control.pop_front()
        } else if noise < newest {
            self.noise.pop_front()
        } else {
            slot.take()
        };
        self.left(taken)
    }
}

#[cfg(test)]
mod tests;
