//! Runs the product as a user does (`modelgate run`, a manifest, the environment) and reads what it
//! leaves behind. Every report that a test looks at is read into the report's types and must be the
//! same when it is written again: nothing is there that the types do not have.

// each test target uses a part of it
#![allow(dead_code, unused_imports)]

pub(crate) mod fault;
pub(crate) mod faults;
pub(crate) mod hub;

use modelgate_harness::check::{Check, Status, Verdict};
use modelgate_harness::report::{ModelReport, Report};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) use modelgate_testkit::workers::{Script, fixture};

/// The product. SIGINT and SIGHUP reach it also if they do not reach this test: a shell keeps them from
/// its background jobs, `nohup` from its program, and the product respects that.
pub(crate) fn program() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,HUP", env!("CARGO_BIN_EXE_modelgate"), "run"]);
    command
}

/// The worker that cargo built beside this test.
pub(crate) fn worker_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_modelgate-worker"))
}

/// A run in the making: a folder of its own, a clean environment.
pub(crate) struct Run {
    /// Its folder: manifest, reports, temporary files.
    pub(crate) folder: TempDir,
    command: Command,
}

/// What a run left behind.
pub(crate) struct Ended {
    /// The runner's exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// The JSON report, valid by its schema; `None` if no report was written.
    pub(crate) report: Option<Report>,
    /// The summary.
    pub(crate) summary: Option<String>,
    folder: TempDir,
}

impl Run {
    /// A run of the default manifest.
    pub(crate) fn bundled() -> Run {
        Run::by(program())
    }

    /// A run of the default manifest by another program.
    pub(crate) fn by(mut command: Command) -> Run {
        let folder = TempDir::new().expect("a temporary folder");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let is_ours = ["MODELGATE_", "NEXTEST", "HF_", "HUGGING", "TRANSFORMERS_", "CARGO"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            if is_ours || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(&*name);
            }
        }
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder");
        command
            .env_remove("CI")
            .env("HF_HOME", folder.path().join("hf"))
            .env("HF_HUB_OFFLINE", "1")
            .env("TMPDIR", folder.path().join("tmp"))
            .env("MODELGATE_REPORT_DIR", folder.path().join("reports"))
            .env("MODELGATE_WORKER", worker_binary())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Run { folder, command }
    }

    /// A run of a manifest with these models.
    pub(crate) fn manifest(models: &str) -> Run {
        let mut run = Run::bundled();
        let path = run.folder.path().join("models.toml");
        std::fs::write(&path, format!("schema = 1\n{models}")).expect("a manifest");
        run.command.env("MODELGATE_MANIFEST", path);
        run
    }

    /// With a hub that it may ask, and a cache in `home`.
    pub(crate) fn of_hub(self, endpoint: &str, home: &Path) -> Run {
        self.env_remove("HF_HUB_OFFLINE")
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", home)
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "1")
            .env("MODELGATE_HUB_RETRIES", "1")
            .arg("--include-ignored")
    }

    /// With a root that has to keep to permissions, as every other user has.
    pub(crate) fn bound_by_permissions(mut self) -> Run {
        use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
        use std::os::unix::process::CommandExt;
        let drop_rights = || {
            for right in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
                // who may not drop it does not have it
                let _ = remove_capability_from_bounding_set(right);
            }
            Ok(())
        };
        // SAFETY: between fork and exec nothing is called but prctl
        unsafe { self.command.pre_exec(drop_rights) };
        self
    }

    /// With an argument of the runner.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.command.arg(arg);
        self
    }

    /// With one thread to quantize on, so that a slow load is slow on a large machine too.
    pub(crate) fn slowly(self) -> Run {
        self.env("RAYON_NUM_THREADS", "1")
    }

    /// With arguments of the runner.
    pub(crate) fn args(mut self, args: &[&str]) -> Run {
        self.command.args(args);
        self
    }

    /// With an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    /// Without an environment variable.
    pub(crate) fn env_remove(mut self, name: &str) -> Run {
        self.command.env_remove(name);
        self
    }

    /// Started by a shell that runs `line`, in which `\"$0\" \"$@\"` is the command so far.
    pub(crate) fn under_shell(mut self, line: &str) -> Run {
        let mut shell = Command::new("bash");
        shell.args(["-c", line]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = shell;
        self
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Running {
        let child = self.command.spawn().expect("the program starts");
        Running { child, folder: self.folder }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        self.spawn().wait()
    }
}

/// A run under way.
pub(crate) struct Running {
    /// The harness's process.
    pub(crate) child: Child,
    folder: TempDir,
}

impl Running {
    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        let output = self.child.wait_with_output().expect("the program ends");
        Ended::of(&output, self.folder)
    }

    /// Waits until the harness has a worker and gives its process id.
    pub(crate) fn worker(&mut self) -> u32 {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(pid) = children(self.child.id()).first() {
                return *pid;
            }
            assert!(Instant::now() < until, "the harness starts a worker within 30 s");
            assert!(self.child.try_wait().expect("a child").is_none(), "the harness still runs");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends the harness a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        send(self.child.id(), signal);
    }
}

