//! Large files over connections that break, and several runs at once: what was fetched is not
//! fetched again. By the prefetch command, which runs no model.

use crate::common::hub::{entry, repository};
use crate::common::{Run, fixture};
use modelgate_testkit::hub::{Action, Fault, Hub, Repository};
use modelgate_testkit::random::Random;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LARGE: u64 = 200_000_000;
const WEIGHTS: &str = "model.safetensors";

/// A repository with one large file (random bytes: no model).
fn large() -> Repository {
    let mut random = Random::new(5);
    let mut content = Vec::with_capacity(LARGE as usize);
    while content.len() < LARGE as usize {
        content.extend_from_slice(&random.bits().to_le_bytes());
    }
    content.truncate(LARGE as usize);
    let config = std::fs::read(fixture("tiny/llama/config.json")).expect("a config");
    Repository::new("owner/Large").with_file("config.json", config).with_file(WEIGHTS, content)
}

/// The prefetch command for a manifest in `folder`, which holds the cache too.
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

fn said(output: &Output) -> String {
    format!(
        "{:?}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn is_at_most_5_percent_twice(hub: &Hub) {
    let sent = hub.sent(WEIGHTS);
    assert!((LARGE..=LARGE + LARGE / 20).contains(&sent), "{sent} of {LARGE} bytes were sent");
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let repository = large();
    let models = entry("large", "owner/Large", "");
    // by the next run
    for percent in [30, 60, 90] {
        let hub = Hub::start(vec![repository.clone()]);
        let folder = TempDir::new().expect("a folder");
        hub.fault(Fault::of("signature", Action::CutAt(LARGE * percent / 100)).times(1));
        let run =
            || prefetch(&models, &hub.endpoint(), folder.path(), &[]).output().expect("it runs");
        let cut = run();
        assert_eq!(cut.status.code(), Some(101), "{}", said(&cut));
        assert!(said(&cut).contains("large: connect: "), "{}", said(&cut));
        let whole = run();
        assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));
        is_at_most_5_percent_twice(&hub);
    }
    // by the same run, which may try once, and again after each gain
    let hub = Hub::start(vec![repository]);
    let folder = TempDir::new().expect("a folder");
    for percent in [30, 60, 90] {
        hub.fault(Fault::of("signature", Action::CutAt(LARGE * percent / 100)).times(1));
    }
    let mut command = prefetch(&models, &hub.endpoint(), folder.path(), &[]);
    let whole = command.env("MODELGATE_HUB_RETRIES", "1").output().expect("it runs");
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));
    is_at_most_5_percent_twice(&hub);
}

#[test]
fn a_run_that_is_killed_leaves_its_beginning_to_the_next() {
    let hub = Hub::start(vec![large()]);
    let folder = TempDir::new().expect("a folder");
    let models = entry("large", "owner/Large", "");
    hub.fault(Fault::of("signature", Action::StallAt(LARGE / 2)).times(1));
    let mut command = prefetch(&models, &hub.endpoint(), folder.path(), &[]);
    let mut child = command.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").spawn().expect("it starts");
    let until = Instant::now() + Duration::from_secs(60);
    let own = folder.path().join("hf/hub/models--owner--Large/.modelgate");
    let partial = |path: &Path| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() == LARGE / 2))
    };
    while !partial(&own) {
        assert!(Instant::now() < until, "half of the file comes within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let whole = prefetch(&models, &hub.endpoint(), folder.path(), &[]).output().expect("it runs");
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));
    is_at_most_5_percent_twice(&hub);
    // what is verified now stays so
    for (arguments, says) in [
        (&[][..], "(1 verified earlier), 0 B fetched"),
        (&["--verify"], "(1 verified now), 0 B fetched"),
    ] {
        let again =
            prefetch(&models, &hub.endpoint(), folder.path(), arguments).output().expect("it runs");
        assert!(said(&again).contains(says), "{}", said(&again));
    }
}

