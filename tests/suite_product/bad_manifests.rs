//! Tests that a defect of the manifest ends the run before anything starts, and that the message
//! contains the file, the line, the column, the expected value and the nearest known key.

use crate::common::Run;

/// The lines 2 to 4 of each manifest. Line 1 is `schema = 1`.
const HEAD: &str = "[[model]]\nid = \"a\"\nquantization = \"q8_0\"\n";

/// A manifest with a defect, and the expected message.
struct DefectCase {
    name: &'static str,
    models: String,
    /// The expected `:line:column:` of the message, or the beginning of it.
    place: &'static str,
    /// The texts that the message must contain.
    message_parts: &'static [&'static str],
}

fn case(
    name: &'static str,
    more: &str,
    place: &'static str,
    message_parts: &'static [&'static str],
) -> DefectCase {
    DefectCase { name, models: format!("{HEAD}{more}"), place, message_parts }
}

fn cases() -> Vec<DefectCase> {
    vec![
        case("unknown key", "pathh = \"x\"\n", ":5:1:", &["unknown key `pathh`", "`path`"]),
        case(
            "unknown key within expect",
            "path = \"x\"\nexpect.vramm = { max = \"1GB\" }\n",
            ":6:8:",
            &["unknown key `vramm`", "`vram`"],
        ),
        case("wrong type", "path = 3\n", ":5:8:", &["string"]),
        case("not TOML", "path = \n", ":5:", &["path"]),
        case(
            "bad unit of size",
            "path = \"x\"\nexpect.ram = { max = \"10gb\" }\n",
            ":6:22:",
            &["\"10gb\" is not a size", "GB"],
        ),
        case(
            "size without a unit",
            "path = \"x\"\nexpect.ram = { max = \"10\" }\n",
            ":6:22:",
            &["\"10\" is not a size"],
        ),
        case(
            "bad unit of time",
            "path = \"x\"\ndeadline = \"5 minutes\"\n",
            ":6:12:",
            &["\"5 minutes\" is not a duration", "min"],
        ),
        case(
            "a range with min above max",
            "path = \"x\"\nexpect.ram = { min = \"2GB\", max = \"1GB\" }\n",
            ":6:14:",
            &["min is above max"],
        ),
        case(
            "a range without an effective bound",
            "path = \"x\"\nexpect.ram = { min = \"0B\" }\n",
            ":6:14:",
            &["no bound"],
        ),
        case("an empty range", "path = \"x\"\nexpect.ram = {}\n", ":6:14:", &["range is empty"]),
        case(
            "a VRAM range on the CPU",
            "path = \"x\"\ndevice = \"cpu\"\nexpect.vram = { max = \"1GB\" }\n",
            ":7:15:",
            &["no device memory", "expect.ram"],
        ),
        case(
            "a first load time shorter than the cached one",
            "path = \"x\"\nexpect.load_time = { cached = \"2min\", first = \"1min\" }\n",
            ":6:",
            &["first is shorter"],
        ),
        case(
            "an unreachable perplexity",
            "path = \"x\"\nexpect.perplexity = { max = 1 }\n",
            ":6:",
            &["perplexity.max"],
        ),
        case("no source", "", ":2:1:", &["neither repo nor path"]),
        case("two sources", "path = \"x\"\nrepo = \"a/b\"\n", ":6:8:", &["both repo and path"]),
        case("malformed repository", "repo = \"just-a-name\"\n", ":5:8:", &["owner/name"]),
        case(
            "a revision outside the folder",
            "repo = \"a/b\"\nrevision = \"../x\"\n",
            ":6:12:",
            &["revision"],
        ),
        case(
            "file together with path",
            "path = \"x\"\nfile = \"y.gguf\"\n",
            ":6:8:",
            &["with repo"],
        ),
        case("unknown device", "path = \"x\"\ndevice = \"gpu\"\n", ":6:10:", &["\"gpu\"", "cuda"]),
        case("no device", "path = \"x\"\ndevice = []\n", ":6:10:", &["empty list"]),
        case(
            "several devices",
            "path = \"x\"\ndevice = [\"cuda:0\", \"cpu\"]\n",
            ":6:10:",
            &[
                "device lists 2 devices, expected one: placement over several devices is not \
                 supported yet",
                "list one device",
            ],
        ),
        case("a context of 0 tokens", "path = \"x\"\ncontext = 0\n", ":6:11:", &["context is 0"]),
        case(
            "a synthetic variant with unknown shapes",
            "repo = \"some-owner/Some-Model\"\nsynthetic = true\n",
            ":6:13:",
            &["shapes of some-owner/Some-Model are not built in", "Qwen2.5-Omni-7B", "config.json"],
        ),
        case(
            "a synthetic variant of a GGUF file",
            "path = \"x.GGUF\"\nsynthetic = true\n",
            ":6:13:",
            &["a GGUF file has none", "config.json"],
        ),
        case(
            "an unknown kind of evidence",
            "path = \"x\"\nevidence = \"syntetic\"\n",
            ":6:12:",
            &["\"real\" or \"synthetic\"", "use \"synthetic\""],
        ),
        case(
            "a repository of random weights",
            "repo = \"a/b\"\nevidence = \"synthetic\"\n",
            ":6:12:",
            &["with path, not with repo", "synthetic = true"],
        ),
        case(
            "expected answers of random weights",
            "path = \"x\"\nevidence = \"synthetic\"\n\
             generation = { prompt = \"p\", expect = \"e\" }\n",
            ":7:14:",
            &["generation of a model of random weights", "not judged"],
        ),
        case(
            "expected perplexity of random weights",
            "path = \"x\"\nevidence = \"synthetic\"\nexpect.perplexity = { max = 9 }\n",
            ":7:21:",
            &["expect.perplexity of a model of random weights"],
        ),
        case(
            "a question without expected answers",
            "path = \"x\"\ngeneration = { prompt = \"p\", expect = [] }\n",
            ":6:",
            &["expect is empty"],
        ),
        case("no questions", "path = \"x\"\ngeneration = []\n", ":6:14:", &["empty list"]),
        case(
            "two questions with the same name",
            "path = \"x\"\n[[model.generation]]\nname = \"n\"\nprompt = \"p\"\nexpect = \"e\"\n\
             [[model.generation]]\nname = \"n\"\nprompt = \"p\"\nexpect = \"e\"\n",
            ":11:8:",
            &["\"n\" is duplicated"],
        ),
        case(
            "neither prompt nor messages",
            "path = \"x\"\ngeneration = { expect = \"e\" }\n",
            ":6:",
            &["either prompt or messages"],
        ),
        case(
            "an unknown key of a question",
            "path = \"x\"\ngeneration = { promt = \"p\", expect = \"e\" }\n",
            ":6:",
            &["unknown key `promt`", "`prompt`"],
        ),
        case(
            "image input",
            "path = \"x\"\ngeneration = { messages = [{ role = \"user\", content = [{ image = \
             \"i.png\" }] }], expect = \"e\" }\n",
            ":6:",
            &["image input is not supported"],
        ),
        DefectCase {
            name: "malformed id",
            models: HEAD.replace("\"a\"", "\"Tiny Llama\"") + "path = \"x\"\n",
            place: ":3:6:",
            message_parts: &["\"Tiny Llama\" is malformed", "lower-case"],
        },
        DefectCase {
            name: "reserved id",
            models: HEAD.replace("\"a\"", "\"a@synthetic\"") + "path = \"x\"\n",
            place: ":3:6:",
            message_parts: &["reserved"],
        },
        DefectCase {
            name: "a synthetic variant with a mixed quantization",
            models: HEAD.replace("q8_0", "q4_k_m") + "path = \"x\"\nsynthetic = true\n",
            place: ":6:13:",
            message_parts: &["cannot be in q4_k_m", "quantization = \"q4_k\""],
        },
        DefectCase {
            name: "a synthetic variant whose id is too long",
            models: HEAD.replace("\"a\"", &format!("\"{}\"", "a".repeat(91)))
                + "path = \"x\"\nsynthetic = true\n",
            place: ":6:13:",
            message_parts: &["longer than 100 characters", "shorten"],
        },
        DefectCase {
            name: "a duplicate id",
            models: format!("{HEAD}path = \"x\"\n{HEAD}path = \"y\"\n"),
            place: ":7:6:",
            message_parts: &["\"a\" is duplicated"],
        },
        DefectCase {
            name: "missing key",
            models: "[[model]]\nid = \"a\"\npath = \"x\"\n".into(),
            place: ":2:1:",
            message_parts: &["quantization"],
        },
        DefectCase {
            name: "unknown quantization",
            models: HEAD.replace("q8_0", "q4k") + "path = \"x\"\n",
            place: ":4:16:",
            message_parts: &["\"q4k\" is not supported", "use \"q4_k\""],
        },
        DefectCase {
            name: "another library's quantization",
            models: HEAD.replace("q8_0", "nf4") + "path = \"x\"\n",
            place: ":4:16:",
            message_parts: &["\"nf4\"", "use \"q4_k\" instead"],
        },
        DefectCase {
            name: "no model",
            models: "model = []\n".into(),
            place: ":1:10:",
            message_parts: &["no model"],
        },
        DefectCase {
            name: "a range of 45 to 50 GB for Mixtral 8x22B at 4 bits",
            models: "[[model]]\nid = \"m\"\nrepo = \"mistralai/Mixtral-8x22B-Instruct-v0.1\"\n\
                     quantization = \"q4_k\"\ndevice = \"cuda\"\n\
                     expect.vram = { min = \"45GB\", max = \"50GB\" }\n"
                .into(),
            place: ":7:15:",
            message_parts: &[
                "but this model needs at least",
                "140,630,071,296 parameters",
                "79.1 GB",
                "4.50 bits per weight",
            ],
        },
    ]
}

