//! End-to-end tests of modelgate: each test runs the product on a real model with a real worker, in
//! a separate folder. The tests need no GPU, no token and no network.

mod bad_manifests;
mod bad_models;
mod checks_fail;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod companion_files;
mod foreign_worker;
mod hub;
mod hub_cache;
mod hub_transfer;
mod nextest;
mod process_memory;
mod report_files;
mod signals;
mod synthetic;
mod tiny_models;
mod worker_faults;
