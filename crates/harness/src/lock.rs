//! Waits for advisory locks on files (`flock`), which the operating system releases when their
//! holder ends.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

/// The time between two attempts to take a lock that another process holds.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Locks `file`. While another process holds the lock, calls `keep_waiting` before each further
/// attempt; its error ends the wait.
///
/// # Errors
/// The error of `keep_waiting`, or an error of the operating system, converted.
pub(crate) fn wait<E: From<io::Error>>(
    file: &File,
    mut keep_waiting: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) => {}
        }
        keep_waiting()?;
        std::thread::sleep(RETRY_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_until_the_caller_gives_up() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let open = || File::options().write(true).open(file.path()).expect("opened");
        let (first, second) = (open(), open());
        wait::<io::Error>(&first, || panic!("waited for a free lock")).expect("locked");
        let mut attempts = 0;
        let error = wait::<io::Error>(&second, || {
            attempts += 1;
            if attempts < 3 { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        });
        assert_eq!(error.expect_err("given up").kind(), io::ErrorKind::Interrupted);
        assert_eq!(attempts, 3);
        drop(first);
        wait::<io::Error>(&second, || panic!("waited for a released lock")).expect("locked");
    }
}
