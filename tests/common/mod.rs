//! Starts the product like a user (`modelgate run`, a manifest, environment variables) and reads
//! its output and reports. Each report must be equal after it is parsed into the report types and
//! serialized again, so a report with unknown keys fails the test.

// each test target uses only a part of this module
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

/// Returns the command `modelgate run`. It resets SIGINT and SIGHUP to their default actions: a
/// shell makes its background jobs ignore SIGINT, `nohup` makes its program ignore SIGHUP, and the
/// product keeps ignored signals ignored.
pub(crate) fn program() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,HUP", env!("CARGO_BIN_EXE_modelgate"), "run"]);
    command
}

/// Returns the path of the worker that cargo built for this test.
pub(crate) fn worker_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_modelgate-worker"))
}

/// A run that is not started yet, with a temporary folder and a clean environment.
pub(crate) struct Run {
    /// The folder for the manifest, the reports and temporary files.
    pub(crate) folder: TempDir,
    command: Command,
}

/// The output and the report of a finished run.
pub(crate) struct FinishedRun {
    /// The exit code. `None` if a signal ended the process.
    pub(crate) code: Option<i32>,
    /// The text on standard output.
    pub(crate) stdout: String,
    /// The text on standard error.
    pub(crate) stderr: String,
    /// The JSON report. `None` if no report was written.
    pub(crate) report: Option<Report>,
    /// The text of the summary. `None` if no summary was written.
    pub(crate) summary: Option<String>,
    folder: TempDir,
}

impl Run {
    /// Creates a run of `modelgate run` with the default manifest.
    pub(crate) fn bundled() -> Run {
        Run::of_program(program())
    }

    /// Creates a run of another program with the default manifest.
    pub(crate) fn of_program(mut command: Command) -> Run {
        let folder = TempDir::new().expect("a temporary folder");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let changes_run = ["MODELGATE_", "NEXTEST", "HF_", "HUGGING", "TRANSFORMERS_", "CARGO"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            if changes_run || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(&*name);
            }
        }
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder");
        command
            .env_remove("CI")
            // the tests need no GPU, and behave the same on a host with one
            .env("MODELGATE_DEVICE", "cpu")
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

    /// Creates a run with a manifest that contains the entries `models`.
    pub(crate) fn manifest(models: &str) -> Run {
        let mut run = Run::bundled();
        let path = run.folder.path().join("models.toml");
        std::fs::write(&path, format!("schema = 1\n{models}")).expect("a manifest");
        run.command.env("MODELGATE_MANIFEST", path);
        run
    }

    /// Allows requests to the hub at `endpoint`, and sets the cache folder `home`.
    pub(crate) fn with_hub(self, endpoint: &str, home: &Path) -> Run {
        self.env_remove("HF_HUB_OFFLINE")
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HOME", home)
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "1")
            .env("MODELGATE_HUB_RETRIES", "1")
            .arg("--include-ignored")
    }

    /// Removes the capabilities with which root ignores file permissions.
    pub(crate) fn enforce_permissions(mut self) -> Run {
        use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
        use std::os::unix::process::CommandExt;
        let drop_capabilities = || {
            for capability in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
                // it fails for users other than root, who do not have the capability
                let _ = remove_capability_from_bounding_set(capability);
            }
            Ok(())
        };
        // SAFETY: the closure calls only prctl between fork and exec
        unsafe { self.command.pre_exec(drop_capabilities) };
        self
    }

    /// Adds a command-line argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.command.arg(arg);
        self
    }

    /// Limits quantization to one thread, so that a slow load is also slow on a host with many
    /// cores.
    pub(crate) fn single_threaded(self) -> Run {
        self.env("RAYON_NUM_THREADS", "1")
    }

    /// Adds command-line arguments.
    pub(crate) fn args(mut self, args: &[&str]) -> Run {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub(crate) fn env_remove(mut self, name: &str) -> Run {
        self.command.env_remove(name);
        self
    }

    /// Starts the run with a shell that executes `line`. There, `"$0" "$@"` is the command.
    pub(crate) fn in_shell(mut self, line: &str) -> Run {
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

    /// Starts the run.
    pub(crate) fn spawn(mut self) -> StartedRun {
        let child = self.command.spawn().expect("the program starts");
        StartedRun { child, folder: self.folder }
    }

    /// Starts the run and waits for its end.
    pub(crate) fn run(self) -> FinishedRun {
        self.spawn().wait()
    }
}

/// A started run.
pub(crate) struct StartedRun {
    /// The process of the harness.
    pub(crate) child: Child,
    folder: TempDir,
}

impl StartedRun {
    /// Waits for the end of the run.
    pub(crate) fn wait(self) -> FinishedRun {
        let output = self.child.wait_with_output().expect("the program ends");
        FinishedRun::of(&output, self.folder)
    }

    /// Waits until the harness has started a worker, and returns the process id of the worker.
    pub(crate) fn worker(&mut self) -> u32 {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(pid) = child_pids(self.child.id()).first() {
                return *pid;
            }
            assert!(Instant::now() < until, "the harness starts a worker within 30 s");
            assert!(self.child.try_wait().expect("a child").is_none(), "the harness still runs");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal to the harness.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        send_signal(self.child.id(), signal);
    }
}

/// Sends a signal to the process `pid`.
pub(crate) fn send_signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("the process exists");
}

