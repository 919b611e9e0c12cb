//! Downloads from a hub on loopback: into an empty cache, with a complete cache, without the hub,
//! and with faults.

use modelgate_hub::{
    FetchOptions, Fetched, HubError, ModelSource, Observer, Opened, Settings, Transfer,
    TransferKind, Variables, Verified, open,
};
use modelgate_protocol::FailureKind;
use modelgate_testkit::hub::{Action, Fault, Hub, Repository};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const REPO: &str = "owner/Tiny";
const KNOWN: &str = "Known/Model-1.5";
const WEIGHTS: &str = "model.safetensors";
const TOKEN: &str = "hf_secretsecretsecret";

/// An observer that records the reports of a download, and can interrupt it.
#[derive(Default)]
struct Recorder {
    notes: Mutex<Vec<String>>,
    events: Arc<Mutex<Vec<String>>>,
    /// Whether the download is interrupted when a transfer begins.
    interrupt_transfer: bool,
}

impl Recorder {
    fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("notes").clone()
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().expect("events").clone()
    }
}

impl Observer for Recorder {
    fn interrupted(&self) -> Option<String> {
        let is_interrupted = self.interrupt_transfer && !self.events().is_empty();
        is_interrupted.then(|| "SIGINT".to_owned())
    }

    fn note(&self, text: &str) {
        self.notes.lock().expect("notes").push(text.to_owned());
    }

    fn transfer(&self, work: TransferKind, total: u64) -> Box<dyn Transfer> {
        Box::new(RecordedTransfer { work, total, events: Arc::clone(&self.events) })
    }
}

struct RecordedTransfer {
    work: TransferKind,
    total: u64,
    events: Arc<Mutex<Vec<String>>>,
}

impl RecordedTransfer {
    fn push(&self, event: String) {
        self.events.lock().expect("events").push(format!("{} {event}", self.work.name()));
    }
}

impl Transfer for RecordedTransfer {
    fn begin(&mut self, present: u64, description: &str) {
        self.push(format!("{present} of {}: {description}", self.total));
    }

    fn at(&mut self, done: u64) {
        assert!(done <= self.total, "{done} of {}", self.total);
    }

    fn finish(self: Box<Self>, moved: u64) {
        self.push(format!("moved {moved}"));
    }
}

/// Returns a repository with the files of a model. The content of the weights is not read.
fn repository(name: &str) -> Repository {
    Repository::new(name)
        .with_file("config.json", b"{\"model_type\": \"llama\"}".to_vec())
        .with_file("tokenizer.json", b"{}".to_vec())
        .with_file("README.md", b"# tiny".to_vec())
        .with_file(WEIGHTS, vec![7; 300_000])
}

/// A host of a user: the home folder with the cache, and the environment variables.
struct Host {
    home: TempDir,
    variables: Variables,
    verify: bool,
}

impl Host {
    fn new(endpoint: &str) -> Host {
        let home = TempDir::new().expect("a folder");
        let mut variables = Variables::default();
        variables.set("HF_HOME", home.path());
        variables.set("HF_ENDPOINT", endpoint);
        variables.set("HF_HUB_DOWNLOAD_TIMEOUT", "2");
        variables.set("MODELGATE_HUB_RETRIES", "0");
        Host { home, variables, verify: false }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.set(name, value);
    }

    fn repository_cache(&self) -> PathBuf {
        self.home.path().join("hub/models--owner--Tiny")
    }

    fn open_as(
        &self,
        repo: &str,
        revision: &str,
        recorder: &Arc<Recorder>,
    ) -> Result<Opened, HubError> {
        let settings = Settings::resolve(&self.variables, self.home.path()).expect("settings");
        let source =
            ModelSource { repo: repo.to_owned(), revision: revision.to_owned(), file: None };
        let options = FetchOptions {
            model: "tiny".into(),
            stall: Duration::from_secs(60),
            verify: self.verify,
            known_repositories: vec![KNOWN],
        };
        open(Arc::new(settings), source, options, Arc::clone(recorder) as Arc<dyn Observer>)
    }

