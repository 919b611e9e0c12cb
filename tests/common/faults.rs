//! The faults that can occur between the start of a run and a loaded model.

use super::fault::{FaultCase, Setup};
use super::hub::{TOKEN, set_writable};
use super::{Script, worker_binary};
use FailureKind as Kind;
use modelgate_harness::check::Check;
use modelgate_protocol::FailureKind;
use modelgate_testkit::hub::{Action, Fault};
use modelgate_testkit::safetensors_edit as edit;
use std::path::Path;

const Q_PROJ: &str = "model.layers.0.self_attn.q_proj.weight";
const SHARD: &str = "model-00001-of-00002.safetensors";
/// The part of a URL that identifies a request for a revision.
const REVISION_URL: &str = "/revision/";
/// The part of a URL that identifies a request for a large file, after the redirect.
const LARGE_FILE_URL: &str = "signature";

/// Kinds without a test: a file that becomes unreadable during a run, a GPU that computes wrong
/// results, and a defect of modelgate.
pub(crate) const UNTESTED: [FailureKind; 3] = [Kind::Io, Kind::DeviceFault, Kind::Internal];

/// Kinds that another file tests, because they need a GPU inventory, a large model or local files.
pub(crate) const TESTED_IN_OTHER_FILES: [(FailureKind, &str); 8] = [
    (Kind::NotFound, "tests/suite_product/bad_models.rs"),
    (Kind::HostMemory, "tests/suite_product/worker_faults.rs"),
    (Kind::DeviceMemory, "crates/harness/tests/internals/gpus.rs"),
    (Kind::DeviceNotFound, "crates/harness/tests/internals/gpus.rs"),
    (Kind::DeviceBusy, "crates/harness/tests/internals/gpus.rs"),
    (Kind::DeviceMismatch, "crates/harness/tests/internals/gpus.rs"),
    (Kind::DebugBuild, "crates/harness/src/admission/admit.rs"),
    (Kind::ContextLength, "crates/engine/tests/damage.rs"),
];

fn status(status: u16, headers: &[(&str, &str)], body: &str) -> Action {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Action::Status(status, headers, body.to_owned())
}

/// Returns a function that adds a fault to the hub.
fn hub_fault(target: &'static str, action: Action) -> impl Fn(&modelgate_testkit::hub::Hub) {
    move |hub| hub.fault(Fault::of(target, action.clone()))
}

/// Replaces the worker of the faulty run by the shell script `text`.
fn with_worker(case: FaultCase, text: &'static str) -> FaultCase {
    case.change_run(move |run, setup| {
        // a copy in the cache folder, which lives longer than the script
        let script = Script::new(text);
        let copy = setup.home.path().join("worker");
        std::fs::copy(script.path(), &copy).expect("a script");
        run.env("MODELGATE_WORKER", copy).env("WORKER", worker_binary())
    })
}

fn flip(path: &Path, at: usize) {
    let mut content = std::fs::read(path).expect("a file");
    content[at] ^= 1;
    std::fs::write(path, content).expect("written");
}

fn change_json(path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    change(&mut json);
    std::fs::write(path, json.to_string()).expect("written");
}

/// Returns all fault tests.
pub(crate) fn cases() -> Vec<FaultCase> {
    let groups = [
        access_faults(),
        network_faults(),
        content_faults(),
        disk_faults(),
        model_faults(),
        process_faults(),
    ];
    groups.into_iter().flatten().collect()
}

