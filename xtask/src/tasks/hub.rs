//! Runs a hub on loopback, for scripts and other clients.

use clap::Args;
use modelgate_testkit::hub::{Hub, Repository};
use std::io::{self, Read, stdin};
use std::path::PathBuf;

/// The arguments of `cargo xtask hub`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of a model, for example `fixtures/tiny/llama`.
    folder: PathBuf,
}

/// Serves the folder as the open repository `owner/Tiny`, and as the gated repository `owner/Gated`,
/// which the token `hf_known` can read, until standard input closes. Prints the value for
/// `HF_ENDPOINT`.
///
/// # Errors
/// Standard input cannot be read.
pub(crate) fn serve(arguments: &Arguments) -> io::Result<()> {
    let open = Repository::new("owner/Tiny").with_folder(&arguments.folder);
    let gated = Repository::new("owner/Gated").with_folder(&arguments.folder).gated().xet();
    let hub = Hub::start(vec![open, gated]);
    hub.allow("hf_known", &["owner/Gated"]);
    println!("{}", hub.endpoint());
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
