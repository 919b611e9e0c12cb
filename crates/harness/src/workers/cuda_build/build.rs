//! Builds a worker with CUDA on the host that needs it.
//!
//! The harness does not link CUDA, so the worker that cargo builds together with it has no CUDA
//! either. If a model needs a GPU, a separate cargo process builds a worker here, once for each
//! compute capability, version of CUDA and state of the sources. The worker is kept for later runs.
//! This module does not know models.

use super::cargo::{self, BuildError, BuildInput};
use super::kept_workers::KeptWorkers;
use super::nvcc::{Nvcc, NvccError};
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

/// The maximum number of builds if the sources change during the build.
const MAX_BUILDS: usize = 2;

/// The inputs for building workers.
#[derive(Debug, Clone, Copy)]
pub struct CudaBuild<'a> {
    /// The folders of the sources, of the toolkit and for builds.
    pub settings: &'a BuildSettings,
    /// The environment variables that workers inherit.
    pub inherited: &'a Variables,
    /// The signals to this process, which end a build.
    pub interrupt: &'a Interrupt,
}

impl CudaBuild<'_> {
    /// Returns a worker for `gpu`: a worker that was built before from the same sources, otherwise
    /// a new one. `lacks` is the reason why the existing worker cannot be used.
    ///
    /// # Errors
    /// The worker cannot be built. The hint of the error has the alternatives.
    pub fn worker_for(&self, gpu: &Gpu, lacks: &str) -> Result<BuiltWorker, WorkerError> {
        let settings = self.settings;
        let cannot_build = |obstacle| {
            let obstacle = if settings.never { BuildObstacle::Forbidden } else { obstacle };
            let (gpu, capability) = (gpu.name.clone(), gpu.compute_capability.clone());
            WorkerError::CannotBuild { lacks: lacks.to_owned(), gpu, capability, obstacle }
        };
        let Some(sources) = &settings.sources else {
            return Err(cannot_build(BuildObstacle::NoSources));
        };
        let nvcc = Nvcc::find(&settings.variables, &settings.toolkit, self.interrupt);
        let nvcc = nvcc.map_err(|error| match error {
            NvccError::NotFound(reason) => cannot_build(BuildObstacle::NoToolkit(reason)),
            NvccError::Failed(reason) => cannot_build(BuildObstacle::CompilerFailed(reason)),
            NvccError::Interrupted(signal) => WorkerError::BuildInterrupted(signal),
        })?;
        if nvcc.is_newer_than(&gpu.cuda) {
            return Err(too_new(nvcc, gpu));
        }
        let hash = key::sources(sources).map_err(unusable("the sources"))?;
        let folder = writable::first_writable(&settings.folders);
        let folder = folder.map_err(unusable("the folders for builds"))?;
        let folder = folder.join(key::toolchain(&gpu.compute_capability, &nvcc.version));
        let kept = KeptWorkers::open(folder).map_err(unusable("the folder of the build"))?;
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

    /// Builds the worker, unless another process built it, or failed to, during the wait for the
    /// lock. Returns its path.
    fn build(
        &self,
        gpu: &Gpu,
        nvcc: &Nvcc,
        kept: &KeptWorkers,
        sources: &Path,
        hash: &str,
    ) -> Result<PathBuf, WorkerError> {
        let capability = &gpu.compute_capability;
        let what =
            format!("a worker for compute capability {capability} with CUDA {}", nvcc.version);
        let mut waiting = None;
        let lock = kept.lock(self.interrupt, || {
            let progress =
                BuildProgress::new(&format!("waiting for another run, which builds {what}"));
            waiting = Some((SystemTime::now(), progress));
        });
        let waited_since = waiting.map(|(since, _)| since);
        let _lock = lock.map_err(|error| match self.interrupt.signal() {
            Some(signal) => WorkerError::BuildInterrupted(signal),
            None => unusable("the lock file of the build")(error),
        })?;
        if let Some(program) = kept.find(hash) {
            return Ok(program);
        }
        if let Some(recorded) = waited_since.and_then(|since| kept.failure_since(hash, since)) {
            return Err(recorded.into());
        }
        let (target, log) = (kept.target(), kept.log());
        let input = BuildInput {
            sources,
            target: &target,
            log: &log,
            capability,
            nvcc,
            variables: &self.settings.variables,
            interrupt: self.interrupt,
        };
        let result = self.run(&input, &what, hash).and_then(|(built, hash)| {
            kept.keep(&built, &hash).map_err(unusable("the built worker"))
        });
        if let Err(error) = &result
            && !error.is_interrupt()
        {
            kept.record_failure(hash, error);
        }
        result
    }

    /// Runs cargo on the sources with the hash `hash`, and checks the program. If the sources
    /// changed during the build, the state that was built is unknown, and they are built again.
    /// Returns the program and the hash of its sources.
    fn run(
        &self,
        input: &BuildInput<'_>,
        what: &str,
        hash: &str,
    ) -> Result<(PathBuf, String), WorkerError> {
        let note = if input.target.is_dir() { "" } else { "; the first build takes minutes" };
        let mut progress = BuildProgress::new(&format!("building {what}{note}"));
        let mut hash = hash.to_owned();
        for _ in 0..MAX_BUILDS {
            let built = cargo::clean(input).and_then(|()| cargo::build(input, &mut progress));
            let program = built.map_err(|error| failed(error, input, what))?;
            let now = key::sources(input.sources).map_err(unusable("the sources"))?;
            if now == hash {
                let built = BuiltWorker { program, libraries: input.nvcc.libraries() };
                self.check(&built, input.capability)?;
                return Ok((built.program, hash));
            }
            hash = now;
        }
        Err(WorkerError::SourcesChanged { what: what.to_owned(), attempts: MAX_BUILDS })
    }

    /// Checks that the worker reports the requested compute capability.
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

/// Returns a function that converts an I/O error of the files that `what` describes.
fn unusable(what: &'static str) -> impl Fn(io::Error) -> WorkerError {
    move |source| WorkerError::BuildFiles { what, source }
}

/// Returns the error for a compiler whose kernels the driver would refuse.
fn too_new(nvcc: Nvcc, gpu: &Gpu) -> WorkerError {
    WorkerError::ToolkitTooNew {
        nvcc: nvcc.program,
        version: nvcc.version,
        driver: gpu.driver.clone(),
        gpu: gpu.name.clone(),
        supported: gpu.cuda.clone(),
    }
}

/// Converts an error of cargo. `what` describes the worker.
fn failed(error: BuildError, input: &BuildInput<'_>, what: &str) -> WorkerError {
    let (what, log) = (what.to_owned(), input.log.to_owned());
    match error {
        BuildError::Interrupted(signal) => WorkerError::BuildInterrupted(signal),
        BuildError::Io(path, source) => WorkerError::CargoNotStarted { what, path, source },
        BuildError::Failed(status, lines) => {
            let capability = input.capability.to_owned();
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

    fn write_program(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, text).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn is_alive(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    }

    #[test]
    fn a_signal_ends_cargo_and_its_compilers_and_no_worker_is_kept() {
        let folder = TempDir::new().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        write_program(&at("cuda/bin/nvcc"), "#!/bin/sh\necho 'release 13.0, V13.0.88'\n");
        // a compiler that ignores SIGTERM
        let compiler = at("compiler");
        write_program(
            &compiler,
            &format!(
                "#!/bin/sh\ntrap '' TERM\necho $$ > {0}.new\nmv {0}.new {0}\n\
                 while :; do sleep 1; done\n",
                at("pid").display()
            ),
        );
        let text = "#!/bin/sh\ntest \"$1\" = clean && exit\n";
        write_program(&at("cargo"), &format!("{text}{} &\nwait\n", compiler.display()));
        std::fs::create_dir(at("sources")).expect("created");
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
            unified_memory: false,
            driver: "580.65".into(),
            cuda: "13.0".into(),
            compute_capability: "9.0".into(),
            mig: false,
        };
        let (result, pid, took) = std::thread::scope(|scope| {
            let building = scope.spawn(|| build.worker_for(&gpu, "none"));
            let until = Instant::now() + Duration::from_secs(10);
            while !at("pid").is_file() {
                assert!(Instant::now() < until, "the compiler has not started");
                std::thread::sleep(Duration::from_millis(2));
            }
            let pid = std::fs::read_to_string(at("pid")).expect("a pid").trim().to_owned();
            assert!(is_alive(&pid));
            let raised = Instant::now();
            interrupt.raise(signal_hook::consts::SIGINT);
            (building.join().expect("no panic"), pid, raised.elapsed())
        });
        let error = result.expect_err("interrupted");
        assert!(matches!(error, WorkerError::BuildInterrupted(_)), "{error:?}");
        assert!(error.to_string().contains("SIGINT"), "{error:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        let until = Instant::now() + Duration::from_secs(5);
        while is_alive(&pid) {
            assert!(Instant::now() < until, "the compiler has not ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let kept = KeptWorkers::open(at("builds").join("sm_90-cuda-13.0")).expect("opened");
        assert_eq!(kept.find(&key::sources(&at("sources")).expect("hashed")), None);
        kept.lock(&Interrupt::default(), || panic!("waited for a free lock"))
            .expect("the lock is free");
    }
}
