//! Tests of runs with a repository of a hub: over real connections, from the cache, offline, and
//! from a read-only cache.

use crate::common::hub::{TOKEN, entry, repository, set_writable};
use crate::common::{FinishedRun, Run, fixture};
use modelgate_hub::{FileRecord, Verified};
use modelgate_testkit::hub::{Hub, Repository};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Returns a run of the tiny model from a hub, with the cache in `home`.
fn tiny_run(endpoint: &str, home: &TempDir) -> Run {
    Run::manifest(&entry("tiny", "owner/Tiny", "")).with_hub(endpoint, home.path())
}

fn files(ended: &FinishedRun) -> &[FileRecord] {
    &ended.model("tiny").measurement.files
}

/// Asserts that every weight file has the verification `verified`, and that its hash and its page
/// cache fraction are reported.
fn assert_all_verified(ended: &FinishedRun, verified: Verified) {
    for file in files(ended) {
        assert_eq!(file.verified, verified, "{}: {}", file.name, ended.output());
        assert_eq!(file.sha256.as_ref().map(String::len), Some(64), "{}", file.name);
        assert!(file.page_cache_fraction.is_some(), "{}", file.name);
    }
}

/// Asserts that four runs pass: a download, a run from the cache, an offline run, and an offline
/// run with a read-only cache.
fn assert_four_runs_pass(repository: Repository, token: Option<&str>) {
    let (name, commit) = (repository.name.clone(), repository.commit.clone());
    let hub = Hub::start(vec![repository.clone()]);
    hub.allow(TOKEN, &[&name]);
    let home = TempDir::new().expect("a folder");
    let run = || {
        let run = Run::manifest(&entry("tiny", &name, "")).with_hub(&hub.endpoint(), home.path());
        token.iter().fold(run, |run, token| run.env("HF_TOKEN", token))
    };

    let ended = run().run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny");
    assert_all_verified(&ended, Verified::HashedNow);
    let measurement = &ended.model("tiny").measurement;
    assert_eq!(measurement.commit.as_deref(), Some(commit.as_str()));
    let needed = ["config", "generation_config", "index", "model-0000", "token", "template"];
    let is_needed = |path: &&String| needed.iter().any(|part| path.contains(part));
    let paths = repository.paths();
    let bytes: usize =
        paths.iter().filter(is_needed).map(|path| repository.content(path).len()).sum();
    assert_eq!(measurement.downloaded_bytes, bytes as u64);
    assert_eq!(
        hub.bytes_sent("original") + hub.bytes_sent("pytorch") + hub.bytes_sent("README"),
        0
    );
    for logged in hub.log() {
        let is_stored = logged.target.contains("signature=");
        let expected = token.filter(|_| !is_stored).map(|token| format!("Bearer {token}"));
        assert_eq!(logged.authorization, expected, "{logged:?}");
    }

    let requests_before = hub.log().len();
    let ended = run().run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert_all_verified(&ended, Verified::HashedEarlier);
    assert_eq!(ended.model("tiny").measurement.downloaded_bytes, 0);
    let log = hub.log();
    let since: Vec<&str> =
        log[requests_before..].iter().map(|logged| logged.target.as_str()).collect();
    assert_eq!(
        since,
        [format!("/api/models/{name}/revision/main")],
        "only the commit is requested"
    );

    drop(hub);
    for ended in [run_offline(&name, home.path()).run(), {
        set_writable(home.path(), false);
        let ended = run_offline(&name, home.path()).enforce_permissions().run();
        set_writable(home.path(), true);
        ended
    }] {
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        ended.assert_passes("tiny");
        assert_all_verified(&ended, Verified::HashedEarlier);
        assert_eq!(ended.model("tiny").measurement.commit.as_deref(), Some(commit.as_str()));
    }
}

fn run_offline(name: &str, home: &Path) -> Run {
    Run::manifest(&entry("tiny", name, "")).arg("--include-ignored").env("HF_HOME", home)
}

#[test]
fn an_open_repository_passes_from_hub_and_cache() {
    assert_four_runs_pass(repository("owner/Tiny"), None);
}

