//! The worker protocol.

use std::time::Duration;

use bytes::Bytes;
use pointsman_api::{
    ArtifactStored, ExchangeRequest, Exchanged, LeaveRequest, RegisterRequest, Registered,
    RenewRequest, Renewed,
};
use pointsman_core::{command::Held, decide::limits};
use reqwest::{Body, Method, RequestBuilder, header};

use crate::{
    Client, ClientError, Source,
    connection::{CALL, written},
};

impl Client {
    /// Waits the longer the more the worker offers. The answer carries the payloads of what it ran
    /// before; `moved` is told as they arrive.
    pub async fn register(
        &self,
        request: &RegisterRequest,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Registered, ClientError> {
        let body = written(request)?;
        let limit = CALL + limits::transfer(body.len());
        self.long_answer(self.with_body(&["worker", "register"], body), limit, moved).await
    }

    /// Hands in operations and claims jobs, in one step; waits as the request says, and the longer
    /// the more it carries. `moved` is told as payloads arrive.
    ///
    /// # Errors
    /// [`ClientError`] about the exchange as a whole.
    pub async fn exchange(
        &self,
        request: &ExchangeRequest,
        moved: &(dyn Fn() + Sync),
    ) -> Result<Exchanged, ClientError> {
        let wait = Duration::try_from_secs_f64(request.wait_s).unwrap_or_default();
        let body = written(request)?;
        let limit = CALL + wait + limits::transfer(body.len());
        self.long_answer(self.with_body(&["worker", "exchange"], body), limit, moved).await
    }

    fn with_body(&self, route: &[&str], body: Vec<u8>) -> RequestBuilder {
        self.api(Method::POST, route).header(header::CONTENT_TYPE, "application/json").body(body)
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn renew(&self, request: &RenewRequest) -> Result<Renewed, ClientError> {
        self.post(&["worker", "renew"], request).await
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn leave(&self, request: &LeaveRequest) -> Result<(), ClientError> {
        let post = self.api(Method::POST, &["worker", "leave"]);
        self.send(post.json(request).timeout(CALL)).await.map(drop)
    }

    /// Stores a result file under the attempt's token, before its end is handed in.
    pub async fn put_artifact(
        &self,
        held: Held,
        name: &str,
        media_type: &str,
        bytes: Source,
    ) -> Result<ArtifactStored, ClientError> {
        let put = self.attempt(held, &["artifacts", name]);
        let put = put.header(header::CONTENT_TYPE, media_type);
        self.answer(put.body(Body::wrap_stream(bytes))).await
    }

    /// Passes on what a job looks like now; `n` counts the attempt's previews from 1.
    pub async fn put_preview(
        &self,
        held: Held,
        n: u32,
        media_type: &str,
        picture: Bytes,
    ) -> Result<(), ClientError> {
        let put = self.attempt(held, &["preview"]).query(&[("n", n)]);
        let put = put.header(header::CONTENT_TYPE, media_type).body(picture);
        self.send(put.timeout(CALL)).await.map(drop)
    }

    fn attempt(&self, held: Held, rest: &[&str]) -> RequestBuilder {
        let token = held.token.to_string();
        let path = [&["worker", "attempts", token.as_str()], rest].concat();
        let query = [("job", held.job.to_string()), ("attempt", held.attempt.to_string())];
        self.api(Method::PUT, &path).query(&query)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::{Instant, sleep},
    };

    use super::*;

    /// Seconds from one part of the answer to the next.
    const PAUSE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn payloads_may_take_longer_than_a_call_as_long_as_they_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = r#"{"ops": [], "claimed": []}"#.as_bytes().chunks(4);
        let parts = answer.len();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n").await.unwrap();
            for part in answer {
                sleep(PAUSE).await;
                stream.write_all(part).await.unwrap();
            }
        });
        let client = Client::new(&format!("http://{address}"), None).unwrap();
        let request = ExchangeRequest {
            worker_id: "w".parse().unwrap(),
            incarnation: "0194f1a0-0000-7000-8000-000000000000".parse().unwrap(),
            ops: Vec::new(),
            claim: None,
            wait_s: 0.0,
        };
        let moves = AtomicUsize::new(0);
        let moved = || {
            if moves.fetch_add(1, Ordering::Relaxed) == 0 {
                tokio::time::pause();
            }
        };
        let began = Instant::now();
        client.exchange(&request, &moved).await.unwrap();
        assert!(began.elapsed() > CALL + PAUSE, "{:?}", began.elapsed());
        assert_eq!(moves.into_inner(), 1 + parts, "told of each part, and of the beginning");
    }
}
