//! The rules for the repository, one per file.

mod check_layer;
mod declaring_files;
mod default_members;
mod failure_boundary;
mod harness_layer;
mod ignored;
mod links;
mod module_cycles;
mod phrases;
mod product_test;
mod python_location;
mod readme_size;
mod reference_pages;
mod required_crates;
mod unreached_files;
mod unsafe_code;

pub use check_layer::check_layer;
pub use declaring_files::declaring_files;
pub use default_members::default_members;
pub use failure_boundary::failure_boundary;
pub use harness_layer::harness_layer;
pub use ignored::ignored;
pub use links::links;
pub use module_cycles::module_cycles;
pub use phrases::phrases;
pub use product_test::product_test;
pub use python_location::python_location;
pub use readme_size::readme_size;
pub use reference_pages::reference_pages;
pub use required_crates::required_crates;
pub use unreached_files::unreached_files;
pub use unsafe_code::unsafe_code;
