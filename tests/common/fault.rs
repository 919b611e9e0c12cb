//! A fault test: how the fault is caused, the expected report, and the run after the fix.

use super::Run;
use super::hub::{TOKEN, entry, repository};
use modelgate_harness::check::Check;
use modelgate_protocol::FailureKind;
use modelgate_testkit::hub::{Hub, Repository};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The default repository of a fault test.
pub(crate) const REPO: &str = "owner/Tiny";

/// A change of the faulty run.
type RunChange = dyn Fn(Run, &Setup) -> Run + Send;

/// A fault, the way to cause it, and the expected report.
pub(crate) struct FaultCase {
    pub(crate) name: &'static str,
    /// The expected kind of failure. `None` if a check fails without a failure of the measurement.
    pub(crate) kind: Option<FailureKind>,
    /// The check that fails.
    pub(crate) check: Check,
    /// The texts that the message contains.
    pub(crate) message_parts: Vec<&'static str>,
    /// The texts that the hint contains.
    pub(crate) hint_parts: Vec<&'static str>,
    /// The expected exit code of the run with the fault.
    pub(crate) code: i32,
    /// Whether the other checks can pass; otherwise they are blocked.
    pub(crate) other_checks_pass: bool,
    repo: &'static str,
    manifest_keys: String,
    valid_repository: fn() -> Repository,
    faulty_repository: Option<Box<dyn Fn(Repository) -> Repository + Send>>,
    downloaded_before: bool,
    change_hub: Box<dyn Fn(&Hub) + Send>,
    change_cache: Box<dyn Fn(&Setup) + Send>,
    change_run: Box<RunChange>,
    gated: bool,
    without_token: bool,
}

/// The hub and the cache of a fault test.
pub(crate) struct Setup {
    pub(crate) hub: Hub,
    pub(crate) home: TempDir,
    valid_repository: Repository,
}

impl Setup {
    /// Returns the folder of the repository in the cache.
    pub(crate) fn repository_cache(&self) -> PathBuf {
        self.home
            .path()
            .join("hub")
            .join(format!("models--{}", self.valid_repository.name.replace('/', "--")))
    }

    /// Returns the blob in the cache to which the file `path` of the commit links.
    pub(crate) fn cached_file(&self, path: &str) -> PathBuf {
        std::fs::canonicalize(
            self.repository_cache()
                .join("snapshots")
                .join(&self.valid_repository.commit)
                .join(path),
        )
        .expect("a downloaded file")
    }

    /// Asserts that the cached files of the commit are those of the hub, and that no lock and no
    /// temporary file is left.
    pub(crate) fn assert_cache_matches_hub(&self) {
        let snapshots = self.repository_cache().join("snapshots");
        let commits: Vec<PathBuf> =
            std::fs::read_dir(&snapshots).expect("commits").flatten().map(|e| e.path()).collect();
        let next_commit = self.valid_repository.clone().next_commit().commit;
        let commit = commits.iter().find(|path| path.ends_with(&next_commit));
        let commit =
            commit.or_else(|| commits.iter().find(|p| p.ends_with(&self.valid_repository.commit)));
        let commit = commit.expect("the commit is in the cache");
        for path in self.valid_repository.paths() {
            if let Ok(content) = std::fs::read(commit.join(&path)) {
                assert!(
                    content == self.valid_repository.content(&path),
                    "{path} equals the file of the hub"
                );
            }
        }
        let locks = self.home.path().join("hub/.locks");
        assert_eq!(files_below(&locks), Vec::<PathBuf>::new(), "no lock is left");
        for path in files_below(self.home.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            assert!(!name.starts_with(".writing") && !name.contains("linking"), "{name}");
        }
    }
}

/// Returns the paths of all files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

