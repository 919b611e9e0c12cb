//! Dependencies between the files of a crate: the module tree, the resolution of names, and the
//! cycles between files.

mod cycles;
mod dependencies;
mod module_tree;
mod paths;

pub(crate) use cycles::Graph;
pub(crate) use module_tree::ModuleTree;
pub(crate) use paths::{Import, Path, Paths};