fn access_faults() -> Vec<FaultCase> {
    vec![
        FaultCase::new(
            "a gated repository without a token",
            Kind::TokenMissing,
            &["gated", "no token", "401"],
            &["/owner/Tiny", "hf auth login", "HF_TOKEN"],
        )
        .gated()
        .without_token(),
        FaultCase::new(
            "a 401 response without a reason",
            Kind::TokenMissing,
            &["401", "do not exist"],
            &["check the name", "hf auth login"],
        )
        .change_hub(hub_fault(REVISION_URL, status(401, &[], "")))
        .without_token(),
        FaultCase::new(
            "an unknown token",
            Kind::TokenRefused,
            &["the token in HF_TOKEN is not accepted", "401"],
            &["hf auth login"],
        )
        .gated()
        .env("HF_TOKEN", "hf_unknown"),
        FaultCase::new(
            "a malformed token",
            Kind::TokenRefused,
            &["HF_TOKEN", "characters that are not allowed"],
            &["copy the complete token"],
        )
        .env("HF_TOKEN", "two words"),
        FaultCase::new(
            "a token without permission to read",
            Kind::TokenRefused,
            &["the token in HF_TOKEN has no permission to read the repository", "403"],
            &["permission", "/owner/Tiny"],
        )
        .gated()
        .change_hub(hub_fault("/resolve/", status(403, &[], "")))
        .env("HF_TOKEN", TOKEN),
        FaultCase::new(
            "a licence that is not accepted",
            Kind::LicenceNotAccepted,
            &["has no access to the repository", "HF_TOKEN", "restricted"],
            &["accept the licence on http://", "/owner/Tiny with that account"],
        )
        .gated()
        .change_hub(|hub| hub.allow("hf_stranger", &[]))
        .env("HF_TOKEN", "hf_stranger"),
        FaultCase::new(
            "a token that the error message of the hub repeats",
            Kind::TokenRefused,
            &["not accepted", "no such token: [token]"],
            &["hf auth login"],
        )
        .change_hub(hub_fault(
            REVISION_URL,
            status(401, &[("X-Error-Message", "no such token: hf_secretsecretsecret")], ""),
        ))
        .env("HF_TOKEN", TOKEN),
        FaultCase::new(
            "a repository that does not exist",
            Kind::RepositoryNotFound,
            &["owner/Tinny", "does not exist, or it is private"],
            &["use owner/Tiny if", "hf auth login"],
        )
        .repo("owner/Tinny"),
        FaultCase::new(
            "a misspelled name of a known repository",
            Kind::RepositoryNotFound,
            &["Qwen/Qwen-2.5-Omni-7B"],
            &["use Qwen/Qwen2.5-Omni-7B if"],
        )
        .repo("Qwen/Qwen-2.5-Omni-7B"),
        FaultCase::new(
            "a revision that does not exist",
            Kind::RevisionNotFound,
            &["revision v9", "no such branch, tag or commit"],
            &["/owner/Tiny/tree/main", "`revision`"],
        )
        .manifest_keys("revision = \"v9\""),
        FaultCase::new(
            "a file that does not exist",
            Kind::FileNotFound,
            &["does not contain q8/none.gguf"],
            &["no GGUF file"],
        )
        .manifest_keys("file = \"q8/none.gguf\""),
        FaultCase::new(
            "a shard that is missing in the repository",
            Kind::FileNotFound,
            &[SHARD, "which the repository does not contain"],
            &["incomplete repository"],
        )
        .faulty_repository(|repository| repository.without(SHARD)),
        FaultCase::new(
            "a repository with weights in pickle files only",
            Kind::Unsupported,
            &["pickle files (", "pytorch_model.bin"],
            &["can run code", "safetensors"],
        )
        .faulty_repository(|repository| {
            let index = "model.safetensors.index.json";
            repository.without(index)
        }),
        FaultCase::new(
            "a repository that is not cached in offline mode",
            Kind::Offline,
            &["HF_HUB_OFFLINE forbids", "does not contain this revision"],
            &["prefetch tiny", "hf download owner/Tiny"],
        )
        .env("HF_HUB_OFFLINE", "1"),
        FaultCase::new(
            "a file that is not cached in offline mode",
            Kind::Offline,
            &["missing from the cache: config.json", "HF_HUB_OFFLINE"],
            &["prefetch tiny"],
        )
        .change_cache(|setup| {
            std::fs::remove_file(setup.cached_file("config.json")).expect("removed")
        })
        .env("HF_HUB_OFFLINE", "1"),
    ]
}