impl FaultCase {
    /// Creates a case in which `load` fails with `kind`. The other methods add the fault.
    pub(crate) fn new(
        name: &'static str,
        kind: FailureKind,
        message_parts: &[&'static str],
        hint_parts: &[&'static str],
    ) -> FaultCase {
        FaultCase {
            name,
            kind: Some(kind),
            check: Check::Load,
            message_parts: message_parts.to_vec(),
            hint_parts: hint_parts.to_vec(),
            code: 101,
            other_checks_pass: false,
            repo: REPO,
            manifest_keys: String::new(),
            valid_repository: || repository(REPO),
            faulty_repository: None,
            downloaded_before: false,
            change_hub: Box::new(|_| {}),
            change_cache: Box::new(|_| {}),
            change_run: Box::new(|run, _| run),
            gated: false,
            without_token: false,
        }
    }

    /// Creates a case in which `check` fails although the measurement of the model succeeds.
    pub(crate) fn verdict(
        name: &'static str,
        check: Check,
        message_parts: &[&'static str],
        hint_parts: &[&'static str],
    ) -> FaultCase {
        let case = FaultCase::new(name, FailureKind::Internal, message_parts, hint_parts);
        FaultCase { kind: None, check, other_checks_pass: true, ..case }
    }

    /// Makes the manifest name another repository.
    pub(crate) fn repo(self, repo: &'static str) -> FaultCase {
        FaultCase { repo, ..self }
    }

    /// Adds lines to the manifest entry.
    pub(crate) fn manifest_keys(self, manifest_keys: &str) -> FaultCase {
        FaultCase { manifest_keys: manifest_keys.to_owned(), ..self }
    }

    /// Makes the repository gated. The run after the fix has a token.
    pub(crate) fn gated(self) -> FaultCase {
        FaultCase { valid_repository: || repository(REPO).gated(), gated: true, ..self }
    }

    /// Removes the token from the faulty run.
    pub(crate) fn without_token(self) -> FaultCase {
        FaultCase { without_token: true, ..self }
    }

    /// Replaces the repository of the hub by the result of `change`.
    pub(crate) fn faulty_repository(
        self,
        change: impl Fn(Repository) -> Repository + Send + 'static,
    ) -> FaultCase {
        FaultCase { faulty_repository: Some(Box::new(change)), ..self }
    }

    /// Replaces the repository of the hub by a model folder that `damage` changes.
    pub(crate) fn damaged_model(self, damage: impl Fn(&Path) + Send + 'static) -> FaultCase {
        self.faulty_repository(move |_| {
            let folder =
                modelgate_testkit::safetensors_edit::copy_model(&super::fixture("tiny/llama"));
            damage(folder.path());
            Repository::new(REPO).with_folder(folder.path())
        })
    }

    /// Changes the hub before the faulty run.
    pub(crate) fn change_hub(self, change: impl Fn(&Hub) + Send + 'static) -> FaultCase {
        FaultCase { change_hub: Box::new(change), ..self }
    }

    /// Downloads all files, then changes the cache before the faulty run.
    pub(crate) fn change_cache(self, change: impl Fn(&Setup) + Send + 'static) -> FaultCase {
        FaultCase { change_cache: Box::new(change), downloaded_before: true, ..self }
    }

    /// Changes the faulty run.
    pub(crate) fn change_run(
        self,
        change: impl Fn(Run, &Setup) -> Run + Send + 'static,
    ) -> FaultCase {
        FaultCase { change_run: Box::new(change), ..self }
    }

    /// Sets an environment variable of the faulty run.
    pub(crate) fn env(self, name: &'static str, value: &'static str) -> FaultCase {
        self.change_run(move |run, _| run.env(name, value))
    }

    /// Expects that `check` fails instead of `load`.
    pub(crate) fn fails_check(self, check: Check) -> FaultCase {
        FaultCase { check, ..self }
    }

    /// Expects this exit code instead of 101.
    pub(crate) fn exits_with(self, code: i32) -> FaultCase {
        FaultCase { code, ..self }
    }

    /// Returns a run without the fault.
    fn base_run(&self, setup: &Setup) -> Run {
        let run = Run::manifest(&entry("tiny", REPO, ""))
            .with_hub(&setup.hub.endpoint(), setup.home.path());
        if self.gated { run.env("HF_TOKEN", TOKEN) } else { run }
    }

    /// Starts the hub and creates the cache, without the fault, in the system's temporary folder.
    pub(crate) fn prepare(&self) -> Setup {
        self.prepare_in(&std::env::temp_dir())
    }

    /// Starts the hub and creates the cache, without the fault. The cache is below `folder`.
    pub(crate) fn prepare_in(&self, folder: &Path) -> Setup {
        let valid_repository = (self.valid_repository)();
        let hub = Hub::start(vec![valid_repository.clone()]);
        hub.allow(TOKEN, &[REPO]);
        let setup =
            Setup { hub, home: TempDir::new_in(folder).expect("a folder"), valid_repository };
        if self.downloaded_before {
            let ended = self.base_run(&setup).run();
            assert_eq!(ended.code, Some(0), "before {}: {}", self.name, ended.output());
        }
        setup
    }

    /// Causes the fault and returns the run that it affects.
    pub(crate) fn faulty_run(&self, setup: &Setup) -> Run {
        if let Some(faulty_repository) = &self.faulty_repository {
            setup.hub.replace(faulty_repository(setup.valid_repository.clone()));
        }
        (self.change_hub)(&setup.hub);
        (self.change_cache)(setup);
        let run = Run::manifest(&entry("tiny", self.repo, &self.manifest_keys))
            .with_hub(&setup.hub.endpoint(), setup.home.path());
        let run = if self.without_token { run } else { with_token(run) };
        (self.change_run)(run, setup)
    }

    /// Fixes the fault and returns the next run, which has a token.
    pub(crate) fn fixed_run(&self, setup: &Setup) -> Run {
        setup.hub.clear_faults();
        let valid = setup.valid_repository.clone();
        let is_replaced = self.faulty_repository.is_some();
        setup.hub.replace(if is_replaced { valid.next_commit() } else { valid });
        with_token(self.base_run(setup))
    }
}

/// Returns `run` with the token in several environment variables, and with verbose logs and
/// backtraces, so that a leaked token is found.
fn with_token(run: Run) -> Run {
    run.env("HF_TOKEN", TOKEN)
        .env("HUGGING_FACE_HUB_TOKEN", TOKEN)
        .env("ANOTHER_NAME", format!("https://me:{TOKEN}@hub"))
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
}
