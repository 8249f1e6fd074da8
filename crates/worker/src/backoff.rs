//! Longer and longer pauses between tries.

use std::time::Duration;

use crate::{config::Timings, draw};

/// The pauses between tries of one call.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(timings: &Timings) -> Self {
        Self { next: timings.backoff, first: timings.backoff, most: timings.backoff_max }
    }

    /// The same with another longest pause.
    pub(crate) fn up_to(timings: &Timings, most: Duration) -> Self {
        Self { most, ..Self::new(timings) }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = draw::jitter(self.next);
        self.next = (self.next * 2).min(self.most);
        pause
    }

    /// It went well: the next failure begins anew.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary() {
        let mut backoff = Backoff::new(&Timings::default());
        for ms in [100, 200, 400, 800, 1600, 2000, 2000] {
            let pause = backoff.pause().as_millis();
            assert!((ms / 2..=ms).contains(&pause), "{pause} of {ms}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }
}
