//! Writes files with all threads at once. Knows no format: a file is a head and tensors at their
//! positions.

use super::random_values::RandomValues;
use crate::random::Random;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// Told of bytes that are written, and of how many there will be. Called from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Bytes that a thread makes and writes at once.
const PIECE: usize = 1 << 20;

/// A file that is to be written.
pub(super) struct NewFile {
    /// Its path.
    pub(super) path: PathBuf,
    /// What it begins with.
    pub(super) head: Vec<u8>,
    /// Its tensors.
    pub(super) tensors: Vec<Placed>,
    /// Its bytes.
    pub(super) bytes: u64,
}

/// A tensor and its place.
pub(super) struct Placed {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) bytes: u64,
    /// Its number in the model, which its random values depend on.
    pub(super) number: u64,
    /// What it holds.
    pub(super) values: Values,
}

/// What a tensor holds.
pub(super) enum Values {
    /// These bytes.
    Given(Vec<u8>),
    /// Random values.
    Random(RandomValues),
}

/// Writes files of one folder. Until a file is whole its name ends in `.part`.
pub(super) fn write_files(files: &[NewFile], seed: u64, progress: Progress) -> io::Result<()> {
    let total = files.iter().map(|file| file.bytes).sum();
    if let Some(first) = files.first() {
        refuse_without_room(&first.path, total)?;
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
            // The error that counts is the one that there is already.
            let _ = fs::remove_file(&part);
            return Err(at(&file.path, error));
        }
    }
    Ok(())
}

/// Adds the path to an error.
pub(super) fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn refuse_without_room(path: &Path, bytes: u64) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let room = rustix::fs::statvfs(folder).map_err(|error| at(folder, error.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < bytes {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{}: {bytes} bytes are needed, and {free} are free", folder.display()),
        ));
    }
    Ok(())
}

/// Bytes of a tensor that are made and written at once.
struct Piece<'a> {
    tensor: &'a Placed,
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
    let pieces: Vec<Piece> = new.tensors.iter().flat_map(pieces).collect();
    // In the order of the file, so that the disk sees one long write.
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = &mut buffer[..piece.bytes];
            piece.make(seed, bytes);
            file.write_all_at(bytes, piece.tensor.offset + piece.start)?;
            advance(piece.bytes as u64);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread that writes"))
    })
}

/// Returns the pieces of a tensor, in whole blocks.
fn pieces(tensor: &Placed) -> impl Iterator<Item = Piece<'_>> {
    let unit = match &tensor.values {
        Values::Given(_) => 1,
        Values::Random(values) => values.unit(),
    };
    let step = (PIECE / unit * unit) as u64;
    (0..tensor.bytes.div_ceil(step)).map(move |number| {
        let start = number * step;
        Piece { tensor, number, start, bytes: step.min(tensor.bytes - start) as usize }
    })
}

impl Piece<'_> {
    fn make(&self, seed: u64, out: &mut [u8]) {
        match &self.tensor.values {
            Values::Given(bytes) => {
                out.copy_from_slice(&bytes[self.start as usize..][..self.bytes]);
            }
            Values::Random(values) => {
                let of_tensor = Random::new(seed.wrapping_add(self.tensor.number)).bits();
                let of_piece = Random::new(of_tensor ^ self.number).bits();
                values.fill(&mut Random::new(of_piece), out);
            }
        }
    }
}