    fn open(&self) -> Result<Opened, HubError> {
        self.open_as(REPO, "main", &Arc::default())
    }

    fn fetch_as(&self, repo: &str, revision: &str) -> Result<Fetched, HubError> {
        self.open_as(repo, revision, &Arc::default())?.weights()
    }

    fn fetch(&self) -> Result<Fetched, HubError> {
        self.fetch_as(REPO, "main")
    }
}

/// Returns the error of a download.
fn error<T>(result: Result<T, HubError>) -> HubError {
    result.err().expect("an error")
}

/// Returns the files below `folder`.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

#[test]
fn small_files_are_downloaded_first_and_no_file_is_downloaded_twice() {
    let repository = repository(REPO);
    let commit = repository.commit.clone();
    let hub = Hub::start(vec![repository]);
    let mut host = Host::new(&hub.endpoint());
    let recorder = Arc::new(Recorder::default());
    let opened = host.open_as(REPO, "main", &recorder).expect("opened");
    assert_eq!(opened.commit(), commit);
    let config = std::fs::read(opened.config().expect("a config")).expect("the config");
    assert_eq!(config, b"{\"model_type\": \"llama\"}");
    assert_eq!(hub.bytes_sent(WEIGHTS), 0, "the weights are not downloaded yet");
    let fetched = opened.weights().expect("fetched");
    assert_eq!(fetched.commit, commit);
    assert_eq!(fetched.downloaded_bytes, 300_025);
    assert_eq!(fetched.weights.len(), 1);
    assert_eq!(fetched.weights[0].name, WEIGHTS);
    assert_eq!(fetched.weights[0].verified, Verified::HashedNow);
    assert_eq!(fetched.weights[0].sha256.as_ref().map(String::len), Some(64));
    assert_eq!(std::fs::read(&fetched.files.weights[0]).expect("weights"), vec![7; 300_000]);
    assert_eq!(hub.bytes_sent("README"), 0);
    let cache = host.home.path().join("hub").display().to_string();
    let expected = [
        format!("fetch 0 of 25: 2 files, 25 B to download, into {cache}"),
        "fetch moved 25".to_owned(),
        format!("fetch 0 of 300000: 1 file, 300 kB to download, into {cache}"),
        "fetch moved 300025".to_owned(),
    ];
    assert_eq!(recorder.events(), expected);

    let requests = hub.log().len();
    let again = host.fetch().expect("found");
    assert_eq!(again.downloaded_bytes, 0);
    assert_eq!(again.weights[0].verified, Verified::HashedEarlier);
    let log: Vec<String> = hub.log()[requests..].iter().map(|l| l.target.clone()).collect();
    assert_eq!(log, [format!("/api/models/{REPO}/revision/main")]);

    host.verify = true;
    assert_eq!(host.fetch().expect("found").weights[0].verified, Verified::HashedNow);
    host.verify = false;

    drop(hub);
    host.set("HF_HUB_OFFLINE", "1");
    let offline = host.fetch().expect("found");
    assert_eq!((offline.commit, offline.downloaded_bytes), (commit, 0));
    assert!(offline.notes.is_empty(), "{:?}", offline.notes);
}

#[test]
fn a_dropped_model_leaves_no_lock_and_its_weights_are_not_downloaded() {
    let hub = Hub::start(vec![repository(REPO)]);
    let host = Host::new(&hub.endpoint());
    drop(host.open().expect("opened"));
    assert_eq!(hub.bytes_sent(WEIGHTS), 0);
    assert_eq!(files_below(&host.home.path().join("hub/.locks")), Vec::<PathBuf>::new());
    assert!(!host.repository_cache().join("refs/main").exists(), "the commit is incomplete");
}

