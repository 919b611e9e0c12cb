//! Runs a hub on loopback until standard input closes. It serves a folder as the open repository
//! `owner/Tiny`, and as the gated repository `owner/Gated`, which the token `hf_known` can read:
//!
//!     cargo run --release -p modelgate-testkit --example hub -- fixtures/tiny/llama
//!
//! Prints the value for `HF_ENDPOINT`.

use modelgate_testkit::hub::{Hub, Repository};
use std::io::{Read, stdin};
use std::path::Path;

fn main() {
    let folder = std::env::args().nth(1).expect("an argument: the folder of a model");
    let folder = Path::new(&folder);
    let open = Repository::new("owner/Tiny").with_folder(folder);
    let gated = Repository::new("owner/Gated").with_folder(folder).gated().xet();
    let hub = Hub::start(vec![open, gated]);
    hub.allow("hf_known", &["owner/Gated"]);
    println!("{}", hub.endpoint());
    let mut rest = Vec::new();
    stdin().read_to_end(&mut rest).expect("standard input closes");
}
