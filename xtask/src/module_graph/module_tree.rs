//! The modules of a crate, with the definitions of their names.

use super::paths::{Path, Paths};
use crate::items::{Item, items};
use crate::source::Source;
use crate::tokens::Token;
use proc_macro2::Delimiter;
use std::collections::{BTreeMap, BTreeSet};

/// The definition of a name in a module.
#[derive(Debug)]
pub(crate) enum Definition {
    /// An item of the file with this index.
    Item(usize),
    /// The module with this index.
    Module(usize),
    /// An import of this path, which is relative to the module.
    Import(Path),
}

/// A module of a crate.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    /// The index of the file that contains the module.
    pub(crate) file: usize,
    /// The index of the parent module. `None` if the module is the root of a crate.
    pub(crate) parent: Option<usize>,
    /// The definitions of each name that is declared or imported.
    pub(crate) names: BTreeMap<String, Vec<Definition>>,
    /// The paths of glob imports, without `::*`.
    pub(crate) globs: Vec<Path>,
    /// The paths in the code, including those of imports by name.
    pub(crate) paths: Vec<Path>,
}

/// The modules of the crates in one `src` folder: a library and programs.
#[derive(Debug)]
pub(crate) struct ModuleTree<'a> {
    /// The files of the folder.
    pub(crate) files: Vec<&'a Source>,
    /// The modules of all crates.
    pub(crate) modules: Vec<Module>,
}

impl<'a> ModuleTree<'a> {
    /// Reads the modules of the `src` folder `folder`. `view` selects the tokens of a file: with or
    /// without test code.
    pub(crate) fn read(
        sources: &'a [Source],
        folder: &str,
        view: fn(&Source) -> &[Token],
    ) -> ModuleTree<'a> {
        let files = sources.iter().filter(|source| source.is_in(folder)).collect();
        let mut tree = ModuleTree { files, modules: Vec::new() };
        for file in 0..tree.files.len() {
            let path = tree.files[file].path.as_str();
            if is_root(path.strip_prefix(folder).unwrap_or(path)) {
                let module = tree.add("crate", file, None);
                let folder = parent(path).to_owned();
                let place = ModulePlace { module, declared_in: folder.clone(), children: folder };
                tree.fill(&place, view(tree.files[file]), view);
            }
        }
        tree
    }

    /// Returns the files that belong to no module.
    pub(crate) fn unreached(&self) -> Vec<&'a Source> {
        let reached: BTreeSet<usize> = self.modules.iter().map(|module| module.file).collect();
        let unreached = self.files.iter().enumerate().filter(|(file, _)| !reached.contains(file));
        unreached.map(|(_, source)| *source).collect()
    }

    fn add(&mut self, name: &str, file: usize, parent: Option<usize>) -> usize {
        self.modules.push(Module {
            name: name.to_owned(),
            file,
            parent,
            names: BTreeMap::new(),
            globs: Vec::new(),
            paths: Vec::new(),
        });
        self.modules.len() - 1
    }

    /// Reads the declarations and the paths of a module from its tokens.
    fn fill(&mut self, place: &ModulePlace, tokens: &[Token], view: fn(&Source) -> &[Token]) {
        let mut named = Paths::default();
        for item in items(tokens) {
            match (item.keyword, item.name) {
                ("mod", Some(name)) => self.fill_child(place, &item, name, view),
                (_, Some(name)) => {
                    let file = self.modules[place.module].file;
                    self.declare(place.module, name, Definition::Item(file));
                    if item.keyword == "macro_rules" && item.has_attribute("macro_export") {
                        self.declare(self.root(place.module), name, Definition::Item(file));
                    }
                }
                _ => {}
            }
            if item.keyword != "mod" {
                named.read(item.tokens);
                for attribute in &item.attributes {
                    named.read(attribute);
                }
            }
        }
        for import in named.imports {
            match import.name {
                Some(name) => {
                    self.modules[place.module].paths.push(import.path.clone());
                    self.declare(place.module, &name, Definition::Import(import.path));
                }
                None => self.modules[place.module].globs.push(import.path),
            }
        }
        self.modules[place.module].paths.extend(named.paths);
    }

    /// Adds the module `name`, which `item` declares in the module at `place`, and reads it.
    fn fill_child(
        &mut self,
        place: &ModulePlace,
        item: &Item<'_>,
        name: &str,
        view: fn(&Source) -> &[Token],
    ) {
        let inside = item.tokens.last().and_then(|token| token.group(Delimiter::Brace));
        if let Some(tokens) = inside {
            let module = self.add(name, self.modules[place.module].file, Some(place.module));
            self.declare(place.module, name, Definition::Module(module));
            let children = format!("{}/{name}", place.children);
            self.fill(
                &ModulePlace { module, declared_in: children.clone(), children },
                tokens,
                view,
            );
            return;
        }
        let candidates = match item.path() {
            Some(path) => vec![format!("{}/{path}", place.declared_in)],
            None => ["", "/mod"].map(|end| format!("{}/{name}{end}.rs", place.children)).to_vec(),
        };
        let found = self.files.iter().position(|source| candidates.contains(&source.path));
        let Some(file) = found else { return };
        let module = self.add(name, file, Some(place.module));
        self.declare(place.module, name, Definition::Module(module));
        let path = &self.files[file].path;
        let declared_in = parent(path).to_owned();
        let children = match item.path() {
            None if !path.ends_with("/mod.rs") => format!("{}/{name}", place.children),
            _ => declared_in.clone(),
        };
        self.fill(&ModulePlace { module, declared_in, children }, view(self.files[file]), view);
    }

    fn declare(&mut self, module: usize, name: &str, definition: Definition) {
        self.modules[module].names.entry(name.to_owned()).or_default().push(definition);
    }

    /// Returns the index of the root module of the crate that contains `module`.
    pub(crate) fn root(&self, module: usize) -> usize {
        let mut root = module;
        while let Some(parent) = self.modules[root].parent {
            root = parent;
        }
        root
    }
}

