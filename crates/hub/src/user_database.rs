//! The user database of the operating system.

use nix::unistd::{User, getuid};
use std::path::PathBuf;

/// Returns the home folder of the user of this process. `None` if the database does not contain the
/// user, or names no folder.
pub(crate) fn home() -> Option<PathBuf> {
    let user = User::from_uid(getuid()).ok()??;
    Some(user.dir).filter(|folder| folder.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_folder_is_that_in_the_password_file() {
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let id = getuid().to_string();
        let line = text.lines().find(|line| line.split(':').nth(2) == Some(id.as_str()));
        // the user may be in another database, for example LDAP, or in none
        if let Some(folder) = line.and_then(|line| line.split(':').nth(5)) {
            let expected = Some(PathBuf::from(folder)).filter(|folder| folder.is_absolute());
            assert_eq!(home(), expected);
        }
    }
}
