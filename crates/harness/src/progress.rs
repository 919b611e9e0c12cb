//! Progress on standard error: a bar where there is a terminal, a line now and then where there is
//! none. Standard output belongs to the test runner.

use indicatif::{ProgressBar, ProgressStyle};
use modelgate_hub::Transfer;
use modelgate_model::units::{format_bytes, format_duration};
use modelgate_protocol::{Event, PhaseName, ProgressUnit};
use std::io::{IsTerminal, Write};
use std::ops::Deref;
use std::time::{Duration, Instant};

/// Time between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// The same for a build, which takes minutes.
const BETWEEN_BUILD_LINES: Duration = Duration::from_secs(30);

/// Shows how far one model is.
pub(crate) struct ModelProgress {
    model: String,
    bar: Option<Bar>,
    phase: PhaseName,
    last_line: Instant,
}

impl ModelProgress {
    /// For `model`, which begins now.
    pub(crate) fn new(model: &str) -> ModelProgress {
        ModelProgress {
            model: model.to_owned(),
            bar: bar(|bar| bar.set_prefix(model.to_owned())),
            phase: PhaseName::Start,
            last_line: Instant::now(),
        }
    }

    /// Takes an event of the worker in.
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
                None => self.line(progress.done, progress.total),
            },
            _ => {}
        }
    }

    fn line(&mut self, done: u64, total: u64) {
        if self.last_line.elapsed() < BETWEEN_LINES || total == 0 {
            return;
        }
        self.last_line = Instant::now();
        let percent = u128::from(done) * 100 / u128::from(total);
        print(&format!("{}: {} {percent} %", self.model, self.phase.name()));
    }
}

/// Shows that a worker is being built, and what of it.
pub(crate) struct BuildProgress {
    what: String,
    bar: Option<Bar>,
    began: Instant,
    last_line: Instant,
}

impl BuildProgress {
    /// For `what`, such as `building the worker`, which begins now.
    pub(crate) fn new(what: &str) -> BuildProgress {
        let bar = bar(|bar| bar.set_message(what.to_owned()));
        if bar.is_none() {
            print(what);
        }
        let now = Instant::now();
        BuildProgress { what: what.to_owned(), bar, began: now, last_line: now }
    }

    /// Says what is being done, in a few words; may be called as often as one likes.
    pub(crate) fn step(&mut self, step: &str) {
        let text = format!("{}: {step} ({} s)", self.what, self.began.elapsed().as_secs());
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.last_line.elapsed() >= BETWEEN_BUILD_LINES => {
                self.last_line = Instant::now();
                print(&text);
            }
            None => {}
        }
    }
}

/// Shows how many bytes were fetched or verified, how fast, and how long the rest will take.
pub(crate) struct TransferProgress {
    title: String,
    what: &'static str,
    bar: Option<Bar>,
    all: u64,
    /// What was there when it began.
    before: u64,
    began: Instant,
    last_line: Instant,
}

impl TransferProgress {
    /// For `all` bytes of the model `title`, of which `what` (`fetch`, `verify`) is done from now on.
    pub(crate) fn new(title: &str, what: &'static str, all: u64) -> TransferProgress {
        let bar = bar(|bar| {
            bar.set_prefix(title.to_owned());
            bar.set_message(what);
            bar.set_style(style(ProgressUnit::Bytes));
            bar.set_length(all);
        });
        let now = Instant::now();
        let title = title.to_owned();
        TransferProgress { title, what, bar, all, before: 0, began: now, last_line: now }
    }

    fn line(&self, done: u64) -> String {
        let moved = done.saturating_sub(self.before) as f64;
        let rate = moved / self.began.elapsed().as_secs_f64().max(1e-3);
        let percent = u128::from(done) * 100 / u128::from(self.all.max(1));
        let left = if rate >= 1.0 {
            let left = Duration::from_secs_f64(self.all.saturating_sub(done) as f64 / rate);
            format!("{} left", format_duration(left))
        } else {
            "no bytes yet".to_owned()
        };
        let (title, what) = (&self.title, self.what);
        let (done, all) = (format_bytes(done), format_bytes(self.all));
        let rate = format_bytes(rate as u64);
        format!("{title}: {what} {percent} %, {done} of {all}, {rate}/s, {left}")
    }
}

impl Transfer for TransferProgress {
    fn begin(&mut self, before: u64, of: &str) {
        self.before = before;
        match &self.bar {
            Some(bar) => {
                bar.set_position(before);
                bar.reset_eta();
            }
            None => print(&format!("{}: {} {of}", self.title, self.what)),
        }
    }

    fn at(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.last_line.elapsed() >= BETWEEN_LINES => {
                self.last_line = Instant::now();
                print(&self.line(done));
            }
            None => {}
        }
    }

    fn finish(self: Box<Self>, moved: u64) {
        let TransferProgress { title, what, bar, began, .. } = *self;
        let took = began.elapsed();
        drop(bar);
        let rate = format_bytes((moved as f64 / took.as_secs_f64().max(1e-3)) as u64);
        let (bytes, took) = (format_bytes(moved), format_duration(took));
        print(&format!("{title}: {what} done, {bytes} in {took} ({rate}/s)"));
    }
}

/// Says something of the model `title` that is no failure.
pub(crate) fn note(title: &str, note: &str) {
    print(&format!("{title}: {note}"));
}

/// A bar that is cleared when it is dropped.
struct Bar(ProgressBar);

impl Deref for Bar {
    type Target = ProgressBar;

    fn deref(&self) -> &ProgressBar {
        &self.0
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar of no known length, which `name` gives its words; `None` if there is no terminal.
fn bar(name: impl FnOnce(&ProgressBar)) -> Option<Bar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        name(&bar);
        bar.enable_steady_tick(Duration::from_millis(100));
        Bar(bar)
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