#[test]
fn a_commit_hash_is_used_without_a_request_for_the_revision() {
    let repository = repository(REPO);
    let hub = Hub::start(vec![repository.clone()]);
    let host = Host::new(&hub.endpoint());
    let fetched = host.fetch_as(REPO, &repository.commit).expect("fetched");
    assert_eq!(fetched.commit, repository.commit);
    assert!(!hub.log().iter().any(|logged| logged.target.contains("/revision/")));
    assert_eq!(files_below(&host.repository_cache().join("refs")), Vec::<PathBuf>::new());
}

#[test]
fn the_cache_is_used_with_a_note_if_the_hub_is_unreachable() {
    let repository = repository(REPO);
    let hub = Hub::start(vec![repository.clone()]);
    let host = Host::new(&hub.endpoint());
    host.fetch().expect("fetched");
    drop(hub);
    let recorder = Arc::new(Recorder::default());
    let opened = host.open_as(REPO, "main", &recorder).expect("opened");
    assert_eq!(recorder.notes(), Vec::<String>::new());
    let fetched = opened.weights().expect("found");
    assert_eq!(fetched.notes, recorder.notes());
    let [note] = fetched.notes.as_slice() else { panic!("{:?}", fetched.notes) };
    let (begin, rest) = note.split_once("): ").map_or((note.as_str(), ""), |parts| parts);
    assert_eq!(begin, "the hub cannot be reached (connection (acquire");
    assert!(rest.starts_with("owner/Tiny (revision main): cannot connect to 127.0.0.1"), "{note}");
    let end = format!("; commit {} of revision main in the cache is used", repository.commit);
    assert!(rest.ends_with(&end), "{note}");

    // if a file is missing from the cache, the error of the hub is returned
    std::fs::remove_file(
        host.repository_cache().join("snapshots").join(&repository.commit).join(WEIGHTS),
    )
    .expect("removed");
    let error = error(host.open());
    assert_eq!(error.kind, FailureKind::Connection, "{error}");
}

/// Returns an answer with a status, a header and a body.
fn status(status: u16, header: (&str, &str), body: &str) -> Action {
    Action::Status(status, vec![(header.0.into(), header.1.into())], body.into())
}

#[test]
fn the_cache_is_used_with_a_note_unless_the_hub_itself_refuses() {
    use FailureKind::{InvalidResponse, RepositoryNotFound, TokenMissing};
    let repository = repository(REPO);
    let hub = Hub::start(vec![repository.clone()]);
    let host = Host::new(&hub.endpoint());
    let html = ("Content-Type", "text/html");
    let page = "<html><body>Access denied by policy</body></html>";
    let code = |code| ("X-Error-Code", code);
    let json = ("Content-Type", "application/json");
    let foreign = "another server answers instead of the hub";
    // the kind without a cache, and the start of the note if the cache is used
    let cases = [
        (status(403, html, page), InvalidResponse, Some(foreign)),
        (status(401, html, page), InvalidResponse, Some(foreign)),
        (status(404, html, page), InvalidResponse, Some(foreign)),
        (status(407, html, page), InvalidResponse, Some(foreign)),
        (status(200, html, page), InvalidResponse, Some(foreign)),
        (status(403, html, ""), TokenMissing, Some(foreign)),
        (status(502, html, page), FailureKind::ServerError, Some("the hub cannot answer now")),
        (Action::Close, FailureKind::Connection, Some("the hub cannot be reached")),
        (status(401, code("RepoNotFound"), page), RepositoryNotFound, None),
        (status(403, code("GatedRepo"), ""), TokenMissing, None),
        (status(404, json, "{\"error\": \"Not Found\"}"), RepositoryNotFound, None),
        (status(401, ("X-Error-Message", "no"), page), TokenMissing, None),
    ];
    for (action, kind, _) in &cases {
        hub.fault(Fault::of("/revision/", action.clone()));
        let error = error(host.open());
        assert_eq!(error.kind, *kind, "{action:?}: {error}");
        hub.clear_faults();
    }
    host.fetch().expect("fetched");
    for (action, kind, note) in &cases {
        hub.fault(Fault::of("/revision/", action.clone()));
        match (host.fetch(), note) {
            (Ok(fetched), Some(note)) => {
                assert_eq!(fetched.commit, repository.commit, "{action:?}");
                let expected = format!("{note} ({} (acquire): ", kind.name());
                let [found] = fetched.notes.as_slice() else { panic!("{:?}", fetched.notes) };
                assert!(found.starts_with(&expected), "{action:?}: {found}");
            }
            (Err(error), None) => assert_eq!(error.kind, *kind, "{action:?}: {error}"),
            (result, _) => panic!("{action:?}: {result:?}"),
        }
        hub.clear_faults();
    }
    // an untrusted certificate
    let mut host = host;
    let endpoint = hub.endpoint().replace("http:", "https:");
    host.set("HF_ENDPOINT", &endpoint);
    let fetched = host.fetch().expect("found");
    assert!(fetched.notes[0].starts_with("the hub cannot be reached (tls"), "{fetched:?}");
}

