//! The interface through which a download reports progress and is interrupted.

/// A receiver of notes and progress of a download, which can also interrupt it.
pub trait Observer: Send + Sync {
    /// Returns the name of the signal that ended the run, such as `SIGINT`. `None` while the run
    /// continues. Called every 50 ms, and for each verified MiB.
    fn interrupted(&self) -> Option<String>;

    /// Receives a note for the user that is not a failure.
    fn note(&self, text: &str);

    /// Starts the report of a transfer of `total` bytes. The transfer ends when the returned value
    /// is dropped. If [`Transfer::finish`] was not called before, it failed, or had nothing to do.
    fn transfer(&self, work: TransferKind, total: u64) -> Box<dyn Transfer>;
}

/// The kind of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferKind {
    /// A download of files from the hub.
    Fetch,
    /// Hashing of files in the cache.
    Verify,
}

impl TransferKind {
    /// Returns the name in messages for users.
    pub fn name(self) -> &'static str {
        match self {
            TransferKind::Fetch => "fetch",
            TransferKind::Verify => "verify",
        }
    }
}

/// A receiver of the progress of one transfer.
pub trait Transfer {
    /// Receives the number of bytes that were already present, and a description of the files and
    /// their destination.
    fn begin(&mut self, present: u64, description: &str);

    /// Receives the number of bytes that are present or verified now. Called often.
    fn at(&mut self, done: u64);

    /// Completes the transfer, for which `moved` bytes were received over the network.
    fn finish(self: Box<Self>, moved: u64);
}
