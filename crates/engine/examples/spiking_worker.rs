//! Runs a worker that allocates 3 GiB on the first CUDA device for 5 ms during the load, to test that
//! the harness detects such a peak. `SPIKE=pool` allocates from the memory pool of tensors, `SPIKE=plain`
//! outside it. `SPIKE_AFTER` is the delay in seconds.
//!
//! `MODELGATE_WORKER=.../spiking_worker SPIKE=plain SPIKE_AFTER=3 cargo test --release --test
//! models`

use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result};
use std::time::Duration;

const BYTES: usize = 3 << 30;

fn main() -> std::process::ExitCode {
    if std::env::args().len() < 2 {
        std::thread::spawn(|| {
            if let Err(error) = spike() {
                eprintln!("cannot allocate the spike: {error}");
            }
        });
    }
    modelgate_engine::run_worker()
}

fn spike() -> Result<(), DriverError> {
    let after: f64 =
        std::env::var("SPIKE_AFTER").ok().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    std::thread::sleep(Duration::from_secs_f64(after));
    let context = CudaContext::new(0)?;
    context.bind_to_thread()?;
    let how = std::env::var("SPIKE").unwrap_or_default();
    assert!(
        ["pool", "plain"].contains(&how.as_str()),
        "SPIKE is \"{how}\", expected pool or plain"
    );
    if how == "pool" {
        let stream = context.per_thread_stream();
        // SAFETY: nothing reads or writes this memory.
        let memory = unsafe { stream.alloc::<u8>(BYTES) }?;
        stream.synchronize()?;
        std::thread::sleep(Duration::from_millis(5));
        drop(memory);
        return stream.synchronize();
    }
    // SAFETY: as above.
    let memory = unsafe { result::malloc_sync(BYTES) }?;
    std::thread::sleep(Duration::from_millis(5));
    // SAFETY: allocated just now, and not used.
    unsafe { result::free_sync(memory) }
}
