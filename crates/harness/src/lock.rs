//! Waiting for advisory locks on files (`flock`), which the system releases when their holder ends.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

/// The time between two attempts to take a lock that another process holds.
const INTERVAL: Duration = Duration::from_millis(20);

/// Takes the lock of `file`. While another holds it, `keep_waiting` is called before every further
/// attempt, and ends the wait with an error.
///
/// # Errors
/// The error of `keep_waiting`; an error of the system, converted.
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
        std::thread::sleep(INTERVAL);
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
        wait::<io::Error>(&first, || panic!("the lock is free")).expect("locked");
        let mut attempts = 0;
        let error = wait::<io::Error>(&second, || {
            attempts += 1;
            if attempts < 3 { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        });
        assert_eq!(error.expect_err("given up").kind(), io::ErrorKind::Interrupted);
        assert_eq!(attempts, 3);
        drop(first);
        wait::<io::Error>(&second, || panic!("the lock is free again")).expect("locked");
    }
}
