//! Downloads files of a commit into the cache. Ranges are appended to a partial file and hashed as
//! they arrive. The complete file is published in the cache only if its hash matches.
//!
//! Other runs and tools may download the same content: one of them holds its lock, and the others
//! wait. An interrupted download leaves its partial file, which the next download continues. A
//! partial file is never used as the content.

use crate::attempt_error::AttemptError;
use crate::client::HubClient;
use crate::content_hash::ComputedHashes;
use crate::disk::write_error;
use crate::disk_error::{DiskError, failed};
use crate::error::HubError;
use crate::file_stream::FileStream;
use crate::identity::Identity;
use crate::job::Job;
use crate::listing::ListedFile;
use crate::lock::{ContentLock, touched};
use crate::partial::PartialFile;
use crate::request_context::RequestContext;
use crate::retry::RetryBudget;
use crate::runtime::block;
use crate::variables;
use modelgate_model::units::format_duration;
use modelgate_protocol::FailureKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The size of one range.
const RANGE_BYTES: u64 = 1 << 30;
/// The interval between attempts to take a lock that another process holds.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The number of received bytes from which an attempt counts as progress. An attempt that received
/// all missing bytes counts too.
const PROGRESS_BYTES: u64 = 1 << 20;
/// The minimum speed of a connection. A connection that is slower for the `stall` time of the model
/// has stalled.
const MIN_BYTES_PER_SECOND: u64 = 4096;
/// The size below which an answer of unknown length may be a page of a proxy. No byte of it is used
/// before more bytes were received.
const MAX_PAGE_BYTES: usize = 64 << 10;

/// The shared state of the downloads of several files of one commit.
pub(crate) struct Download {
    client: HubClient,
    job: Arc<Job>,
    commit: String,
    range_bytes: u64,
    /// The number of bytes on disk for the files of the current transfer.
    present: AtomicU64,
    /// Bytes received over the network.
    received: AtomicU64,
}

