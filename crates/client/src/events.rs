//! Streams of events.

use std::collections::VecDeque;

use pointsman_core::JobId;
use reqwest::{Method, Response, header};
use serde::de::DeserializeOwned;

use crate::{
    Client, ClientError, Event,
    connection::{CALL, read},
    sse::SseParser,
};

impl Event {
    /// The data, understood.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] when it is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        read(self.data.as_bytes())
    }
}

/// An open stream. Dropping it ends it.
#[derive(Debug)]
pub struct Events {
    client: Client,
    response: Response,
    parser: SseParser,
    ready: VecDeque<Event>,
}

impl Events {
    /// The next event; `None` when the server ended the stream. May be cancelled without loss.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the connection broke or was silent for 20 s: open it again
    /// with the last `id`; [`ClientError::Refused`] when the token was revoked.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return match &*event.name {
                    "refused" => Err(ClientError::Refused(event.read()?)),
                    _ => Ok(Some(event)),
                };
            }
            let Some(piece) = self.client.piece(&mut self.response).await? else { return Ok(None) };
            let events = self.parser.push(&piece);
            let events = events.map_err(|error| ClientError::Unexpected(error.to_string()))?;
            self.ready.extend(events);
        }
    }
}

impl Client {
    /// The view as it changes: after a position (`epoch.seq`), or from a snapshot on. `conflate_ms`
    /// puts what happens in that time into one group with the newest event of each record.
    pub async fn events(
        &self,
        after: Option<&str>,
        conflate_ms: Option<u64>,
    ) -> Result<Events, ClientError> {
        let mut request = self.api(Method::GET, &["events"]);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        if let Some(window) = conflate_ms {
            request = request.query(&[("conflate", window)]);
        }
        self.stream(request).await
    }

    /// One job: its record now, then its events and progress, to its end.
    pub async fn job_events(&self, id: JobId) -> Result<Events, ClientError> {
        let path = ["jobs", &id.to_string(), "events"];
        self.stream(self.api(Method::GET, &path)).await
    }

    async fn stream(&self, request: reqwest::RequestBuilder) -> Result<Events, ClientError> {
        let request = request.header(header::ACCEPT, "text/event-stream");
        let (client, response) = (self.clone(), self.open(request, CALL).await?);
        Ok(Events { client, response, parser: SseParser::default(), ready: VecDeque::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::Instant,
    };

    use super::*;

    /// A server that answers once, as far as it gets, and then says nothing, or is gone.
    async fn answers(answer: &'static str, stays: bool) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            if stays {
                std::future::pending::<()>().await;
            }
        });
        Client::new(&format!("http://{address}"), None).unwrap()
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_a_server_that_is_away() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = format!("{head}17\r\nevent: pulse\ndata: {{}}\n\n\r\n").leak();
        let mut events = answers(answer, false).await.events(None, None).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap().name, "pulse");
        let broken = events.next().await.unwrap_err();
        assert!(matches!(broken, ClientError::Unreachable(_)) && broken.is_transient(), "{broken}");
    }

    #[tokio::test]
    async fn a_stream_that_is_silent_is_a_server_that_is_away() {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut events = answers(answer, true).await.events(None, None).await.unwrap();
        tokio::time::pause();
        let began = Instant::now();
        let silent = events.next().await.unwrap_err();
        assert!(silent.is_transient() && silent.to_string().contains("silent"), "{silent}");
        assert!(began.elapsed() >= Duration::from_secs(20));
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_not_one_that_is_wrong() {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"epoch\": ";
        let broken = answers(half, false).await.snapshot().await.unwrap_err();
        assert!(matches!(broken, ClientError::Unreachable(_)), "{broken}");
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
        let wrong = answers(whole, false).await.snapshot().await.unwrap_err();
        assert!(matches!(wrong, ClientError::Unexpected(_)) && !wrong.is_transient(), "{wrong}");
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_made_is_no_server_that_is_away() {
        let client = Client::new("http://127.0.0.1:9", None).unwrap();
        let no_header = client.events(Some("a\nb"), None).await.unwrap_err();
        let no_json = client.post::<()>(&["x"], &HashMap::from([([1], 2)])).await.unwrap_err();
        for error in [no_header, no_json] {
            assert!(matches!(error, ClientError::Request(_)) && !error.is_transient(), "{error}");
        }
    }
}
