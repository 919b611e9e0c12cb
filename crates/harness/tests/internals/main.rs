//! Tests of the harness with simulated parts of a host (GPUs, a CUDA toolkit, host memory), and of
//! its committed data: manifests, schemas and tensor lists.

mod default_manifest;
mod gpus;
mod nested_build;
mod primary_models;
mod schemas;
mod summary;
mod support;
mod true_size;