#[test]
fn a_gated_repository_on_xet_passes_from_hub_and_cache() {
    assert_four_runs_pass(repository("owner/Gated").gated().xet(), Some(TOKEN));
}

#[test]
fn a_gguf_file_in_a_folder_of_a_repository_passes() {
    use modelgate_testkit::gguf::{self, GgmlDType};
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    gguf::write_from_safetensors(&fixture("tiny/llama"), &path, &gguf::uniform(GgmlDType::Q8_0));
    let mut repository = repository("owner/Files")
        .with_file("q8/tiny.gguf", std::fs::read(&path).expect("a file"))
        .with_file("q4/other.gguf", vec![1; 200_000]);
    for companion in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let content = std::fs::read(fixture("tiny/llama").join(companion)).expect("a file");
        repository = repository.with_file(&format!("q8/{companion}"), content);
    }
    let hub = Hub::start(vec![repository]);
    let home = TempDir::new().expect("a folder");
    let entry = entry("tiny", "owner/Files", "file = \"q8/tiny.gguf\"");
    for verified in [Verified::HashedNow, Verified::HashedEarlier] {
        let ended = Run::manifest(&entry).with_hub(&hub.endpoint(), home.path()).run();
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        ended.assert_passes("tiny");
        assert_all_verified(&ended, verified);
        assert_eq!(files(&ended).len(), 1);
    }
    assert_eq!(hub.bytes_sent("safetensors") + hub.bytes_sent("other.gguf"), 0);
}

#[test]
fn an_unreachable_hub_is_noted_and_the_cache_is_used() {
    let hub = Hub::start(vec![repository("owner/Tiny")]);
    let home = TempDir::new().expect("a folder");
    let run = |endpoint: &str| tiny_run(endpoint, &home).run();
    let endpoint = hub.endpoint();
    assert_eq!(run(&endpoint).code, Some(0));
    drop(hub);
    let ended = run(&endpoint);
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    let notes = &ended.model("tiny").measurement.notes;
    assert!(notes.len() == 1 && notes[0].contains("cannot be reached"), "{notes:?}");
    assert!(ended.stderr.contains("cannot be reached"), "{}", ended.stderr);
}

#[test]
fn temporary_faults_are_retried() {
    use modelgate_testkit::hub::{Action, Fault};
    let busy = |status, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        Action::Status(status, headers, String::new())
    };
    for (target, action) in [
        ("/revision/", busy(503, &[])),
        ("/revision/", Action::Close),
        ("/revision/", Action::StallAt(0)),
        ("/tree/", busy(429, &[("Retry-After", "1")])),
        ("/tree/", Action::CutAt(10)),
        ("/resolve/", busy(500, &[])),
        ("/resolve/", Action::FlipAt(3)),
        ("signature", Action::IgnoreRange),
        ("signature", Action::RefuseRange),
        ("signature", Action::OtherRange),
        ("/tree/", busy(503, &[("Retry-After", "1")])),
        ("signature", Action::StallAt(100_000)),
        ("signature", Action::CutAt(2_000_000)),
        ("signature", Action::FlipAt(500)),
    ] {
        let hub = Hub::start(vec![repository("owner/Tiny")]);
        let home = TempDir::new().expect("a folder");
        hub.fault(Fault::of(target, action.clone()).times(1));
        let ended = tiny_run(&hub.endpoint(), &home).env("MODELGATE_HUB_RETRIES", "3").run();
        assert_eq!(ended.code, Some(0), "{target} {action:?}: {}", ended.output());
        assert_all_verified(&ended, Verified::HashedNow);
    }
}

#[test]
fn a_file_is_downloaded_completely_if_the_range_is_ignored_or_refused() {
    use modelgate_testkit::hub::{Action, Fault};
    for action in [Action::IgnoreRange, Action::RefuseRange, Action::StartAtZero] {
        let hub = Hub::start(vec![repository("owner/Tiny")]);
        let home = TempDir::new().expect("a folder");
        hub.fault(Fault::of("signature", Action::CutAt(1_000_000)).times(1));
        hub.fault(Fault::of("signature", action.clone()));
        let ended = tiny_run(&hub.endpoint(), &home).run();
        assert_eq!(ended.code, Some(0), "{action:?}: {}", ended.output());
    }
}

