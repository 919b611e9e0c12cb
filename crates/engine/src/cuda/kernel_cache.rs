//! The folder in which the driver stores the kernels that it has compiled.

use std::path::{Path, PathBuf};

/// The folder in which the driver stores the kernels that it has compiled (CUDA Programming Guide,
/// environment variables `CUDA_CACHE_PATH` and `CUDA_CACHE_DISABLE`).
pub(super) struct KernelCache(PathBuf);

impl KernelCache {
    /// Returns the folder. `None` if the cache is disabled or no home folder is set.
    pub(super) fn find() -> Option<KernelCache> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if variable("CUDA_CACHE_DISABLE").is_some_and(|value| value != "0") {
            return None;
        }
        let folder = variable("CUDA_CACHE_PATH").map(PathBuf::from);
        let home = || Some(PathBuf::from(variable("HOME")?).join(".nv/ComputeCache"));
        folder.or_else(home).map(KernelCache)
    }

    /// Returns the total size in bytes of all files in the folder. Unreadable folders count as
    /// empty.
    pub(super) fn bytes(&self) -> u64 {
        fn sum(folder: &Path) -> u64 {
            let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
            entries
                .flatten()
                .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
                .map(|(path, data)| if data.is_dir() { sum(&path) } else { data.len() })
                .sum()
        }
        sum(&self.0)
    }
}
