//! One fault: how it is brought about, what must be said of it, and how it is fixed.

use super::Run;
use super::hub::{TOKEN, entry, repository};
use modelgate_harness::check::Check;
use modelgate_protocol::FailureKind;
use modelgate_testkit::hub::{Hub, Repository};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The repository that all rows ask for, unless they say otherwise.
pub(crate) const REPO: &str = "owner/Tiny";

/// What a row does to the run that meets its fault.
type ChangeRun = dyn Fn(Run, &World) -> Run + Send;

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The kind that it fails as; `None` if a verdict is expected instead of a failure.
    pub(crate) kind: Option<FailureKind>,
    pub(crate) check: Check,
    /// What the message has.
    pub(crate) says: Vec<&'static str>,
    /// What the remedy has.
    pub(crate) hints: Vec<&'static str>,
    /// The exit code.
    pub(crate) code: i32,
    /// Whether other checks pass all the same.
    pub(crate) keeps_others: bool,
    repo: &'static str,
    more: String,
    good: fn() -> Repository,
    bad: Option<Box<dyn Fn(Repository) -> Repository + Send>>,
    fetched_before: bool,
    hub: Box<dyn Fn(&Hub) + Send>,
    cache: Box<dyn Fn(&World) + Send>,
    run: Box<ChangeRun>,
    gated: bool,
    without_token: bool,
}

/// What a row takes place in.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) home: TempDir,
    good: Repository,
}

impl World {
    /// The repository's folder in the cache.
    pub(crate) fn cached(&self) -> PathBuf {
        self.home.path().join("hub").join(format!("models--{}", self.good.name.replace('/', "--")))
    }

    /// A file of the commit, as it lies in the cache.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        std::fs::canonicalize(self.cached().join("snapshots").join(&self.good.commit).join(path))
            .expect("it was fetched")
    }

    /// What the cache has of the commit is what the hub has, and nothing is left of the way there.
    pub(crate) fn holds_what_the_hub_has(&self) {
        let snapshots = self.cached().join("snapshots");
        let commits: Vec<PathBuf> =
            std::fs::read_dir(&snapshots).expect("commits").flatten().map(|e| e.path()).collect();
        let fixed = self.good.clone().next_commit().commit;
        let commit = commits.iter().find(|path| path.ends_with(&fixed));
        let commit = commit.or_else(|| commits.iter().find(|p| p.ends_with(&self.good.commit)));
        let commit = commit.expect("the commit is in the cache");
        for path in self.good.paths() {
            if let Ok(content) = std::fs::read(commit.join(&path)) {
                assert!(content == self.good.content(&path), "{path} is what the hub has");
            }
        }
        let locks = self.home.path().join("hub/.locks");
        assert_eq!(files_below(&locks), Vec::<PathBuf>::new(), "no lock stays");
        for path in files_below(self.home.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            assert!(!name.starts_with(".writing") && !name.contains("linking"), "{name}");
        }
    }
}

/// All files below a folder.
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