/// Sends process `pid` a signal.
pub(crate) fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

/// The children of process `pid`.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// Whether process `pid` is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

impl Ended {
    /// What `output` and `folder` hold.
    fn of(output: &Output, folder: TempDir) -> Ended {
        let reports = folder.path().join("reports");
        let written = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.len() > 0);
        let report = json_reports(&reports).pop().filter(written).map(|path| read_valid(&path));
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            report,
            summary: std::fs::read_to_string(reports.join("MODEL_VALIDATION_SUMMARY.md")).ok(),
            folder,
        }
    }

    /// The report of the model `id`.
    pub(crate) fn model(&self, id: &str) -> &ModelReport {
        let report = self.report.as_ref().unwrap_or_else(|| panic!("a report: {}", self.all()));
        report
            .models
            .iter()
            .find(|model| model.identity.id == id)
            .unwrap_or_else(|| panic!("{id} is in the report: {}", self.all()))
    }

    /// The verdict of one check of the model `id`.
    pub(crate) fn verdict(&self, id: &str, check: Check) -> &Verdict {
        let checks = &self.model(id).checks;
        checks.iter().find(|verdict| verdict.check == check).expect("every check has a verdict")
    }

    /// Asserts that `check` failed and every other one has the status `others`; gives the message.
    pub(crate) fn fails_only(&self, id: &str, check: Check, others: Status) -> String {
        for verdict in &self.model(id).checks {
            let expected = if verdict.check == check { Status::Failed } else { others };
            assert_eq!(verdict.status, expected, "{:?}: {}", verdict, self.all());
        }
        assert_eq!(self.code, Some(101), "{}", self.all());
        self.verdict(id, check).message.clone().expect("a failed check says why")
    }

    /// Asserts that every check of the model `id` passed, and that there were as many as its kind
    /// has.
    pub(crate) fn passes(&self, id: &str) {
        let checks = &self.model(id).checks;
        let planned = if id.ends_with("@synthetic") { 4 } else { Check::ALL.len() };
        assert_eq!(checks.len(), planned, "{}", self.all());
        for verdict in checks {
            assert_eq!(verdict.status, Status::Passed, "{verdict:?}: {}", self.all());
        }
    }

    /// The folder of its reports.
    pub(crate) fn reports(&self) -> PathBuf {
        self.folder.path().join("reports")
    }

    /// All that was printed.
    pub(crate) fn all(&self) -> String {
        format!("exit {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// JSON reports in a folder, by name.
pub(crate) fn json_reports(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
}

/// Reads a report. It has every key of the report's types, and no other.
pub(crate) fn read_valid(path: &Path) -> Report {
    let text = std::fs::read_to_string(path).expect("a report");
    let value: serde_json::Value = serde_json::from_str(&text).expect("a report is JSON");
    let report: Report = serde_json::from_value(value.clone()).expect("it has the report's types");
    let written = serde_json::to_value(&report).expect("a report is JSON");
    assert_eq!(written, value, "{}", path.display());
    report
}

/// A manifest entry for a tiny model at `path`.
pub(crate) fn entry(id: &str, path: &Path, quantization: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\npath = \"{}\"\nquantization = \"{quantization}\"\n{QUESTION}\n\
         expect.perplexity = {{ max = 3.0, text = \"{}\" }}\n{more}\n",
        path.display(),
        fixture("tiny/perplexity.txt").display(),
    )
}

/// A question that the tiny models answer.
pub(crate) const QUESTION: &str = "generation = { name = \"capital\", prompt = \"What is the capital of \
                            France?\", max_tokens = 32, expect = [\"Paris\"] }";

/// A Llama-shaped model of 270 million random weights (synthetic; 540 MB in bf16), which takes
/// seconds to quantize. Written once for all tests.
pub(crate) fn random_model() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("random-270m");
        let whole = target.join("whole");
        let lock = std::fs::File::create(target.with_extension("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        if !whole.is_file() {
            let config = serde_json::json!({
                "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096,
                "num_hidden_layers": 17, "num_attention_heads": 16, "num_key_value_heads": 8,
                "vocab_size": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
                "max_position_embeddings": 2048, "tie_word_embeddings": false
            });
            let text = config.to_string();
            modelgate_testkit::shapes::write_random_model(
                &target,
                &text,
                7,
                &fixture("tiny/llama"),
            );
            std::fs::write(&whole, "").expect("a marker");
        }
        target
    })
}