/// Returns the process ids of the children of the process `pid`.
pub(crate) fn child_pids(pid: u32) -> Vec<u32> {
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

/// Returns whether the process `pid` exists and is not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

impl FinishedRun {
    /// Reads the result of a run from its output and its folder.
    fn of(output: &Output, folder: TempDir) -> FinishedRun {
        let reports = folder.path().join("reports");
        let written = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.len() > 0);
        let report = json_reports(&reports).pop().filter(written).map(|path| read_report(&path));
        FinishedRun {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            report,
            summary: std::fs::read_to_string(reports.join("MODEL_VALIDATION_SUMMARY.md")).ok(),
            folder,
        }
    }

    /// Returns the report of the model `id`.
    pub(crate) fn model(&self, id: &str) -> &ModelReport {
        let report = self.report.as_ref().unwrap_or_else(|| panic!("a report: {}", self.output()));
        report
            .models
            .iter()
            .find(|model| model.identity.id == id)
            .unwrap_or_else(|| panic!("{id} is in the report: {}", self.output()))
    }

    /// Returns the verdict of a check of the model `id`.
    pub(crate) fn verdict(&self, id: &str, check: Check) -> &Verdict {
        let checks = &self.model(id).checks;
        checks.iter().find(|verdict| verdict.check == check).expect("every check has a verdict")
    }

    /// Asserts that `check` failed and all other checks have the status `others`. Returns the
    /// message of the failed check.
    pub(crate) fn assert_only_fails(&self, id: &str, check: Check, others: Status) -> String {
        for verdict in &self.model(id).checks {
            let expected = if verdict.check == check { Status::Failed } else { others };
            assert_eq!(verdict.status, expected, "{:?}: {}", verdict, self.output());
        }
        assert_eq!(self.code, Some(101), "{}", self.output());
        self.verdict(id, check).message.clone().expect("a failed check has a message")
    }

    /// Asserts that all checks of the model `id` passed. A synthetic variant has 4 checks, other
    /// models have all.
    pub(crate) fn assert_passes(&self, id: &str) {
        let checks = &self.model(id).checks;
        let planned = if id.ends_with("@synthetic") { 4 } else { Check::ALL.len() };
        assert_eq!(checks.len(), planned, "{}", self.output());
        for verdict in checks {
            assert_eq!(verdict.status, Status::Passed, "{verdict:?}: {}", self.output());
        }
    }

    /// Returns the folder of the reports.
    pub(crate) fn reports(&self) -> PathBuf {
        self.folder.path().join("reports")
    }

    /// Returns the exit code, standard output and standard error, for assertion messages.
    pub(crate) fn output(&self) -> String {
        format!("exit {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Returns the paths of the JSON reports in a folder, sorted by name.
pub(crate) fn json_reports(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
}

/// Reads a report and asserts that it has exactly the keys of the report types.
pub(crate) fn read_report(path: &Path) -> Report {
    let text = std::fs::read_to_string(path).expect("a report");
    let value: serde_json::Value = serde_json::from_str(&text).expect("a report is JSON");
    let report: Report =
        serde_json::from_value(value.clone()).expect("the keys of the report types");
    let written = serde_json::to_value(&report).expect("a report is JSON");
    assert_eq!(written, value, "{}", path.display());
    report
}

/// Returns a manifest entry for a tiny model at `path`. `more` contains further lines.
pub(crate) fn entry(id: &str, path: &Path, quantization: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\npath = \"{}\"\nquantization = \"{quantization}\"\n{QUESTION}\n\
         expect.perplexity = {{ max = 3.0, text = \"{}\" }}\n{more}\n",
        path.display(),
        fixture("tiny/perplexity.txt").display(),
    )
}

/// A manifest key with a question that the tiny models answer.
pub(crate) const QUESTION: &str = "generation = { name = \"capital\", prompt = \"What is the capital of \
                            France?\", max_tokens = 32, expect = [\"Paris\"] }";

/// A Llama-shaped model of 270 million random weights (synthetic; 540 MB in bf16), which takes
/// seconds to quantize. Written once for all tests.
pub(crate) fn random_model() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("random-270m");
        let complete = target.join("complete");
        let lock = std::fs::File::create(target.with_extension("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        if !complete.is_file() {
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
            std::fs::write(&complete, "").expect("a marker");
        }
        target
    })
}
