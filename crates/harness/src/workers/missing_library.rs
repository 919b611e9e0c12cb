//! A worker that cannot start because the loader of the operating system does not find a library.

use modelgate_protocol::FailureKind;

/// The exit code of the loader and of shells for a program that could not be loaded.
const NOT_LOADED: i32 = 127;
/// The text that the loader of glibc prints before the name of the library.
const LOADER_MESSAGE: &str = "error while loading shared libraries: ";

/// A library that the worker is linked with, and that the loader does not find.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker cannot be started: the library {library} was not found: {line}")]
pub struct MissingLibrary {
    library: String,
    /// The line of the loader.
    line: String,
}

impl MissingLibrary {
    /// Returns the missing library of a worker that ended with the exit code `code` and printed
    /// `output`. `None` if the worker ended for another reason.
    pub(crate) fn find(code: Option<i32>, output: &str) -> Option<MissingLibrary> {
        if code != Some(NOT_LOADED) {
            return None;
        }
        let line = output.lines().find(|line| line.contains(LOADER_MESSAGE))?;
        let library = line.split_once(LOADER_MESSAGE)?.1.split(':').next()?.trim();
        Some(MissingLibrary { library: library.to_owned(), line: line.to_owned() })
    }

    /// Returns the kind of the failure: no device for a library of the NVIDIA driver, otherwise no
    /// worker.
    pub(crate) fn kind(&self) -> FailureKind {
        if self.belongs_to_driver() {
            FailureKind::DeviceNotFound
        } else {
            FailureKind::WorkerNotFound
        }
    }

    /// Returns a hint how to get the library.
    pub(crate) fn hint(&self) -> &'static str {
        if self.belongs_to_driver() {
            "install the NVIDIA driver, which contains this library; or, in a container, expose the \
             GPU and the driver libraries to it (for example `docker run --gpus all`)"
        } else if self.library.starts_with("libcu") || self.library.starts_with("libnv") {
            "install the version of the CUDA toolkit that the worker was built with, which \
             contains this library; or add the folder of the library to LD_LIBRARY_PATH"
        } else {
            "install the library; or add its folder to LD_LIBRARY_PATH"
        }
    }

    fn belongs_to_driver(&self) -> bool {
        self.library.starts_with("libcuda.so") || self.library.starts_with("libnvidia")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_reported_with_its_package() {
        for (library, kind, hint) in [
            ("libcuda.so.1", FailureKind::DeviceNotFound, "NVIDIA driver"),
            ("libcudart.so.13", FailureKind::WorkerNotFound, "CUDA toolkit"),
            ("libcublas.so.13", FailureKind::WorkerNotFound, "CUDA toolkit"),
            ("libstdc++.so.6", FailureKind::WorkerNotFound, "install the library"),
        ] {
            let output = format!(
                "noise\n/w/modelgate-worker: error while loading shared libraries: {library}: \
                 cannot open shared object file: No such file or directory\n"
            );
            let missing = MissingLibrary::find(Some(127), &output).expect("a missing library");
            let message = missing.to_string();
            assert_eq!(missing.kind(), kind, "{message}");
            assert!(
                message.contains(&format!("the library {library} was not found: ")),
                "{message}"
            );
            assert!(missing.hint().contains(hint), "{}", missing.hint());
            assert_eq!(MissingLibrary::find(Some(1), &output), None);
        }
        assert_eq!(MissingLibrary::find(Some(127), "sh: 1: x: not found"), None);
    }
}
