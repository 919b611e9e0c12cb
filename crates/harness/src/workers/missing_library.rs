//! A worker that cannot start, because the system's loader does not find a library.

use modelgate_protocol::{Failure, FailureKind, Stage};

/// The exit code by which the loader, and a shell, say that a program could not be loaded.
const NOT_LOADED: i32 = 127;
/// What the loader of glibc says then, before the library's name.
const LOADER_SAYS: &str = "error while loading shared libraries: ";

/// The failure where the system's loader did not find a library that the worker is linked to.
pub(crate) fn missing_library(code: Option<i32>, output: &str, stage: Stage) -> Option<Failure> {
    if code != Some(NOT_LOADED) {
        return None;
    }
    let line = output.lines().find(|line| line.contains(LOADER_SAYS))?;
    let library = line.split_once(LOADER_SAYS)?.1.split(':').next()?.trim();
    let (kind, hint) = if library.starts_with("libcuda.so") || library.starts_with("libnvidia") {
        (
            FailureKind::NoDevice,
            "this library comes with NVIDIA's driver: install the driver, or give the container \
             the GPU and the driver's libraries",
        )
    } else if library.starts_with("libcu") || library.starts_with("libnv") {
        (
            FailureKind::NoWorker,
            "this library comes with the CUDA toolkit that the worker was built with: install that \
             version, or name the folder that holds the library in LD_LIBRARY_PATH",
        )
    } else {
        (
            FailureKind::NoWorker,
            "install the library, or name the folder that holds it in LD_LIBRARY_PATH",
        )
    };
    let message = format!("the worker cannot be started, for it does not find {library}: {line}");
    Some(Failure::new(stage, kind, message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_found_is_named_with_where_it_comes_from() {
        for (library, kind, hint) in [
            ("libcuda.so.1", FailureKind::NoDevice, "NVIDIA's driver"),
            ("libcudart.so.13", FailureKind::NoWorker, "CUDA toolkit"),
            ("libcublas.so.13", FailureKind::NoWorker, "CUDA toolkit"),
            ("libstdc++.so.6", FailureKind::NoWorker, "install the library"),
        ] {
            let output = format!(
                "noise\n/w/modelgate-worker: error while loading shared libraries: {library}: \
                 cannot open shared object file: No such file or directory\n"
            );
            let failure = missing_library(Some(127), &output, Stage::Start).expect("a failure");
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.message.contains(&format!("does not find {library}: ")), "{failure}");
            assert!(failure.hint.contains(hint), "{}", failure.hint);
            assert_eq!(missing_library(Some(1), &output, Stage::Start), None);
        }
        assert_eq!(missing_library(Some(127), "sh: 1: x: not found", Stage::Start), None);
    }
}
