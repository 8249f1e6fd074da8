//! What is logged, for a test to look at.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::{DefaultGuard, NoSubscriber},
};

/// The lines from `info` on.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<String>>>);

/// While a process has one subscriber, the thread that comes to a line of the program first settles
/// for all whether anybody listens to it. Beside another one, every thread asks its own.
static BESIDE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

impl Log {
    /// What this thread logs until the guard is dropped.
    pub fn listen() -> (Self, DefaultGuard) {
        LazyLock::force(&BESIDE);
        let log = Self::default();
        (log.clone(), tracing::subscriber::set_default(log))
    }
}

impl Subscriber for Log {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        *of.level() <= Level::INFO && of.target().starts_with("pointsman")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}
