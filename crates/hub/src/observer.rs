//! What a fetch reports to its caller, and asks of it.

/// Receives what happens during a fetch, and can end it.
pub trait Observer: Send + Sync {
    /// Returns the name of the signal that ended the run, such as `SIGINT`; `None` while it goes on.
    /// Called every 50 ms, and for every MiB that is verified.
    fn interrupted(&self) -> Option<String>;

    /// Receives something that a user should know and that is not a failure.
    fn note(&self, text: &str);

    /// Starts to report a transfer of `total` bytes. It ends when the returned value is dropped; if it
    /// was not finished before, it failed, or nothing was left to do.
    fn transfer(&self, work: Work, total: u64) -> Box<dyn Transfer>;
}

/// What is done with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Files are fetched from the hub.
    Fetch,
    /// Files in the cache are hashed.
    Verify,
}

impl Work {
    /// Returns the name that is shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Work::Fetch => "fetch",
            Work::Verify => "verify",
        }
    }
}

/// Receives the progress of one transfer.
pub trait Transfer {
    /// `present` bytes existed before; `description` says what is transferred, and where to.
    fn begin(&mut self, present: u64, description: &str);

    /// `done` bytes exist now. Called often.
    fn at(&mut self, done: u64);

    /// The transfer is complete; `moved` bytes were moved for it.
    fn finish(self: Box<Self>, moved: u64);
}
