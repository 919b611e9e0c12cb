//! Tests of hostile manifests: a thousand mutations, and cases that random mutations do not reach.
//! The result of each is an error, or a manifest with the values of the text, within five seconds
//! and a gigabyte. This is a separate test binary, because its allocator enforces the limit.

#![allow(clippy::unwrap_used)]

use modelgate_harness::manifest::{Manifest, ManifestError, Source};
use modelgate_testkit::limits::{LimitedAllocator, MAX_BYTES, peak, within_limits};
use modelgate_testkit::mutation::{Mutation, decimals, mutated};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use toml::{Table, Value};

#[global_allocator]
static MEMORY: LimitedAllocator = LimitedAllocator;

/// A lock that lets one test run at a time, because the allocator counts for the process.
static ONE_TEST: Mutex<()> = Mutex::new(());

/// Parses `text` within the limits, and checks the form of an error. `name` is the case.
fn parse_within_limits(name: &str, text: &str) -> Result<Manifest, ManifestError> {
    peak();
    let outcome = within_limits(name, || Manifest::parse(text, "hostile.toml", None));
    let bytes = peak();
    assert!(bytes <= MAX_BYTES, "{name}: allocated {bytes} bytes, expected at most {MAX_BYTES}");
    if let Err(error) = &outcome {
        let shown = error.to_string();
        assert!(shown.contains("hostile.toml"), "{name}: {shown}");
        assert!(shown.len() < 2000, "{name}: {shown}");
        assert!(!error.hint.is_empty(), "{name}: {shown}");
    }
    outcome
}

/// Compares a manifest with its text, which is read with a plain TOML parser.
fn assert_matches_text(case: &str, manifest: &Manifest, text: &str) {
    let table: Table = text.parse().unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(table["schema"].as_integer(), Some(1), "{case}");
    let entries = table["model"].as_array().unwrap();
    let models = manifest.models.iter().filter(|model| !model.id.ends_with("@synthetic"));
    let models: Vec<_> = models.collect();
    assert_eq!(models.len(), entries.len(), "{case}");
    for (model, entry) in models.into_iter().zip(entries) {
        assert_eq!(entry["id"].as_str(), Some(model.id.as_str()), "{case}");
        assert!(model.id.len() <= 100, "{case}");
        assert_eq!(entry["quantization"].as_str(), Some(model.quantization.name()), "{case}");
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        match &model.source {
            Source::Hub { repo, revision, file } => {
                assert_eq!(text("repo"), Some(repo.as_str()), "{case}");
                assert_eq!(text("revision").unwrap_or("main"), revision, "{case}");
                assert_eq!(text("file"), file.as_deref(), "{case}");
            }
            Source::Local { path } => assert_eq!(text("path"), path.to_str(), "{case}"),
        }
        let context = entry.get("context").map(|value| value.as_integer().unwrap());
        assert_eq!(context, model.context.map(i64::from), "{case}");
        assert!(model.context.is_none_or(|context| (1..=1 << 22).contains(&context)), "{case}");
        for time in [model.deadline, model.stall] {
            assert!(
                time > Duration::ZERO && time < Duration::from_secs(1 << 30),
                "{case}: {time:?}"
            );
        }
        for range in [model.expect.memory.ram, model.expect.memory.vram].into_iter().flatten() {
            assert!(range.min <= range.max && range.max > 0, "{case}: {range}");
        }
        assert!(
            model.expect.perplexity.max.is_none_or(|max| max > 1.0 && max.is_finite()),
            "{case}"
        );
        for question in &model.generations {
            assert!((1..=1 << 22).contains(&question.max_tokens), "{case}");
            assert!(!question.expect.is_empty() && !question.messages.is_empty(), "{case}");
        }
    }
}

/// A valid manifest.
const VALID: &str = r#"schema = 1
[[model]]
id = "a"
path = "models/a"
quantization = "q4_k"
device = ["cuda:0"]
context = 2048
deadline = "45min"
stall = "90s"
expect.load_time = { cached = "15min", first = "1h 30min" }
expect.ram = { min = "1.5GB", max = "45GiB" }
expect.perplexity = { max = 20.5 }

[[model]]
id = "b@q8_0"
repo = "owner/name"
revision = "1234567"
file = "b-q8_0.gguf"
quantization = "q8_0"
[[model.generation]]
name = "capital"
max_tokens = 32
messages = [{ role = "user", content = "What is 1 + 2?" }]
expect = ["3", "three"]
"#;

