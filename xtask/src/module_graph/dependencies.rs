//! Names resolved to the files that define them.

use super::module_tree::{Meaning, ModuleTree};
use super::paths::Path;
use std::collections::BTreeSet;

/// A name that one file takes from another of its crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dependency {
    /// The path of the file that names it.
    pub(crate) from: String,
    /// The path of the file that defines it.
    pub(crate) to: String,
    /// The name where it is defined.
    pub(crate) name: String,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// A name that a file defines.
    Item { file: usize, name: String },
    /// A module.
    Module(usize),
}

/// An import that is being followed: its module, the name, and which of the name's meanings.
type Step = (usize, String, usize);

impl ModuleTree<'_> {
    /// Returns every name that a file takes from another, each once.
    pub(crate) fn dependencies(&self) -> BTreeSet<Dependency> {
        let mut dependencies = BTreeSet::new();
        for (scope, module) in self.modules.iter().enumerate() {
            let by_name = module.paths.iter().flat_map(|path| self.named(scope, path));
            let whole = module.globs.iter();
            let whole = whole.flat_map(|path| self.resolve(scope, path, &mut Vec::new()));
            for target in by_name.chain(whole) {
                let (file, name) = match target {
                    Target::Item { file, name } => (file, name),
                    Target::Module(id) => (self.modules[id].file, self.modules[id].name.clone()),
                };
                if file != module.file {
                    dependencies.insert(Dependency {
                        from: self.files[module.file].path.clone(),
                        to: self.files[file].path.clone(),
                        name,
                    });
                }
            }
        }
        dependencies
    }

    /// Resolves a path that the code of `scope` names. A single word may be a variable, or is
    /// imported by name elsewhere: only names that come from a glob import count.
    fn named(&self, scope: usize, path: &[String]) -> Vec<Target> {
        match path {
            [word] => match word.as_str() {
                "crate" | "self" | "super" => Vec::new(),
                _ if self.modules[scope].names.contains_key(word) => Vec::new(),
                _ => self.through_globs(scope, word, &mut Vec::new()),
            },
            path => self.resolve(scope, path, &mut Vec::new()),
        }
    }

    /// Resolves a path read in `scope`; what belongs to other crates leads nowhere.
    fn resolve(&self, scope: usize, path: &[String], active: &mut Vec<Step>) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(self.root(scope))],
            "self" => vec![Target::Module(scope)],
            "super" => self.modules[scope].parent.into_iter().map(Target::Module).collect(),
            name => self.lookup(scope, name, active),
        };
        for segment in rest {
            let modules: Vec<usize> = targets
                .iter()
                .filter_map(|target| match target {
                    Target::Module(id) => Some(*id),
                    Target::Item { .. } => None,
                })
                .collect();
            if modules.is_empty() {
                // A variant or an associated item belongs to its type's file.
                break;
            }
            targets = if segment == "super" {
                let parents = modules.iter().filter_map(|&id| self.modules[id].parent);
                parents.map(Target::Module).collect()
            } else {
                modules.iter().flat_map(|&id| self.member(id, segment, active)).collect()
            };
        }
        targets
    }

    /// Resolves a name of the module `id`. What no declaration explains, a macro made there, or it
    /// is another crate's name that the module passes on: it belongs to the module's file.
    fn member(&self, id: usize, name: &str, active: &mut Vec<Step>) -> Vec<Target> {
        let found = self.lookup(id, name, active);
        if found.is_empty() {
            let file = self.modules[id].file;
            return vec![Target::Item { file, name: name.to_owned() }];
        }
        found
    }

    /// Resolves a name as the code of `scope` sees it, imports followed to what they import.
    fn lookup(&self, scope: usize, name: &str, active: &mut Vec<Step>) -> Vec<Target> {
        let Some(meanings) = self.modules[scope].names.get(name) else {
            return self.through_globs(scope, name, active);
        };
        let mut found = Vec::new();
        for (at, meaning) in meanings.iter().enumerate() {
            match meaning {
                Meaning::Item(file) => {
                    found.push(Target::Item { file: *file, name: name.to_owned() });
                }
                Meaning::Module(id) => found.push(Target::Module(*id)),
                Meaning::Import(path) => {
                    found.extend(self.follow(scope, path, (scope, name.to_owned(), at), active));
                }
            }
        }
        found
    }

    /// Resolves a name through the glob imports of `scope`.
    fn through_globs(&self, scope: usize, name: &str, active: &mut Vec<Step>) -> Vec<Target> {
        let mut found = Vec::new();
        for (at, glob) in self.modules[scope].globs.iter().enumerate() {
            let step = (scope, format!("* {name}"), at);
            if active.contains(&step) {
                continue;
            }
            active.push(step);
            for target in self.resolve(scope, glob, active) {
                if let Target::Module(id) = target
                    && id != scope
                {
                    found.extend(self.lookup(id, name, active));
                }
            }
            active.pop();
        }
        found
    }

    /// Resolves the path of an import, unless it is being resolved already.
    fn follow(&self, scope: usize, path: &Path, step: Step, active: &mut Vec<Step>) -> Vec<Target> {
        if active.contains(&step) {
            return Vec::new();
        }
        active.push(step);
        let found = self.resolve(scope, path, active);
        active.pop();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    /// The dependencies among files below `src`, as `from -> to (name)`.
    fn dependencies(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::of(&format!("src/{path}"), text)).collect();
        let tree = ModuleTree::read(&sources, "src", |source| &source.code);
        let short = |path: &str| path.trim_start_matches("src/").to_owned();
        tree.dependencies()
            .iter()
            .map(|found| format!("{} -> {} ({})", short(&found.from), short(&found.to), found.name))
            .collect()
    }

    const LIB: (&str, &str) = ("lib.rs", "mod a; mod b; mod folder;");
    const FOLDER: (&str, &str) =
        ("folder/mod.rs", "mod c; mod d; pub(crate) use c::*; pub(crate) use d::D as Renamed;");
    const C: (&str, &str) = ("folder/c.rs", "pub(crate) struct C; pub(crate) fn c() {}");
    const D: (&str, &str) = ("folder/d.rs", "pub(crate) enum D { One }");

    fn of_a(text: &str) -> Vec<String> {
        let b = ("b.rs", "pub(crate) struct B; pub(crate) const N: u8 = 1;");
        let mut found = dependencies(&[LIB, ("a.rs", text), b, FOLDER, C, D]);
        found.retain(|line| line.starts_with("a.rs"));
        found
    }

    #[test]
    fn a_name_belongs_to_the_file_that_defines_it() {
        let direct = ["a.rs -> b.rs (B)"];
        assert_eq!(of_a("use crate::b::B;"), direct);
        assert_eq!(of_a("fn f(b: super::b::B) {}"), direct);
        assert_eq!(of_a("fn f() { m!(x, [crate::b::B]) }"), direct);
        assert_eq!(of_a("use crate::b::B as Other;"), direct);
        let both = ["a.rs -> b.rs (N)", "a.rs -> b.rs (b)"];
        assert_eq!(of_a("use crate::{b as other}; fn f() { other::N; }"), both);
    }

    #[test]
    fn a_reexport_is_followed() {
        let expected = ["a.rs -> folder/c.rs (C)", "a.rs -> folder/d.rs (D)"];
        assert_eq!(of_a("use crate::folder::{C, Renamed};")[..], expected);
        assert_eq!(
            of_a("fn f(x: crate::folder::C) { crate::folder::Renamed::One; }")[..],
            expected
        );
        let module = ["a.rs -> folder/c.rs (c)", "a.rs -> folder/mod.rs (folder)"];
        assert_eq!(of_a("use super::folder; fn f() { folder::c() }")[..], module);
        assert_eq!(of_a("use crate::folder::*; fn f() { c() }")[..], module);
    }

    #[test]
    fn what_only_tests_name_is_no_dependency() {
        assert_eq!(of_a("#[cfg(test)] mod tests { use crate::b::B; }"), [""; 0]);
        assert_eq!(of_a("#[cfg(test)] use crate::b::B; /// crate::b::B\n fn f() {}"), [""; 0]);
        assert_eq!(of_a("fn f() { other::b::B; b.c(); \"crate::b::B\"; }"), [""; 0]);
    }

    #[test]
    fn a_module_of_the_same_name_as_its_function_hides_nothing() {
        let found = dependencies(&[
            ("lib.rs", "mod load; mod user; pub use load::load;"),
            ("load/mod.rs", "mod load; pub(crate) use load::load;"),
            ("load/load.rs", "pub fn load() {}"),
            ("user.rs", "fn f() { crate::load::load() }"),
        ]);
        assert!(found.contains(&"user.rs -> load/load.rs (load)".to_owned()), "{found:?}");
    }

    #[test]
    fn imports_that_name_each_other_end() {
        let found = dependencies(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub use crate::b::*; pub use crate::b::x; fn f() { y() }"),
            ("b.rs", "pub use crate::a::*; pub use crate::a::x;"),
        ]);
        assert!(found.contains(&"a.rs -> b.rs (x)".to_owned()), "{found:?}");
    }
}
