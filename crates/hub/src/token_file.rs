//! The file that contains the token, and whether it may be used.

use rustix::process::geteuid;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The maximum size of a token file. A larger file is ignored.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// The user id of root.
const ROOT: u32 = 0;
/// The permission of all users to write.
const WORLD_WRITABLE: u32 = 0o002;

/// The content of a token file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenFile {
    /// The file does not exist, or does not contain a text.
    Absent,
    /// Another user may have created or changed the file. It is not read.
    Untrusted,
    Text(String),
}

/// Reads the token file at `path`.
pub(crate) fn read_token_file(path: &Path) -> TokenFile {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let metadata = || -> io::Result<(Metadata, Metadata)> {
        Ok((std::fs::metadata(path)?, std::fs::metadata(folder.unwrap_or(Path::new(".")))?))
    };
    let Ok((file, folder)) = metadata() else {
        return TokenFile::Absent;
    };
    let user = geteuid().as_raw();
    if is_from_another_user(user, file.uid(), file.mode() | folder.mode()) {
        return TokenFile::Untrusted;
    }
    let text = (file.len() <= MAX_FILE_BYTES).then(|| std::fs::read_to_string(path).ok());
    text.flatten().map_or(TokenFile::Absent, TokenFile::Text)
}

/// Returns whether a file of `owner` may have been put there by another user than `user`, whose
/// token would then be sent. `mode` contains the permissions of the file and of its folder.
///
/// The owner alone does not matter: a container often runs as root with the files of a user.
fn is_from_another_user(user: u32, owner: u32, mode: u32) -> bool {
    mode & WORLD_WRITABLE != 0 && owner != user && owner != ROOT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn a_file_of_another_user_in_a_world_writable_folder_is_not_trusted() {
        for (user, owner, mode, is_from_another) in [
            (1000, 1000, 0o644 | 0o755, false),
            // the folder of a volume, and `/tmp`
            (1000, 1000, 0o644 | 0o777, false),
            (1000, 0, 0o644 | 0o1777, false),
            (1000, 1001, 0o644 | 0o1777, true),
            (1000, 1001, 0o666 | 0o755, true),
            // a container as root with the home folder of a user
            (0, 1000, 0o600 | 0o755, false),
            (0, 1000, 0o600 | 0o777, true),
        ] {
            let found = is_from_another_user(user, owner, mode);
            assert_eq!(found, is_from_another, "{user} {owner} {mode:o}");
        }
    }

    #[test]
    fn a_token_file_is_read_unless_another_user_may_have_put_it_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        assert_eq!(read_token_file(&path), TokenFile::Absent);
        std::fs::write(&path, "hf_file").expect("written");
        let text = TokenFile::Text("hf_file".into());
        assert_eq!(read_token_file(&path), text);
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("changed");
        assert_eq!(read_token_file(&path), text);
        // only root can give a file to another user
        if chown(&path, Some(65_534), None).is_ok() {
            assert_eq!(read_token_file(&path), TokenFile::Untrusted);
        }
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, vec![b'a'; 65_537]).expect("written");
        assert_eq!(read_token_file(&path), TokenFile::Absent);
    }
}
