//! Progress on standard error: a bar on a terminal, otherwise a line from time to time. Standard
//! output belongs to the test runner.

use indicatif::{ProgressBar, ProgressStyle};
use modelgate_hub::Transfer;
use modelgate_model::units::{format_bytes, format_duration};
use modelgate_protocol::{Event, PhaseName, ProgressUnit};
use std::io::{IsTerminal, Write};
use std::ops::Deref;
use std::time::{Duration, Instant};

/// The minimum time between two lines of progress if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The minimum time between two lines of a build, which takes minutes.
const BUILD_LINE_INTERVAL: Duration = Duration::from_secs(30);

/// The progress of one model.
pub(crate) struct ModelProgress {
    model: String,
    bar: Option<ClearedBar>,
    phase: PhaseName,
    last_line: Instant,
}

impl ModelProgress {
    /// Starts the progress of `model`.
    pub(crate) fn new(model: &str) -> ModelProgress {
        ModelProgress {
            model: model.to_owned(),
            bar: bar(|bar| bar.set_prefix(model.to_owned())),
            phase: PhaseName::Start,
            last_line: Instant::now(),
        }
    }

    /// Shows an event of the worker.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Phase { name } => {
                self.phase = name.clone();
                if let Some(bar) = &self.bar {
                    bar.set_length(0);
                    bar.set_message(name.name().to_owned());
                }
            }
            Event::Progress(progress) => match &self.bar {
                Some(bar) => {
                    bar.set_style(style(progress.unit));
                    bar.set_length(progress.total);
                    bar.set_position(progress.done);
                }
                None => self.print_line(progress.done, progress.total),
            },
            _ => {}
        }
    }

    /// Prints a line, if the last one is old enough.
    fn print_line(&mut self, done: u64, total: u64) {
        if self.last_line.elapsed() < LINE_INTERVAL || total == 0 {
            return;
        }
        self.last_line = Instant::now();
        let percent = u128::from(done) * 100 / u128::from(total);
        print(&format!("{}: {} {percent} %", self.model, self.phase.name()));
    }
}

/// The progress of building a worker.
pub(crate) struct BuildProgress {
    activity: String,
    bar: Option<ClearedBar>,
    began: Instant,
    last_line: Instant,
}

impl BuildProgress {
    /// Starts the progress of `activity`, such as `building the worker`.
    pub(crate) fn new(activity: &str) -> BuildProgress {
        let bar = bar(|bar| bar.set_message(activity.to_owned()));
        if bar.is_none() {
            print(activity);
        }
        let now = Instant::now();
        BuildProgress { activity: activity.to_owned(), bar, began: now, last_line: now }
    }

    /// Shows the current step in a few words. It may be called at any rate.
    pub(crate) fn step(&mut self, step: &str) {
        let text = format!("{}: {step} ({} s)", self.activity, self.began.elapsed().as_secs());
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.last_line.elapsed() >= BUILD_LINE_INTERVAL => {
                self.last_line = Instant::now();
                print(&text);
            }
            None => {}
        }
    }
}

/// The progress of a download or verification: bytes, rate and remaining time.
pub(crate) struct TransferProgress {
    title: String,
    activity: &'static str,
    bar: Option<ClearedBar>,
    total_bytes: u64,
    /// The number of bytes that were present at the start.
    bytes_before: u64,
    began: Instant,
    last_line: Instant,
}

impl TransferProgress {
    /// Starts the progress of `total_bytes` of the model `title`. `activity` is `download` or
    /// `verify`.
    pub(crate) fn new(title: &str, activity: &'static str, total_bytes: u64) -> TransferProgress {
        let bar = bar(|bar| {
            bar.set_prefix(title.to_owned());
            bar.set_message(activity);
            bar.set_style(style(ProgressUnit::Bytes));
            bar.set_length(total_bytes);
        });
        let now = Instant::now();
        let title = title.to_owned();
        TransferProgress {
            title,
            activity,
            bar,
            total_bytes,
            bytes_before: 0,
            began: now,
            last_line: now,
        }
    }

    /// Returns the line of progress after `done` bytes.
    fn line(&self, done: u64) -> String {
        let moved = done.saturating_sub(self.bytes_before) as f64;
        let rate = moved / self.began.elapsed().as_secs_f64().max(1e-3);
        let percent = u128::from(done) * 100 / u128::from(self.total_bytes.max(1));
        let left = if rate >= 1.0 {
            let left = Duration::from_secs_f64(self.total_bytes.saturating_sub(done) as f64 / rate);
            format!("{} left", format_duration(left))
        } else {
            "no bytes yet".to_owned()
        };
        let (title, activity) = (&self.title, self.activity);
        let (done, total) = (format_bytes(done), format_bytes(self.total_bytes));
        let rate = format_bytes(rate as u64);
        format!("{title}: {activity} {percent} %, {done} of {total}, {rate}/s, {left}")
    }
}

impl Transfer for TransferProgress {
    fn begin(&mut self, present: u64, description: &str) {
        self.bytes_before = present;
        match &self.bar {
            Some(bar) => {
                bar.set_position(present);
                bar.reset_eta();
            }
            None => print(&format!("{}: {} {description}", self.title, self.activity)),
        }
    }

    fn at(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.last_line = Instant::now();
                print(&self.line(done));
            }
            None => {}
        }
    }

    fn finish(self: Box<Self>, moved: u64) {
        let TransferProgress { title, activity, bar, began, .. } = *self;
        let took = began.elapsed();
        drop(bar);
        let rate = format_bytes((moved as f64 / took.as_secs_f64().max(1e-3)) as u64);
        let (bytes, took) = (format_bytes(moved), format_duration(took));
        print(&format!("{title}: {activity} done, {bytes} in {took} ({rate}/s)"));
    }
}

/// Prints a note about the model `title` that is not a failure.
pub(crate) fn note(title: &str, note: &str) {
    print(&format!("{title}: {note}"));
}

/// A progress bar that is cleared when it is dropped.
struct ClearedBar(ProgressBar);

impl Deref for ClearedBar {
    type Target = ProgressBar;

    fn deref(&self) -> &ProgressBar {
        &self.0
    }
}

impl Drop for ClearedBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Creates a bar of unknown length, which `configure` gives its text. `None` if standard error is
/// not a terminal.
fn bar(configure: impl FnOnce(&ProgressBar)) -> Option<ClearedBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        configure(&bar);
        bar.enable_steady_tick(Duration::from_millis(100));
        ClearedBar(bar)
    })
}

fn print(line: &str) {
    // progress that cannot be printed is not an error
    let _ = writeln!(std::io::stderr(), "modelgate: {line}");
}

fn style(unit: ProgressUnit) -> ProgressStyle {
    let template = match unit {
        ProgressUnit::Bytes => {
            "{prefix} {msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}"
        }
        ProgressUnit::Tokens => "{prefix} {msg} {wide_bar} {pos}/{len} tokens",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
