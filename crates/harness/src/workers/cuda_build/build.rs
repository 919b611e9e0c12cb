//! A worker with CUDA, built on the host that needs one.
//!
//! The harness links no CUDA, so the worker that cargo builds beside it has none either. Where a
//! GPU is to be used, the worker is built here by a cargo of its own, once for each compute
//! capability, version of CUDA and state of the sources, and kept for the next run. Knows nothing
//! of models.

use super::cargo::{self, BuildError, Order};
use super::kept::{self, Kept};
use super::nvcc::Nvcc;
use super::{key, writable};
use crate::nvidia::Gpu;
use crate::progress::BuildProgress;
use crate::settings::BuildSettings;
use crate::settings::variables::{BUILD, CUDA_COMPUTE_CAP, NEVER, WORKER};
use crate::signal::{self, Interrupt};
use crate::workers::built::BuiltWorker;
use crate::workers::engine::engine_of;
use modelgate_hub::Variables;
use modelgate_protocol::{Failure, FailureKind, Stage};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How often a build is started before sources that change meanwhile are given up.
const ATTEMPTS: usize = 2;

/// What a build depends on.
#[derive(Debug, Clone, Copy)]
pub struct CudaBuild<'a> {
    /// Where the sources, the toolkit and the folders for builds are.
    pub settings: &'a BuildSettings,
    /// The variables that workers inherit.
    pub inherited: &'a Variables,
    /// Signals to this process.
    pub interrupt: &'a Interrupt,
}

impl CudaBuild<'_> {
    /// Returns a worker for `gpu`: one that was built before from the same sources, else a new one.
    /// `why` says what the worker at hand lacks.
    ///
    /// # Errors
    /// It cannot be built, with what to do instead.
    pub fn worker_for(&self, gpu: &Gpu, why: &str) -> Result<BuiltWorker, Failure> {
        let forbidden = || {
            let reason = format!("{}={} forbids it", BUILD, NEVER);
            let remedy = format!("unset {} where the CUDA toolkit is installed", BUILD);
            no_build(gpu, why, &reason, &remedy)
        };
        let refuse = |reason: &str, remedy: &str| {
            if self.settings.never { forbidden() } else { no_build(gpu, why, reason, remedy) }
        };
        let Some(sources) = &self.settings.sources else {
            let reason = "the sources are not on this host (looked for where cargo or nextest \
                          say, and above the test binary)";
            let remedy = "run from the repository on a host with the CUDA toolkit";
            return Err(refuse(reason, remedy));
        };
        let settings = self.settings;
        let nvcc = Nvcc::find(&settings.variables, &settings.toolkit, self.interrupt);
        let nvcc = nvcc.map_err(|reason| {
            let remedy = "install the CUDA toolkit, so that nvcc is in PATH or CUDA_HOME names \
                          its folder";
            refuse(&reason, remedy)
        })?;
        if nvcc.is_newer_than(&gpu.cuda) {
            return Err(too_new(&nvcc, gpu));
        }
        let hash = key::sources(sources).map_err(|error| cannot("the sources", &error))?;
        let folder = writable::writable(&settings.folders);
        let folder = folder.map_err(|error| cannot("no folder", &error))?;
        let folder = folder.join(key::toolchain(&gpu.compute_capability, &nvcc.version));
        let kept = Kept::open(folder).map_err(|error| cannot("the folder of builds", &error))?;
        let libraries = nvcc.libraries();
        if let Some(program) = kept.find(&hash) {
            return Ok(BuiltWorker { program, libraries });
        }
        if self.settings.never {
            return Err(forbidden());
        }
        let program = self.build(gpu, &nvcc, &kept, sources, &hash)?;
        Ok(BuiltWorker { program, libraries })
    }

    /// Builds, unless another process has done so meanwhile, or has tried in vain.
    fn build(
        &self,
        gpu: &Gpu,
        nvcc: &Nvcc,
        kept: &Kept,
        sources: &Path,
        hash: &str,
    ) -> Result<PathBuf, Failure> {
        let capability = &gpu.compute_capability;
        let what =
            format!("a worker for compute capability {capability} with CUDA {}", nvcc.version);
        let mut waiting = None;
        let lock = kept.lock(self.interrupt, || {
            let progress = BuildProgress::new(&format!("another run builds {what}; waiting"));
            waiting = Some((SystemTime::now(), progress));
        });
        let waited_since = waiting.map(|(since, _)| since);
        let _lock = lock.map_err(|error| match self.interrupt.signal() {
            Some(signal) => interrupted(signal),
            None => cannot("the lock of builds", &error),
        })?;
        if let Some(program) = kept.find(hash) {
            return Ok(program);
        }
        if let Some(failure) = waited_since.and_then(|since| kept.failure_since(hash, since)) {
            return Err(failure);
        }
        let (target, log) = (kept.target(), kept.log());
        let order = Order {
            sources,
            target: &target,
            log: &log,
            capability,
            nvcc,
            variables: &self.settings.variables,
            interrupt: self.interrupt,
        };
        let result = self.run(&order, &what, hash).and_then(|(built, hash)| {
            kept.keep(&built, &hash).map_err(|error| cannot("the built worker", &error))
        });
        if let Err(failure) = &result
            && failure.kind != FailureKind::Interrupted
        {
            kept.note_failure(hash, failure);
        }
        result
    }

    /// Runs cargo on the sources with the hash `hash`, and asks what it has built what that is. Where
    /// the sources have changed meanwhile nobody knows which state was built: they are built again.
    /// Gives the program and the hash of its sources.
    fn run(&self, order: &Order<'_>, what: &str, hash: &str) -> Result<(PathBuf, String), Failure> {
        let first = if order.target.is_dir() { "" } else { "; the first build takes minutes" };
        let mut progress = BuildProgress::new(&format!("building {what}{first}"));
        let mut hash = hash.to_owned();
        for _ in 0..ATTEMPTS {
            let built = cargo::forget(order).and_then(|()| cargo::build(order, &mut progress));
            let program = built.map_err(|error| failed(error, order, what))?;
            let now = key::sources(order.sources).map_err(|error| cannot("the sources", &error))?;
            if now == hash {
                let built = BuiltWorker { program, libraries: order.nvcc.libraries() };
                self.check(&built, order.capability)?;
                return Ok((built.program, hash));
            }
            hash = now;
        }
        Err(failure(
            FailureKind::NoWorker,
            format!("the sources changed while {what} was built from them, {ATTEMPTS} times"),
            "start the run again when nothing changes the sources any more",
        ))
    }

    /// A worker is kept only if it says itself that it is what was asked for.
    fn check(&self, built: &BuiltWorker, capability: &str) -> Result<(), Failure> {
        let found = engine_of(built, self.inherited, self.interrupt)?.compute_capability;
        if found.as_deref() == Some(capability) {
            return Ok(());
        }
        let found = found.unwrap_or_else(|| "none".to_owned());
        Err(failure(
            FailureKind::NoWorker,
            format!(
                "{}: built for compute capability {capability}, and says that it was built for {found}",
                built.program.display()
            ),
            "a defect of modelgate's build; please report it",
        ))
    }
}

