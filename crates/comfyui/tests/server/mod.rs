use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What a server does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// Answers.
    Status(u16, &'static str),
    /// Sends elsewhere.
    Redirect(u16, &'static str),
    /// Answers in pieces, with so long a pause before each.
    Pieces(&'static [&'static str], Duration),
    /// Answers with so many bytes, and does not say beforehand how many.
    Bytes(u16, usize),
    /// Says that so many bytes come, and sends none.
    Announced(usize),
    /// Keeps the connection open and says nothing.
    Never,
    /// Closes the connection without a word.
    Nothing,
    /// Closes it within the head of the answer.
    Broken,
    /// Closes it within the body.
    Half,
}

pub async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// An address at which nobody listens, nor anybody else can as long as the socket is kept.
pub fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// A server that gives these answers in turn, each on a connection of its own.
pub async fn answering(replies: Vec<Reply>) -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        let mut silent = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            let text = match reply {
                Reply::Status(status, body) => {
                    let length = body.len();
                    format!(
                        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                    )
                }
                Reply::Redirect(status, to) => format!(
                    "HTTP/1.1 {status} X\r\nlocation: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                ),
                Reply::Bytes(status, bytes) => {
                    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    let chunk = vec![b' '; 64 << 10];
                    for _ in 0..bytes.div_ceil(chunk.len()) {
                        // Whoever has read enough closes it.
                        if stream.write_all(&chunk).await.is_err() {
                            break;
                        }
                    }
                    continue;
                }
                Reply::Pieces(pieces, pause) => {
                    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                    stream.write_all(head.as_bytes()).await.unwrap();
                    for piece in pieces {
                        tokio::time::sleep(pause).await;
                        stream.write_all(piece.as_bytes()).await.unwrap();
                    }
                    continue;
                }
                Reply::Announced(bytes) => {
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n")
                }
                Reply::Never => {
                    silent.push(stream);
                    continue;
                }
                Reply::Nothing => continue,
                Reply::Broken => "HTTP/1.1 20".to_owned(),
                Reply::Half => "HTTP/1.1 200 OK\r\ncontent-disposition: filename=\"a.png\"\r\n\
                                content-length: 10\r\n\r\nhalf"
                    .to_owned(),
            };
            stream.write_all(text.as_bytes()).await.unwrap();
            if matches!(reply, Reply::Announced(_)) {
                silent.push(stream);
            }
        }
        // Nobody is let down before the test is over.
        std::future::pending::<()>().await;
    });
    url
}

/// Reads the head of a request, in lowercase.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Reads the head and as much body as it announces.
pub async fn read_request(stream: &mut TcpStream) {
    let head = read_head(stream).await;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
}
