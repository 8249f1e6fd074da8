//! What a job made, saved: whole or not at all, at once or later.

use std::{
    fs,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{Process, Served, directory, run, simulation, submit};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/first-picture.json");

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All files under a directory, with their contents, by name.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                all.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    all.sort();
    all
}

/// A way to the server on which the first transfer of an artifact is cut within the file; where
/// `for_ever`, each is.
async fn cut_way(to: u16, for_ever: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let was_cut = Arc::new(AtomicBool::new(false));
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", to)).await.expect("the server");
            let was_cut = was_cut.clone();
            tokio::spawn(async move { carry(client, server, &was_cut, for_ever).await });
        }
    });
    url
}

/// Carries one connection.
async fn carry(mut client: TcpStream, mut server: TcpStream, was_cut: &AtomicBool, for_ever: bool) {
    let whole = was_cut.load(Ordering::SeqCst) && !for_ever;
    let (mut asked, mut answered) = ([0; 8192], [0; 2000]);
    let mut cut = false;
    loop {
        tokio::select! {
            n = client.read(&mut asked) => match n {
                Ok(n @ 1..) => {
                    cut = !whole && String::from_utf8_lossy(&asked[..n]).contains("/artifacts/");
                    server.write_all(&asked[..n]).await.expect("sent");
                }
                _ => return,
            },
            n = server.read(&mut answered) => match n {
                Ok(n @ 1..) => {
                    // The client may have gone.
                    let _ = client.write_all(&answered[..n]).await;
                    if cut {
                        was_cut.store(true, Ordering::SeqCst);
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_and_a_job_can_be_saved_later() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let (first, later) = (data.path().join("first"), data.path().join("later"));
    let path = |dir: &Path| dir.to_str().expect("a path in UTF-8").to_owned();
    let way = cut_way(up.port(), false).await;
    let output = run(&["--server", &way, "submit", EXAMPLE, "--out", &path(&first)]).await;
    assert!(output.status.success(), "{output:?}");
    let text = said(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].ends_with(" completed"), "first it says how the job ended: {text}");
    let saved = files(&first);
    let (result, picture) = (&saved[0], &saved[1].1);
    assert!(picture.starts_with(b"\x89PNG") && picture.ends_with(b"IEND\xaeB`\x82"), "{text}");
    assert!(picture.len() > 2000, "so it was cut within");
    let id = lines[1].split_whitespace().nth(1).expect("an id");
    assert_eq!(result.0, format!("{id}.json"));
    serde_json::from_slice::<serde_json::Value>(&result.1).expect("JSON");

    let output = run(&["--server", &up.url, "download", id, "--out", &path(&later)]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(files(&later), saved);
}

#[tokio::test]
async fn what_is_not_whole_has_no_name() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let out = data.path().join("out");
    let out_path = out.to_str().expect("a path in UTF-8");
    let way = cut_way(up.port(), true).await;
    let mut saving = Process::start(&["--server", &way, "submit", EXAMPLE, "--out", out_path]);
    saving.says("job").await;
    let part = || out.is_dir() && files(&out).iter().any(|(name, _)| name.ends_with(".part"));
    let begun = async {
        while !part() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun).await.expect("it begins to save");
    saving.signal("INT");
    assert_eq!(saving.ended().await.code(), Some(130));
    saving.logs("pointsman download").await;
    assert_eq!(files(&out), [], "nothing is left");
}

#[tokio::test]
async fn what_cannot_be_saved_is_said_before_it_is_made() {
    let data = directory();
    let up = Served::up(data.path(), &[]).await;
    let file = data.path().join("file");
    fs::write(&file, "").expect("written");
    let out = file.to_str().expect("a path in UTF-8");
    let refused = run(&["--server", &up.url, "submit", EXAMPLE, "--out", out]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(up.client.jobs(&Default::default()).await.expect("jobs").jobs.is_empty());

    let running = submit(&up.client, &simulation(600_000)).await.to_string();
    let dir = data.path().to_str().expect("a path in UTF-8");
    let refused = run(&["--server", &up.url, "download", &running, "--out", dir]).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("once it has completed"));
}
