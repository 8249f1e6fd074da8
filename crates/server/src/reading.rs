//! Large bodies are read apart from what answers others, since that takes seconds, and few at a
//! time, since it takes many times their bytes.

use std::sync::Arc;

use pointsman_api::{ErrorCode, Problem};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// More bytes than this are many.
const LARGE: usize = 256 << 10;
const AT_ONCE: usize = 2;

pub(crate) struct Reading(Arc<Semaphore>);

impl Default for Reading {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Reading {
    /// Makes something of so many bytes.
    ///
    /// # Errors
    /// `internal` where that panicked.
    pub async fn of<T: Send + 'static>(
        &self,
        bytes: usize,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if bytes <= LARGE {
            return Ok(read());
        }
        let broken = |why: String| Problem::new(ErrorCode::Internal, why);
        let turn =
            self.0.clone().acquire_owned().await.map_err(|error| broken(error.to_string()))?;
        let reading = spawn_blocking(move || {
            // Also when nobody waits for it any more.
            let _turn = turn;
            read()
        });
        reading.await.map_err(|error| broken(format!("the body was not read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::future::join3;

    use super::*;

    #[tokio::test]
    async fn large_bodies_wait_for_each_other_and_keep_nobody_else() {
        let reading = Reading::default();
        let (begun, begins) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let gone = Arc::new(std::sync::Mutex::new(gone));
        let large = || {
            let (begun, gone) = (begun.clone(), gone.clone());
            reading.of(LARGE + 1, move || {
                begun.send(()).unwrap();
                gone.lock().unwrap().recv().unwrap();
            })
        };
        let others = async {
            while begins.try_iter().count() == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(reading.of(LARGE, || 7).await, Ok(7), "small ones are read at once");
            assert!(reading.0.available_permits() < AT_ONCE);
            (0..3).for_each(|_| go.send(()).unwrap());
        };
        let (all, ()) = tokio::join!(join3(large(), large(), large()), others);
        assert_eq!(all, (Ok(()), Ok(()), Ok(())));
        assert_eq!(reading.0.available_permits(), AT_ONCE);
    }
}
