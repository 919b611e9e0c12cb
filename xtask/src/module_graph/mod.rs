//! Which file of a crate takes names from which other: the module tree, names resolved over it,
//! and the cycles among files.

mod cycles;
mod dependencies;
mod module_tree;
mod paths;

pub(crate) use cycles::Graph;
pub(crate) use module_tree::ModuleTree;
pub(crate) use paths::{Import, Path, Paths};