#[test]
fn every_defect_is_reported_with_place_and_hint() {
    for case in cases() {
        let ended = Run::manifest(&case.models).run();
        let text = &ended.stderr;
        assert_eq!(ended.code, Some(2), "{}: {}", case.name, ended.output());
        assert!(text.contains(&format!("models.toml{}", case.place)), "{}: {text}", case.name);
        for part in case.message_parts {
            assert!(text.contains(part), "{}: expected {part:?} in {text}", case.name);
        }
        assert!(text.contains("hint: "), "{}: {text}", case.name);
        assert!(ended.report.is_none() && !ended.stdout.contains("running"), "no check runs");
    }
}

#[test]
fn an_unknown_schema_version_is_reported() {
    let run = Run::bundled();
    let path = run.folder.path().join("future.toml");
    std::fs::write(&path, "schema = 2\n").expect("a manifest");
    let ended = run.env("MODELGATE_MANIFEST", &path).run();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("future.toml:1:10: schema is 2, expected 1"), "{}", ended.stderr);
}

#[test]
fn a_missing_manifest_is_reported_with_path_and_variable() {
    let ended =
        Run::bundled().env("MODELGATE_MANIFEST", "/no/such/manifest.toml").arg("--list").run();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("/no/such/manifest.toml"), "{}", ended.stderr);
    assert!(ended.stderr.contains("MODELGATE_MANIFEST"), "{}", ended.stderr);
}