#[test]
fn verifying_finds_what_a_size_does_not_show() {
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let folder = TempDir::new().expect("a folder");
    let models = entry("tiny", "owner/Tiny", "");
    let run = |arguments: &[&str]| {
        let mut command = prefetch(&models, &hub.endpoint(), folder.path(), arguments);
        command.output().expect("it runs")
    };
    assert_eq!(run(&[]).status.code(), Some(0));
    let shard = "model-00001-of-00002.safetensors";
    let blobs = folder.path().join("hf/hub/models--owner--Tiny/blobs");
    let blob = blobs.join(repository.etag(shard));
    let modified = std::fs::metadata(&blob).and_then(|file| file.modified()).expect("a time");
    let mut content = repository.content(shard).to_vec();
    content[500_000] ^= 4;
    std::fs::write(&blob, &content).expect("written");
    // as a disk does that loses a bit: nothing shows but the content
    let file = std::fs::OpenOptions::new().write(true).open(&blob).expect("the blob");
    file.set_modified(modified).expect("the time as before");
    let unseen = run(&[]);
    assert!(said(&unseen).contains("2 verified earlier"), "{}", said(&unseen));
    let seen = run(&["--verify"]);
    assert_eq!(seen.status.code(), Some(0), "{}", said(&seen));
    assert!(said(&seen).contains(&format!("{shard} in the cache is wrong")), "{}", said(&seen));
    assert_eq!(std::fs::read(&blob).expect("a blob"), repository.content(shard));
}

#[test]
fn two_runs_at_once_fetch_each_file_once() {
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let home = TempDir::new().expect("a folder");
    // slow enough to meet
    hub.fault(Fault::of("signature", Action::Trickle(5_000_000)));
    let run = || {
        Run::manifest(&entry("tiny", "owner/Tiny", "")).of_hub(&hub.endpoint(), home.path()).spawn()
    };
    let runs = [run(), run()];
    let mut downloaded = 0;
    for ended in runs.map(crate::common::Running::wait) {
        assert_eq!(ended.code, Some(0), "{}", ended.all());
        ended.passes("tiny");
        downloaded += ended.model("tiny").measurement.downloaded_bytes;
    }
    let log = hub.log();
    let is = |what: &'static str| {
        move |logged: &modelgate_testkit::hub::Logged| logged.target.contains(what)
    };
    let both_began = log.iter().rposition(is("/revision/")).expect("both ask");
    let last_file = log.iter().rposition(is("signature")).expect("files come");
    assert!(both_began < last_file, "the second begins before the first has all");
    let mut all = 0;
    for path in repository.paths() {
        let sent = hub.sent(&format!("/{path}")) + hub.sent(&format!("name={path}&"));
        let bytes = repository.content(&path).len() as u64;
        assert!(sent == bytes || sent == 0, "{path}: {sent} of {bytes} bytes were sent");
        all += sent;
    }
    assert_eq!(downloaded, all);
}

#[test]
fn a_filter_names_models_as_it_does_for_tests() {
    let hub = Hub::start(vec![repository("owner/Tiny"), repository("owner/Other")]);
    let folder = TempDir::new().expect("a folder");
    let models = entry("tiny", "owner/Tiny", "") + &entry("other", "owner/Other", "");
    let run = |arguments: &[&str]| {
        let mut command = prefetch(&models, &hub.endpoint(), folder.path(), arguments);
        command.output().expect("it runs")
    };
    let one = run(&["Owner/tiny"]);
    assert_eq!(one.status.code(), Some(0), "{}", said(&one));
    assert!(hub.sent("owner/Tiny") > 0 && hub.sent("owner/Other") == 0, "{}", said(&one));
    assert!(said(&one).contains("tiny: fetch "), "{}", said(&one));
    let none = run(&["tinny"]);
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
    assert!(said(&none).contains("nearest ids are tiny"), "{}", said(&none));
    assert_eq!(run(&["--nonsense"]).status.code(), Some(2));
}
