//! The repository as rules see it: its Rust sources and its manifests.

use crate::document::Document;
use crate::source::Source;
use std::error::Error;
use std::fs;
use std::path::Path;

/// The manifest of a package.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The folder of the package, from the root of the repository; `.` is the root's own.
    pub folder: String,
    /// What the file says.
    pub table: toml::Table,
}

impl Manifest {
    /// Reads the text of the `Cargo.toml` of `folder`.
    pub fn parse(folder: impl Into<String>, text: &str) -> Result<Manifest, toml::de::Error> {
        Ok(Manifest { folder: folder.into(), table: text.parse()? })
    }

    /// Returns the path of a file of the package from the root of the repository.
    pub fn path(&self, file: &str) -> String {
        if self.folder == "." { file.to_owned() } else { format!("{}/{file}", self.folder) }
    }

    /// Returns the names of all packages that it depends on: as dependencies of any kind, for any
    /// target.
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

    /// Says whether a source file belongs to the package.
    pub fn owns(&self, source: &Source) -> bool {
        let folders = ["src", "tests", "benches", "examples"];
        folders.iter().any(|folder| source.is_in(&self.path(folder)))
            || source.path == self.path("build.rs")
    }

    #[cfg(test)]
    pub(crate) fn of(folder: &str, text: &str) -> Manifest {
        Manifest::parse(folder, text).expect("a manifest made up for a test is valid")
    }
}

/// The sources and the manifests of the repository.
#[derive(Debug, Clone)]
pub struct Repository {
    /// All Rust sources, in the order of their paths.
    pub sources: Vec<Source>,
    /// All texts, Rust sources included, in the order of their paths.
    pub documents: Vec<Document>,
    /// The manifest of the workspace.
    pub workspace: Manifest,
    /// The manifests of the workspace's members, that of the root package too.
    pub members: Vec<Manifest>,
}

impl Repository {
    /// Reads the repository whose workspace's manifest is in the folder `root`.
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

/// Returns a list of strings of the table `workspace`; an empty one without it.
pub(crate) fn strings<'m>(workspace: &'m Manifest, key: &str) -> Vec<&'m str> {
    let list = workspace.table.get("workspace").and_then(|table| table.get(key));
    let list = list.and_then(toml::Value::as_array);
    list.into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

/// The ends of the names of texts, Rust sources included.
const TEXTS: [&str; 5] = [".rs", ".md", ".toml", ".yml", ".py"];
/// Hidden folders that hold texts.
const HIDDEN: [&str; 3] = [".cargo", ".ci", ".github"];

/// Returns the texts below a folder, without outputs and other hidden folders.
fn documents(root: &Path, folder: &str) -> Result<Vec<Document>, Box<dyn Error + Send + Sync>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            let is_read = !name.starts_with('.') || HIDDEN.contains(&&*name);
            if is_read && name != "target" {
                found.extend(documents(root, &path)?);
            }
        } else if TEXTS.iter().any(|end| name.ends_with(end)) {
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
    fn dependencies_of_every_kind_count() {
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
