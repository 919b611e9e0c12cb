//! Tests of downloads over connections that break, and of parallel runs: downloaded parts are not
//! downloaded again. Most tests use the command `prefetch`, which runs no model.

use crate::common::hub::{entry, repository};
use crate::common::{Run, fixture};
use modelgate_testkit::hub::{Action, Fault, Hub, Repository};
use modelgate_testkit::random::Random;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The size of the large file in bytes.
const LARGE_BYTES: u64 = 200_000_000;
const WEIGHTS: &str = "model.safetensors";

/// Returns a repository with one large file of random bytes, which is not a valid model.
fn large_repository() -> Repository {
    let mut random = Random::new(5);
    let mut content = Vec::with_capacity(LARGE_BYTES as usize);
    while content.len() < LARGE_BYTES as usize {
        content.extend_from_slice(&random.bits().to_le_bytes());
    }
    content.truncate(LARGE_BYTES as usize);
    let config = std::fs::read(fixture("tiny/llama/config.json")).expect("a config");
    Repository::new("owner/Large").with_file("config.json", config).with_file(WEIGHTS, content)
}

/// Returns the command `prefetch` for a manifest with the entries `models`. `folder` contains the
/// manifest and the cache.
pub(crate) fn prefetch(models: &str, endpoint: &str, folder: &Path, arguments: &[&str]) -> Command {
    let manifest = folder.join("models.toml");
    std::fs::write(&manifest, format!("schema = 1\n{models}")).expect("a manifest");
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelgate"));
    command.arg("prefetch").args(arguments).env_clear();
    command
        .env("HOME", folder)
        .env("MODELGATE_MANIFEST", manifest)
        .env("HF_ENDPOINT", endpoint)
        .env("HF_HOME", folder.join("hf"))
        .env("HF_HUB_DOWNLOAD_TIMEOUT", "2")
        .env("MODELGATE_HUB_RETRIES", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Returns the exit status, standard output and standard error of a command.
fn printed(output: &Output) -> String {
    format!(
        "{:?}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asserts that at most 5 % of the large file was sent twice.
fn assert_at_most_5_percent_sent_twice(hub: &Hub) {
    let sent = hub.bytes_sent(WEIGHTS);
    assert!(
        (LARGE_BYTES..=LARGE_BYTES + LARGE_BYTES / 20).contains(&sent),
        "{sent} of {LARGE_BYTES} bytes were sent"
    );
}

#[test]
fn a_cut_download_is_resumed() {
    let repository = large_repository();
    let models = entry("large", "owner/Large", "");
    // the next run resumes the download
    for percent in [30, 60, 90] {
        let hub = Hub::start(vec![repository.clone()]);
        let folder = TempDir::new().expect("a folder");
        hub.fault(Fault::of("signature", Action::CutAt(LARGE_BYTES * percent / 100)).times(1));
        let run = || {
            prefetch(&models, &hub.endpoint(), folder.path(), &[])
                .output()
                .expect("the program runs")
        };
        let cut = run();
        assert_eq!(cut.status.code(), Some(101), "{}", printed(&cut));
        assert!(printed(&cut).contains("large: connection: "), "{}", printed(&cut));
        let complete = run();
        assert_eq!(complete.status.code(), Some(0), "{}", printed(&complete));
        assert_at_most_5_percent_sent_twice(&hub);
    }
    // the same run resumes the download: it may retry once, and again after each progress
    let hub = Hub::start(vec![repository]);
    let folder = TempDir::new().expect("a folder");
    for percent in [30, 60, 90] {
        hub.fault(Fault::of("signature", Action::CutAt(LARGE_BYTES * percent / 100)).times(1));
    }
    let mut command = prefetch(&models, &hub.endpoint(), folder.path(), &[]);
    let complete = command.env("MODELGATE_HUB_RETRIES", "1").output().expect("the program runs");
    assert_eq!(complete.status.code(), Some(0), "{}", printed(&complete));
    assert_at_most_5_percent_sent_twice(&hub);
}

#[test]
fn a_download_of_a_killed_run_is_resumed_by_the_next() {
    let hub = Hub::start(vec![large_repository()]);
    let folder = TempDir::new().expect("a folder");
    let models = entry("large", "owner/Large", "");
    hub.fault(Fault::of("signature", Action::StallAt(LARGE_BYTES / 2)).times(1));
    let mut command = prefetch(&models, &hub.endpoint(), folder.path(), &[]);
    let mut child =
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").spawn().expect("the program starts");
    let until = Instant::now() + Duration::from_secs(60);
    let own = folder.path().join("hf/hub/models--owner--Large/.modelgate");
    let partial =
        |path: &Path| {
            std::fs::read_dir(path).into_iter().flatten().flatten().any(|entry| {
                entry.metadata().is_ok_and(|metadata| metadata.len() == LARGE_BYTES / 2)
            })
        };
    while !partial(&own) {
        assert!(Instant::now() < until, "half of the file is received within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("killed");
    child.wait().expect("the program ends");
    let complete =
        prefetch(&models, &hub.endpoint(), folder.path(), &[]).output().expect("the program runs");
    assert_eq!(complete.status.code(), Some(0), "{}", printed(&complete));
    assert_at_most_5_percent_sent_twice(&hub);
    // the verification is stored for later runs
    for (arguments, text) in [
        (&[][..], "(1 verified earlier), 0 B fetched"),
        (&["--verify"], "(1 verified now), 0 B fetched"),
    ] {
        let again = prefetch(&models, &hub.endpoint(), folder.path(), arguments)
            .output()
            .expect("the program runs");
        assert!(printed(&again).contains(text), "{}", printed(&again));
    }
}

#[test]
fn verify_finds_a_flipped_bit_in_the_cache() {
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let folder = TempDir::new().expect("a folder");
    let models = entry("tiny", "owner/Tiny", "");
    let run = |arguments: &[&str]| {
        let mut command = prefetch(&models, &hub.endpoint(), folder.path(), arguments);
        command.output().expect("the program runs")
    };
    assert_eq!(run(&[]).status.code(), Some(0));
    let shard = "model-00001-of-00002.safetensors";
    let blobs = folder.path().join("hf/hub/models--owner--Tiny/blobs");
    let blob = blobs.join(repository.etag(shard));
    let modified = std::fs::metadata(&blob).and_then(|file| file.modified()).expect("a time");
    let mut content = repository.content(shard).to_vec();
    content[500_000] ^= 4;
    std::fs::write(&blob, &content).expect("written");
    // size and modification time stay the same, as if the disk had flipped the bit
    let file = std::fs::OpenOptions::new().write(true).open(&blob).expect("the blob");
    file.set_modified(modified).expect("the previous time");
    let unverified = run(&[]);
    assert!(printed(&unverified).contains("2 verified earlier"), "{}", printed(&unverified));
    let verified = run(&["--verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", printed(&verified));
    let message = format!("{shard} in the cache is wrong");
    assert!(printed(&verified).contains(&message), "{}", printed(&verified));
    assert_eq!(std::fs::read(&blob).expect("a blob"), repository.content(shard));
}

#[test]
fn two_parallel_runs_download_each_file_once() {
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let home = TempDir::new().expect("a folder");
    // the weights are not sent before both runs have started
    let released = Arc::new(AtomicBool::new(false));
    hub.fault(Fault::of("signature", Action::Hold(released.clone())));
    let run = || {
        let run = Run::manifest(&entry("tiny", "owner/Tiny", ""));
        run.with_hub(&hub.endpoint(), home.path()).env("HF_HUB_DOWNLOAD_TIMEOUT", "300").spawn()
    };
    let runs = [run(), run()];
    let started = || hub.log().iter().filter(|logged| logged.target.contains("/revision/")).count();
    let begin = Instant::now();
    while started() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(200), "both runs start");
        std::thread::sleep(Duration::from_millis(10));
    }
    released.store(true, Ordering::Relaxed);
    let mut downloaded = 0;
    for ended in runs.map(crate::common::StartedRun::wait) {
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        ended.assert_passes("tiny");
        downloaded += ended.model("tiny").measurement.downloaded_bytes;
    }
    let mut all = 0;
    for path in repository.paths() {
        let sent = hub.bytes_sent(&format!("/{path}")) + hub.bytes_sent(&format!("name={path}&"));
        let bytes = repository.content(&path).len() as u64;
        assert!(sent == bytes || sent == 0, "{path}: {sent} of {bytes} bytes were sent");
        all += sent;
    }
    assert_eq!(downloaded, all);
}

#[test]
fn prefetch_filters_models_like_a_run() {
    let hub = Hub::start(vec![repository("owner/Tiny"), repository("owner/Other")]);
    let folder = TempDir::new().expect("a folder");
    let models = entry("tiny", "owner/Tiny", "") + &entry("other", "owner/Other", "");
    let run = |arguments: &[&str]| {
        let mut command = prefetch(&models, &hub.endpoint(), folder.path(), arguments);
        command.output().expect("the program runs")
    };
    let one = run(&["Owner/tiny"]);
    assert_eq!(one.status.code(), Some(0), "{}", printed(&one));
    assert!(
        hub.bytes_sent("owner/Tiny") > 0 && hub.bytes_sent("owner/Other") == 0,
        "{}",
        printed(&one)
    );
    assert!(printed(&one).contains("tiny: fetch "), "{}", printed(&one));
    let none = run(&["tinny"]);
    assert_eq!(none.status.code(), Some(2), "{}", printed(&none));
    assert!(printed(&none).contains("nearest ids are tiny"), "{}", printed(&none));
    assert_eq!(run(&["--nonsense"]).status.code(), Some(2));
}
