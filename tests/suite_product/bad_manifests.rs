//! Every defect of a manifest ends the run before anything starts, and the message names file,
//! line and column, what was expected, and the nearest known key.

use crate::common::Run;

/// What precedes each row's text; `schema = 1` stands above it in line 1.
const HEAD: &str = "[[model]]\nid = \"a\"\nquantization = \"q8_0\"\n";

struct Row {
    name: &'static str,
    models: String,
    /// `line:column` of the message.
    place: &'static str,
    /// What the message must say.
    says: &'static [&'static str],
}

fn row(name: &'static str, more: &str, place: &'static str, says: &'static [&'static str]) -> Row {
    Row { name, models: format!("{HEAD}{more}"), place, says }
}

fn rows() -> Vec<Row> {
    vec![
        row("unknown key", "pathh = \"x\"\n", ":5:1:", &["unknown key `pathh`", "`path`"]),
        row(
            "unknown key within expect",
            "path = \"x\"\nexpect.vramm = { max = \"1GB\" }\n",
            ":6:8:",
            &["unknown key `vramm`", "`vram`"],
        ),
        row("wrong type", "path = 3\n", ":5:8:", &["string"]),
        row("not TOML", "path = \n", ":5:", &["path"]),
        row(
            "bad unit of size",
            "path = \"x\"\nexpect.ram = { max = \"10gb\" }\n",
            ":6:22:",
            &["\"10gb\" is no size", "GB"],
        ),
        row(
            "size without a unit",
            "path = \"x\"\nexpect.ram = { max = \"10\" }\n",
            ":6:22:",
            &["\"10\" is no size"],
        ),
        row(
            "bad unit of time",
            "path = \"x\"\ndeadline = \"5 minutes\"\n",
            ":6:12:",
            &["\"5 minutes\" is no duration", "min"],
        ),
        row(
            "range upside down",
            "path = \"x\"\nexpect.ram = { min = \"2GB\", max = \"1GB\" }\n",
            ":6:14:",
            &["min is above max"],
        ),
        row(
            "range that bounds nothing",
            "path = \"x\"\nexpect.ram = { min = \"0B\" }\n",
            ":6:14:",
            &["no bound"],
        ),
        row("range of nothing", "path = \"x\"\nexpect.ram = {}\n", ":6:14:", &["range is empty"]),
        row(
            "VRAM on the CPU",
            "path = \"x\"\ndevice = \"cpu\"\nexpect.vram = { max = \"1GB\" }\n",
            ":7:15:",
            &["no device memory", "expect.ram"],
        ),
        row(
            "first shorter than cached",
            "path = \"x\"\nexpect.load_time = { cached = \"2min\", first = \"1min\" }\n",
            ":6:",
            &["first is shorter"],
        ),
        row(
            "perplexity that no text has",
            "path = \"x\"\nexpect.perplexity = { max = 1 }\n",
            ":6:",
            &["perplexity.max"],
        ),
        row("no source", "", ":2:1:", &["neither repo nor path"]),
        row("two sources", "path = \"x\"\nrepo = \"a/b\"\n", ":6:8:", &["both repo and path"]),
        row("malformed repository", "repo = \"just-a-name\"\n", ":5:8:", &["owner/name"]),
        row(
            "a revision that leaves the folder",
            "repo = \"a/b\"\nrevision = \"../x\"\n",
            ":6:12:",
            &["revision"],
        ),
        row("a file with a path", "path = \"x\"\nfile = \"y.gguf\"\n", ":6:8:", &["with repo"]),
        row("unknown device", "path = \"x\"\ndevice = \"gpu\"\n", ":6:10:", &["\"gpu\"", "cuda"]),
        row("no device", "path = \"x\"\ndevice = []\n", ":6:10:", &["empty list"]),
        row("context of nothing", "path = \"x\"\ncontext = 0\n", ":6:11:", &["context is 0"]),
        row(
            "a synthetic variant of unknown shapes",
            "repo = \"some-owner/Some-Model\"\nsynthetic = true\n",
            ":6:13:",
            &["shapes of some-owner/Some-Model are not known", "Qwen2.5-Omni-7B", "config.json"],
        ),
        row(
            "a synthetic variant of a GGUF file",
            "path = \"x.GGUF\"\nsynthetic = true\n",
            ":6:13:",
            &["a GGUF file has none", "config.json"],
        ),
        row(
            "evidence of a third kind",
            "path = \"x\"\nevidence = \"syntetic\"\n",
            ":6:12:",
            &["\"real\" or \"synthetic\"", "the nearest is \"synthetic\""],
        ),
        row(
            "a repository of random weights",
            "repo = \"a/b\"\nevidence = \"synthetic\"\n",
            ":6:12:",
            &["with path, not with repo", "synthetic = true"],
        ),
        row(
            "answers of random weights",
            "path = \"x\"\nevidence = \"synthetic\"\n\
             generation = { prompt = \"p\", expect = \"e\" }\n",
            ":7:14:",
            &["generation of a model of random weights", "not judged"],
        ),
        row(
            "perplexity of random weights",
            "path = \"x\"\nevidence = \"synthetic\"\nexpect.perplexity = { max = 9 }\n",
            ":7:21:",
            &["expect.perplexity of a model of random weights"],
        ),
        row(
            "an answer that anything satisfies",
            "path = \"x\"\ngeneration = { prompt = \"p\", expect = [] }\n",
            ":6:",
            &["expect is empty"],
        ),
        row("no questions", "path = \"x\"\ngeneration = []\n", ":6:14:", &["empty list"]),
        row(
            "two questions of a name",
            "path = \"x\"\n[[model.generation]]\nname = \"n\"\nprompt = \"p\"\nexpect = \"e\"\n\
             [[model.generation]]\nname = \"n\"\nprompt = \"p\"\nexpect = \"e\"\n",
            ":11:8:",
            &["\"n\" is duplicated"],
        ),
        row(
            "neither prompt nor messages",
            "path = \"x\"\ngeneration = { expect = \"e\" }\n",
            ":6:",
            &["either prompt or messages"],
        ),
        row(
            "an unknown key of a question",
            "path = \"x\"\ngeneration = { promt = \"p\", expect = \"e\" }\n",
            ":6:",
            &["unknown key `promt`", "`prompt`"],
        ),
        row(
            "a medium without a tower",
            "path = \"x\"\ngeneration = { messages = [{ role = \"user\", content = [{ image = \
             \"i.png\" }] }], expect = \"e\" }\n",
            ":6:",
            &["image input is not supported"],
        ),
        Row {
            name: "malformed id",
            models: HEAD.replace("\"a\"", "\"Tiny Llama\"") + "path = \"x\"\n",
            place: ":3:6:",
            says: &["\"Tiny Llama\" is malformed", "lower-case"],
        },
        Row {
            name: "reserved id",
            models: HEAD.replace("\"a\"", "\"a@synthetic\"") + "path = \"x\"\n",
            place: ":3:6:",
            says: &["reserved"],
        },
        Row {
            name: "a synthetic variant in a mix",
            models: HEAD.replace("q8_0", "q4_k_m") + "path = \"x\"\nsynthetic = true\n",
            place: ":6:13:",
            says: &["cannot be in q4_k_m", "quantization = \"q4_k\""],
        },
        Row {
            name: "a synthetic variant whose id is too long",
            models: HEAD.replace("\"a\"", &format!("\"{}\"", "a".repeat(91)))
                + "path = \"x\"\nsynthetic = true\n",
            place: ":6:13:",
            says: &["longer than 100 characters", "shorten"],
        },
        Row {
            name: "id twice",
            models: format!("{HEAD}path = \"x\"\n{HEAD}path = \"y\"\n"),
            place: ":7:6:",
            says: &["\"a\" is duplicated"],
        },
        Row {
            name: "missing key",
            models: "[[model]]\nid = \"a\"\npath = \"x\"\n".into(),
            place: ":2:1:",
            says: &["quantization"],
        },
        Row {
            name: "unknown quantization",
            models: HEAD.replace("q8_0", "q4k") + "path = \"x\"\n",
            place: ":4:16:",
            says: &["\"q4k\" is not supported", "the nearest is \"q4_k\""],
        },
        Row {
            name: "another library's quantization",
            models: HEAD.replace("q8_0", "nf4") + "path = \"x\"\n",
            place: ":4:16:",
            says: &["\"nf4\"", "use \"q4_k\" instead"],
        },
        Row {
            name: "no model",
            models: "model = []\n".into(),
            place: ":1:10:",
            says: &["no model"],
        },
        Row {
            name: "Mixtral at 4 bits in the 45 to 50 GB of the originating document",
            models: "[[model]]\nid = \"m\"\nrepo = \"mistralai/Mixtral-8x22B-Instruct-v0.1\"\n\
                     quantization = \"q4_k\"\ndevice = \"cuda\"\n\
                     expect.vram = { min = \"45GB\", max = \"50GB\" }\n"
                .into(),
            place: ":7:15:",
            says: &[
                "no load of this model can meet",
                "140,630,071,296 parameters",
                "79.1 GB",
                "4.50 bits per weight",
            ],
        },
    ]
}

