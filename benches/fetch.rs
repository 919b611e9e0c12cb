//! Measures the download rate from a hub on loopback into an empty cache, with verification, and
//! compares it with two others on the same files: a ceiling (TCP connections written to files, without
//! verification) and huggingface_hub, if it is installed. The three alternate for several rounds. The
//! files contain random bytes.
//!
//!     cargo bench --bench fetch
//!     PYTHON=venv/bin/python cargo bench --bench fetch

#![allow(clippy::unwrap_used)]

use modelgate_testkit::hub::{Hub, Repository};
use modelgate_testkit::random::Random;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const FILES: usize = 4;
const BYTES: usize = 500_000_000;
const ROUNDS: usize = 3;
const REPO: &str = "owner/Large";

fn shard(number: usize) -> String {
    format!("model-{:05}-of-{FILES:05}.safetensors", number + 1)
}

fn repository() -> Repository {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny/llama/config.json");
    let mut repository = Repository::new(REPO);
    repository = repository.with_file("config.json", std::fs::read(config).unwrap());
    let map: Vec<String> = (0..FILES).map(|n| format!("\"t{n}\": \"{}\"", shard(n))).collect();
    let index = format!("{{\"weight_map\": {{{}}}}}", map.join(", "));
    repository = repository.with_file("model.safetensors.index.json", index.into_bytes());
    for number in 0..FILES {
        let mut random = Random::new(number as u64);
        let mut content = Vec::with_capacity(BYTES + 8);
        while content.len() < BYTES {
            content.extend_from_slice(&random.bits().to_le_bytes());
        }
        content.truncate(BYTES);
        repository = repository.with_file(&shard(number), content);
    }
    repository
}

/// Downloads each large file over a TCP connection of its own, without verification.
fn download_without_verification(hub: &Hub, folder: &Path) {
    let address = hub.endpoint().replace("http://", "");
    let get = |address: &str, target: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (String::from_utf8(head).unwrap(), stream)
    };
    std::thread::scope(|scope| {
        for number in 0..FILES {
            let (address, get) = (&address, &get);
            scope.spawn(move || {
                let name = shard(number);
                let (head, _) = get(address, &format!("/{REPO}/resolve/main/{name}"));
                let location = head.lines().find_map(|line| line.strip_prefix("Location: http://"));
                let (storage, path) = location.unwrap().split_once('/').unwrap();
                let (_, mut body) = get(storage, &format!("/{path}"));
                let mut file = std::fs::File::create(folder.join(&name)).unwrap();
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match body.read(&mut buffer).unwrap() {
                        0 => break,
                        read => file.write_all(&buffer[..read]).unwrap(),
                    }
                }
                file.sync_data().unwrap();
                assert_eq!(file.metadata().unwrap().len(), BYTES as u64);
            });
        }
    });
}

fn download_with_modelgate(hub: &Hub, folder: &Path) {
    let manifest = folder.join("models.toml");
    let model = format!("[[model]]\nid = \"m\"\nrepo = \"{REPO}\"\nquantization = \"q8_0\"\n");
    std::fs::write(&manifest, format!("schema = 1\n{model}")).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_modelgate"))
        .arg("prefetch")
        .env("MODELGATE_MANIFEST", manifest)
        .env("HF_ENDPOINT", hub.endpoint())
        .env("HF_HOME", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

/// Downloads with huggingface_hub. Returns false if it is not installed or fails.
fn download_with_huggingface_hub(hub: &Hub, folder: &Path) -> bool {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let program =
        format!("import huggingface_hub as h; h.snapshot_download('{REPO}', token=False)");
    let status = Command::new(python)
        .args(["-c", &program])
        .env("HF_ENDPOINT", hub.endpoint())
        .env("HF_HOME", folder)
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Returns the seconds that `action` takes with an empty folder; `None` if it fails.
fn timed(action: impl FnOnce(&Path) -> bool) -> Option<f64> {
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    action(folder.path()).then(|| begin.elapsed().as_secs_f64())
}

fn median(mut seconds: Vec<f64>) -> Option<f64> {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}

fn main() {
    let hub = Hub::start(vec![repository()]);
    let (mut plain, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.extend(timed(|folder| {
            download_without_verification(&hub, folder);
            true
        }));
        ours.extend(timed(|folder| {
            download_with_modelgate(&hub, folder);
            true
        }));
        theirs.extend(timed(|folder| download_with_huggingface_hub(&hub, folder)));
    }
    let rate = |seconds: f64| (FILES * BYTES) as f64 / seconds / 1e6;
    let ours = median(ours).unwrap();
    println!("| | MB/s, median of {ROUNDS} | modelgate compared with it |\n| --- | --- | --- |");
    println!("| modelgate, verified | {:.0} | |", rate(ours));
    for (name, seconds) in
        [("TCP connections, not verified", median(plain)), ("huggingface_hub", median(theirs))]
    {
        match seconds {
            Some(seconds) => println!("| {name} | {:.0} | {:.2} |", rate(seconds), seconds / ours),
            None => println!("| {name} | not installed | |"),
        }
    }
}
