//! The command line of a run. It has the flags of Rust's test runner (libtest), because cargo passes
//! the same flags to every test target, and because nextest and editors start the targets with them.
//!
//! The table of flags is that of `libtest-mimic`, which runs the cases. It is changed where libtest
//! accepts more: several filters, `--no-capture`, and flags that do not exclude each other.

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Id};
use libtest_mimic::Arguments;
use modelgate_hub::nearest;
use std::ffi::OsString;

/// The layout of the output of `--help`.
const HELP: &str = "USAGE: [OPTIONS] [FILTERS...]\n\n{all-args}\n\n\n{after-help}";
/// The description of the filters in the output of `--help`.
const FILTER_HELP: &str = "The id of a model or the name of its hub repository, which selects the \
    model; or a part of the names of cases. Several filters select the cases that match any of them.";
/// The text after the flags in the output of `--help`.
const AFTER_HELP: &str = "One model is measured at a time, whatever the value of --test-threads.";

/// The command line of a run, as the user typed it.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// The filters. A case that matches one of them is selected. Empty if all cases are selected.
    pub filters: Vec<String>,
    /// The flags of the test runner. Its filter is `None`.
    pub runner: Arguments,
}

/// The action that a command line requests.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// Run or list cases.
    Run(CommandLine),
    /// Print this help.
    Help(String),
}

/// The reason why a command line is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandLineError {
    message: String,
    hint: String,
}

impl CommandLine {
    /// Parses the arguments after the name of the program.
    ///
    /// # Errors
    /// A flag is unknown, is duplicated, contradicts another flag, or has an invalid value.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Invocation, CommandLineError> {
        let arguments = std::iter::once(OsString::from("modelgate")).chain(arguments);
        let parsed = command().try_get_matches_from(arguments).and_then(|mut matches| {
            let filters = matches.remove_many::<String>("filter");
            let filters = filters.map(Iterator::collect).unwrap_or_default();
            Ok(CommandLine { filters, runner: Arguments::from_arg_matches(&matches)? })
        });
        match parsed {
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                Ok(Invocation::Help(error.to_string()))
            }
            Err(error) => Err(CommandLineError::of(&error)),
            Ok(CommandLine { runner: Arguments { test_threads: Some(0), .. }, .. }) => {
                Err(CommandLineError {
                    message: "--test-threads is 0, expected at least 1".to_owned(),
                    hint: "set it to 1 or more; or remove it".to_owned(),
                })
            }
            Ok(mut command_line) => {
                // as in libtest, a format takes precedence over -q
                command_line.runner.quiet &= command_line.runner.format.is_none();
                Ok(Invocation::Run(command_line))
            }
        }
    }
}

impl CommandLineError {
    /// Returns an instruction to fix the command line.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    fn of(error: &clap::Error) -> CommandLineError {
        if error.kind() == ErrorKind::UnknownArgument
            && let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        {
            return unknown_flag(flag);
        }
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // the paragraphs after the first contain the usage
        let reason = text.split("\n\n").next().unwrap_or_default();
        CommandLineError {
            message: reason.split_whitespace().collect::<Vec<_>>().join(" "),
            hint: "run with `--help` to list the flags and their values".to_owned(),
        }
    }
}

fn unknown_flag(flag: &str) -> CommandLineError {
    let command = command();
    let known = command.get_arguments().filter_map(Arg::get_long).chain(["help"]);
    let hint = match nearest(flag.trim_start_matches('-'), known) {
        Some(nearest) => format!("use --{nearest}, which is the nearest flag"),
        None => "run with `--help` to list the flags".to_owned(),
    };
    CommandLineError { message: format!("the flag \"{flag}\" is unknown"), hint }
}