#[test]
fn a_download_needs_no_headers_that_the_hash_makes_unnecessary() {
    for (target, action) in [
        ("/resolve/", Action::BareHeaders),
        ("/resolve/", Action::Chunked),
        ("signature", Action::BareHeaders),
        ("signature", Action::Chunked),
        ("signature", Action::IgnoreRange),
        ("signature", Action::ShortRange(100_000)),
        ("/tree/", Action::LinkToOtherHost),
    ] {
        // more files than one page of the listing contains
        let repository = ["a", "b", "c"].iter().fold(repository(REPO), |repository, name| {
            repository.with_file(name, name.as_bytes().to_vec())
        });
        let hub = Hub::start(vec![repository]);
        let host = Host::new(&hub.endpoint());
        hub.fault(Fault::of(target, action.clone()));
        let fetched = host.fetch();
        let fetched = fetched.unwrap_or_else(|error| panic!("{target} {action:?}: {error}"));
        assert_eq!(fetched.weights[0].verified, Verified::HashedNow);
        let content = std::fs::read(&fetched.files.weights[0]).expect("weights");
        assert_eq!(content, vec![7; 300_000], "{target} {action:?}");
    }
}

#[test]
fn a_partial_file_that_a_server_does_not_resume_is_replaced() {
    for action in [
        Action::RefuseRange,
        Action::OtherRange,
        Action::StartAtZero,
        Action::IgnoreRange,
        Action::Chunked,
    ] {
        let hub = Hub::start(vec![repository(REPO)]);
        let host = Host::new(&hub.endpoint());
        hub.fault(Fault::of("signature", Action::CutAt(100_000)).times(1));
        assert_eq!(error(host.fetch()).kind, FailureKind::Connection, "{action:?}");
        let partial = |path: &PathBuf| path.extension().is_some_and(|end| end == "partial");
        assert!(files_below(&host.repository_cache()).iter().any(partial), "{action:?}");
        hub.fault(Fault::of("signature", action.clone()));
        let fetched = host.fetch();
        let fetched = fetched.unwrap_or_else(|error| panic!("{action:?}: {error}"));
        let content = std::fs::read(&fetched.files.weights[0]).expect("weights");
        assert_eq!(content, vec![7; 300_000], "{action:?}");
    }
}

