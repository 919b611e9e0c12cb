//! One lock for each GPU of the host, so that two runs do not disturb each other's measurements.
//!
//! A lock is `flock` on a file in `/tmp` (independent of `TMPDIR`), named after the UUID of the
//! GPU: the same file for every user and program version. The operating system releases the lock
//! when the process that holds it ends for any reason. The holder writes its process id into the
//! file. Containers that do not share `/tmp` do not see each other's locks.

use super::assign::Assigned;
use super::error::GpuError;
use crate::lock;
use crate::signal::Interrupt;
use modelgate_model::units::format_duration;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{File, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// The folder of the locks.
pub(crate) const FOLDER: &str = "/tmp";
/// The maximum length of a process id in bytes.
const MAX_HOLDER_BYTES: usize = 20;

/// The locks of some GPUs. Dropping it releases them.
#[derive(Debug)]
pub(crate) struct GpuLocks {
    _files: Vec<File>,
}

/// Locks the GPUs on which `model` is measured, with files in `folder`. Waits up to `max_wait` in
/// total for locks that other runs hold.
///
/// # Errors
/// Another run still holds a lock, a signal arrived, or a lock file cannot be opened.
pub(crate) fn lock_gpus(
    folder: &Path,
    gpus: &[Assigned],
    model: &str,
    max_wait: Duration,
    interrupt: &Interrupt,
) -> Result<GpuLocks, GpuError> {
    // all runs lock in the same order, so that no two runs wait for each other
    let mut gpus: Vec<&Assigned> = gpus.iter().collect();
    gpus.sort_by(|a, b| a.gpu.uuid.cmp(&b.gpu.uuid));
    let deadline = Instant::now() + max_wait;
    let mut files = Vec::new();
    for assigned in gpus {
        files.push(lock_one(folder, assigned, model, max_wait, deadline, interrupt)?);
    }
    Ok(GpuLocks { _files: files })
}

fn lock_one(
    folder: &Path,
    assigned: &Assigned,
    model: &str,
    max_wait: Duration,
    deadline: Instant,
    interrupt: &Interrupt,
) -> Result<File, GpuError> {
    let Assigned { device, gpu } = assigned;
    let path = folder.join(format!("modelgate-{}.lock", gpu.uuid));
    let unusable =
        |source: io::Error| GpuError::Lock { path: path.clone(), device: *device, source };
    let mut file = open(&path).map_err(unusable)?;
    let mut waiting = false;
    let keep_waiting = || {
        if let Some(signal) = interrupt.signal() {
            return Err(GiveUp::Interrupted(signal));
        }
        if Instant::now() >= deadline {
            return Err(GiveUp::Busy(describe_holder(&file)));
        }
        if !waiting {
            waiting = true;
            // a wait that cannot be printed is not an error
            let _ = writeln!(
                io::stderr(),
                "modelgate: {model}: waiting up to {} for the GPU {device} ({}), which {} holds",
                format_duration(max_wait),
                gpu.uuid,
                describe_holder(&file)
            );
        }
        Ok(())
    };
    lock::wait(&file, keep_waiting).map_err(|reason| match reason {
        GiveUp::Io(error) => unusable(error),
        GiveUp::Interrupted(signal) => GpuError::Interrupted { device: *device, signal },
        GiveUp::Busy(holder) => GpuError::Busy {
            model: model.to_owned(),
            device: *device,
            gpu: Box::new(gpu.clone()),
            holder,
            waited: max_wait,
        },
    })?;
    // other runs read it only to name the holder
    let _ = write_process_id(&mut file);
    Ok(file)
}

/// The reason why a wait for a lock ended without the lock.
enum GiveUp {
    Io(io::Error),
    Interrupted(i32),
    /// Another run still holds the lock, with a description of the holder.
    Busy(String),
}

impl From<io::Error> for GiveUp {
    fn from(error: io::Error) -> GiveUp {
        GiveUp::Io(error)
    }
}

/// Opens the lock file, and creates it if it does not exist. In a folder that all users can write,
/// Linux does not let a user open the file of another user with the flag that would create it
/// (`fs.protected_regular`).
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let all_users = Mode::from_raw_mode(0o666);
    let open = |flags| rustix::fs::open(path, flags, all_users).map(File::from);
    let file = loop {
        match open(flags) {
            Err(Errno::NOENT) => {}
            other => break other?,
        }
        match open(flags | OFlags::CREATE | OFlags::EXCL) {
            // another run created the file first
            Err(Errno::EXIST) => {}
            Ok(file) => {
                // the umask of the user has removed permissions
                file.set_permissions(Permissions::from_mode(0o666))?;
                break file;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn write_process_id(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

/// Returns a description of the process that holds the lock. Every user can write the file, so only
/// a number is used.
fn describe_holder(file: &File) -> String {
    let mut buffer = [0; MAX_HOLDER_BYTES];
    let read = file.read_at(&mut buffer, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..read]);
    match text.trim().parse::<u32>() {
        Ok(pid) => format!("another run (process {pid})"),
        Err(_) => "another run".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::inventory::tests::gpu;
    use super::*;
    use crate::reportable::Reportable;
    use modelgate_protocol::{Failure, FailureKind};
    use std::io::Read;
    use std::process::{Command, Stdio};

    fn assigned(uuids: &[&str]) -> Vec<Assigned> {
        let one =
            |uuid: &&str| Assigned { device: modelgate_protocol::Device::Cuda(0), gpu: gpu(uuid) };
        uuids.iter().map(one).collect()
    }

    fn take(folder: &Path, uuids: &[&str], max_wait: u64) -> Result<GpuLocks, Failure> {
        let max_wait = Duration::from_millis(max_wait);
        lock_gpus(folder, &assigned(uuids), "m", max_wait, &Interrupt::default())
            .map_err(|error| error.to_failure())
    }

    /// Starts a process of another program that holds the lock until it is killed.
    fn other_process(folder: &Path, uuid: &str) -> std::process::Child {
        let path = folder.join(format!("modelgate-{uuid}.lock"));
        let script = "import fcntl, os, sys, time\n\
                      file = open(sys.argv[1], 'w')\n\
                      fcntl.flock(file, fcntl.LOCK_EX)\n\
                      file.write(str(os.getpid())); file.flush()\n\
                      print('lock', flush=True); time.sleep(60)";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut output = [0; 4];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut output).expect("a line of output");
        child
    }

    #[test]
    fn a_second_run_waits_and_then_names_the_holder_of_the_gpu() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let mut other = other_process(folder.path(), "GPU-1");
        let started = Instant::now();
        let failure = take(folder.path(), &["GPU-1"], 200).expect_err("busy");
        assert!(started.elapsed() >= Duration::from_millis(200));
        assert_eq!(failure.kind, FailureKind::DeviceBusy);
        let expected =
            format!("(NVIDIA H100, GPU-1) is held by another run (process {})", other.id());
        assert!(failure.message.contains(&expected), "{failure}");
        assert!(failure.message.contains("m waited for 200 ms"), "{failure}");
        assert!(failure.hint.contains("end it"), "{}", failure.hint);
        assert!(take(folder.path(), &["GPU-2"], 0).is_ok(), "another GPU is free");
        other.kill().expect("killed");
        other.wait().expect("reaped");
        assert!(take(folder.path(), &["GPU-1"], 0).is_ok(), "the lock of an ended process is free");
    }

    #[test]
    fn a_waiting_run_continues_when_the_other_run_ends() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let locks = take(folder.path(), &["GPU-1", "GPU-2"], 0).expect("free");
        let path = folder.path().join("modelgate-GPU-2.lock");
        let written = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(written, std::process::id().to_string());
        assert!(
            take(folder.path(), &["GPU-2"], 0).is_err(),
            "a lock of the same process is respected"
        );
        std::thread::scope(|scope| {
            // in the opposite order, which must not matter
            let waiting = scope.spawn(|| take(folder.path(), &["GPU-2", "GPU-1"], 10_000));
            std::thread::sleep(Duration::from_millis(150));
            assert!(!waiting.is_finished());
            drop(locks);
            assert!(waiting.join().expect("no panic").is_ok());
        });
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let _locks = take(folder.path(), &["GPU-1"], 0).expect("free");
        let interrupt = Interrupt::after(2);
        let max_wait = Duration::from_secs(60);
        let failure = lock_gpus(folder.path(), &assigned(&["GPU-1"]), "m", max_wait, &interrupt);
        let failure = failure.expect_err("interrupted").to_failure();
        assert_eq!(failure.kind, FailureKind::Interrupted);
        assert!(failure.message.contains("SIGINT"), "{failure}");
    }

    #[test]
    fn the_lock_file_is_writable_by_all_users_and_symlinks_are_not_followed() {
        let folder = tempfile::TempDir::new().expect("a folder");
        drop(take(folder.path(), &["GPU-1"], 0).expect("free"));
        let path = folder.path().join("modelgate-GPU-1.lock");
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        let target = folder.path().join("target");
        std::fs::write(&target, "precious").expect("a file");
        let link = folder.path().join("modelgate-GPU-2.lock");
        std::os::unix::fs::symlink(&target, link).expect("a link");
        let failure = take(folder.path(), &["GPU-2"], 0).expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Io);
        assert_eq!(std::fs::read_to_string(&target).expect("the file"), "precious");
    }
}
