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

/// A terminal that is closed may send it several times.
#[tokio::test]
async fn a_hangup_drains_and_is_never_the_second_signal() {
    let data = directory();
    let mut served = Served::server(data.path(), 0).await;
    let port = served.port();
    let upload = slow_upload(port).await;
    served.client.workers().await.expect("it answers");
    served.process.signal("HUP");
    drains(port).await;
    served.process.signal("HUP");
    drop(upload);
    assert!(served.process.ended().await.success());
    assert_eq!(served.process.logged(), 0, "nothing was cut off");
}

#[tokio::test]
async fn whoever_starts_it_to_outlive_its_terminal_is_heard() {
    let data = directory();
    let store = format!("sqlite:{}", data.path().display());
    let arguments = ["server", "--listen", "127.0.0.1:0", "--store", &store];
    let mut served = Served::from(Process::start_after("trap '' HUP", &arguments)).await;
    let port = served.port();
    let upload = slow_upload(port).await;
    served.client.workers().await.expect("it answers");
    served.process.signal("HUP");
    // Were that the first signal, this would be the second.
    served.process.signal("INT");
    drains(port).await;
    drop(upload);
    assert!(served.process.ended().await.success());
    assert_eq!(served.process.logged(), 0, "nothing was cut off");
}