fn network_faults() -> Vec<FaultCase> {
    vec![
        FaultCase::new(
            "a host name that cannot be resolved",
            Kind::NameResolution,
            &["cannot be resolved", "tried 2 times"],
            &["name servers", "HF_HUB_OFFLINE=1"],
        )
        // longer than a valid host name, so that no request is sent to a name server
        .change_run(|run, _| run.env("HF_ENDPOINT", format!("http://{}.invalid", "a".repeat(64)))),
        FaultCase::new(
            "a hub that refuses connections",
            Kind::Connection,
            &["cannot connect to 127.0.0.1:1", "tried 2 times"],
            &["firewall", "HTTPS_PROXY"],
        )
        .env("HF_ENDPOINT", "http://127.0.0.1:1"),
        FaultCase::new(
            "a connection that is closed before the response",
            Kind::Connection,
            &["was closed early"],
            &["start again"],
        )
        .change_hub(hub_fault(REVISION_URL, Action::Close)),
        FaultCase::new(
            "a connection that is closed during a download",
            Kind::Connection,
            &["was closed early", "1000 of", "tried 2 times", ".safetensors"],
            &["resumes after the downloaded parts"],
        )
        .change_hub(hub_fault(LARGE_FILE_URL, Action::CutAt(1000))),
        FaultCase::new(
            "a server without TLS",
            Kind::Tls,
            &["cannot establish a TLS connection"],
            &["SSL_CERT_FILE", "HTTPS"],
        )
        .change_run(|run, setup| {
            run.env("HF_ENDPOINT", setup.hub.endpoint().replace("http:", "https:"))
        }),
        FaultCase::new(
            "a response that times out",
            Kind::Timeout,
            &["sent nothing for 1 s", "tried 2 times"],
            &["HF_HUB_DOWNLOAD_TIMEOUT"],
        )
        .change_hub(hub_fault(REVISION_URL, Action::StallAt(0))),
        FaultCase::new(
            "a download that stalls",
            Kind::Timeout,
            &["sent nothing for 1 s", "5000 of"],
            &["downloaded parts are kept"],
        )
        .change_hub(hub_fault(LARGE_FILE_URL, Action::StallAt(5000))),
        FaultCase::new(
            "a download that is too slow",
            Kind::Timeout,
            &["bytes were received in 1 s"],
            &["check the network"],
        )
        .manifest_keys("stall = \"1s\"")
        .change_hub(hub_fault(LARGE_FILE_URL, Action::Trickle(100))),
        FaultCase::new(
            "a rate limit of the hub",
            Kind::RateLimited,
            &["429", "requests a wait of 60 min"],
            &["use a token"],
        )
        .change_hub(hub_fault(REVISION_URL, status(429, &[("Retry-After", "3600")], "")))
        .without_token(),
        FaultCase::new(
            "a server error of the hub",
            Kind::ServerError,
            &["503", "tried 2 times"],
            &["status.huggingface.co"],
        )
        .change_hub(hub_fault(REVISION_URL, status(503, &[], "busy"))),
        FaultCase::new(
            "a server error during the listing",
            Kind::ServerError,
            &["500"],
            &["status.huggingface.co"],
        )
        .change_hub(hub_fault("cursor=", status(500, &[], ""))),
        FaultCase::new(
            "a login page instead of the hub",
            Kind::InvalidResponse,
            &["does not answer like a hub"],
            &["proxy", "HF_ENDPOINT"],
        )
        .change_hub(hub_fault(
            REVISION_URL,
            status(200, &[], "<html>Welcome to our network</html>"),
        )),
        FaultCase::new(
            "a page of a proxy instead of a refusal of the hub",
            Kind::InvalidResponse,
            &["does not answer like a hub: 403 Forbidden, with a page"],
            &["proxy", "HF_ENDPOINT"],
        )
        .change_hub(hub_fault(
            REVISION_URL,
            status(403, &[("Content-Type", "text/html")], "<html>blocked by policy</html>"),
        ))
        .without_token(),
        FaultCase::new(
            "a server error with a long wait",
            Kind::ServerError,
            &["503", "requests a wait of 60 min", "a run waits at most 2 min"],
            &["status.huggingface.co"],
        )
        .change_hub(hub_fault(REVISION_URL, status(503, &[("Retry-After", "3600")], "busy"))),
        FaultCase::new(
            "a server that does not use HTTP",
            Kind::Connection,
            &["was closed early"],
            &["start again"],
        )
        .change_hub(hub_fault(REVISION_URL, Action::Garbage)),
    ]
}