/// Returns the table of flags.
fn command() -> Command {
    let exclude_nothing = || Resettable::<Id>::Reset;
    Arguments::command()
        .help_template(HELP)
        .after_help(AFTER_HELP)
        .mut_arg("nocapture", |arg| arg.long("no-capture").alias("nocapture"))
        .mut_arg("ignored", |arg| arg.help("Run only ignored tests"))
        .mut_arg("include_ignored", |arg| {
            arg.conflicts_with("ignored").help("Run ignored and not ignored tests")
        })
        .mut_arg("quiet", |arg| arg.conflicts_with(exclude_nothing()))
        .mut_arg("test", |arg| arg.conflicts_with(exclude_nothing()))
        .mut_arg("filter", |arg| {
            arg.num_args(1..).action(ArgAction::Append).value_name("FILTERS").help(FILTER_HELP)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use libtest_mimic::{ColorSetting, FormatSetting};

    fn parse(line: &str) -> Result<Invocation, CommandLineError> {
        CommandLine::parse(line.split_whitespace().map(OsString::from))
    }

    fn parsed(line: &str) -> CommandLine {
        match parse(line) {
            Ok(Invocation::Run(command_line)) => command_line,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_table_of_flags_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn filters_are_collected_between_flags() {
        for (line, filters) in [
            ("", &[] as &[&str]),
            ("a", &["a"]),
            ("a b", &["a", "b"]),
            ("a --exact b --skip c d", &["a", "b", "d"]),
            ("--include-ignored -- a --b", &["a", "--b"]),
        ] {
            let found = parsed(line);
            assert_eq!(found.filters, filters, "{line}");
            assert_eq!(found.runner.filter, None, "{line}");
        }
    }

    #[test]
    fn the_flags_of_libtest_are_accepted() {
        for line in ["--no-capture", "--nocapture"] {
            assert!(parsed(line).runner.nocapture, "{line}");
        }
        assert_eq!(parsed("--skip a --skip=b").runner.skip, ["a", "b"]);
        for line in ["--test-threads=3", "--test-threads 3"] {
            assert_eq!(parsed(line).runner.test_threads, Some(3), "{line}");
        }
        for line in ["--color=never", "--color never"] {
            assert_eq!(parsed(line).runner.color, Some(ColorSetting::Never), "{line}");
        }
        for (line, format) in [
            ("--format=pretty", FormatSetting::Pretty),
            ("--format terse", FormatSetting::Terse),
            ("--format json -Z unstable-options --show-output", FormatSetting::Json),
            ("-q --format pretty", FormatSetting::Pretty),
        ] {
            let runner = parsed(line).runner;
            assert_eq!((runner.format, runner.quiet), (Some(format), false), "{line}");
        }
        for line in ["-q", "--quiet"] {
            assert!(parsed(line).runner.quiet, "{line}");
        }
        let runner = parsed("--test --bench --list --logfile log").runner;
        assert!(runner.test && runner.bench && runner.list);
        assert_eq!(runner.logfile.as_deref(), Some("log"));
    }

    #[test]
    fn an_invalid_command_line_is_reported_with_a_hint() {
        for (line, message, hint) in [
            ("--no-cap", "the flag \"--no-cap\" is unknown", "use --no-capture,"),
            (
                "--include-ignore a",
                "the flag \"--include-ignore\" is unknown",
                "--include-ignored,",
            ),
            ("--exat=1", "the flag \"--exat\" is unknown", "use --exact,"),
            ("-x", "the flag \"-x\" is unknown", "run with `--help`"),
            ("--test-threads=0", "--test-threads is 0, expected at least 1", "set it to 1"),
            ("--test-threads=two", "invalid value 'two'", "--help"),
            ("--test-threads", "a value is required for '--test-threads", "--help"),
            ("--skip", "a value is required for '--skip", "--help"),
            ("--format=junit", "[possible values: pretty, terse, json]", "--help"),
            ("--color=blue", "[possible values: auto, always, never]", "--help"),
            ("--ignored --include-ignored", "cannot be used with", "--help"),
            ("--list --list", "cannot be used multiple times", "--help"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.to_string().contains(message), "{line}: {error}");
            assert!(error.hint().contains(hint), "{line}: {}", error.hint());
            assert!(!error.to_string().contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_lists_every_flag() {
        for line in ["--help", "-h", "a --help"] {
            let Ok(Invocation::Help(text)) = parse(line) else { panic!("{line}") };
            for part in ["[FILTERS...]", "--no-capture", "--include-ignored", "--test-threads"] {
                assert!(text.contains(part), "expected {part:?} in {text}");
            }
        }
    }
}