#[test]
fn a_mutated_manifest_is_refused_or_has_the_values_of_its_text() {
    let _lock = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
    let manifest = parse_within_limits("unchanged", VALID).unwrap();
    assert_matches_text("unchanged", &manifest, VALID);
    let mut outcomes: BTreeMap<(Mutation, bool), u64> = BTreeMap::new();
    for number in 0..1000 {
        let fields = decimals(VALID.as_bytes());
        let (mutation, bytes) = mutated(VALID.as_bytes(), VALID.len(), &fields, number);
        let case = format!("mutation {number} ({mutation:?})");
        let loaded = match std::str::from_utf8(&bytes) {
            Ok(text) => parse_within_limits(&case, text)
                .map(|manifest| assert_matches_text(&case, &manifest, text))
                .is_ok(),
            Err(_) => {
                let path = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(path.path(), &bytes).unwrap();
                let error = Manifest::open(path.path()).expect_err("not UTF-8");
                assert!(error.message.contains("cannot be read"), "{case}: {error}");
                false
            }
        };
        *outcomes.entry((mutation, loaded)).or_default() += 1;
    }
    println!("{outcomes:?}");
    for mutation in [Mutation::Cut, Mutation::Flip, Mutation::Length] {
        for loaded in [false, true] {
            assert!(
                outcomes.contains_key(&(mutation, loaded)),
                "{mutation:?}: no mutation with loaded = {loaded}"
            );
        }
    }
}

#[test]
fn manifests_that_need_too_much_memory_or_time_are_refused() {
    let _lock = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
    const DEPTH: usize = 100_000;
    let with = |addition: &str| VALID.replacen("[[model]]", &format!("{addition}\n[[model]]"), 1);
    let entry =
        |addition: &str| VALID.replacen("id = \"a\"", &format!("id = \"a\"\n{addition}"), 1);
    let devices: Vec<String> = (0..60_000).map(|n| format!("\"cuda:{n}\"")).collect();
    let listed = VALID.replacen("\"cuda:0\"", &devices.join(","), 1);
    let models: String = (0..12_000)
        .map(|n| format!("[[model]]\nid=\"m{n}\"\npath=\"p\"\nquantization=\"q4_k\"\nexpect.ram={{max=\"1GB\"}}\n"))
        .collect();
    for (name, text, expected) in [
        ("nested lists", with(&format!("a = {}1{}", "[".repeat(DEPTH), "]".repeat(DEPTH))), ""),
        ("nested tables", with(&format!("a = {}1{}", "{a=".repeat(DEPTH), "}".repeat(DEPTH))), ""),
        ("a dotted key", with(&format!("a{} = 1", ".a".repeat(DEPTH))), ""),
        ("a dotted key of an entry", entry(&format!("expect{} = 1", ".a".repeat(DEPTH))), ""),
        ("a dotted header", with(&format!("[a{}]", ".a".repeat(DEPTH))), ""),
        ("a dotted list", with(&format!("[[a{}]]", ".a".repeat(DEPTH))), ""),
        (
            "many headers",
            with(&(0..DEPTH).map(|n| format!("[a{n}]\n")).collect::<String>()),
            "unknown key",
        ),
        (
            "many keys",
            with(&(0..DEPTH).map(|n| format!("a{n}=1\n")).collect::<String>()),
            "unknown key",
        ),
        ("many devices", listed, "device lists 60000 devices, expected one"),
        ("a long unknown key", with(&format!("{} = 1", "a".repeat(900_000))), "unknown key"),
        (
            "a long id",
            VALID.replacen("\"a\"", &format!("\"{}\"", "a".repeat(900_000)), 1),
            "id \"aaa",
        ),
        ("a long number", VALID.replacen("2048", &"9".repeat(900_000), 1), ""),
        ("a long duration", VALID.replacen("45min", &"1h ".repeat(300_000), 1), ""),
        ("a long size", VALID.replacen("1.5GB", &"1".repeat(900_000), 1), "\"111"),
        ("a long manifest", format!("{VALID}#{}", " ".repeat(1 << 20)), "more than 1048576 bytes"),
        (
            "a duplicated entry",
            format!("{VALID}{}", &VALID["schema = 1\n".len()..]),
            "is duplicated",
        ),
    ] {
        let error = parse_within_limits(name, &text).expect_err(name);
        assert!(error.message.contains(expected), "{name}: {error}");
    }
    let manifest = parse_within_limits("many models", &format!("schema = 1\n{models}")).unwrap();
    assert_eq!(manifest.models.len(), 12_000);
    // a file without an end
    let error = within_limits("/dev/zero", || Manifest::open("/dev/zero".as_ref()))
        .expect_err("a file without an end");
    assert!(error.message.contains("more than"), "{error}");
}
