//! A way to Redis on which something happens before a command arrives there.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

type Then = Arc<Mutex<dyn FnMut() + Send>>;

/// The address of such a way: `then` is done each time, before Redis has a command with these words
/// next to each other.
pub fn before(url: &str, words: &[&str], then: impl FnMut() + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let way = format!("redis://{}", listener.local_addr().expect("it has an address"));
    let redis = url.rsplit(['/', '@']).next().expect("host and port").to_owned();
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    let then: Then = Arc::new(Mutex::new(then));
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            let redis = TcpStream::connect(&redis).expect("Redis is there");
            let (back, mut to) = (both(&redis), both(&client));
            thread::spawn(move || copy(back, |some| to.write_all(some)));
            let (words, then, mut redis) = (words.clone(), then.clone(), redis);
            let mut seen = Vec::new();
            thread::spawn(move || {
                copy(client, |some| {
                    seen.extend_from_slice(some);
                    while let Some(end) = end_of(&seen, words.as_bytes()) {
                        (then.lock().expect("no panic"))();
                        seen.drain(..end);
                    }
                    // A command may come in parts.
                    let surplus = seen.len().saturating_sub(words.len() - 1);
                    seen.drain(..surplus);
                    redis.write_all(some)
                });
            });
        }
    });
    way
}

fn both(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a second handle")
}

/// Copies until one side is gone.
fn copy(mut from: TcpStream, mut to: impl FnMut(&[u8]) -> std::io::Result<()>) {
    let mut some = [0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut some) {
        if to(&some[..n]).is_err() {
            break;
        }
    }
    drop(from.shutdown(Shutdown::Both));
}

fn end_of(seen: &[u8], words: &[u8]) -> Option<usize> {
    seen.windows(words.len()).position(|some| some == words).map(|at| at + words.len())
}
