//! How a process stops that something is under way at.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::harness::{Process, Served, directory};

/// Begins an upload that does not go on.
async fn slow_upload(port: u16) -> TcpStream {
    let mut upload = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let head = format!(
        "POST /api/v1/inputs HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\
         content-type: application/octet-stream\r\ncontent-length: 1000\r\n\r\nbegin"
    );
    upload.write_all(head.as_bytes()).await.expect("sent");
    upload
}

/// Waits until nothing listens any more: the first signal was heard.
async fn drains(port: u16) {
    let gone = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), gone).await.expect("it takes no more connections");
}

#[tokio::test]
async fn a_second_signal_stops_at_once_whatever_is_under_way() {
    for role in ["server", "up"] {
        let data = directory();
        let path = data.path().display();
        let (option, place) = match role {
            "server" => ("--store", format!("sqlite:{path}")),
            _ => ("--data", path.to_string()),
        };
        let arguments = [role, "--listen", "127.0.0.1:0", option, &place, "--drain-s", "600"];
        let mut served = Served::from(Process::start(&arguments)).await;
        let port = served.port();
        let _upload = slow_upload(port).await;
        served.client.workers().await.expect("it answers");
        served.process.signal("INT");
        drains(port).await;
        // It waits for the upload.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let second = Instant::now();
        served.process.signal("INT");
        assert!(served.process.ended().await.success(), "{role}");
        assert!(second.elapsed() < Duration::from_secs(10), "{role}: {:?}", second.elapsed());
    }
}
