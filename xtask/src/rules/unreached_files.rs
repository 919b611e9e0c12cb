//! Every file below `src` belongs to a module: the other rules see all that is compiled.

use crate::finding::Finding;
use crate::module_graph::ModuleTree;
use crate::source::Source;

/// Reports the files of `folder`, the `src` of a crate, that no `mod` declares.
pub fn unreached_files(sources: &[Source], folder: &str) -> Vec<Finding> {
    let tree = ModuleTree::read(sources, folder, |source| &source.tokens);
    let unreached = tree.unreached().into_iter();
    unreached.map(|source| Finding::new(&source.path, "is declared by no `mod`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nothing_declares_is_reported() {
        let sources = [
            Source::of("src/lib.rs", "mod a; #[cfg(test)] mod b;"),
            Source::of("src/a.rs", ""),
            Source::of("src/b.rs", ""),
            Source::of("src/c.rs", ""),
        ];
        let found = unreached_files(&sources, "src");
        assert_eq!(found, [Finding::new("src/c.rs", "is declared by no `mod`")]);
    }
}
