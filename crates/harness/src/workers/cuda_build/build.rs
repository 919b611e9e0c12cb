//! A worker with CUDA, built on the host that needs one.
//!
//! The harness links no CUDA, so the worker that cargo builds beside it has none either. Where a
//! GPU is to be used, the worker is built here by a cargo of its own, once for each compute
//! capability, version of CUDA and state of the sources, and kept for the next run. Knows nothing
//! of models.

use super::cargo::{self, BuildError, Order};
use super::kept::Kept;
use super::nvcc::Nvcc;
use super::{key, writable};
use crate::nvidia::Gpu;
use crate::progress::BuildProgress;
use crate::settings::BuildSettings;
use crate::signal::Interrupt;
use crate::workers::built::BuiltWorker;
use crate::workers::engine::engine_of;
use crate::workers::error::{BuildObstacle, WorkerError};
use modelgate_hub::Variables;
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
    pub fn worker_for(&self, gpu: &Gpu, why: &str) -> Result<BuiltWorker, WorkerError> {
        let settings = self.settings;
        let cannot_build = |obstacle| {
            let obstacle = if settings.never { BuildObstacle::Forbidden } else { obstacle };
            let (gpu, capability) = (gpu.name.clone(), gpu.compute_capability.clone());
            WorkerError::CannotBuild { lacks: why.to_owned(), gpu, capability, obstacle }
        };
        let Some(sources) = &settings.sources else {
            return Err(cannot_build(BuildObstacle::NoSources));
        };
        let nvcc = Nvcc::find(&settings.variables, &settings.toolkit, self.interrupt);
        let nvcc = nvcc.map_err(|reason| cannot_build(BuildObstacle::NoToolkit(reason)))?;
        if nvcc.is_newer_than(&gpu.cuda) {
            return Err(too_new(nvcc, gpu));
        }
        let hash = key::sources(sources).map_err(unusable("the sources"))?;
        let folder = writable::writable(&settings.folders);
        let folder = folder.map_err(unusable("no folder"))?;
        let folder = folder.join(key::toolchain(&gpu.compute_capability, &nvcc.version));
        let kept = Kept::open(folder).map_err(unusable("the folder of builds"))?;
        let libraries = nvcc.libraries();
        if let Some(program) = kept.find(&hash) {
            return Ok(BuiltWorker { program, libraries });
        }
        if settings.never {
            return Err(cannot_build(BuildObstacle::Forbidden));
        }
        let program = self.build(gpu, &nvcc, &kept, sources, &hash)?;
        Ok(BuiltWorker { program, libraries })
    }

    /// Builds, unless another process has done so meanwhile, or has failed to.
    fn build(
        &self,
        gpu: &Gpu,
        nvcc: &Nvcc,
        kept: &Kept,
        sources: &Path,
        hash: &str,
    ) -> Result<PathBuf, WorkerError> {
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
            Some(signal) => WorkerError::BuildInterrupted(signal),
            None => unusable("the lock of builds")(error),
        })?;
        if let Some(program) = kept.find(hash) {
            return Ok(program);
        }
        if let Some(noted) = waited_since.and_then(|since| kept.failure_since(hash, since)) {
            return Err(noted.into());
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
            kept.keep(&built, &hash).map_err(unusable("the built worker"))
        });
        if let Err(error) = &result
            && !error.is_interrupt()
        {
            kept.note_failure(hash, error);
        }
        result
    }

    /// Runs cargo on the sources with the hash `hash`, and asks what it has built what that is. Where
    /// the sources have changed meanwhile it is not known which state was built: they are built again.
    /// Gives the program and the hash of its sources.
    fn run(
        &self,
        order: &Order<'_>,
        what: &str,
        hash: &str,
    ) -> Result<(PathBuf, String), WorkerError> {
        let first = if order.target.is_dir() { "" } else { "; the first build takes minutes" };
        let mut progress = BuildProgress::new(&format!("building {what}{first}"));
        let mut hash = hash.to_owned();
        for _ in 0..ATTEMPTS {
            let built = cargo::forget(order).and_then(|()| cargo::build(order, &mut progress));
            let program = built.map_err(|error| failed(error, order, what))?;
            let now = key::sources(order.sources).map_err(unusable("the sources"))?;
            if now == hash {
                let built = BuiltWorker { program, libraries: order.nvcc.libraries() };
                self.check(&built, order.capability)?;
                return Ok((built.program, hash));
            }
            hash = now;
        }
        Err(WorkerError::SourcesChanged { what: what.to_owned(), attempts: ATTEMPTS })
    }

    /// A worker is kept only if it says itself that it is what was asked for.
    fn check(&self, built: &BuiltWorker, capability: &str) -> Result<(), WorkerError> {
        let found = engine_of(built, self.inherited, self.interrupt)?.compute_capability;
        if found.as_deref() == Some(capability) {
            return Ok(());
        }
        Err(WorkerError::WrongBuild {
            program: built.program.clone(),
            expected: capability.to_owned(),
            found: found.unwrap_or_else(|| "none".to_owned()),
        })
    }
}

/// Returns a function that makes the error for files that cannot be used.
fn unusable(what: &'static str) -> impl Fn(io::Error) -> WorkerError {
    move |source| WorkerError::BuildFiles { what, source }
}

/// Minutes of compiling would end in kernels that the driver refuses.
fn too_new(nvcc: Nvcc, gpu: &Gpu) -> WorkerError {
    WorkerError::ToolkitTooNew {
        nvcc: nvcc.program,
        version: nvcc.version,
        driver: gpu.driver.clone(),
        gpu: gpu.name.clone(),
        supported: gpu.cuda.clone(),
    }
}

fn failed(error: BuildError, order: &Order<'_>, what: &str) -> WorkerError {
    let (what, log) = (what.to_owned(), order.log.to_owned());
    match error {
        BuildError::Interrupted(signal) => WorkerError::BuildInterrupted(signal),
        BuildError::Io(path, source) => WorkerError::CargoNotStarted { what, path, source },
        BuildError::Failed(status, lines) => {
            let capability = order.capability.to_owned();
            WorkerError::BuildFailed { what, capability, status, lines, log }
        }
        BuildError::NoProgram => WorkerError::NoProgramBuilt { what, log },
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
        let error = result.expect_err("interrupted");
        assert!(matches!(error, WorkerError::BuildInterrupted(_)), "{error:?}");
        assert!(error.to_string().contains("SIGINT"), "{error:?}");
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
