//! Locks on file systems without `flock`: the file exists while the lock is held.
//!
//! The content names the process that holds the lock, in the form of the Python package filelock:
//! the process id, and the host with its process namespace. The lock of a process of this host that
//! has ended is removed.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The maximum size of a record of the holder. A longer file is not one.
const MAX_RECORD_BYTES: u64 = 1024;
/// The inode of the process namespace of a host, in which containers have others (`man 7
/// pid_namespaces`).
const HOST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Creates the lock file at `path` for this process. Returns `None` if another process holds the
/// lock.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn try_take(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => hold(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if holder_has_ended(path) {
                // the next attempt takes the lock; another process may have removed it already
                let _ = std::fs::remove_file(path);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes the record of this process to its new lock file.
pub(crate) fn hold(mut file: File) -> io::Result<File> {
    let host = host().unwrap_or_default();
    file.write_all(format!("{}\n{host}\n", std::process::id()).as_bytes())?;
    Ok(file)
}

/// Returns whether the process that holds the lock at `path` ran on this host and has ended.
fn holder_has_ended(path: &Path) -> bool {
    let is_record = std::fs::metadata(path).is_ok_and(|file| file.len() <= MAX_RECORD_BYTES);
    let text = is_record.then(|| std::fs::read_to_string(path).ok()).flatten().unwrap_or_default();
    let mut lines = text.lines();
    let pid = lines.next().and_then(|pid| Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 0)?));
    match (pid, lines.next(), host()) {
        (Some(pid), Some(holder), Some(host)) if holder == host => {
            test_kill_process(pid) == Err(Errno::SRCH)
        }
        _ => false,
    }
}

/// Returns the name of this host, with the process namespace if it is not that of the host. `None`
/// if the operating system does not report them.
fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let namespace = std::fs::metadata("/proc/self/ns/pid").ok()?.ino();
    let name = name.trim();
    let in_container = format!("{name}?pidns-{namespace:x}");
    Some(if namespace == HOST_NAMESPACE { name.to_owned() } else { in_container })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_lock_of_an_ended_process_of_this_host_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let mut child = Command::new("true").spawn().expect("a process");
        child.wait().expect("it ends");
        let (ended, own, host) = (child.id(), std::process::id(), host().expect("a host"));
        for (record, is_removed) in [
            (format!("{ended}\n{host}\n"), true),
            (format!("{own}\n{host}\n"), false),
            (format!("{ended}\nother-{host}\n"), false),
            (format!("{ended}\n"), false),
            ("0\n".to_owned() + &host, false),
            (String::new(), false),
        ] {
            std::fs::write(&path, &record).expect("written");
            assert!(try_take(&path).expect("no error").is_none(), "{record}");
            assert_eq!(!path.exists(), is_removed, "{record}");
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(try_take(&path).expect("no error").is_some());
        assert!(try_take(&path).expect("no error").is_none(), "this process holds the lock");
        assert_eq!(std::fs::read_to_string(&path).expect("a record"), format!("{own}\n{host}\n"));
    }
}
