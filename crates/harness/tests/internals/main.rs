//! The harness with parts of a host that this one does not have: GPUs, toolkits, memory.

mod default_manifest;
mod gpus;
mod nested_build;
mod primary_models;
mod schemas;
mod summary;
mod support;
mod true_size;
