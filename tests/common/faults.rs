//! Every fault that a user may meet on the way to a loaded model.

use super::fault::{Row, World};
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
const API: &str = "/revision/";
const LARGE: &str = "signature";

/// Kinds whose faults are brought about elsewhere: they need a GPU, or one that is made up, a large
/// model, or local files.
pub(crate) const ELSEWHERE: [(FailureKind, &str); 8] = [
    (Kind::NotFound, "tests/suite_product/bad_models.rs"),
    (Kind::HostMemory, "tests/suite_product/worker_faults.rs"),
    (Kind::DeviceMemory, "crates/harness/tests/internals/gpus.rs"),
    (Kind::NoDevice, "crates/harness/tests/internals/gpus.rs"),
    (Kind::DeviceBusy, "crates/harness/tests/internals/gpus.rs"),
    (Kind::DeviceMismatch, "crates/harness/tests/internals/gpus.rs"),
    (Kind::Unoptimised, "crates/harness/src/admission/admit.rs"),
    (Kind::ContextLength, "crates/engine/tests/damage.rs"),
];

fn status(status: u16, headers: &[(&str, &str)], body: &str) -> Action {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Action::Status(status, headers, body.to_owned())
}

fn at_hub(target: &'static str, action: Action) -> impl Fn(&modelgate_testkit::hub::Hub) {
    move |hub| hub.fault(Fault::of(target, action.clone()))
}

