//! A worker that cannot start, because the system's loader does not find a library.

use modelgate_protocol::FailureKind;

/// The exit code by which the loader, and a shell, say that a program could not be loaded.
const NOT_LOADED: i32 = 127;
/// What the loader of glibc says then, before the library's name.
const LOADER_SAYS: &str = "error while loading shared libraries: ";

/// The loader does not find a library that the worker is linked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker cannot be started, for it does not find {library}: {line}")]
pub struct MissingLibrary {
    library: String,
    /// The line by which the loader says so.
    line: String,
}

impl MissingLibrary {
    /// Returns what the loader says of a worker that ended with the exit code `code` and printed
    /// `output`; `None` if that is not the reason for its end.
    pub(crate) fn find(code: Option<i32>, output: &str) -> Option<MissingLibrary> {
        if code != Some(NOT_LOADED) {
            return None;
        }
        let line = output.lines().find(|line| line.contains(LOADER_SAYS))?;
        let library = line.split_once(LOADER_SAYS)?.1.split(':').next()?.trim();
        Some(MissingLibrary { library: library.to_owned(), line: line.to_owned() })
    }

    /// Returns the class of failure.
    pub(crate) fn kind(&self) -> FailureKind {
        if self.is_of_driver() { FailureKind::NoDevice } else { FailureKind::NoWorker }
    }

    /// Returns where the library comes from.
    pub(crate) fn hint(&self) -> &'static str {
        if self.is_of_driver() {
            "this library comes with NVIDIA's driver: install the driver, or give the container \
             the GPU and the driver's libraries"
        } else if self.library.starts_with("libcu") || self.library.starts_with("libnv") {
            "this library comes with the CUDA toolkit that the worker was built with: install that \
             version, or name the folder that holds the library in LD_LIBRARY_PATH"
        } else {
            "install the library, or name the folder that holds it in LD_LIBRARY_PATH"
        }
    }

    fn is_of_driver(&self) -> bool {
        self.library.starts_with("libcuda.so") || self.library.starts_with("libnvidia")
    }
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
            let missing = MissingLibrary::find(Some(127), &output).expect("a missing library");
            let message = missing.to_string();
            assert_eq!(missing.kind(), kind, "{message}");
            assert!(message.contains(&format!("does not find {library}: ")), "{message}");
            assert!(missing.hint().contains(hint), "{}", missing.hint());
            assert_eq!(MissingLibrary::find(Some(1), &output), None);
        }
        assert_eq!(MissingLibrary::find(Some(127), "sh: 1: x: not found"), None);
    }
}
