//! The input of the rules: the Rust sources, the text files and the manifests of the repository.

use crate::document::Document;
use crate::source::Source;
use std::error::Error;
use std::fs;
use std::path::Path;

/// The `Cargo.toml` of a package.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The folder of the package, from the root of the repository; `.` for the root package.
    pub folder: String,
    /// The content of the file.
    pub table: toml::Table,
}

impl Manifest {
    /// Parses the text of the `Cargo.toml` in `folder`.
    pub fn parse(folder: impl Into<String>, text: &str) -> Result<Manifest, toml::de::Error> {
        Ok(Manifest { folder: folder.into(), table: text.parse()? })
    }

    /// Returns the path of a file of the package from the root of the repository.
    pub fn path(&self, file: &str) -> String {
        if self.folder == "." { file.to_owned() } else { format!("{}/{file}", self.folder) }
    }

    /// Returns the names of the packages that the package depends on, with all kinds of
    /// dependencies and for all targets.
    pub fn dependencies(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let targets = self.table.get("target").and_then(toml::Value::as_table);
        let per_target = targets.into_iter().flat_map(|targets| targets.values());
        let per_target = per_target.filter_map(toml::Value::as_table);
        for table in std::iter::once(&self.table).chain(per_target) {
            for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let listed = table.get(kind).and_then(toml::Value::as_table);
                for (name, value) in listed.into_iter().flatten() {
                    let renamed = value.get("package").and_then(toml::Value::as_str);
                    names.push(renamed.unwrap_or(name));
                }
            }
        }
        names
    }

    /// Returns whether a source file belongs to the package.
    pub fn owns(&self, source: &Source) -> bool {
        let folders = ["src", "tests", "benches", "examples"];
        folders.iter().any(|folder| source.is_in(&self.path(folder)))
            || source.path == self.path("build.rs")
    }

    #[cfg(test)]
    pub(crate) fn of(folder: &str, text: &str) -> Manifest {
        Manifest::parse(folder, text).expect("a valid example manifest")
    }
}

/// The sources, text files and manifests of the repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// All Rust sources, sorted by path.
    pub sources: Vec<Source>,
    /// All text files, including the Rust sources, sorted by path.
    pub documents: Vec<Document>,
    /// The manifest of the workspace.
    pub workspace: Manifest,
    /// The manifests of the workspace members, including the root package.
    pub members: Vec<Manifest>,
}

impl Repository {
    /// Reads the repository in the folder `root`.
    ///
    /// # Errors
    /// A file cannot be read or parsed. The message contains its path.
    pub fn read(root: &Path) -> Result<Repository, Box<dyn Error + Send + Sync>> {
        let manifest = |folder: &str| {
            let path = root.join(folder).join("Cargo.toml");
            let text = fs::read_to_string(&path);
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            Manifest::parse(folder, &text)
                .map_err(|error| format!("{}: {error}", path.display()).into())
        };
        let workspace: Manifest = manifest(".")?;
        let members = strings(&workspace, "members").into_iter().map(manifest);
        let members: Result<Vec<Manifest>, Box<dyn Error + Send + Sync>> = members.collect();
        let members = members?;
        let mut documents = documents(root, "")?;
        documents.sort_by(|one, other| one.path.cmp(&other.path));
        let is_source = |document: &&Document| document.path.ends_with(".rs");
        let sources = documents.iter().filter(is_source);
        let sources = sources.map(|source| Source::parse(&source.path, &source.text));
        Ok(Repository {
            sources: sources.collect::<Result<_, _>>()?,
            documents,
            workspace,
            members,
        })
    }

    /// Returns the `src` folder of every member.
    pub fn source_folders(&self) -> Vec<String> {
        self.members.iter().map(|member| member.path("src")).collect()
    }
}

/// Returns the list of strings `key` in the table `workspace`. Empty if it does not exist.
pub(crate) fn strings<'m>(workspace: &'m Manifest, key: &str) -> Vec<&'m str> {
    let list = workspace.table.get("workspace").and_then(|table| table.get(key));
    let list = list.and_then(toml::Value::as_array);
    list.into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

/// The extensions of text files.
const TEXT_EXTENSIONS: [&str; 5] = [".rs", ".md", ".toml", ".yml", ".py"];
/// The hidden folders that are read.
const HIDDEN_FOLDERS: [&str; 3] = [".cargo", ".ci", ".github"];

/// Returns the text files below a folder, without build outputs and other hidden folders.
fn documents(root: &Path, folder: &str) -> Result<Vec<Document>, Box<dyn Error + Send + Sync>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            let is_read = !name.starts_with('.') || HIDDEN_FOLDERS.contains(&&*name);
            if is_read && name != "target" {
                found.extend(documents(root, &path)?);
            }
        } else if TEXT_EXTENSIONS.iter().any(|end| name.ends_with(end)) {
            let text = fs::read_to_string(entry.path());
            let text = text.map_err(|error| format!("{path}: {error}"))?;
            found.push(Document { path, text });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_all_kinds_and_targets_are_returned() {
        let manifest = Manifest::of(
            "crates/a",
            "[dependencies]\nb = '1'\nc = { package = 'd', version = '1' }\n
             [dev-dependencies]\ne.workspace = true\n
             [target.'cfg(unix)'.build-dependencies]\nf = '1'",
        );
        assert_eq!(manifest.dependencies(), ["b", "d", "e", "f"]);
        assert!(manifest.owns(&Source::of("crates/a/src/g.rs", "")));
        assert!(!manifest.owns(&Source::of("crates/ab/src/g.rs", "")));
    }
}
