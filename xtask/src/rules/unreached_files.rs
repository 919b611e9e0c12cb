//! Every file below `src` belongs to a module, so that the other rules read all compiled code.

use crate::finding::Finding;
use crate::module_graph::ModuleTree;
use crate::source::Source;

/// Reports the files of a crate that no `mod` declares. `folder` is the `src` of the crate.
pub fn unreached_files(sources: &[Source], folder: &str) -> Vec<Finding> {
    let tree = ModuleTree::read(sources, folder, |source| &source.tokens);
    let unreached = tree.unreached().into_iter();
    unreached.map(|source| Finding::new(&source.path, "is not declared by a `mod`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undeclared_file_is_reported() {
        let sources = [
            Source::of("src/lib.rs", "mod a; #[cfg(test)] mod b;"),
            Source::of("src/a.rs", ""),
            Source::of("src/b.rs", ""),
            Source::of("src/c.rs", ""),
        ];
        let found = unreached_files(&sources, "src");
        assert_eq!(found, [Finding::new("src/c.rs", "is not declared by a `mod`")]);
    }
}