#[test]
fn a_page_of_a_proxy_is_noted_and_the_cache_is_used() {
    use modelgate_testkit::hub::{Action, Fault};
    let hub = Hub::start(vec![repository("owner/Tiny")]);
    let home = TempDir::new().expect("a folder");
    assert_eq!(tiny_run(&hub.endpoint(), &home).run().code, Some(0));
    let html = vec![("Content-Type".to_owned(), "text/html".to_owned())];
    let page = "<html>Access denied by policy</html>".to_owned();
    hub.fault(Fault::of("/revision/", Action::Status(403, html, page)));
    let ended = tiny_run(&hub.endpoint(), &home).run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    let notes = &ended.model("tiny").measurement.notes;
    let expected = "another server answers instead of the hub (invalid_response (acquire)";
    assert!(notes.len() == 1 && notes[0].contains(expected), "{notes:?}");
    assert!(ended.stderr.contains("another server answers"), "{}", ended.stderr);
}

#[test]
fn a_host_without_certificates_can_use_the_cache() {
    let hub = Hub::start(vec![repository("owner/Tiny")]);
    let home = TempDir::new().expect("a folder");
    assert_eq!(tiny_run(&hub.endpoint(), &home).run().code, Some(0));
    let run = tiny_run(&hub.endpoint(), &home).env_remove("SSL_CERT_DIR");
    let ended = run.env("SSL_CERT_FILE", "/dev/null").run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    let notes = &ended.model("tiny").measurement.notes;
    let expected = "the hub cannot be reached (tls (acquire): the client for the hub cannot";
    assert!(notes.len() == 1 && notes[0].starts_with(expected), "{notes:?}");
}

/// Returns the path and the permissions of all files and folders below `folder`, without symlinks.
fn permissions_below(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let metadata = entry.metadata().expect("metadata");
        if !metadata.is_symlink() {
            found.push((entry.path(), metadata.permissions().mode() & 0o777));
        }
        if metadata.is_dir() {
            found.extend(permissions_below(&entry.path()));
        }
    }
    found
}

#[test]
fn files_in_the_cache_have_the_permissions_of_the_umask_or_of_a_shared_folder() {
    for (umask, folder_mode, denied, required) in
        [("077", 0o700, 0o077, 0o600), ("022", 0o2775, 0o002, 0o660)]
    {
        let hub = Hub::start(vec![repository("owner/Tiny")]);
        let home = TempDir::new().expect("a folder");
        let cache = home.path().join("hub");
        std::fs::create_dir(&cache).expect("created");
        std::fs::set_permissions(&cache, Permissions::from_mode(folder_mode)).expect("changed");
        let shell = format!("umask {umask}; exec \"$0\" \"$@\"");
        let ended = tiny_run(&hub.endpoint(), &home).in_shell(&shell).run();
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        let found = permissions_below(&cache);
        assert!(found.len() > 10, "{found:?}");
        for (path, mode) in found {
            let path = path.display();
            assert_eq!((mode & denied, mode & required), (0, required), "{path}: {mode:o}");
        }
    }
}

#[test]
fn partial_files_and_locks_of_another_user_are_replaced() {
    use modelgate_testkit::hub::{Action, Fault};
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let home = TempDir::new().expect("a folder");
    hub.fault(Fault::of("signature", Action::CutAt(1_000_000)));
    assert_eq!(tiny_run(&hub.endpoint(), &home).run().code, Some(101));
    hub.clear_faults();
    let own = home.path().join("hub/models--owner--Tiny/.modelgate");
    let entries = std::fs::read_dir(own).expect("a folder").flatten().map(|entry| entry.path());
    let partials = entries.filter(|path| path.extension().is_some_and(|end| end == "partial"));
    let read_only = |path: &Path| {
        std::fs::set_permissions(path, Permissions::from_mode(0o444)).expect("changed");
    };
    assert!(partials.map(|path| read_only(&path)).count() > 0);
    let locks = home.path().join("hub/.locks/models--owner--Tiny");
    for path in repository.paths() {
        let lock = locks.join(format!("{}.lock", repository.etag(&path)));
        std::fs::write(&lock, "").expect("written");
        read_only(&lock);
    }
    let ended = tiny_run(&hub.endpoint(), &home).enforce_permissions().run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny");
}