impl Download {
    /// Creates the state for downloads of `commit`.
    pub(crate) fn new(client: HubClient, job: Arc<Job>, commit: String) -> Download {
        Download {
            client,
            job,
            commit,
            range_bytes: RANGE_BYTES,
            present: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// Returns the job to which the downloads belong.
    pub(crate) fn job(&self) -> &Job {
        &self.job
    }

    /// Returns the commit.
    pub(crate) fn commit(&self) -> &str {
        &self.commit
    }

    /// Returns the bytes on the disk of the files that were downloaded since
    /// [`Download::reset_present`].
    pub(crate) fn present_bytes(&self) -> u64 {
        self.present.load(Ordering::Relaxed)
    }

    /// Returns the bytes received over the network.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Resets the count of present bytes, before a transfer of other files.
    pub(crate) fn reset_present(&self) {
        self.present.store(0, Ordering::Relaxed);
    }

    /// Downloads `file` into the cache and returns its SHA-256. Returns `None` if another process
    /// downloaded it before its lock was taken here; a content that equals `wrong` does not count.
    ///
    /// # Errors
    /// The file cannot be downloaded or written, or its content does not match the listing.
    pub(crate) async fn download_file(
        &self,
        file: &ListedFile,
        wrong: Option<Identity>,
    ) -> Result<Option<String>, HubError> {
        let context = self.context(file);
        let lock = self.take_lock(file, &context).await?;
        let cache = &self.job.cache;
        if cache.has_content(file, &self.commit, wrong) {
            self.present.fetch_add(file.bytes, Ordering::Relaxed);
            return Ok(None);
        }
        let partial = cache.partial(&file.hash);
        let mut is_first = true;
        loop {
            let ComputedHashes { name, sha256 } =
                self.complete_partial(file, &context, &lock).await?;
            if name == file.hash.name() {
                let published = block(|| cache.publish(file, &sha256)).await;
                published.map_err(|error| write_error(&context, error))?;
                return Ok(Some(sha256));
            }
            // the part of an earlier run or a proxy may be wrong: download once more from the start
            let removed = std::fs::remove_file(&partial).map_err(failed("remove", &partial));
            removed.map_err(|error| write_error(&context, error))?;
            self.present.fetch_sub(file.bytes, Ordering::Relaxed);
            if !is_first {
                return Err(corrupt(file, &name, &context));
            }
            is_first = false;
        }
    }

    fn context<'a>(&'a self, file: &'a ListedFile) -> RequestContext<'a> {
        self.job.context(&self.commit).with_file(&file.path)
    }

    /// Takes the lock of the content, and waits while another process downloads it.
    async fn take_lock(
        &self,
        file: &ListedFile,
        context: &RequestContext<'_>,
    ) -> Result<ContentLock, HubError> {
        let path = self.job.cache.lock(&file.hash);
        let stall = self.job.options.stall;
        let progress = || (self.job.cache.partial_bytes_of_all_tools(&file.hash), touched(&path));
        let (mut last, mut since) = (progress(), Instant::now());
        loop {
            match ContentLock::try_take(&path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(error) => return Err(write_error(context, failed("lock", &path)(error))),
            }
            tokio::time::sleep(LOCK_POLL_INTERVAL).await;
            let now = progress();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > stall {
                let message = format!(
                    "another process holds the lock {} and has downloaded nothing for {}",
                    path.display(),
                    format_duration(stall)
                );
                let hint = "end that process (`fuser` on the lock shows it); or increase `stall` \
                            in the manifest; or, on a file system without locks, remove the lock \
                            if no process downloads the file";
                return Err(context.error(FailureKind::Stalled, &message, hint));
            }
        }
    }

    /// Downloads the missing bytes of the partial file, and returns the hashes of the complete
    /// file.
    async fn complete_partial(
        &self,
        file: &ListedFile,
        context: &RequestContext<'_>,
        lock: &ContentLock,
    ) -> Result<ComputedHashes, HubError> {
        let path = self.job.cache.partial(&file.hash);
        let mut partial = block(|| PartialFile::open(&path, file, lock))
            .await
            .map_err(|error| write_error(context, error))?;
        self.present.fetch_add(partial.bytes(), Ordering::Relaxed);
        let mut budget = RetryBudget::new(&self.job.settings);
        let mut server_has_ranges = true;
        while partial.bytes() < file.bytes {
            let before = partial.bytes();
            let range = server_has_ranges
                .then(|| before..file.bytes.min(before.saturating_add(self.range_bytes)));
            let result = self.download_range(file, range, &mut partial, context).await;
            let gained = partial.bytes().saturating_sub(before);
            if gained >= PROGRESS_BYTES.min(file.bytes - before) {
                budget.restore();
            }
            match result {
                Ok(()) => {}
                Err(RangeError::Refused) => {
                    server_has_ranges = false;
                    self.rewind(&mut partial, file).map_err(|error| write_error(context, error))?;
                }
                Err(RangeError::Attempt(mut attempt)) => {
                    let (bytes, all) = (partial.bytes(), file.bytes);
                    attempt.error.message += &format!(" ({bytes} of {all} bytes were downloaded)");
                    budget.wait(attempt).await?;
                }
                Err(RangeError::Disk(error)) => return Err(write_error(context, error)),
            }
        }
        Ok(partial.finish())
    }

    /// Empties `partial`, because the server sends the file from the start.
    fn rewind(&self, partial: &mut PartialFile, file: &ListedFile) -> Result<(), DiskError> {
        self.present.fetch_sub(partial.bytes(), Ordering::Relaxed);
        partial.restart(file)
    }

    /// Downloads `range` and appends it to `partial`, or downloads the complete file if `range` is
    /// `None` or the server ignores it.
    async fn download_range(
        &self,
        file: &ListedFile,
        range: Option<Range<u64>>,
        partial: &mut PartialFile,
        context: &RequestContext<'_>,
    ) -> Result<(), RangeError> {
        let stream = self.client.file(context, range, file.bytes).await?;
        let mut stream = stream.ok_or(RangeError::Refused)?;
        let received = self.append(&mut stream, partial, file, context).await?;
        if received > 0 && stream.start + received >= stream.min_end {
            return Ok(());
        }
        let error = context.error(
            FailureKind::Connection,
            "the connection ended before the end of the file",
            "start again: the download resumes after the downloaded parts",
        );
        Err(AttemptError::temporary(error).into())
    }

    /// Appends the bytes of `stream` to `partial`, which is emptied before if the stream begins at
    /// byte 0. Returns the number of received bytes.
    async fn append(
        &self,
        stream: &mut FileStream,
        partial: &mut PartialFile,
        file: &ListedFile,
        context: &RequestContext<'_>,
    ) -> Result<u64, RangeError> {
        let stall = self.job.options.stall;
        let (mut since, mut before, mut received) = (Instant::now(), 0, 0);
        // the first bytes of an answer that may be a page must not replace downloaded bytes
        let mut held = stream.is_unproven.then(Vec::new);
        if held.is_none() && stream.start < partial.bytes() {
            self.rewind(partial, file).map_err(RangeError::Disk)?;
        }
        while let Some(chunk) = stream.next(context).await? {
            let bytes = chunk.len() as u64;
            if bytes > file.bytes - stream.start - received {
                let message = format!("the answer is too long: the file has {} bytes", file.bytes);
                return Err(AttemptError::fatal(context.invalid_response(&message)).into());
            }
            received += bytes;
            self.received.fetch_add(bytes, Ordering::Relaxed);
            match held.take() {
                None => self.write(partial, &chunk)?,
                Some(mut first) => {
                    first.extend_from_slice(&chunk);
                    if first.len() >= MAX_PAGE_BYTES || received == file.bytes {
                        self.rewind(partial, file).map_err(RangeError::Disk)?;
                        self.write(partial, &first)?;
                    } else {
                        held = Some(first);
                    }
                }
            }
            if since.elapsed() > stall {
                let gained = received - before;
                if gained < MIN_BYTES_PER_SECOND * stall.as_secs().max(1) {
                    return Err(stalled(gained, stall, context).into());
                }
                (since, before) = (Instant::now(), received);
            }
        }
        if held.is_some() {
            let message = format!("{received} bytes, expected {} as listed", file.bytes);
            return Err(AttemptError::temporary(context.invalid_response(&message)).into());
        }
        Ok(received)
    }

    /// Appends `bytes` to `partial`.
    fn write(&self, partial: &mut PartialFile, bytes: &[u8]) -> Result<(), RangeError> {
        partial.append(bytes).map_err(RangeError::Disk)?;
        self.present.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// The error of the download of a range.
enum RangeError {
    /// The server does not support the requested range.
    Refused,
    Attempt(AttemptError),
    Disk(DiskError),
}

impl From<AttemptError> for RangeError {
    fn from(error: AttemptError) -> RangeError {
        RangeError::Attempt(error)
    }
}

fn stalled(bytes: u64, stall: Duration, context: &RequestContext<'_>) -> AttemptError {
    let message = format!("only {bytes} bytes were received in {}", format_duration(stall));
    let hint = format!(
        "check the network and the proxy; or set {} to the address of another hub; downloaded parts are kept",
        variables::HF_ENDPOINT
    );
    AttemptError::fatal(context.error(FailureKind::Timeout, &message, hint))
}

fn corrupt(file: &ListedFile, found: &str, context: &RequestContext<'_>) -> HubError {
    let kind = file.hash.kind();
    let message = format!(
        "the downloaded file does not match the hash that the hub lists: {kind} {found}, expected \
         {}; downloaded twice",
        file.hash.name()
    );
    let hint = "try another network, because a proxy or a mirror may have modified the file; or try \
                another revision, because the repository may be damaged; the downloaded file was \
                deleted";
    context.error(FailureKind::Corrupt, &message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content_hash::ContentHash;
    use crate::observer::{Observer, Transfer, TransferKind};
    use crate::settings::Settings;
    use crate::source::{FetchOptions, ModelSource};
    use crate::variables::Variables;
    use modelgate_testkit::hub::{Action, Fault, Hub, Repository};

    const FILE: &str = "weights";
    const BYTES: usize = 2_500_000;

    /// An observer that must not be called, because downloads of single files report nothing.
    struct SilentObserver;

    impl Observer for SilentObserver {
        fn interrupted(&self) -> Option<String> {
            None
        }

        fn note(&self, text: &str) {
            panic!("{text}");
        }

        fn transfer(&self, work: TransferKind, _: u64) -> Box<dyn Transfer> {
            panic!("{work:?}");
        }
    }

    /// Downloads a file of [`BYTES`] in ranges of a million bytes from a hub with `faults`.
    fn download_with_faults(faults: Vec<Fault>) -> (Result<Option<String>, HubError>, Hub) {
        let content: Vec<u8> = (0..BYTES).map(|at| (at / 7) as u8).collect();
        let repository = Repository::new("owner/Name").with_file(FILE, content);
        let sha256 = repository.etag(FILE).to_owned();
        let commit = repository.commit.clone();
        let server = Hub::start(vec![repository]);
        faults.into_iter().for_each(|fault| server.fault(fault));
        let home = tempfile::tempdir().expect("a folder");
        let mut variables = Variables::default();
        variables.set("HF_ENDPOINT", server.endpoint());
        variables.set("HF_HOME", home.path());
        variables.set("MODELGATE_HUB_RETRIES", "2");
        let settings = Arc::new(Settings::resolve(&variables, home.path()).expect("settings"));
        let source = ModelSource { repo: "owner/Name".into(), revision: "main".into(), file: None };
        let options = FetchOptions {
            model: "name".into(),
            stall: Duration::from_secs(60),
            verify: false,
            known_repositories: Vec::new(),
        };
        let job =
            Arc::new(Job::new(Arc::clone(&settings), source, options, Arc::new(SilentObserver)));
        job.cache.create_folders().expect("a cache");
        let client = HubClient::new(settings).expect("a client");
        let download = Download::new(client, Arc::clone(&job), commit);
        let download = Arc::new(Download { range_bytes: 1_000_000, ..download });
        let hash = ContentHash::Sha256(sha256.clone());
        let file = Arc::new(ListedFile { path: FILE.into(), bytes: BYTES as u64, hash });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        // blocking work must run on a thread of the runtime
        let (spawned, listed) = (Arc::clone(&download), Arc::clone(&file));
        let result = runtime
            .block_on(runtime.spawn(async move { spawned.download_file(&listed, None).await }))
            .expect("the task ends");
        if let Ok(found) = &result {
            assert_eq!(found.as_deref(), Some(sha256.as_str()));
            assert_eq!(download.present_bytes(), BYTES as u64);
            assert!(job.cache.has_content(&file, download.commit(), None));
        }
        (result, server)
    }

    /// Returns the header `Range` of each request for the file.
    fn ranges(server: &Hub) -> Vec<Option<String>> {
        let log = server.log().into_iter().filter(|logged| logged.target.contains("signature"));
        log.map(|logged| logged.range).collect()
    }

    #[test]
    fn a_file_is_downloaded_in_ranges() {
        let (result, server) = download_with_faults(Vec::new());
        result.expect("downloaded");
        let expected = ["bytes=0-999999", "bytes=1000000-1999999", "bytes=2000000-2499999"];
        assert_eq!(ranges(&server), expected.map(|range| Some(range.to_owned())));
    }

    #[test]
    fn a_server_that_does_not_resume_sends_the_file_once_from_the_start() {
        // the first range is complete, and the second is cut
        let cut = || Fault::of("signature", Action::CutAt(1_200_000)).times(2);
        let begin = ["bytes=0-999999", "bytes=1000000-1999999"].map(|range| Some(range.to_owned()));
        let resumed = Some("bytes=1200000-2199999".to_owned());
        for action in [Action::IgnoreRange, Action::StartAtZero, Action::Chunked] {
            let (result, server) =
                download_with_faults(vec![cut(), Fault::of("signature", action.clone())]);
            assert!(result.is_ok(), "{action:?}: {result:?}");
            let expected: Vec<_> = begin.iter().cloned().chain([resumed.clone()]).collect();
            assert_eq!(ranges(&server), expected, "{action:?}");
        }
        // the server refuses the range: the file is requested without one
        for action in [Action::RefuseRange, Action::OtherRange] {
            let (result, server) =
                download_with_faults(vec![cut(), Fault::of("signature", action.clone())]);
            assert!(result.is_ok(), "{action:?}: {result:?}");
            let expected: Vec<_> = begin.iter().cloned().chain([resumed.clone(), None]).collect();
            assert_eq!(ranges(&server), expected, "{action:?}");
        }
    }

    #[test]
    fn a_server_that_refuses_the_first_range_sends_the_complete_file() {
        for action in [Action::IgnoreRange, Action::RefuseRange, Action::Chunked] {
            let (result, _) = download_with_faults(vec![Fault::of("signature", action.clone())]);
            assert!(result.is_ok(), "{action:?}: {result:?}");
        }
    }

    #[test]
    fn shorter_ranges_and_ranges_without_headers_are_appended() {
        for (action, requests) in [(Action::ShortRange(400_000), 7), (Action::BareHeaders, 3)] {
            let (result, server) =
                download_with_faults(vec![Fault::of("signature", action.clone())]);
            assert!(result.is_ok(), "{action:?}: {result:?}");
            assert_eq!(ranges(&server).len(), requests, "{action:?}");
        }
    }

    #[test]
    fn a_page_of_unknown_length_does_not_replace_downloaded_bytes() {
        let page = Action::Unsized("<html>Welcome to our network</html>".into());
        let at_second = Fault::of("signature", Action::CutAt(1_200_000)).times(2);
        // the first range is complete, the second is cut, and then the answer is a page
        let faults = vec![at_second, Fault::of("signature", page).times(1)];
        let (result, server) = download_with_faults(faults);
        assert!(result.is_ok(), "{result:?}");
        // after the page, the download continues where it was cut
        let resumed = Some("bytes=1200000-2199999".to_owned());
        assert_eq!(ranges(&server)[2..4], [resumed.clone(), resumed]);
    }

    #[test]
    fn a_page_instead_of_each_answer_is_reported_with_its_size() {
        let page = Action::Unsized("<html>Welcome to our network</html>".into());
        let (result, _) = download_with_faults(vec![Fault::of("signature", page)]);
        let error = result.expect_err("a page is not a file");
        assert_eq!(error.kind, FailureKind::InvalidResponse, "{error}");
        assert!(error.message.contains("35 bytes, expected 2500000 as listed"), "{error}");
    }
}