fn worker(row: Row, text: &'static str) -> Row {
    row.run(move |run, world| {
        let script = Script::new(text);
        let kept = world.home.path().join("worker");
        std::fs::copy(script.path(), &kept).expect("a script");
        run.env("MODELGATE_WORKER", kept).env("WORKER", worker_binary())
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

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
    [access(), network(), content(), disk(), model(), process()].into_iter().flatten().collect()
}

fn access() -> Vec<Row> {
    vec![
        Row::new(
            "a gated repository and no token",
            Kind::NoToken,
            &["gated", "no token", "401"],
            &["/owner/Tiny", "hf auth login", "HF_TOKEN"],
        )
        .gated()
        .without_token(),
        Row::new(
            "a 401 that does not say why",
            Kind::NoToken,
            &["401", "do not exist"],
            &["check the name", "hf auth login"],
        )
        .hub(at_hub(API, status(401, &[], "")))
        .without_token(),
        Row::new(
            "a token that the hub does not know",
            Kind::TokenRefused,
            &["the token in HF_TOKEN is not accepted", "401"],
            &["hf auth login"],
        )
        .gated()
        .env("HF_TOKEN", "hf_unknown"),
        Row::new(
            "what is no token",
            Kind::TokenRefused,
            &["HF_TOKEN", "characters that are not allowed"],
            &["copy the complete token"],
        )
        .env("HF_TOKEN", "two words"),
        Row::new(
            "a token that may not read",
            Kind::TokenRefused,
            &["the token in HF_TOKEN may not read it", "403"],
            &["permission", "/owner/Tiny"],
        )
        .gated()
        .hub(at_hub("/resolve/", status(403, &[], "")))
        .env("HF_TOKEN", TOKEN),
        Row::new(
            "a licence that was not accepted",
            Kind::LicenceNotAccepted,
            &["has no access to the repository", "HF_TOKEN", "restricted"],
            &["accept the licence on http://", "/owner/Tiny with that account"],
        )
        .gated()
        .hub(|hub| hub.allow("hf_stranger", &[]))
        .env("HF_TOKEN", "hf_stranger"),
        Row::new(
            "a hub that repeats the token",
            Kind::TokenRefused,
            &["not accepted", "no such token: [token]"],
            &["hf auth login"],
        )
        .hub(at_hub(
            API,
            status(401, &[("X-Error-Message", "no such token: hf_secretsecretsecret")], ""),
        ))
        .env("HF_TOKEN", TOKEN),
        Row::new(
            "a repository that is not there",
            Kind::RepositoryNotFound,
            &["owner/Tinny", "no such repository, or a private one"],
            &["did you mean owner/Tiny?", "hf auth login"],
        )
        .repo("owner/Tinny"),
        Row::new(
            "a known repository by a wrong name",
            Kind::RepositoryNotFound,
            &["Qwen/Qwen-2.5-Omni-7B"],
            &["did you mean Qwen/Qwen2.5-Omni-7B?"],
        )
        .repo("Qwen/Qwen-2.5-Omni-7B"),
        Row::new(
            "a revision that is not there",
            Kind::RevisionNotFound,
            &["revision v9", "no such branch, tag or commit"],
            &["/owner/Tiny/tree/main", "`revision`"],
        )
        .says_in_manifest("revision = \"v9\""),
        Row::new(
            "a file that is not there",
            Kind::FileNotFound,
            &["has no q8/none.gguf"],
            &["no GGUF file"],
        )
        .says_in_manifest("file = \"q8/none.gguf\""),
        Row::new(
            "a shard that the repository lacks",
            Kind::FileNotFound,
            &[SHARD, "which the repository does not have"],
            &["incomplete repository"],
        )
        .bad(|repository| repository.without(SHARD)),
        Row::new(
            "a repository of pickles",
            Kind::Unsupported,
            &["pickle files (", "pytorch_model.bin"],
            &["can run code", "safetensors"],
        )
        .bad(|repository| {
            let index = "model.safetensors.index.json";
            repository.without(index)
        }),
        Row::new(
            "the hub may not be asked",
            Kind::Offline,
            &["HF_HUB_OFFLINE forbids", "does not know this revision"],
            &["prefetch tiny", "hf download owner/Tiny"],
        )
        .env("HF_HUB_OFFLINE", "1"),
        Row::new(
            "a file that was never fetched, and no network",
            Kind::Offline,
            &["it lacks config.json", "HF_HUB_OFFLINE"],
            &["prefetch tiny"],
        )
        .cache(|world| std::fs::remove_file(world.file("config.json")).expect("removed"))
        .env("HF_HUB_OFFLINE", "1"),
    ]
}

fn network() -> Vec<Row> {
    vec![
        Row::new(
            "a name that cannot be resolved",
            Kind::NameResolution,
            &["cannot be resolved", "tried 2 times"],
            &["name servers", "HF_HUB_OFFLINE=1"],
        )
        // longer than a name may be, so that no name server is asked
        .run(|run, _| run.env("HF_ENDPOINT", format!("http://{}.invalid", "a".repeat(64)))),
        Row::new(
            "no server answers",
            Kind::Connect,
            &["no connection to 127.0.0.1:1", "tried 2 times"],
            &["firewall", "HTTPS_PROXY"],
        )
        .env("HF_ENDPOINT", "http://127.0.0.1:1"),
        Row::new(
            "the connection ends before an answer",
            Kind::Connect,
            &["was closed early"],
            &["start again"],
        )
        .hub(at_hub(API, Action::Hang)),
        Row::new(
            "the connection is cut",
            Kind::Connect,
            &["was closed early", "1000 of", "tried 2 times", ".safetensors"],
            &["kept and continued"],
        )
        .hub(at_hub(LARGE, Action::CutAt(1000))),
        Row::new(
            "what answers speaks no TLS",
            Kind::Tls,
            &["no trusted connection"],
            &["SSL_CERT_FILE", "http"],
        )
        .run(|run, world| run.env("HF_ENDPOINT", world.hub.endpoint().replace("http:", "https:"))),
        Row::new(
            "no answer in time",
            Kind::Timeout,
            &["sent nothing for 1 s", "tried 2 times"],
            &["HF_HUB_DOWNLOAD_TIMEOUT"],
        )
        .hub(at_hub(API, Action::StallAt(0))),
        Row::new(
            "a file that stops coming",
            Kind::Timeout,
            &["sent nothing for 1 s", "5000 of"],
            &["downloaded parts are kept"],
        )
        .hub(at_hub(LARGE, Action::StallAt(5000))),
        Row::new(
            "a file that trickles",
            Kind::Timeout,
            &["bytes came in 1 s"],
            &["check the network"],
        )
        .says_in_manifest("stall = \"1s\"")
        .hub(at_hub(LARGE, Action::Trickle(100))),
        Row::new(
            "too many requests",
            Kind::RateLimited,
            &["429", "wait for 60 min"],
            &["use a token"],
        )
        .hub(at_hub(API, status(429, &[("Retry-After", "3600")], "")))
        .without_token(),
        Row::new(
            "the hub has an error",
            Kind::ServerError,
            &["503", "tried 2 times"],
            &["status.huggingface.co"],
        )
        .hub(at_hub(API, status(503, &[], "busy"))),
        Row::new(
            "the listing breaks off with an error",
            Kind::ServerError,
            &["500"],
            &["status.huggingface.co"],
        )
        .hub(at_hub("cursor=", status(500, &[], ""))),
        Row::new(
            "a login page in the hub's place",
            Kind::BadAnswer,
            &["does not answer like a hub"],
            &["proxy", "HF_ENDPOINT"],
        )
        .hub(at_hub(API, status(200, &[], "<html>Welcome to our network</html>"))),
        Row::new(
            "what answers speaks no HTTP",
            Kind::Connect,
            &["was closed early"],
            &["start again"],
        )
        .hub(at_hub(API, Action::Garbage)),
    ]
}

fn content() -> Vec<Row> {
    vec![
        Row::new(
            "an error page in a file's place",
            Kind::BadAnswer,
            &["23 bytes, expected the", ".safetensors"],
            &["proxy"],
        )
        .hub(at_hub(LARGE, status(200, &[], "<html>Go away!</html>\r\n"))),
        Row::new(
            "another range than was asked for",
            Kind::BadAnswer,
            &["Content-Range"],
            &["proxy"],
        )
        .hub(at_hub(LARGE, Action::OtherRange)),
        Row::new(
            "a bit that is always flipped on the way",
            Kind::Corrupt,
            &["sha256", "downloaded twice", ".safetensors"],
            &["another network"],
        )
        .hub(at_hub(LARGE, Action::FlipAt(777))),
        Row::new(
            "a small file that is flipped on the way",
            Kind::Corrupt,
            &["git blob id", "config.json"],
            &["another network"],
        )
        .hub(at_hub("/config.json", Action::FlipAt(7))),
        Row::new(
            "a hash that is not the content's",
            Kind::Corrupt,
            &["expected 0000"],
            &["another revision"],
        )
        .bad(|repository| repository.mislabelled(SHARD)),
        Row::new(
            "a listing that leaves the repository",
            Kind::BadAnswer,
            &["../../config.json", "is not a valid path"],
            &["HF_ENDPOINT"],
        )
        .bad(|repository| repository.with_file("../../config.json", vec![1])),
        Row::new(
            "a cached shard of another size, and no network",
            Kind::Corrupt,
            &["the file in the cache is wrong", "expected", SHARD],
            &["prefetch tiny", "replaced"],
        )
        .cache(|world: &World| edit::truncate(&world.file(SHARD), 1000))
        .env("HF_HUB_OFFLINE", "1"),
        Row::new(
            "a cached shard with a flipped bit, and no network",
            Kind::Corrupt,
            &["sha256", SHARD],
            &["prefetch tiny"],
        )
        .cache(|world: &World| flip(&world.file(SHARD), 300_000))
        .env("HF_HUB_OFFLINE", "1"),
        Row::new(
            "an index that leaves the folder",
            Kind::Corrupt,
            &["index.json", "../../secret.safetensors"],
            &["fetch the index again"],
        )
        .damaged(|folder| {
            edit::edit_index(folder, |map| {
                map.insert(Q_PROJ.into(), "../../secret.safetensors".into());
            });
        }),
        Row::new(
            "an index that names a pickle",
            Kind::Unsupported,
            &["pytorch_model.bin"],
            &["can run code"],
        )
        .damaged(|folder| {
            edit::edit_index(folder, |map| {
                map.insert(Q_PROJ.into(), "pytorch_model.bin".into());
            });
        }),
    ]
}

fn disk() -> Vec<Row> {
    vec![
        Row::new(
            "a disk that has no room",
            Kind::DiskFull,
            &["1000", "TB are still to be fetched", "free"],
            &["HF_HOME", "hf cache ls"],
        )
        .bad(|repository| repository.listing(SHARD, 1_000_000_000_000_000)),
        Row::new(
            "a disk that fills while it is fetched",
            Kind::DiskFull,
            &["cannot be written completely", ".partial"],
            &["downloaded parts are kept"],
        )
        .run(|run, _| run.under_shell("trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\"")),
        Row::new(
            "a cache that is no folder",
            Kind::CacheNotWritable,
            &["/dev/null/hub", "it lacks"],
            &["HF_HOME"],
        )
        .env("HF_HOME", "/dev/null"),
        Row::new(
            "a cache that cannot be written, and lacks a file",
            Kind::CacheNotWritable,
            &["cannot be written", "it lacks tokenizer.json"],
            &["must hold all files"],
        )
        .cache(|world: &World| {
            std::fs::remove_file(world.file("tokenizer.json")).expect("removed");
            set_writable(world.home.path(), false);
        })
        .run(|run, _| run.bound_by_permissions()),
    ]
}

fn model() -> Vec<Row> {
    vec![
        Row::new(
            "an architecture that is not supported",
            Kind::Unsupported,
            &["config.json", "gpt2"],
            &["supported architecture"],
        )
        .damaged(|folder| {
            change_json(&folder.join("config.json"), |json| json["model_type"] = "gpt2".into());
        }),
        Row::new(
            "a range that no load can meet",
            Kind::Impossible,
            &["expect.ram allows at most 1.00 MB", "2,623,744 parameters"],
            &["allow at least"],
        )
        .fails(Check::MemoryRange)
        .says_in_manifest("expect.ram = { max = \"1MB\" }"),
        Row::new(
            "a repository that the hub has disabled",
            Kind::RepositoryNotFound,
            &["has disabled the repository"],
            &["another repository"],
        )
        .hub(at_hub(
            "/resolve/",
            status(403, &[("X-Error-Message", "Access to this resource is disabled.")], ""),
        )),
        Row::new(
            "another host of large files that is shut off",
            Kind::BadAnswer,
            &["to which the hub sends for this file, answers 403", "tried 2 times"],
            &["large files on other hosts", "firewall"],
        )
        .hub(at_hub(LARGE, status(403, &[], "blocked by policy"))),
        Row::new(
            "a config that is none",
            Kind::Corrupt,
            &["config.json"],
            &["download config.json again"],
        )
        .damaged(|folder| edit::truncate(&folder.join("config.json"), 100)),
        Row::new("a shard with a cut header", Kind::Corrupt, &[SHARD], &["again"])
            .damaged(|folder| edit::truncate(&folder.join(SHARD), 200_000)),
        Row::new("a tensor that is missing", Kind::TensorMissing, &[Q_PROJ, SHARD], &[])
            .damaged(|folder| edit::drop_tensor(folder, Q_PROJ)),
        Row::new("a tensor of another shape", Kind::TensorShape, &[Q_PROJ, "[512, 128]"], &[])
            .damaged(|folder| edit::reshape_tensor(folder, Q_PROJ, &[512, 128])),
        Row::new("a tensor left over", Kind::TensorLeftOver, &["extra.weight"], &[])
            .damaged(|folder| edit::add_tensor(folder, "model.layers.0.extra.weight", &[4, 256])),
        Row::new("a weight that is no number", Kind::NonFinite, &[Q_PROJ], &[])
            .damaged(|folder| edit::set_value(folder, Q_PROJ, 4321, f32::NAN)),
        Row::new("a tokenizer that is none", Kind::Tokenizer, &["tokenizer.json"], &["checksum"])
            .damaged(|folder| edit::truncate(&folder.join("tokenizer.json"), 1000)),
        Row::verdict(
            "a model that was damaged on purpose",
            Check::Generation,
            &["capital"],
            &["a damaged weight"],
        )
        .damaged(|folder| edit::add_noise(folder, "lm_head.weight", 30.0, 3)),
    ]
}

fn process() -> Vec<Row> {
    vec![
        worker(
            Row::new("a worker that crashes", Kind::Crashed, &["SIGSEGV"], &["64 KiB"]),
            "#!/bin/sh\nread -r line\nkill -SEGV $$",
        ),
        worker(
            Row::new("a worker that ends without a word", Kind::Crashed, &["exit code 7"], &[]),
            "#!/bin/sh\nexit 7",
        ),
        worker(
            Row::new("a worker past its deadline", Kind::Deadline, &["1 s"], &["`deadline`"])
                .says_in_manifest("deadline = \"1s\""),
            "#!/bin/sh\nsleep 60",
        ),
        worker(
            Row::new("a worker that makes no progress", Kind::Stalled, &["1 s"], &["`stall`"])
                .says_in_manifest("stall = \"1s\""),
            "#!/bin/sh\nsleep 60",
        ),
        worker(
            Row::new("a worker that talks nonsense", Kind::Protocol, &["no event"], &["protocol"]),
            "#!/bin/sh\necho nonsense >&3\nsleep 60",
        ),
        Row::new("no worker", Kind::NoWorker, &["MODELGATE_WORKER=/no/such/worker"], &["unset"])
            .env("MODELGATE_WORKER", "/no/such/worker"),
        Row::new(
            "Ctrl-C while files are fetched",
            Kind::Interrupted,
            &["SIGINT"],
            &["start the run again"],
        )
        .hub(at_hub(LARGE, Action::StallAt(1000)))
        .run(|run, _| {
            let line = "\"$0\" \"$@\" & child=$!; sleep 1; kill -INT $child; wait $child";
            run.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").under_shell(&format!("set -m; {line}"))
        })
        .exits_with(130),
    ]
}