#[test]
fn wrong_files_in_the_cache_are_downloaded_again() {
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let home = TempDir::new().expect("a folder");
    let run = || tiny_run(&hub.endpoint(), &home).run();
    assert_eq!(run().code, Some(0));
    let blobs = home.path().join("hub/models--owner--Tiny/blobs");
    for path in ["config.json", "model-00001-of-00002.safetensors"] {
        // an error page in the place of the blob, as a client leaves it that ignores the status
        std::fs::write(blobs.join(repository.etag(path)), "Access denied").expect("written");
        let ended = run();
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        let notes = &ended.model("tiny").measurement.notes;
        assert!(notes.len() == 1 && notes[0].contains(path), "{notes:?}");
    }
}

#[test]
fn a_failed_download_of_a_new_commit_does_not_fall_back_to_the_old_one() {
    use modelgate_testkit::hub::{Action, Fault};
    let old = repository("owner/Tiny");
    let hub = Hub::start(vec![old.clone()]);
    let home = TempDir::new().expect("a folder");
    let run = || tiny_run(&hub.endpoint(), &home).run();
    assert_eq!(run().code, Some(0));
    // the new commit contains the same model, but the config has another hash
    let mut config = old.content("config.json").to_vec();
    config.push(b'\n');
    let new = old.clone().with_file("config.json", config).next_commit();
    hub.replace(new.clone());
    hub.fault(Fault::of("/config.json", Action::StallAt(5)));
    let ended = run();
    assert_eq!(ended.code, Some(101), "{}", ended.output());
    let measurement = &ended.model("tiny").measurement;
    let failure = measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, modelgate_protocol::FailureKind::Timeout, "{failure}");
    hub.clear_faults();
    let ended = run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    assert_eq!(ended.model("tiny").measurement.commit, Some(new.commit));
}

#[test]
fn a_failed_download_of_an_optional_file_fails_the_run() {
    use modelgate_testkit::hub::{Action, Fault};
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let home = TempDir::new().expect("a folder");
    let run = || tiny_run(&hub.endpoint(), &home).run();
    assert_eq!(run().code, Some(0));
    // the state after another tool has downloaded the weights, but not all small files
    let cached = home.path().join("hub/models--owner--Tiny");
    std::fs::remove_dir_all(cached.join(".modelgate")).expect("removed");
    let optional = "generation_config.json";
    let pointer = cached.join("snapshots").join(&repository.commit).join(optional);
    std::fs::remove_file(pointer).expect("removed");
    std::fs::remove_file(cached.join("blobs").join(repository.etag(optional))).expect("removed");
    hub.fault(Fault::of(optional, Action::Status(503, Vec::new(), String::new())));
    let ended = run();
    assert_eq!(ended.code, Some(101), "{}", ended.output());
    let failure = ended.model("tiny").measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, modelgate_protocol::FailureKind::ServerError, "{failure}");
    hub.clear_faults();
    assert_eq!(run().code, Some(0));
}

#[test]
fn a_read_only_cache_with_all_files_of_a_new_commit_is_sufficient() {
    let repository = repository("owner/Tiny");
    let hub = Hub::start(vec![repository.clone()]);
    let home = TempDir::new().expect("a folder");
    let entry_of =
        |revision: &str| entry("tiny", "owner/Tiny", &format!("revision = \"{revision}\""));
    let run =
        |revision: &str| Run::manifest(&entry_of(revision)).with_hub(&hub.endpoint(), home.path());
    assert_eq!(run(&repository.commit).run().code, Some(0));
    set_writable(home.path(), false);
    let ended = run("main").enforce_permissions().run();
    set_writable(home.path(), true);
    assert_eq!(ended.code, Some(0), "{}", ended.output());
}