impl Row {
    /// A fault without a fault.
    pub(crate) fn new(
        name: &'static str,
        kind: FailureKind,
        says: &[&'static str],
        hints: &[&'static str],
    ) -> Row {
        Row {
            name,
            kind: Some(kind),
            check: Check::Load,
            says: says.to_vec(),
            hints: hints.to_vec(),
            code: 101,
            keeps_others: false,
            repo: REPO,
            more: String::new(),
            good: || repository(REPO),
            bad: None,
            fetched_before: false,
            hub: Box::new(|_| {}),
            cache: Box::new(|_| {}),
            run: Box::new(|run, _| run),
            gated: false,
            without_token: false,
        }
    }

    /// A verdict that fails although nothing kept the model from being measured.
    pub(crate) fn verdict(
        name: &'static str,
        check: Check,
        says: &[&'static str],
        hints: &[&'static str],
    ) -> Row {
        let row = Row::new(name, FailureKind::Internal, says, hints);
        Row { kind: None, check, keeps_others: true, ..row }
    }

    /// The manifest names another repository.
    pub(crate) fn repo(self, repo: &'static str) -> Row {
        Row { repo, ..self }
    }

    /// The manifest's entry says more.
    pub(crate) fn says_in_manifest(self, more: &str) -> Row {
        Row { more: more.to_owned(), ..self }
    }

    /// The repository is gated; the fixed run has a token.
    pub(crate) fn gated(self) -> Row {
        Row { good: || repository(REPO).gated(), gated: true, ..self }
    }

    /// No token is known to the run that meets the fault.
    pub(crate) fn without_token(self) -> Row {
        Row { without_token: true, ..self }
    }

    /// The hub has another repository.
    pub(crate) fn bad(self, bad: impl Fn(Repository) -> Repository + Send + 'static) -> Row {
        Row { bad: Some(Box::new(bad)), ..self }
    }

    /// The hub's repository is of a model in a folder that was damaged.
    pub(crate) fn damaged(self, damage: impl Fn(&Path) + Send + 'static) -> Row {
        self.bad(move |_| {
            let folder =
                modelgate_testkit::safetensors_edit::copy_model(&super::fixture("tiny/llama"));
            damage(folder.path());
            Repository::new(REPO).with_folder(folder.path())
        })
    }

    /// The hub does something else.
    pub(crate) fn hub(self, hub: impl Fn(&Hub) + Send + 'static) -> Row {
        Row { hub: Box::new(hub), ..self }
    }

    /// All was fetched before, and then the cache was changed.
    pub(crate) fn cache(self, change: impl Fn(&World) + Send + 'static) -> Row {
        Row { cache: Box::new(change), fetched_before: true, ..self }
    }

    /// The run is another one.
    pub(crate) fn run(self, run: impl Fn(Run, &World) -> Run + Send + 'static) -> Row {
        Row { run: Box::new(run), ..self }
    }

    /// The run has another variable.
    pub(crate) fn env(self, name: &'static str, value: &'static str) -> Row {
        self.run(move |run, _| run.env(name, value))
    }

    /// Another check than `load` fails.
    pub(crate) fn fails(self, check: Check) -> Row {
        Row { check, ..self }
    }

    /// The run ends with this code.
    pub(crate) fn exits_with(self, code: i32) -> Row {
        Row { code, ..self }
    }

    fn plain(&self, world: &World) -> Run {
        let run = Run::manifest(&entry("tiny", REPO, ""))
            .of_hub(&world.hub.endpoint(), world.home.path());
        if self.gated { run.env("HF_TOKEN", TOKEN) } else { run }
    }

    /// Before the fault.
    pub(crate) fn world(&self) -> World {
        self.world_in(&std::env::temp_dir())
    }

    /// The same, in a folder.
    pub(crate) fn world_in(&self, folder: &Path) -> World {
        let good = (self.good)();
        let hub = Hub::start(vec![good.clone()]);
        hub.allow(TOKEN, &[REPO]);
        let world = World { hub, home: TempDir::new_in(folder).expect("a folder"), good };
        if self.fetched_before {
            let ended = self.plain(&world).run();
            assert_eq!(ended.code, Some(0), "before {}: {}", self.name, ended.all());
        }
        world
    }

    /// The run that meets the fault.
    pub(crate) fn faulted(&self, world: &World) -> Run {
        if let Some(bad) = &self.bad {
            world.hub.replace(bad(world.good.clone()));
        }
        (self.hub)(&world.hub);
        (self.cache)(world);
        let run = Run::manifest(&entry("tiny", self.repo, &self.more))
            .of_hub(&world.hub.endpoint(), world.home.path());
        let run = if self.without_token { run } else { with_token(run) };
        (self.run)(run, world)
    }

    /// The run after it was fixed.
    pub(crate) fn fixed(&self, world: &World) -> Run {
        world.hub.fix();
        let good = world.good.clone();
        world.hub.replace(if self.bad.is_some() { good.next_commit() } else { good });
        with_token(self.plain(world))
    }
}

/// `run` with the token wherever one may be, and with all that a user may turn on to see more.
fn with_token(run: Run) -> Run {
    run.env("HF_TOKEN", TOKEN)
        .env("HUGGING_FACE_HUB_TOKEN", TOKEN)
        .env("ANOTHER_NAME", format!("https://me:{TOKEN}@hub"))
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
}
