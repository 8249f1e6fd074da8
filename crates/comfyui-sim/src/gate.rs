use tokio::sync::watch;

/// Holds a prompt that is over out of the history for as long as somebody wants.
#[derive(Debug, Default)]
pub(crate) struct Gate(watch::Sender<Held>);

#[derive(Debug, Default)]
struct Held {
    is_closed: bool,
    /// A prompt is over and waits here.
    is_waiting: bool,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.0.send_modify(|held| held.is_closed = true);
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(Held::default());
    }

    /// Waits while it is closed.
    pub(crate) async fn pass(&self) {
        let mut held = self.0.subscribe();
        self.0.send_modify(|held| held.is_waiting = held.is_closed);
        // The sender lives as long as `self`.
        let _ = held.wait_for(|held| !held.is_closed).await;
    }

    /// Returns when a prompt waits.
    pub(crate) async fn somebody_waits(&self) {
        let _ = self.0.subscribe().wait_for(|held| held.is_waiting).await;
    }
}
