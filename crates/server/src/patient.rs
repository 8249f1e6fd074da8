//! A connection that does not wait for ever: what is kept for a client that takes nothing would
//! stay as long.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pointsman_core::decide::limits::{self, SLOWEST_LINE};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A client that takes nothing for so long, of what is there for it, is cut off. What it takes earns
/// it as much time as the slowest line has for that, up to this.
const PATIENCE: Duration = Duration::from_secs(120);

/// A stream whose writes fail when less can be written for a while than goes over the slowest line.
pub(crate) struct Patient<S> {
    stream: S,
    /// How long it may still take nothing.
    left: Duration,
    /// Bytes that it took and that have earned nothing yet.
    taken: usize,
    waits: Option<Wait>,
}

/// While nothing can be written.
struct Wait {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, left: PATIENCE, taken: 0, waits: None }
    }

    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let Some(Wait { since, .. }) = self.waits.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            self.earn(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        let left = self.left;
        let begin = || Wait { since: Instant::now(), end: Box::pin(sleep(left)) };
        ready!(self.waits.get_or_insert_with(begin).end.as_mut().poll(cx));
        let why = format!("the client took less than {SLOWEST_LINE} bytes a second");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    fn earn(&mut self, bytes: usize) {
        self.taken += bytes;
        self.left = (self.left + limits::transfer(self.taken)).min(PATIENCE);
        self.taken %= SLOWEST_LINE;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, from);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (server, _client) = tokio::io::duplex(8);
        let begun = Instant::now();
        let why = Patient::new(server).write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PATIENCE);
    }

    /// Writes to a client that takes so much at once, and then nothing for so long, again and again.
    async fn write_to(takes: usize, every: Duration, bytes: usize) -> io::Result<()> {
        let (server, mut client) = tokio::io::duplex(takes.min(8 << 10));
        let mut server = Patient::new(server);
        let all = vec![0; bytes];
        let reads = async {
            let mut taken = vec![0; takes];
            loop {
                sleep(every).await;
                client.read_exact(&mut taken).await?;
            }
        };
        tokio::select! {
            written = server.write_all(&all) => written,
            read = reads => read,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_on_the_slowest_line_gets_all_of_it_and_one_that_is_slower_is_cut_off() {
        let (rate, second) = (SLOWEST_LINE, Duration::from_secs(1));
        write_to(rate, second, 600 * rate).await.unwrap();
        write_to(100 * rate, 100 * second, 600 * rate).await.unwrap();
        let begun = Instant::now();
        assert!(write_to(rate / 2, second, 600 * rate).await.is_err());
        assert!(begun.elapsed() < 3 * PATIENCE);
        assert!(write_to(4, PATIENCE - second, 20).await.is_err());
    }

    /// What was taken quickly long ago is no credit.
    #[tokio::test(start_paused = true)]
    async fn no_client_earns_more_than_it_began_with() {
        let (server, mut client) = tokio::io::duplex(8 << 10);
        let mut server = Patient::new(server);
        let mut taken = vec![0; 1_000 * SLOWEST_LINE];
        let all = taken.clone();
        let (written, read) = tokio::join!(server.write_all(&all), client.read_exact(&mut taken));
        written.unwrap();
        read.unwrap();
        let begun = Instant::now();
        server.write_all(&[0; 9 << 10]).await.unwrap_err();
        assert!(begun.elapsed() <= PATIENCE);
    }
}
