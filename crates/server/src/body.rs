//! Bodies of requests: how slowly they may come. How much of them, and of answers, is in memory at
//! once.

use std::{io, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use pointsman_api::{ErrorCode, Problem};
use pointsman_core::decide::limits::{self, SLOWEST_LINE};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// A body of which nothing came for this long has broken off; so has one that, once that is over,
/// is slower than [`SLOWEST_LINE`].
const IDLE: Duration = Duration::from_secs(60);

/// So much of each body or answer is not counted: most have no more.
const UNCOUNTED: usize = 64 << 10;
/// How long one waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body as it comes.
pub(crate) struct Incoming {
    body: Body,
    read: usize,
    /// For the client, not for what is done with what it sent.
    waited: Duration,
}

impl Incoming {
    pub fn new(body: Body) -> Self {
        Self { body, read: 0, waited: Duration::ZERO }
    }

    /// The next piece; an error where it broke off.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let earned = limits::transfer(self.read);
            let left = (IDLE + earned).saturating_sub(self.waited).min(IDLE);
            let begin = Instant::now();
            let frame = timeout(left, self.body.frame()).await;
            self.waited += begin.elapsed();
            let frame = match frame {
                Ok(Some(frame)) => frame.map_err(io::Error::other)?,
                Ok(None) => return Ok(None),
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, self.too_slow())),
            };
            let Ok(piece) = frame.into_data() else { continue };
            self.read += piece.len();
            return Ok(Some(piece));
        }
    }

    /// Bytes that have come.
    pub fn read(&self) -> usize {
        self.read
    }

    fn too_slow(&self) -> String {
        let (read, waited) = (self.read, self.waited.as_secs());
        format!(
            "{read} bytes came in {waited} s: at least {SLOWEST_LINE} a second have to after the first \
             {} s, and something every {} s",
            IDLE.as_secs(),
            IDLE.as_secs()
        )
    }
}

/// How much of all bodies, or of all answers, may be in memory together.
#[derive(Clone)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    bytes: usize,
    of: &'static str,
    full: ErrorCode,
}

impl Room {
    fn new(bytes: usize, of: &'static str, full: ErrorCode) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), bytes, of, full }
    }

    /// For requests' bodies.
    pub fn for_bodies(bytes: usize) -> Self {
        Self::new(bytes, "bodies", ErrorCode::TooManyBodies)
    }

    /// For answers, until their clients have taken them.
    pub fn for_answers(bytes: usize) -> Self {
        Self::new(bytes, "answers", ErrorCode::TooManyAnswers)
    }

    /// For one body, nothing at first.
    pub fn share(&self) -> Share {
        Share { room: self.clone(), taken: None }
    }

    /// For one answer of so many bytes; one that is larger than all the room takes all of it.
    ///
    /// # Errors
    /// As [`Share::grow_to`].
    pub async fn share_of(&self, bytes: u64) -> Result<Share, Problem> {
        let mut share = self.share();
        share.grow_to(usize::try_from(bytes).unwrap_or(usize::MAX).min(self.bytes)).await?;
        Ok(share)
    }
}

/// An answer as the body that is sent, with its share: given back when the last of it was sent.
pub(crate) fn to_send(answer: impl AsRef<[u8]> + Send + 'static, share: Share) -> Bytes {
    struct Sent<T> {
        answer: T,
        _share: Share,
    }
    impl<T: AsRef<[u8]>> AsRef<[u8]> for Sent<T> {
        fn as_ref(&self) -> &[u8] {
            self.answer.as_ref()
        }
    }
    Bytes::from_owner(Sent { answer, _share: share })
}

/// What one body or answer has of the room; given back when it is dropped.
pub(crate) struct Share {
    room: Room,
    taken: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Waits for room for so many bytes in all.
    ///
    /// # Errors
    /// `too_many_bodies` or `too_many_answers` when there is none for [`PATIENCE`].
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let counted = bytes.saturating_sub(UNCOUNTED);
        let more =
            counted.saturating_sub(self.taken.as_ref().map_or(0, |taken| taken.num_permits()));
        if more == 0 {
            return Ok(());
        }
        let full = || {
            let Room { bytes, of, full, .. } = &self.room;
            let mib = bytes >> 20;
            let detail = format!("{mib} MiB of {of} are in memory, and none of that became free");
            Problem::new(*full, detail)
        };
        let wanted = u32::try_from(more).map_err(|_| full())?;
        let free = self.room.free.clone().acquire_many_owned(wanted);
        let room = timeout(PATIENCE, free).await.map_err(|_| full())?.map_err(|_| full())?;
        match &mut self.taken {
            Some(taken) => taken.merge(room),
            None => self.taken = Some(room),
        }
        Ok(())
    }

    pub fn give_back(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use tokio::time::sleep;

    use super::*;

    /// A body of pieces, each of which comes after a while.
    fn coming(piece: usize, pieces: usize, every: Duration) -> Incoming {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            sleep(every).await;
            Ok::<_, io::Error>(Bytes::from(vec![b' '; piece]))
        });
        Incoming::new(Body::from_stream(pieces))
    }

    async fn read(mut body: Incoming) -> io::Result<usize> {
        while body.piece().await?.is_some() {}
        Ok(body.read)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_too_slowly_breaks_off() {
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        let why = read(coming(1, 1000, 20 * second)).await.unwrap_err();
        assert_eq!((why.kind(), begin.elapsed()), (io::ErrorKind::TimedOut, IDLE));
        assert!(read(coming(1, 1, 2 * IDLE)).await.is_err());
        let rate = SLOWEST_LINE;
        assert_eq!(read(coming(rate, 900, second)).await.unwrap(), 900 * rate);
        assert!(read(coming(rate / 2, 900, second)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_finds_no_room_is_refused_and_has_it_once_another_is_done() {
        let room = Room::for_bodies(1000);
        let mut first = room.share();
        first.grow_to(UNCOUNTED + 400).await.unwrap();
        first.grow_to(UNCOUNTED + 900).await.unwrap();
        let mut second = room.share();
        second.grow_to(UNCOUNTED).await.unwrap();
        let refused = second.grow_to(UNCOUNTED + 101).await.unwrap_err();
        assert!(refused.is(ErrorCode::TooManyBodies) && refused.status == 503);
        let waiting = second.grow_to(UNCOUNTED + 101);
        let (waited, ()) = tokio::join!(waiting, async {
            sleep(PATIENCE / 2).await;
            drop(first);
        });
        waited.unwrap();
        drop(second);
        assert_eq!(room.free.available_permits(), 1000);
    }

    #[tokio::test]
    async fn an_answer_that_is_larger_than_all_the_room_takes_all_of_it() {
        let room = Room::for_answers(3 * UNCOUNTED);
        let share = room.share_of(u64::MAX).await.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(
            share.taken.as_ref().map(OwnedSemaphorePermit::num_permits),
            Some(2 * UNCOUNTED)
        );
    }
}