/// A module to read, and the folders of its child modules.
struct ModulePlace {
    /// The index of the module.
    module: usize,
    /// The folder to which paths of `#[path = ".."]` are relative.
    declared_in: String,
    /// The folder with the files of child modules.
    children: String,
}

/// Returns whether a file is the root of a library or a program. `path` is the path below `src`.
fn is_root(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", file] => matches!(file, "lib.rs" | "main.rs"),
        ["", "bin", _] => true,
        ["", "bin", _, file] => file == "main.rs",
        _ => false,
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_files_folders_and_braces() {
        let sources = [
            Source::of("a/src/lib.rs", "mod b; mod c { mod d; } #[cfg(test)] mod tests;"),
            Source::of("a/src/b/mod.rs", "mod e;"),
            Source::of("a/src/b/e.rs", "#[path = \"odd.rs\"] mod f; mod g;"),
            Source::of("a/src/b/e/g.rs", ""),
            Source::of("a/src/b/odd.rs", ""),
            Source::of("a/src/c/d.rs", ""),
            Source::of("a/src/bin/program.rs", ""),
            Source::of("a/src/tests.rs", ""),
            Source::of("a/src/lost.rs", ""),
            Source::of("ab/src/lib.rs", ""),
        ];
        let tree = ModuleTree::read(&sources, "a/src", |source| &source.code);
        let names: Vec<&str> = tree.modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["crate", "b", "e", "f", "g", "c", "d", "crate"]);
        let unreached: Vec<&str> = tree.unreached().iter().map(|file| file.file_name()).collect();
        assert_eq!(unreached, ["tests.rs", "lost.rs"]);
        let tree = ModuleTree::read(&sources, "a/src", |source| &source.tokens);
        assert_eq!(tree.unreached().len(), 1);
    }
}