#[test]
fn a_requested_wait_is_respected_up_to_a_limit() {
    let hub = Hub::start(vec![repository(REPO)]);
    let mut host = Host::new(&hub.endpoint());
    for (wait, text) in [("3600", "60 min"), ("Tue, 31 Dec 2999 23:59:59 GMT", "min")] {
        for code in [429, 503] {
            hub.fault(Fault::of("/revision/", status(code, ("Retry-After", wait), "")));
            let error = error(host.open());
            assert!(error.message.contains("requests a wait of "), "{error}");
            assert!(error.message.contains(text), "{error}");
            assert!(error.message.ends_with("; a run waits at most 2 min"), "{error}");
            hub.clear_faults();
        }
    }
    host.set("MODELGATE_HUB_RETRIES", "1");
    for code in [429, 503] {
        let begin = Instant::now();
        let answer = status(code, ("Retry-After", "2"), "");
        hub.fault(Fault::of("/revision/", answer).times(1));
        host.fetch().expect("fetched");
        assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}

#[test]
fn a_new_commit_is_not_replaced_by_the_cached_one() {
    let old = repository(REPO);
    let hub = Hub::start(vec![old.clone()]);
    let host = Host::new(&hub.endpoint());
    host.fetch().expect("fetched");
    let new = old.with_file("config.json", b"{\"new\": 1}".to_vec()).next_commit();
    hub.replace(new.clone());
    let busy = || Action::Status(503, Vec::new(), String::new());
    for target in ["/tree/", "/config.json"] {
        hub.fault(Fault::of(target, busy()));
        assert_eq!(error(host.open()).kind, FailureKind::ServerError, "{target}");
        hub.clear_faults();
    }
    // without an answer to the request for the listing, a commit in the cache is used
    hub.fault(Fault::of("/tree/", busy()));
    std::fs::remove_dir_all(host.repository_cache().join(".modelgate")).expect("removed");
    let fetched = host.fetch_as(REPO, &repository(REPO).commit).expect("found");
    assert!(fetched.notes[0].contains("server_error (acquire)"), "{:?}", fetched.notes);
    hub.clear_faults();
    assert_eq!(host.fetch().expect("fetched").commit, new.commit);
}

#[test]
fn files_of_another_tool_are_verified_with_the_names_of_their_contents() {
    let repository = repository(REPO);
    let hub = Hub::start(vec![repository.clone()]);
    let mut host = Host::new(&hub.endpoint());
    host.fetch().expect("fetched");
    std::fs::remove_dir_all(host.repository_cache().join(".modelgate")).expect("removed");
    host.set("HF_HUB_OFFLINE", "1");
    assert_eq!(host.fetch().expect("found").weights[0].verified, Verified::HashedNow);
    let blob = host.repository_cache().join("blobs").join(repository.etag(WEIGHTS));
    std::fs::write(blob, vec![8; 300_000]).expect("written");
    let error = error(host.open());
    assert_eq!(error.kind, FailureKind::Corrupt, "{error}");
    assert!(error.message.contains("the cached file is damaged: sha256 "), "{error}");
    assert!(error.hint.contains("prefetch tiny") && error.hint.contains("replaces"), "{error:?}");
}

#[test]
fn files_missing_offline_are_named_with_the_download_command() {
    let repository = repository(REPO);
    let hub = Hub::start(vec![repository.clone()]);
    let mut host = Host::new(&hub.endpoint());
    host.fetch().expect("fetched");
    host.set("HF_HUB_OFFLINE", "1");
    let other = error(host.open_as(REPO, "v2", &Arc::default()));
    assert_eq!(other.kind, FailureKind::Offline);
    let cache = host.home.path().join("hub").display().to_string();
    let expected = format!(
        "owner/Tiny (revision v2): the cache does not contain this revision; the cache is {cache}, \
         and HF_HUB_OFFLINE forbids requests to the hub"
    );
    assert_eq!(other.message, expected);
    assert_eq!(
        other.hint,
        "download it on a host with network access: `cargo run --release -- prefetch tiny`, or `hf \
         download owner/Tiny --revision v2`; or set HF_HOME to the cache that contains it"
    );
    let known = error(host.open_as("known/Model1.5", "main", &Arc::default()));
    assert!(
        known.hint.starts_with("use Known/Model-1.5 if that is the model you need; or download it"),
        "{known:?}"
    );
    let pointer =
        host.repository_cache().join("snapshots").join(&repository.commit).join("config.json");
    std::fs::remove_file(pointer).expect("removed");
    let missing = error(host.open());
    assert_eq!(missing.kind, FailureKind::Offline);
    let expected = ": missing from the cache: config.json (23 B); the cache is";
    assert!(missing.message.contains(expected), "{missing}");
}

#[test]
fn a_misspelled_repository_gets_a_hint_with_a_similar_name() {
    let hub = Hub::start(vec![repository(REPO)]);
    let host = Host::new(&hub.endpoint());
    for (repo, similar) in [("owner/Tinny", REPO), ("known/model15", KNOWN)] {
        let error = error(host.open_as(repo, "main", &Arc::default()));
        assert_eq!(error.kind, FailureKind::RepositoryNotFound, "{error}");
        let begin = format!("use {similar} if that is the model you need; or check the name on ");
        assert!(error.hint.starts_with(&begin), "{error:?}");
    }
}

#[test]
fn a_wrong_file_in_the_cache_is_noted_and_downloaded_again() {
    let repository = repository(REPO);
    let hub = Hub::start(vec![repository.clone()]);
    let host = Host::new(&hub.endpoint());
    host.fetch().expect("fetched");
    for path in ["config.json", WEIGHTS] {
        let blob = host.repository_cache().join("blobs").join(repository.etag(path));
        std::fs::write(&blob, "Access denied").expect("written");
        let recorder = Arc::new(Recorder::default());
        let opened = host.open_as(REPO, "main", &recorder).expect("opened");
        let fetched = opened.weights().expect("fetched");
        let bytes = repository.content(path).len();
        let note =
            format!("{path} in the cache is wrong (13 bytes, expected {bytes}): downloaded again");
        assert_eq!(fetched.notes, [note]);
        assert_eq!(recorder.notes(), fetched.notes);
        assert_eq!(std::fs::read(blob).expect("the content"), repository.content(path));
    }
}

#[test]
fn a_signal_ends_a_download_and_releases_its_locks() {
    let hub = Hub::start(vec![repository(REPO)]);
    let mut host = Host::new(&hub.endpoint());
    host.set("HF_HUB_DOWNLOAD_TIMEOUT", "60");
    host.fetch_as(REPO, "main").expect("fetched");
    std::fs::remove_dir_all(host.repository_cache().join("blobs")).expect("removed");
    hub.fault(Fault::of("/config.json", Action::StallAt(5)));
    let recorder = Arc::new(Recorder { interrupt_transfer: true, ..Recorder::default() });
    let error = error(host.open_as(REPO, "main", &recorder));
    assert_eq!(error.kind, FailureKind::Interrupted);
    let expected = "SIGINT ended the run while files were downloaded or verified";
    assert_eq!(error.message, expected);
    assert_eq!(files_below(&host.home.path().join("hub/.locks")), Vec::<PathBuf>::new());
    hub.clear_faults();
    host.fetch().expect("fetched");
}

#[test]
fn errors_keep_their_source_without_addresses_and_token() {
    let hub = Hub::start(vec![repository(REPO).gated()]);
    hub.allow(TOKEN, &[REPO]);
    let mut host = Host::new(&hub.endpoint());
    host.set("HF_TOKEN", TOKEN);
    hub.fault(Fault::of("signature", Action::CutAt(1000)));
    let cut = error(host.fetch());
    assert_eq!(cut.kind, FailureKind::Connection);
    assert!(cut.message.contains("(1000 of 300000 bytes were downloaded); tried 1 times"), "{cut}");
    let mut texts = vec![format!("{cut:?}"), cut.to_string(), cut.hint.clone()];
    let mut source = cut.source();
    assert!(source.is_some(), "{cut:?}");
    while let Some(cause) = source {
        texts.push(format!("{cause} {cause:?}"));
        source = cause.source();
    }
    for text in texts {
        assert!(!text.contains("signature") && !text.contains(TOKEN), "{text}");
    }
    hub.clear_faults();
    // an answer that is JSON of another form, and repeats the token
    let page = format!("\"{TOKEN}\"");
    hub.fault(Fault::of("/revision/", Action::Status(200, Vec::new(), page)));
    let page = error(host.open());
    assert_eq!(page.kind, FailureKind::InvalidResponse);
    assert!(!format!("{page:?}").contains(TOKEN), "{page:?}");
    hub.clear_faults();
    host.fetch().expect("fetched");
}

#[test]
fn a_cache_with_all_files_may_be_read_only() {
    let repository = repository(REPO);
    let hub = Hub::start(vec![repository.clone()]);
    let host = Host::new(&hub.endpoint());
    host.fetch_as(REPO, &repository.commit).expect("fetched");
    // root ignores permissions, but no user can create a file below a regular file
    let refs = host.repository_cache().join("refs");
    std::fs::remove_dir(&refs).expect("removed");
    std::fs::write(&refs, "").expect("written");
    let fetched = host.fetch();
    assert_eq!(fetched.expect("found").commit, repository.commit);
}

#[test]
fn a_cache_path_that_is_not_a_folder_is_reported_with_the_missing_files() {
    let hub = Hub::start(vec![repository(REPO)]);
    let mut host = Host::new(&hub.endpoint());
    host.set("HF_HOME", "/dev/null");
    let error = error(host.open());
    assert_eq!(error.kind, FailureKind::CacheNotWritable, "{error}");
    assert!(error.message.contains("/dev/null/hub"), "{error}");
    assert!(
        error.message.ends_with("; missing from the cache: tokenizer.json, config.json (25 B)"),
        "{error}"
    );
}

#[test]
fn without_symlinks_the_cache_contains_the_files_themselves() {
    // two of the files have the same content
    let repository = repository(REPO).with_file("generation_config.json", b"{}".to_vec());
    let hub = Hub::start(vec![repository.clone()]);
    let mut host = Host::new(&hub.endpoint());
    host.set("HF_HUB_DISABLE_SYMLINKS", "1");
    let fetched = host.fetch().expect("fetched");
    assert_eq!(fetched.weights[0].verified, Verified::HashedNow);
    let snapshot = host.repository_cache().join("snapshots").join(&repository.commit);
    for path in ["config.json", "tokenizer.json", "generation_config.json", WEIGHTS] {
        let metadata = std::fs::symlink_metadata(snapshot.join(path)).expect("metadata");
        assert!(metadata.is_file(), "{path}");
        let content = std::fs::read(snapshot.join(path)).expect("the content");
        assert_eq!(content, repository.content(path), "{path}");
    }
    // moved, as by huggingface_hub, so that the disk contains the weights once
    let blobs = host.repository_cache().join("blobs");
    assert!(!blobs.join(repository.etag(WEIGHTS)).exists());

    let again = host.fetch().expect("found");
    assert_eq!(again.downloaded_bytes, 0);
    assert_eq!(again.weights[0].verified, Verified::HashedEarlier);
    host.verify = true;
    assert_eq!(host.fetch().expect("found").weights[0].verified, Verified::HashedNow);
    host.verify = false;

    std::fs::write(snapshot.join("config.json"), "Access denied").expect("written");
    let fetched = host.fetch().expect("fetched");
    assert!(fetched.notes[0].contains("config.json in the cache is wrong"), "{fetched:?}");
    let config = std::fs::read(snapshot.join("config.json")).expect("the content");
    assert_eq!(config, repository.content("config.json"));

    drop(hub);
    host.set("HF_HUB_OFFLINE", "1");
    assert_eq!(host.fetch().expect("found").commit, repository.commit);
}

#[test]
fn a_server_without_tls_is_not_trusted() {
    let hub = Hub::start(Vec::new());
    let host = Host::new(&hub.endpoint().replace("http:", "https:"));
    let error = error(host.open());
    assert_eq!(error.kind, FailureKind::Tls, "{error}");
    assert!(error.message.contains("cannot establish a TLS connection"), "{error}");
}
