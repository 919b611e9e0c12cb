//! Tests of modelgate itself, from outside: each runs the product on a real model with a real
//! worker, in a folder of its own. None needs a GPU, a token or a network.

mod bad_manifests;
mod bad_models;
mod checks_fail;
mod command_line;
mod faults;
mod foreign_worker;
mod gpus;
mod hub;
mod hub_cache;
mod hub_transfer;
mod nested_build;
mod nextest;
mod primary_models;
mod process_memory;
mod report_files;
mod schemas;
mod signals;
mod support;
mod synthetic;
mod tiny_models;
mod worker_faults;