/// The failure where nothing can be built, with the three ways out: `remedy`, a worker that exists,
/// or one built elsewhere.
fn no_build(gpu: &Gpu, why: &str, reason: &str, remedy: &str) -> Failure {
    let capability = &gpu.compute_capability;
    failure(
        FailureKind::NoWorker,
        format!(
            "{why}; {} needs a worker for compute capability {capability}, and none can be built \
             here: {reason}",
            gpu.name
        ),
        format!(
            "{remedy}; or set {} to a worker that was built for compute capability {capability}; \
             or build one elsewhere from the same sources with `{}={} cargo build --release \
             --features cuda`, copy target/release/{} to this host and name it so",
            WORKER,
            CUDA_COMPUTE_CAP,
            key::digits(capability),
            kept::NAME
        ),
    )
}

fn failure(kind: FailureKind, message: String, hint: impl Into<String>) -> Failure {
    Failure::new(Stage::Prepare, kind, message, hint)
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    failure(
        FailureKind::Io,
        format!("a worker with CUDA cannot be built: {what}: {error}"),
        "check permissions and free space of the target folder",
    )
}

fn interrupted(signal: i32) -> Failure {
    failure(
        FailureKind::Interrupted,
        format!("{} ended the build of the worker", signal::name(signal)),
        "start the run again; what is built already is kept",
    )
}

/// Minutes of compiling would end in kernels that the driver refuses.
fn too_new(nvcc: &Nvcc, gpu: &Gpu) -> Failure {
    failure(
        FailureKind::DeviceMismatch,
        format!(
            "{} is of CUDA {}; the driver {} of {} knows CUDA up to {} and cannot load what a \
             later one compiles",
            nvcc.program.display(),
            nvcc.version,
            gpu.driver,
            gpu.name,
            gpu.cuda
        ),
        format!(
            "install a newer driver, or a CUDA toolkit of at most {}, and name it with PATH or \
             CUDA_HOME",
            gpu.cuda
        ),
    )
}

