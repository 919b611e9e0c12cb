//! Applies every rule of `xtask::rules` to the repository.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use xtask::{Finding, Repository, pages, rules};

static REPOSITORY: LazyLock<Repository> =
    LazyLock::new(|| Repository::read(&root()).expect("the repository is readable"));

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "{} findings:\n{}", lines.len(), lines.join("\n"));
}

/// Applies a rule for one crate to all crates.
fn in_every_crate(rule: fn(&[xtask::Source], &str) -> Vec<Finding>) -> Vec<Finding> {
    let folders = REPOSITORY.source_folders();
    folders.iter().flat_map(|folder| rule(&REPOSITORY.sources, folder)).collect()
}

#[test]
fn modules_have_no_cycles() {
    assert_none(&in_every_crate(rules::module_cycles));
}

#[test]
fn every_file_belongs_to_a_module() {
    assert_none(&in_every_crate(rules::unreached_files));
}

#[test]
fn declaring_files_contain_no_logic() {
    assert_none(&in_every_crate(rules::declaring_files));
}

#[test]
fn the_test_target_models_is_one_call_into_the_harness() {
    assert_none(&rules::product_test(&REPOSITORY.sources));
}

#[test]
fn the_harness_does_not_depend_on_an_engine() {
    assert_none(&rules::harness_layer(&REPOSITORY.sources, &REPOSITORY.members));
}

#[test]
fn checks_do_not_use_the_quantization_rule() {
    assert_none(&rules::check_layer(&REPOSITORY.sources));
}

#[test]
fn failures_are_created_only_in_the_listed_files() {
    assert_none(&rules::failure_boundary(&REPOSITORY.sources));
}

#[test]
fn unsafe_code_is_only_in_allowed_places() {
    assert_none(&rules::unsafe_code(&REPOSITORY.sources));
}

#[test]
fn no_test_is_marked_as_ignored() {
    assert_none(&rules::ignored(&REPOSITORY.sources));
}

#[test]
fn the_required_crates_are_declared_and_used() {
    let Repository { sources, workspace, members, .. } = &*REPOSITORY;
    assert_none(&rules::required_crates(sources, workspace, members));
}

#[test]
fn default_members_are_all_members() {
    assert_none(&rules::default_members(&REPOSITORY.workspace));
}

#[test]
fn texts_do_not_contain_replaced_phrases() {
    assert_none(&rules::phrases(&REPOSITORY.documents));
}

#[test]
fn the_readme_is_short() {
    assert_none(&rules::readme_size(&REPOSITORY.documents));
}

#[test]
fn python_scripts_are_separate_from_data() {
    assert_none(&rules::python_location(&REPOSITORY.documents));
}

#[test]
fn the_reference_pages_are_up_to_date() {
    let pages = pages(&root(), &REPOSITORY.sources).expect("the schemas are readable");
    assert_none(&rules::reference_pages(&pages, &REPOSITORY.documents));
}

#[test]
fn link_targets_exist() {
    assert_none(&rules::links(&REPOSITORY.documents, &|path| root().join(path).exists()));
}