fn content_faults() -> Vec<FaultCase> {
    vec![
        FaultCase::new(
            "an error page instead of a file",
            Kind::InvalidResponse,
            &["23 bytes, expected", ".safetensors"],
            &["proxy"],
        )
        .change_hub(hub_fault(LARGE_FILE_URL, status(200, &[], "<html>Go away!</html>\r\n"))),
        FaultCase::new(
            "a shard of another size than listed",
            Kind::InvalidResponse,
            &["bytes, expected", "as listed", ".safetensors"],
            &["proxy"],
        )
        .faulty_repository(|repository| repository.listing(SHARD, 1_000_000)),
        FaultCase::new(
            "a shard with a flipped bit in every download",
            Kind::Corrupt,
            &["sha256", "downloaded twice", ".safetensors"],
            &["another network"],
        )
        .change_hub(hub_fault(LARGE_FILE_URL, Action::FlipAt(777))),
        FaultCase::new(
            "a small file with a flipped bit in every download",
            Kind::Corrupt,
            &["git blob id", "config.json"],
            &["another network"],
        )
        .change_hub(hub_fault("/config.json", Action::FlipAt(7))),
        FaultCase::new(
            "a listed hash that differs from the content",
            Kind::Corrupt,
            &["expected 0000"],
            &["another revision"],
        )
        .faulty_repository(|repository| repository.mislabelled(SHARD)),
        FaultCase::new(
            "a listed path outside the repository",
            Kind::InvalidResponse,
            &["../../config.json", "is not a valid path"],
            &["HF_ENDPOINT"],
        )
        .faulty_repository(|repository| repository.with_file("../../config.json", vec![1])),
        FaultCase::new(
            "a cached shard of the wrong size in offline mode",
            Kind::Corrupt,
            &["the cached file is damaged", "expected", SHARD],
            &["prefetch tiny", "replaces"],
        )
        .change_cache(|setup: &Setup| edit::truncate(&setup.cached_file(SHARD), 1000))
        .env("HF_HUB_OFFLINE", "1"),
        FaultCase::new(
            "a cached shard with a flipped bit in offline mode",
            Kind::Corrupt,
            &["sha256", SHARD],
            &["prefetch tiny"],
        )
        .change_cache(|setup: &Setup| flip(&setup.cached_file(SHARD), 300_000))
        .env("HF_HUB_OFFLINE", "1"),
        FaultCase::new(
            "an index with a path outside the folder",
            Kind::Corrupt,
            &["index.json", "../../secret.safetensors"],
            &["download the index again"],
        )
        .damaged_model(|folder| {
            edit::edit_index(folder, |map| {
                map.insert(Q_PROJ.into(), "../../secret.safetensors".into());
            });
        }),
        FaultCase::new(
            "an index that lists a pickle file",
            Kind::Unsupported,
            &["pytorch_model.bin"],
            &["can run code"],
        )
        .damaged_model(|folder| {
            edit::edit_index(folder, |map| {
                map.insert(Q_PROJ.into(), "pytorch_model.bin".into());
            });
        }),
    ]
}

fn disk_faults() -> Vec<FaultCase> {
    vec![
        FaultCase::new(
            "a disk without enough free space",
            Kind::DiskFull,
            &["1000", "TB are missing", "free"],
            &["HF_HOME", "hf cache ls"],
        )
        .faulty_repository(|repository| repository.listing(SHARD, 1_000_000_000_000_000)),
        FaultCase::new(
            "a disk that fills during a download",
            Kind::DiskFull,
            &["cannot be written completely", ".partial"],
            &["downloaded parts are kept"],
        )
        .change_run(|run, _| run.in_shell("trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\"")),
        FaultCase::new(
            "a cache path that is not a folder",
            Kind::CacheNotWritable,
            &["/dev/null/hub", "missing from the cache"],
            &["HF_HOME"],
        )
        .env("HF_HOME", "/dev/null"),
        FaultCase::new(
            "a read-only cache with a missing file",
            Kind::CacheNotWritable,
            &["cannot be written", "missing from the cache: tokenizer.json"],
            &["must contain all files"],
        )
        .change_cache(|setup: &Setup| {
            std::fs::remove_file(setup.cached_file("tokenizer.json")).expect("removed");
            set_writable(setup.home.path(), false);
        })
        .change_run(|run, _| run.enforce_permissions()),
    ]
}

