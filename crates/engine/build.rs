//! Compiles the CUDA kernels of this crate if the feature `cuda` is set, and passes the compute
//! capability and the CUDA version to the code.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::compile()?;
    Ok(())
}

#[cfg(feature = "cuda")]
mod cuda {
    use cudaforge::{CudaToolkit, KernelBuilder, detect_compute_cap};
    use std::error::Error;
    use std::path::PathBuf;

    pub(crate) fn compile() -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-changed=kernels");
        let out = PathBuf::from(std::env::var("OUT_DIR")?);
        let kernels = KernelBuilder::new().source_dir("kernels").arg("-std=c++17").arg("-O3");
        kernels.build_ptx()?.write(out.join("kernels.rs"))?;
        let capability = detect_compute_cap()?.base();
        println!(
            "cargo::rustc-env=MODELGATE_COMPUTE_CAPABILITY={}.{}",
            capability / 10,
            capability % 10
        );
        let version = CudaToolkit::detect()?.version.ok_or("nvcc --version names no release")?;
        println!("cargo::rustc-env=MODELGATE_CUDA_VERSION={version}");
        Ok(())
    }
}
