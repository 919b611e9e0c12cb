//! Writes model files with one thread per processor core. The code is independent of the format: a
//! file consists of a header and of tensors at given offsets.

use super::random_values::RandomValues;
use crate::random::Random;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// A callback for progress. Its arguments are the bytes written so far and the total bytes. Several
/// threads call it.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// The maximum number of bytes that a thread generates and writes at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The content of a file to write.
pub(super) struct NewFile {
    /// The path of the file.
    pub(super) path: PathBuf,
    /// The bytes before the tensors.
    pub(super) head: Vec<u8>,
    /// The tensors, in the order of their offsets.
    pub(super) tensors: Vec<PlacedTensor>,
    /// The size of the file in bytes.
    pub(super) bytes: u64,
}

/// A tensor with its place in a file.
pub(super) struct PlacedTensor {
    /// The offset of the data in the file, in bytes.
    pub(super) offset: u64,
    /// The size of the data in bytes.
    pub(super) bytes: u64,
    /// The index of the tensor in the model, part of the seed of its random values.
    pub(super) number: u64,
    /// The source of the values.
    pub(super) values: Values,
}

/// The source of a tensor's values.
pub(super) enum Values {
    /// The encoded values.
    Given(Vec<u8>),
    /// A generator of random values.
    Random(RandomValues),
}

/// Writes files to one folder. The name of an incomplete file ends in `.part`.
///
/// # Errors
/// The free disk space is too small, or a file cannot be written. The message names the path.
pub(super) fn write_files(files: &[NewFile], seed: u64, progress: Progress) -> io::Result<()> {
    let total = files.iter().map(|file| file.bytes).sum();
    if let Some(first) = files.first() {
        check_free_space(&first.path, total)?;
    }
    let written = AtomicU64::new(0);
    let advance = |bytes: u64| {
        progress(written.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
    };
    for file in files {
        let mut name = file.path.clone().into_os_string();
        name.push(".part");
        let part = PathBuf::from(name);
        let outcome = write_file(&part, file, seed, &advance);
        if let Err(error) = outcome.and_then(|()| fs::rename(&part, &file.path)) {
            // Report the first error, not an error of the removal.
            let _ = fs::remove_file(&part);
            return Err(with_path(&file.path, error));
        }
    }
    Ok(())
}

/// Adds the path to the message of an error.
pub(super) fn with_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn check_free_space(path: &Path, bytes: u64) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let space = rustix::fs::statvfs(folder).map_err(|error| with_path(folder, error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < bytes {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{}: {bytes} bytes are needed, {free} bytes are free", folder.display()),
        ));
    }
    Ok(())
}

/// A part of a tensor that a thread generates and writes at once.
struct Chunk<'a> {
    tensor: &'a PlacedTensor,
    number: u64,
    start: u64,
    bytes: usize,
}

fn write_file(
    path: &Path,
    new: &NewFile,
    seed: u64,
    advance: &(impl Fn(u64) + Sync),
) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(new.bytes)?;
    file.write_all_at(&new.head, 0)?;
    advance(new.head.len() as u64);
    let chunks: Vec<Chunk> = new.tensors.iter().flat_map(chunks).collect();
    // In the order of the file, so that writes to the disk are sequential.
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = &mut buffer[..chunk.bytes];
            chunk.fill(seed, bytes);
            file.write_all_at(bytes, chunk.tensor.offset + chunk.start)?;
            advance(chunk.bytes as u64);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a writer thread"))
    })
}

/// Returns the chunks of a tensor. Each consists of complete blocks.
fn chunks(tensor: &PlacedTensor) -> impl Iterator<Item = Chunk<'_>> {
    let unit = match &tensor.values {
        Values::Given(_) => 1,
        Values::Random(values) => values.block_bytes(),
    };
    let step = (CHUNK_BYTES / unit * unit) as u64;
    (0..tensor.bytes.div_ceil(step)).map(move |number| {
        let start = number * step;
        Chunk { tensor, number, start, bytes: step.min(tensor.bytes - start) as usize }
    })
}

impl Chunk<'_> {
    fn fill(&self, seed: u64, out: &mut [u8]) {
        match &self.tensor.values {
            Values::Given(bytes) => {
                out.copy_from_slice(&bytes[self.start as usize..][..self.bytes]);
            }
            Values::Random(values) => {
                let tensor_seed = Random::new(seed.wrapping_add(self.tensor.number)).bits();
                let chunk_seed = Random::new(tensor_seed ^ self.number).bits();
                values.fill(&mut Random::new(chunk_seed), out);
            }
        }
    }
}