fn failed(error: BuildError, order: &Order<'_>, what: &str) -> Failure {
    let log = order.log.display();
    match error {
        BuildError::Interrupted(signal) => interrupted(signal),
        BuildError::Io(path, error) => failure(
            FailureKind::NoWorker,
            format!("{what} cannot be built: {}: {error}", path.display()),
            "`cargo` must be in PATH, and the target folder writable",
        ),
        BuildError::Failed(status, lines) => failure(
            FailureKind::NoWorker,
            format!(
                "building {what} failed ({}); its last words:\n{}",
                status.map_or("it is not known how".to_owned(), |status| status.to_string()),
                lines.join("\n")
            ),
            format!(
                "the whole output is in {log}; the same by hand: `{}={} cargo build --release \
                 --locked --features cuda --bin modelgate-worker`; or set {} to a worker built \
                 elsewhere",
                CUDA_COMPUTE_CAP,
                key::digits(order.capability),
                WORKER
            ),
        ),
        BuildError::NoProgram => failure(
            FailureKind::NoWorker,
            format!("{what} was built, and cargo named no program"),
            format!("the whole output is in {log}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::variables::{CARGO, NVCC, PATH};
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    fn program(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn is_alive(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    }

    #[test]
    fn a_signal_ends_cargo_and_its_compilers_and_leaves_no_worker() {
        let folder = TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        program(&at("cuda/bin/nvcc"), "#!/bin/sh\necho 'release 13.0, V13.0.88'\n");
        // a compiler that a plain signal does not end
        let compiler = at("compiler");
        program(
            &compiler,
            &format!(
                "#!/bin/sh\ntrap '' TERM\necho $$ > {0}.new\nmv {0}.new {0}\n\
                 while :; do sleep 1; done\n",
                at("pid").display()
            ),
        );
        let text = "#!/bin/sh\ntest \"$1\" = clean && exit\n";
        program(&at("cargo"), &format!("{text}{} &\nwait\n", compiler.display()));
        std::fs::create_dir(at("sources")).expect("made");
        let mut variables = Variables::default();
        variables.set(CARGO, at("cargo"));
        variables.set(PATH, "/usr/bin:/bin");
        variables.set(NVCC, at("cuda/bin/nvcc"));
        let interrupt = Interrupt::default();
        let settings = BuildSettings {
            never: false,
            sources: Some(at("sources")),
            folders: vec![at("builds")],
            toolkit: at("none"),
            variables,
        };
        let inherited = Variables::default();
        let build = CudaBuild { settings: &settings, inherited: &inherited, interrupt: &interrupt };
        let gpu = Gpu {
            name: "a GPU".into(),
            uuid: "GPU-0".into(),
            bus_id: "0".into(),
            vram_bytes: 1 << 30,
            driver: "580.65".into(),
            cuda: "13.0".into(),
            compute_capability: "9.0".into(),
            mig: false,
        };
        let (result, pid, took) = std::thread::scope(|scope| {
            let building = scope.spawn(|| build.worker_for(&gpu, "none"));
            let until = Instant::now() + Duration::from_secs(10);
            while !at("pid").is_file() {
                assert!(Instant::now() < until, "the compiler starts");
                std::thread::sleep(Duration::from_millis(2));
            }
            let pid = std::fs::read_to_string(at("pid")).expect("a pid").trim().to_owned();
            assert!(is_alive(&pid));
            let asked = Instant::now();
            interrupt.ask(signal_hook::consts::SIGINT);
            (building.join().expect("it ends"), pid, asked.elapsed())
        });
        let failure = result.expect_err("interrupted");
        assert_eq!(failure.kind, FailureKind::Interrupted, "{failure:?}");
        assert!(failure.message.contains("SIGINT"), "{failure:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        let until = Instant::now() + Duration::from_secs(5);
        while is_alive(&pid) {
            assert!(Instant::now() < until, "the compiler is gone");
            std::thread::sleep(Duration::from_millis(5));
        }
        let kept = Kept::open(at("builds").join("sm_90-cuda-13.0")).expect("opened");
        assert_eq!(kept.find(&key::sources(&at("sources")).expect("hashed")), None);
        kept.lock(&Interrupt::default(), || panic!("still held")).expect("the lock is free");
    }
}
