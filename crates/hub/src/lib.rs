//! Downloads the files of a model from a Hugging Face hub into the cache that the Hugging Face
//! tools share, and verifies them with the hashes in the listing of the hub.
//!
//! [`open()`] resolves a revision to its commit, lists the files with sizes and hashes, and
//! downloads the small ones. The caller can then read the config and refuse the model.
//! [`Opened::weights`] downloads the weights. Without a network, only the cache is used.
//!
//! The configuration is in [`Settings`], which are resolved from a snapshot of environment
//! variables ([`Variables`]). Only libraries read the environment directly: for the proxies
//! (`HTTPS_PROXY`, `NO_PROXY` and similar variables), and for the location of the trusted
//! certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`).

mod attempt_error;
mod cache;
mod cached;
mod client;
mod connection_error;
mod content_hash;
mod disk;
mod disk_error;
mod download;
mod ensure;
mod error;
mod fetched;
mod file_record;
mod file_state;
mod file_stream;
pub mod files;
mod identity;
mod inspect;
mod interrupt;
mod job;
mod listing;
mod lock;
mod nearest;
mod observer;
mod open;
mod opened;
mod partial;
mod request_context;
mod resolve;
mod response_error;
mod retry;
mod retry_after;
mod runtime;
mod select;
mod settings;
mod soft_lock;
mod source;
mod tls;
mod token;
mod token_file;
mod user_database;
pub mod variables;

pub use error::HubError;
pub use fetched::Fetched;
pub use file_record::{FileRecord, Verified, local_files};
pub use nearest::nearest;
pub use observer::{Observer, Transfer, TransferKind};
pub use open::open;
pub use opened::Opened;
pub use settings::{Settings, SettingsError};
pub use source::{FetchOptions, ModelSource};
pub use variables::Variables;