#[test]
fn each_ends_the_run_with_its_place_and_remedy() {
    for row in rows() {
        let ended = Run::manifest(&row.models).run();
        let text = &ended.stderr;
        assert_eq!(ended.code, Some(2), "{}: {}", row.name, ended.all());
        assert!(text.contains(&format!("models.toml{}", row.place)), "{}: {text}", row.name);
        for said in row.says {
            assert!(text.contains(said), "{}: expected {said:?} in {text}", row.name);
        }
        assert!(text.contains("hint: "), "{}: {text}", row.name);
        assert!(ended.report.is_none() && !ended.stdout.contains("running"), "nothing runs");
    }
}

#[test]
fn another_schema_is_refused() {
    let run = Run::bundled();
    let path = run.folder.path().join("future.toml");
    std::fs::write(&path, "schema = 2\n").expect("a manifest");
    let ended = run.env("MODELGATE_MANIFEST", &path).run();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("future.toml:1:10: schema is 2, expected 1"), "{}", ended.stderr);
}

#[test]
fn a_missing_manifest_is_named() {
    let ended =
        Run::bundled().env("MODELGATE_MANIFEST", "/no/such/manifest.toml").arg("--list").run();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("/no/such/manifest.toml"), "{}", ended.stderr);
    assert!(ended.stderr.contains("MODELGATE_MANIFEST"), "{}", ended.stderr);
}
