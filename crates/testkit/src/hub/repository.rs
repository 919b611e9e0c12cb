//! A repository of the hub, and its representation in the API of the hub.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The size in bytes from which a file is a large file (Git LFS).
const MIN_LARGE_FILE_BYTES: usize = 100_000;

/// A repository with one commit, to which the branch `main` points.
#[derive(Debug, Clone)]
pub struct Repository {
    /// `owner/name`.
    pub name: String,
    /// The commit hash: 40 hexadecimal digits.
    pub commit: String,
    /// Whether users must accept the licence before they can read the repository.
    pub gated: bool,
    /// Whether the listing offers large files by xet too.
    pub xet: bool,
    /// The files by path.
    pub(super) files: BTreeMap<String, File>,
    /// Sizes in bytes that the listing shows instead of the real ones, by path.
    listed_bytes: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) content: Arc<Vec<u8>>,
    /// SHA-256 in hexadecimal. `None` if the file is small.
    pub(super) sha256: Option<String>,
    /// The git blob id: SHA-1 in hexadecimal.
    pub(super) blob_id: String,
}

impl File {
    fn of(content: Vec<u8>) -> File {
        let sha256 =
            (content.len() >= MIN_LARGE_FILE_BYTES).then(|| hex::encode(Sha256::digest(&content)));
        let mut git = Sha1::new();
        git.update(format!("blob {}\0", content.len()));
        git.update(&content);
        File { sha256, blob_id: hex::encode(git.finalize()), content: Arc::new(content) }
    }

    /// Returns the `ETag` without quotes: SHA-256 of a large file, the git blob id of a small one.
    pub(super) fn etag(&self) -> &str {
        self.sha256.as_deref().unwrap_or(&self.blob_id)
    }
}

impl Repository {
    /// Creates a repository without files.
    pub fn new(name: &str) -> Repository {
        Repository {
            name: name.to_owned(),
            commit: hex::encode(Sha1::digest(name.as_bytes())),
            gated: false,
            xet: false,
            files: BTreeMap::new(),
            listed_bytes: BTreeMap::new(),
        }
    }

    /// Adds the files in `folder`, without those in its subfolders.
    pub fn with_folder(mut self, folder: &Path) -> Repository {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_file() {
                let content = std::fs::read(entry.path()).expect("a file");
                self = self.with_file(&entry.file_name().to_string_lossy(), content);
            }
        }
        self
    }

    /// Adds or replaces a file.
    pub fn with_file(mut self, path: &str, content: Vec<u8>) -> Repository {
        self.files.insert(path.to_owned(), File::of(content));
        self
    }

    /// Removes a file.
    pub fn without(mut self, path: &str) -> Repository {
        self.files.remove(path).expect("the repository has the file");
        self
    }

    /// Lists a file with the size `bytes` instead of its real size.
    pub fn listing(mut self, path: &str, bytes: u64) -> Repository {
        self.listed_bytes.insert(path.to_owned(), bytes);
        self
    }

    /// Replaces the listed SHA-256 of the large file at `path` with a wrong one.
    pub fn mislabelled(mut self, path: &str) -> Repository {
        let file = self.files.get_mut(path).expect("the repository has the file");
        file.sha256 = Some("0".repeat(64));
        self
    }

    /// Replaces the commit by another one.
    pub fn next_commit(self) -> Repository {
        Repository { commit: hex::encode(Sha1::digest(self.commit.as_bytes())), ..self }
    }

    /// Marks the repository as gated.
    pub fn gated(self) -> Repository {
        Repository { gated: true, ..self }
    }

    /// Lists large files as available by xet too.
    pub fn xet(self) -> Repository {
        Repository { xet: true, ..self }
    }

    /// Returns the paths of the files.
    pub fn paths(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// Returns the content of a file.
    pub fn content(&self, path: &str) -> &[u8] {
        &self.files[path].content
    }

    /// Returns the `ETag` of a file, which is the name of its blob in the Hugging Face cache.
    pub fn etag(&self, path: &str) -> &str {
        self.files[path].etag()
    }

    /// Returns the entries of the response to `GET /api/models/{name}/tree/{revision}`.
    pub(super) fn tree(&self) -> Vec<serde_json::Value> {
        let entry = |(path, file): (&String, &File)| {
            let bytes = self.listed_bytes.get(path).copied();
            let bytes = bytes.unwrap_or(file.content.len() as u64);
            let mut entry = serde_json::json!({
                "type": "file", "path": path, "size": bytes, "oid": file.blob_id
            });
            if let Some(sha256) = &file.sha256 {
                entry["lfs"] =
                    serde_json::json!({ "oid": sha256, "size": bytes, "pointerSize": 134 });
                if self.xet {
                    entry["xetHash"] = sha256.clone().into();
                }
            }
            entry
        };
        self.files.iter().map(entry).collect()
    }

    /// Returns the response to `GET /api/models/{name}/revision/{revision}`.
    pub(super) fn info(&self) -> serde_json::Value {
        let siblings: Vec<serde_json::Value> =
            self.files.keys().map(|path| serde_json::json!({ "rfilename": path })).collect();
        serde_json::json!({
            "_id": "0123456789abcdef01234567", "id": self.name, "modelId": self.name,
            "sha": self.commit, "private": false, "disabled": false, "tags": [], "downloads": 0,
            "likes": 0, "siblings": siblings,
            "gated": if self.gated { serde_json::json!("auto") } else { serde_json::json!(false) },
        })
    }
}
