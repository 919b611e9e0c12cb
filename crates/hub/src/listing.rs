//! The listing of the files of a commit: paths, sizes and hashes.
//!
//! A listing is not trusted. Entries with invalid paths or hashes are refused here, so that the
//! rest of the crate can rely on them.

use crate::content_hash::ContentHash;
use modelgate_model::layout::is_inside;
use modelgate_model::units::format_bytes;
use serde::{Deserialize, Serialize};

/// The maximum number of entries in a listing.
pub(crate) const MAX_FILES: usize = 100_000;

/// The maximum number of file names in a message.
const SHOWN_FILES: usize = 3;

/// One file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListedFile {
    /// The path relative to the repository, with the separator `/`. It stays inside the repository.
    pub(crate) path: String,
    /// The size of the content.
    pub(crate) bytes: u64,
    /// The hash of the content.
    pub(crate) hash: ContentHash,
}

impl ListedFile {
    /// Returns whether the path stays inside the repository, and the hash has the form of its kind.
    pub(crate) fn is_valid(&self) -> bool {
        is_inside(&self.path) && ContentHash::parse(self.hash.name()).as_ref() == Some(&self.hash)
    }
}

/// An entry of the answer to `GET /api/models/{repo}/tree/{revision}`.
#[derive(Debug, Deserialize)]
pub(crate) struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: Option<String>,
    lfs: Option<LfsEntry>,
}

#[derive(Debug, Deserialize)]
struct LfsEntry {
    oid: Option<String>,
    sha256: Option<String>,
    size: Option<u64>,
}

/// Returns the files among `entries`.
///
/// # Errors
/// The path or the hash of an entry is invalid, or there are too many entries.
pub(crate) fn files(entries: Vec<TreeEntry>) -> Result<Vec<ListedFile>, String> {
    if entries.len() > MAX_FILES {
        return Err(format!("{} files are listed, expected at most {MAX_FILES}", entries.len()));
    }
    entries.into_iter().filter(|entry| entry.kind == "file").map(file).collect()
}

fn file(entry: TreeEntry) -> Result<ListedFile, String> {
    if !is_inside(&entry.path) {
        return Err(format!("{:?} is not a valid path in a repository", entry.path));
    }
    let without_hash = || format!("{} is listed without a hash", entry.path);
    let (bytes, hash) = match &entry.lfs {
        Some(lfs) => {
            let hash = lfs.oid.as_deref().or(lfs.sha256.as_deref()).ok_or_else(without_hash)?;
            (lfs.size.unwrap_or(entry.size), hash)
        }
        None => (entry.size, entry.oid.as_deref().ok_or_else(without_hash)?),
    };
    match ContentHash::parse(hash) {
        Some(hash) if matches!(hash, ContentHash::Sha256(_)) == entry.lfs.is_some() => {
            Ok(ListedFile { path: entry.path, bytes, hash })
        }
        _ => Err(format!("{} is listed with {hash:?}, which is not a hash", entry.path)),
    }
}

/// Returns the sum of the sizes of `files` in bytes.
pub(crate) fn total_bytes<'a>(files: impl IntoIterator<Item = &'a ListedFile>) -> u64 {
    files.into_iter().map(|file| file.bytes).fold(0, u64::saturating_add)
}

/// Returns a description of the files that are missing from the cache: the names of the first files, and the total
/// size.
pub(crate) fn describe_missing(files: &[&ListedFile]) -> String {
    let names: Vec<&str> = files.iter().take(SHOWN_FILES).map(|file| file.path.as_str()).collect();
    let more = files.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let bytes = total_bytes(files.iter().copied());
    format!("missing from the cache: {}{more} ({})", names.join(", "), format_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: &str) -> Result<Vec<ListedFile>, String> {
        files(serde_json::from_str(json).expect("JSON"))
    }

    #[test]
    fn sizes_and_hashes_are_those_of_the_content_not_of_the_lfs_pointer() {
        let git = "a".repeat(40);
        let sha = "b".repeat(64);
        let found = listed(&format!(
            r#"[{{"type":"directory","oid":"{git}","size":0,"path":"original"}},
                {{"type":"file","oid":"{git}","size":7,"path":"config.json"}},
                {{"type":"file","oid":"{git}","size":99,"path":"a/model.safetensors","xetHash":"c",
                  "lfs":{{"oid":"{sha}","size":99,"pointerSize":134}}}}]"#
        ));
        let file = |path: &str, bytes, hash| ListedFile { path: path.into(), bytes, hash };
        let expected = vec![
            file("config.json", 7, ContentHash::GitBlob(git)),
            file("a/model.safetensors", 99, ContentHash::Sha256(sha)),
        ];
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn entries_with_invalid_paths_or_hashes_are_refused() {
        let git = "a".repeat(40);
        for path in ["../up", "/etc/passwd", "a//b", "a/./b", "a/..", "a\\b", "a\u{0}b", ""] {
            let entry = serde_json::json!([{"type": "file", "path": path, "oid": git, "size": 1}]);
            let error = listed(&entry.to_string()).expect_err(path);
            assert!(error.contains("path"), "{error}");
        }
        for oid in ["", "../../x", &"A".repeat(40), &"a".repeat(64)] {
            let entry = serde_json::json!([{"type": "file", "path": "a", "oid": oid, "size": 1}]);
            assert!(listed(&entry.to_string()).is_err(), "{oid}");
        }
    }

    #[test]
    fn missing_files_are_counted_and_the_first_are_named() {
        let file = |path: &str| ListedFile {
            path: path.into(),
            bytes: 500,
            hash: ContentHash::GitBlob("a".repeat(40)),
        };
        let files = ["a", "b", "c", "d"].map(file);
        let files: Vec<&ListedFile> = files.iter().collect();
        assert_eq!(describe_missing(&files[..1]), "missing from the cache: a (500 B)");
        assert_eq!(
            describe_missing(&files),
            "missing from the cache: a, b, c and 1 more (2.00 kB)"
        );
    }
}
