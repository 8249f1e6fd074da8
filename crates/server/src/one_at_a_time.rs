//! What costs the store much is worked out once at a time, for all who wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Mutex;

/// Shares what is worked out among those who asked before that began.
pub(crate) struct OneAtATime<T> {
    begun: AtomicU64,
    /// The newest, and its number from 1; locked while one is worked out.
    newest: Arc<Mutex<(u64, Option<T>)>>,
}

impl<T> Default for OneAtATime<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), newest: Arc::default() }
    }
}

impl<T: Clone + Send + 'static> OneAtATime<T> {
    /// One that began after this was called: what changed before is seen. None where it panicked.
    pub async fn get(&self, make: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut newest = self.newest.clone().lock_owned().await;
        if newest.0 > before {
            return newest.1.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // The store goes on with it when the caller has left: only then may the next begin.
        let made = tokio::spawn(async move {
            *newest = (number, None);
            newest.1 = Some(make.await);
            newest.1.clone()
        });
        made.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_shares_the_next_one_and_who_leaves_ends_none() {
        let shared = OneAtATime::default();
        let (gate, made) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
        let ask = || {
            let (gate, made) = (gate.clone(), made.clone());
            shared.get(async move {
                let number = made.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.expect("it stays open").forget();
                number
            })
        };
        let mut leaves = Box::pin(ask());
        assert_eq!((&mut leaves).now_or_never(), None);
        tokio::task::yield_now().await;
        drop(leaves);
        let mut waiting = Box::pin(join_all((0..3).map(|_| ask())));
        assert_eq!((&mut waiting).now_or_never(), None);
        tokio::task::yield_now().await;
        assert_eq!(made.load(Ordering::SeqCst), 1, "the first goes on");
        gate.add_permits(2);
        assert_eq!(waiting.await, [Some(2); 3]);
        gate.add_permits(1);
        assert_eq!(ask().await, Some(3), "who asks later sees what changed meanwhile");
    }
}