fn model_faults() -> Vec<FaultCase> {
    vec![
        FaultCase::new(
            "an unsupported architecture",
            Kind::Unsupported,
            &["config.json", "gpt2"],
            &["supported architecture"],
        )
        .damaged_model(|folder| {
            change_json(&folder.join("config.json"), |json| json["model_type"] = "gpt2".into());
        }),
        FaultCase::new(
            "a memory range that no load can meet",
            Kind::ExpectationUnreachable,
            &["expect.ram allows at most 1.00 MB", "2,623,744 parameters"],
            &["allow at least"],
        )
        .fails_check(Check::MemoryRange)
        .manifest_keys("expect.ram = { max = \"1MB\" }"),
        FaultCase::new(
            "a disabled repository",
            Kind::RepositoryNotFound,
            &["has disabled the repository"],
            &["another repository"],
        )
        .change_hub(hub_fault(
            "/resolve/",
            status(403, &[("X-Error-Message", "Access to this resource is disabled.")], ""),
        )),
        FaultCase::new(
            "a blocked host of large files",
            Kind::InvalidResponse,
            &["to which the hub redirects for this file, returned 403", "tried 2 times"],
            &["large files on other hosts", "firewall"],
        )
        .change_hub(hub_fault(LARGE_FILE_URL, status(403, &[], "blocked by policy"))),
        FaultCase::new(
            "a truncated config",
            Kind::Corrupt,
            &["config.json"],
            &["download config.json again"],
        )
        .damaged_model(|folder| edit::truncate(&folder.join("config.json"), 100)),
        FaultCase::new("a truncated shard", Kind::Corrupt, &[SHARD], &["again"])
            .damaged_model(|folder| edit::truncate(&folder.join(SHARD), 200_000)),
        FaultCase::new("a missing tensor", Kind::TensorMissing, &[Q_PROJ, SHARD], &[])
            .damaged_model(|folder| edit::drop_tensor(folder, Q_PROJ)),
        FaultCase::new(
            "a tensor of the wrong shape",
            Kind::TensorShape,
            &[Q_PROJ, "[512, 128]"],
            &[],
        )
        .damaged_model(|folder| edit::reshape_tensor(folder, Q_PROJ, &[512, 128])),
        FaultCase::new("an unexpected tensor", Kind::TensorUnexpected, &["extra.weight"], &[])
            .damaged_model(|folder| {
                edit::add_tensor(folder, "model.layers.0.extra.weight", &[4, 256])
            }),
        FaultCase::new("a weight that is NaN", Kind::NonFinite, &[Q_PROJ], &[])
            .damaged_model(|folder| edit::set_value(folder, Q_PROJ, 4321, f32::NAN)),
        FaultCase::new(
            "a truncated tokenizer",
            Kind::Tokenizer,
            &["tokenizer.json"],
            &["checksum"],
        )
        .damaged_model(|folder| edit::truncate(&folder.join("tokenizer.json"), 1000)),
        FaultCase::verdict(
            "a model with noise in its weights",
            Check::Generation,
            &["capital"],
            &["a damaged weight"],
        )
        .damaged_model(|folder| edit::add_noise(folder, "lm_head.weight", 30.0, 3)),
    ]
}

fn process_faults() -> Vec<FaultCase> {
    vec![
        with_worker(
            FaultCase::new("a worker that crashes", Kind::Crashed, &["SIGSEGV"], &["64 KiB"]),
            "#!/bin/sh\nread -r line\nkill -SEGV $$",
        ),
        with_worker(
            FaultCase::new(
                "a worker that exits without an event",
                Kind::Crashed,
                &["exit code 7"],
                &[],
            ),
            "#!/bin/sh\nexit 7",
        ),
        with_worker(
            FaultCase::new(
                "a worker that exceeds its deadline",
                Kind::DeadlineExceeded,
                &["1 s"],
                &["`deadline`"],
            )
            .manifest_keys("deadline = \"1s\""),
            "#!/bin/sh\nsleep 60",
        ),
        with_worker(
            FaultCase::new(
                "a worker that makes no progress",
                Kind::Stalled,
                &["1 s"],
                &["`stall`"],
            )
            .manifest_keys("stall = \"1s\""),
            "#!/bin/sh\nsleep 60",
        ),
        with_worker(
            FaultCase::new(
                "a worker that sends an invalid event",
                Kind::Protocol,
                &["not a valid event"],
                &["protocol"],
            ),
            "#!/bin/sh\necho nonsense >&3\nsleep 60",
        ),
        FaultCase::new(
            "a worker that does not exist",
            Kind::WorkerNotFound,
            &["MODELGATE_WORKER=/no/such/worker"],
            &["unset"],
        )
        .env("MODELGATE_WORKER", "/no/such/worker"),
        FaultCase::new(
            "Ctrl-C during a download",
            Kind::Interrupted,
            &["SIGINT"],
            &["start the run again"],
        )
        .change_hub(hub_fault(LARGE_FILE_URL, Action::StallAt(1000)))
        .change_run(|run, _| {
            let line = "\"$0\" \"$@\" & child=$!; sleep 1; kill -INT $child; wait $child";
            run.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").in_shell(&format!("set -m; {line}"))
        })
        .exits_with(130),
    ]
}
