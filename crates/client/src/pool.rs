//! Connections that are kept between calls.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use reqwest::{Request, Response, header::HeaderMap, redirect::Policy};

/// How long connecting may take, and the first answer of a server among others: within what a worker
/// waits for a call (5 s) two servers can be tried.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);
/// A connection on which nothing moves is probed after this long, and each so often again. So a
/// firewall does not forget it; where one did, it breaks 15 s later.
const PROBED_AFTER: Duration = Duration::from_secs(10);
const PROBED_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// What was sent, or probed for, and is not confirmed for this long breaks a connection.
#[cfg(target_os = "linux")]
const GONE_AFTER: Duration = Duration::from_secs(25);

/// Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    headers: HeaderMap,
    kept: Arc<Mutex<reqwest::Client>>,
}

impl Pool {
    pub fn new(headers: HeaderMap) -> Result<Self, reqwest::Error> {
        let kept = Arc::new(Mutex::new(connecting(&headers)?));
        Ok(Self { headers, kept })
    }

    /// Another one for the same calls.
    pub fn another(&self) -> Result<Self, reqwest::Error> {
        Self::new(self.headers.clone())
    }

    pub fn http(&self) -> reqwest::Client {
        self.kept.lock().clone()
    }

    /// Sends. Where no answer came, nor did the caller wait for it any longer, the next call goes by
    /// a new connection: those that are kept may be dead as well, and each would cost a call.
    pub async fn execute(&self, request: Request) -> Result<Response, reqwest::Error> {
        let mut waiting = Waiting { pool: self, is_answered: false };
        let answered = self.http().execute(request).await;
        waiting.is_answered = answered.is_ok();
        answered
    }
}

struct Waiting<'a> {
    pool: &'a Pool,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // What could be built once can be built again.
        if !self.is_answered
            && let Ok(fresh) = connecting(&self.pool.headers)
        {
            *self.pool.kept.lock() = fresh;
        }
    }
}

fn connecting(headers: &HeaderMap) -> Result<reqwest::Client, reqwest::Error> {
    let http = reqwest::Client::builder().default_headers(headers.clone()).no_proxy();
    // Whoever answers could have orders given to servers that only this machine reaches.
    let http = http.redirect(Policy::none());
    let http = http.connect_timeout(CONNECT).tcp_nodelay(true);
    let http = http.tcp_keepalive(PROBED_AFTER).tcp_keepalive_interval(PROBED_EVERY);
    let http = http.tcp_keepalive_retries(PROBES);
    #[cfg(target_os = "linux")]
    let http = http.tcp_user_timeout(GONE_AFTER);
    http.build()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        sync::{Barrier, Notify},
    };

    use crate::Client;

    use super::*;

    #[derive(Default)]
    struct Way {
        connections: AtomicUsize,
        has_forgotten: AtomicBool,
        swallowed: Notify,
    }

    /// Answers what comes by this connection, until it is forgotten.
    async fn answer(mut stream: TcpStream, way: Arc<Way>, both: Arc<Barrier>) {
        let n = way.connections.fetch_add(1, Ordering::SeqCst);
        while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
            if n < 2 && way.has_forgotten.load(Ordering::SeqCst) {
                way.swallowed.notify_one();
                continue;
            }
            if n < 2 {
                both.wait().await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_connections_that_a_firewall_forgot_one_costs_a_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, both) = (Arc::new(Way::default()), Arc::new(Barrier::new(2)));
        let there = way.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, there.clone(), both.clone()));
            }
        });
        let client = Client::new(&format!("http://{address}"), None).unwrap();
        let (one, other) = tokio::join!(client.ready(), client.ready());
        one.and(other).unwrap();
        way.has_forgotten.store(true, Ordering::SeqCst);
        tokio::select! {
            answered = client.ready() => panic!("{answered:?}"),
            () = way.swallowed.notified() => {}
        }
        client.ready().await.unwrap();
        assert_eq!(way.connections.load(Ordering::SeqCst), 3);
    }
}
