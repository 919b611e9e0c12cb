//! There are no cycles between the files of a crate, and none between its top-level files and
//! folders.

use crate::finding::Finding;
use crate::module_graph::{Graph, ModuleTree};
use crate::source::Source;

/// Reports cycles between the files of a crate, and cycles between the top-level files and folders.
/// `folder` is the `src` of the crate. `mod.rs`, `lib.rs` and `main.rs` are not part of cycles of
/// files; a `mod.rs` belongs to its folder.
pub fn module_cycles(sources: &[Source], folder: &str) -> Vec<Finding> {
    let dependencies = ModuleTree::read(sources, folder, |source| &source.code).dependencies();
    let below = |path: &str| path.strip_prefix(folder).map(|path| path[1..].to_owned());
    let file = |path: &str| below(path).filter(|path| !is_declaring(path));
    let top = |path: &str| {
        let path = below(path).filter(|path| path != "lib.rs" && path != "main.rs")?;
        let first = path.split('/').next()?;
        Some(first.trim_end_matches(".rs").to_owned())
    };
    let files = Graph::of(&dependencies, file).cycles();
    let tops = Graph::of(&dependencies, top).cycles();
    files.into_iter().chain(tops).map(|cycle| Finding::new(folder, cycle)).collect()
}

fn is_declaring(path: &str) -> bool {
    matches!(path.rsplit('/').next(), Some("mod.rs" | "lib.rs" | "main.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::of(&format!("src/{path}"), text)).collect();
        module_cycles(&sources, "src").into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn files_that_use_each_other_are_reported() {
        let lib = ("lib.rs", "mod a; mod b;");
        let a = ("a.rs", "use crate::b::B; pub struct A;");
        let back = ("b.rs", "pub struct B(super::a::A);");
        let cycle = "a.rs -> b.rs (B) -> a.rs (A)";
        let of_modules = "a -> b (B) -> a (A)";
        assert_eq!(found(&[lib, a, back]), [cycle, of_modules]);
        assert_eq!(found(&[lib, a, ("b.rs", "pub struct B;")]), [""; 0]);
    }

    #[test]
    fn a_cycle_through_a_reexport_is_reported() {
        let found = found(&[
            ("lib.rs", "mod a; mod f;"),
            ("a.rs", "use crate::f::D; pub fn a() {}"),
            ("f/mod.rs", "mod c; mod d; pub use d::*;"),
            ("f/c.rs", "pub fn c() { crate::a::a() }"),
            ("f/d.rs", "pub struct D; fn d() { super::c::c() }"),
        ]);
        assert_eq!(found, ["a.rs -> f/d.rs (D) -> f/c.rs (c) -> a.rs (a)", "a -> f (D) -> a (a)"]);
    }

    #[test]
    fn folders_that_use_each_other_without_a_cycle_of_files_are_reported() {
        let found = found(&[
            ("lib.rs", "mod a; mod f;"),
            ("a.rs", "use crate::f::D; pub fn a() {}"),
            ("f/mod.rs", "mod c; mod d; pub use d::D;"),
            ("f/c.rs", "pub fn c() { crate::a::a() }"),
            ("f/d.rs", "pub struct D;"),
        ]);
        assert_eq!(found, ["a -> f (D) -> a (a)"]);
    }

    #[test]
    fn a_file_and_its_child_module_that_use_each_other_are_reported() {
        let found = found(&[
            ("main.rs", "mod a;"),
            ("a.rs", "mod b; struct A; fn f() { b::g() }"),
            ("a/b.rs", "use super::*; pub fn g() -> A { A }"),
        ]);
        assert_eq!(found, ["a.rs -> a/b.rs (g) -> a.rs (A, a)"]);
    }
}
