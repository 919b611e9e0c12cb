//! Files that other programs write: names of tensors, indexes, types and values of configs that differ
//! from those of published checkpoints. The expected outcome of each case is that of transformers 5.24.

#![allow(clippy::unwrap_used)]

mod common;

use common::{failed, fixtures, inventory, largest_difference, load, loaded, request, rows, tiny};
use modelgate_model::tensors;
use modelgate_protocol::{DType, Failure, FailureKind, Request, Scheme, Stage};
use modelgate_testkit::families::Golden;
use modelgate_testkit::safetensors_edit::{
    INDEX, RawTensor, Shard, add_tensor, convert, copy_model, drop_tensor, edit, edit_index,
    read_shard, rename_all, write_shard,
};
use modelgate_testkit::{requests, tokenizers};
use safetensors::Dtype;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The maximum difference of a logit, caused by f32 sums in another order.
const LOGIT: f32 = 1e-4;

/// A checkpoint that transformers saved (`scripts/golden/checkpoint_names.py`).
#[derive(Deserialize)]
struct Checkpoint {
    variant: String,
    original_format: bool,
    config: Value,
    tensors: BTreeMap<String, SavedTensor>,
}

/// A saved tensor: its shape, and the tensors of the variant whose values it contains.
#[derive(Deserialize)]
struct SavedTensor {
    shape: Vec<usize>,
    parts: Vec<String>,
}

fn checkpoints() -> Vec<Checkpoint> {
    #[derive(Deserialize)]
    struct File {
        checkpoints: Vec<Checkpoint>,
    }
    let text = fs::read_to_string(fixtures().join("golden/checkpoint_names.json")).unwrap();
    let File { checkpoints } = serde_json::from_str(&text).unwrap();
    checkpoints
}

/// Writes a checkpoint with the weights of its variant to a new folder.
fn written(golden: &Golden, checkpoint: &Checkpoint) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let variant = golden.variant(&checkpoint.variant);
    let weights = read_shard(&golden.weights(variant));
    let saved = |(name, saved): (&String, &SavedTensor)| {
        let parts = saved.parts.iter().map(|part| &weights[part]);
        let data: Vec<u8> = parts.clone().flat_map(|part| part.data.iter().copied()).collect();
        let dtype = parts.clone().next().unwrap().dtype;
        (name.clone(), RawTensor { dtype, shape: saved.shape.clone(), data })
    };
    let shard: Shard = checkpoint.tensors.iter().map(saved).collect();
    write_shard(&folder.path().join("model.safetensors"), &shard);
    fs::write(folder.path().join("config.json"), checkpoint.config.to_string()).unwrap();
    let rows = golden.logits(variant, &variant.prompts[0])[0].len();
    fs::write(folder.path().join("tokenizer.json"), tokenizers::numbered(rows)).unwrap();
    folder
}

#[test]
fn checkpoints_that_transformers_5_saves_have_the_logits_of_the_reference() {
    let golden = Golden::read(&fixtures());
    let checkpoints = checkpoints();
    assert_eq!(checkpoints.len(), 6);
    for checkpoint in &checkpoints {
        let name = format!("{}, original: {}", checkpoint.variant, checkpoint.original_format);
        let folder = written(&golden, checkpoint);
        let mut request = request(folder.path(), Scheme::None);
        request.context = Some(512);
        let (model, events) = load(&request);
        let mut model = model.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        let needed: Vec<String> = tensors(model.config()).into_iter().map(|t| t.name).collect();
        let loaded: Vec<String> = inventory(&events).into_iter().map(|t| t.name).collect();
        assert_eq!(loaded.len(), needed.len(), "{name}");
        assert!(needed.iter().all(|needed| loaded.contains(needed)), "{name}");
        let variant = golden.variant(&checkpoint.variant);
        for prompt in &variant.prompts {
            model.reset();
            let all = rows(&model.forward(&prompt.token_ids, 0).unwrap());
            let kept: Vec<_> = prompt.positions.iter().map(|at| all[*at].clone()).collect();
            let difference = largest_difference(&kept, &golden.logits(variant, prompt));
            assert!(difference <= LOGIT, "{name}: {difference}");
        }
    }
}

#[test]
fn merged_experts_are_quantized_like_separate_experts() {
    let golden = Golden::read(&fixtures());
    let checkpoints = checkpoints();
    let of_mixtral = checkpoints.iter().filter(|checkpoint| checkpoint.variant == "mixtral");
    let resident: Vec<Vec<_>> = of_mixtral
        .map(|checkpoint| {
            let folder = written(&golden, checkpoint);
            let mut request = request(folder.path(), Scheme::Q8_0);
            request.context = Some(512);
            let (model, events) = load(&request);
            assert!(model.is_ok());
            let list = inventory(&events).into_iter();
            list.map(|t| (t.name, t.shape, t.dtype, t.role, t.nmse)).collect()
        })
        .collect();
    assert_eq!(resident.len(), 2);
    assert_eq!(resident[0], resident[1]);
    let expert = resident[1].iter().find(|tensor| tensor.0.contains(".experts.3.w3.")).unwrap();
    assert_eq!(expert.2, DType::Q8_0);
}

#[test]
fn merged_experts_of_a_wrong_shape_are_reported_with_their_name_in_the_file() {
    let golden = Golden::read(&fixtures());
    let merged = checkpoints().into_iter().find(|c| c.variant == "mixtral" && !c.original_format);
    let merged = merged.unwrap();
    let folder = written(&golden, &merged);
    let name = "model.layers.1.mlp.experts.gate_up_proj";
    edit(folder.path(), name, |shard| {
        // transposed, as in checkpoints of other architectures
        shard.get_mut(name).unwrap().shape.swap(1, 2);
    });
    let failure = failed(&request(folder.path(), Scheme::None));
    assert_eq!(failure.kind, FailureKind::TensorShape);
    for word in [name, "[8, 192, 64]", "[8, 64, 192]", "model.safetensors"] {
        assert!(failure.message.contains(word), "\"{word}\" in: {failure}");
    }
    let folder = written(&golden, &merged);
    edit(folder.path(), name, |shard| {
        let raw = shard.get_mut(name).unwrap();
        let mut values = raw.to_f32();
        // the first value of the third expert
        values[2 * 192 * 64] = f32::NAN;
        raw.set_f32(&values);
    });
    let request = Request { context: Some(16), ..request(folder.path(), Scheme::None) };
    let failure = failed(&request);
    assert_eq!(failure.kind, FailureKind::NonFinite);
    for word in [name, "experts.2.w1", "index 0"] {
        assert!(failure.message.contains(word), "\"{word}\" in: {failure}");
    }
}

fn tokens() -> Vec<u32> {
    (0..40).map(|n| n * 11).collect()
}

/// Returns the logits of the model in `dir`.
fn logits(dir: &Path) -> Vec<Vec<f32>> {
    rows(&loaded(&request(dir, Scheme::None)).forward(&tokens(), 0).unwrap())
}

#[test]
fn the_prefix_of_the_base_model_is_optional() {
    let expected = logits(&tiny());
    let missing = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    let extra = |name: &str| format!("model.{name}");
    for rename in [&missing as &dyn Fn(&str) -> String, &extra] {
        let dir = copy_model(&tiny());
        rename_all(dir.path(), rename);
        assert_eq!(logits(dir.path()), expected);
    }
    let dir = copy_model(&tiny());
    rename_all(dir.path(), missing);
    add_tensor(dir.path(), "model.norm.weight", &[256]);
    let failure = failed(&request(dir.path(), Scheme::None));
    assert_eq!(failure.kind, FailureKind::Corrupt);
    assert!(failure.message.contains("tensor norm.weight is duplicated"), "{failure}");
}

#[test]
fn a_tied_matrix_can_have_either_name() {
    let (embedding, output) = ("model.embed_tokens.weight", "lm_head.weight");
    let tied = |kept: &str| {
        let dir = copy_model(&tiny());
        let path = dir.path().join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config["tie_word_embeddings"] = json!(true);
        fs::write(path, config.to_string()).unwrap();
        drop_tensor(dir.path(), output);
        rename_all(dir.path(), |name| if name == embedding { kept } else { name }.to_owned());
        logits(dir.path())
    };
    assert_eq!(tied(output), tied(embedding));
}

fn refused(dir: &Path, kind: FailureKind, words: &[&str]) -> Failure {
    let failure = failed(&request(dir, Scheme::Q8_0));
    assert_eq!((failure.kind, failure.stage), (kind, Stage::Load), "{failure}");
    for word in words {
        assert!(failure.message.contains(word), "\"{word}\" in: {}", failure.message);
    }
    failure
}

#[test]
fn names_with_the_prefix_of_a_wrapper_are_refused_with_the_wrapper() {
    for (prefix, wrapper, fix) in [
        ("_orig_mod.", "torch.compile", "_orig_mod.save_pretrained"),
        ("module.", "DataParallel", "module.save_pretrained"),
        ("base_model.model.", "PEFT", "merge_and_unload"),
        ("backbone.", "unknown prefix", "remove \"backbone.\""),
    ] {
        let dir = copy_model(&tiny());
        rename_all(dir.path(), |name| format!("{prefix}{name}"));
        let words = [prefix, wrapper, "transformers", ".safetensors"];
        let failure = refused(dir.path(), FailureKind::Unsupported, &words);
        assert!(failure.hint.contains(fix), "{}", failure.hint);
    }
    // each layer was compiled
    let dir = copy_model(&tiny());
    rename_all(dir.path(), |name| match name.split_once(".layers.") {
        Some((start, rest)) => {
            let (layer, rest) = rest.split_once('.').unwrap();
            format!("{start}.layers.{layer}._orig_mod.{rest}")
        }
        None => name.to_owned(),
    });
    refused(dir.path(), FailureKind::Unsupported, &["torch.compile", "layers.0._orig_mod."]);
    // the prefix does not explain a tensor that is missing
    let dir = copy_model(&tiny());
    drop_tensor(dir.path(), "model.layers.1.mlp.up_proj.weight");
    rename_all(dir.path(), |name| format!("module.{name}"));
    let failure = refused(dir.path(), FailureKind::TensorMissing, &["model.embed_tokens.weight"]);
    assert_eq!(failure.hint, "");
    let dir = copy_model(&tiny());
    rename_all(dir.path(), |name| format!("base_model.model.{name}"));
    let lora = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    add_tensor(dir.path(), lora, &[8, 256]);
    refused(dir.path(), FailureKind::Unsupported, &["LoRA", lora]);
}

#[test]
fn the_index_only_decides_which_files_are_read() {
    let expected = logits(&tiny());
    type Map = serde_json::Map<String, Value>;
    type Change<'a> = &'a dyn Fn(&mut Map);
    let other = |map: &Map, tensor: &str| {
        let file = &map[tensor];
        map.values().find(|other| *other != file).unwrap().clone()
    };
    let cases: [(&str, Change); 4] = [
        ("an entry without a tensor", &|map| {
            let shard = map["model.norm.weight"].clone();
            map.insert("model.layers.0.rotary_emb.inv_freq".into(), shard);
        }),
        ("an entry with another shard", &|map| {
            let shard = other(map, "model.norm.weight");
            map.insert("model.norm.weight".into(), shard);
        }),
        ("a tensor without an entry", &|map| {
            map.remove("model.norm.weight");
        }),
        ("paths that begin with ./", &|map| {
            for shard in map.values_mut() {
                *shard = json!(format!("./{}", shard.as_str().unwrap()));
            }
        }),
    ];
    for (name, change) in cases {
        let dir = copy_model(&tiny());
        edit_index(dir.path(), change);
        assert_eq!(logits(dir.path()), expected, "{name}");
        let files = modelgate_model::layout::files(dir.path()).unwrap();
        assert_eq!(files.weights.len(), 2, "{name}: {:?}", files.weights);
    }
    // transformers opens each file in the index
    let dir = copy_model(&tiny());
    edit_index(dir.path(), |map| {
        map.insert("vision.weight".into(), json!("model-00003-of-00003.safetensors"));
    });
    refused(dir.path(), FailureKind::NotFound, &["model-00003-of-00003.safetensors", INDEX]);
}

#[test]
fn values_of_64_bits_are_converted() {
    let expected = logits(&tiny());
    let dir = copy_model(&tiny());
    convert(dir.path(), Dtype::F64);
    assert_eq!(logits(dir.path()), expected);
    let (model, events) = load(&request(dir.path(), Scheme::Q8_0));
    assert!(model.is_ok());
    for tensor in inventory(&events) {
        let expected = if tensor.shape.len() == 2 { DType::Q8_0 } else { DType::F32 };
        assert_eq!((tensor.source_dtype, tensor.dtype), (DType::F64, expected), "{}", tensor.name);
    }
}

#[test]
fn json_as_python_writes_it_is_read() {
    let expected = logits(&tiny());
    let dir = copy_model(&tiny());
    for (file, more) in [
        ("config.json", r#""router_jitter_noise": NaN, "limits": [Infinity, -Infinity],"#),
        ("generation_config.json", r#""top_p": NaN,"#),
        ("tokenizer_config.json", r#""model_max_length": Infinity,"#),
    ] {
        let path = dir.path().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|_| "{\n\"top_k\": 1}".to_owned());
        fs::write(path, text.replacen('{', &format!("{{{more}"), 1)).unwrap();
    }
    assert_eq!(logits(dir.path()), expected);
    let model = loaded(&request(dir.path(), Scheme::None));
    model.render(&[requests::message("user", "What is the capital of France?")]).unwrap();
    // a value that the model needs is refused with its text
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": NaN", 1);
    assert!(text.contains("\"rms_norm_eps\": NaN"));
    fs::write(&path, text).unwrap();
    refused(dir.path(), FailureKind::Corrupt, &["config.json", "NaN"]);
}

#[test]
fn a_negative_stop_token_means_that_there_is_none() {
    for (config, generation, expected) in [
        (json!(-1), json!(-1), vec![]),
        (json!([497, -1]), json!(null), vec![497]), // no generation config
        (json!(-1), json!(505), vec![505]),
    ] {
        let dir = copy_model(&tiny());
        let path = dir.path().join("config.json");
        let mut value: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        value["eos_token_id"] = config;
        fs::write(path, value.to_string()).unwrap();
        let path = dir.path().join("generation_config.json");
        match generation {
            Value::Null => fs::remove_file(path).unwrap(),
            ids => fs::write(path, json!({ "eos_token_id": ids }).to_string()).unwrap(),
        }
        assert_eq!(loaded(&request(dir.path(), Scheme::None)).stop_tokens(), expected);
    }
}

#[test]
fn an_added_token_without_a_row_is_refused_only_in_a_text() {
    let dir = copy_model(&tiny());
    let path = dir.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let mut token = added[0].clone();
    token["id"] = json!(512);
    token["content"] = json!("<|tool|>");
    token["special"] = json!(false);
    added.push(token);
    fs::write(path, tokenizer.to_string()).unwrap();
    let model = loaded(&request(dir.path(), Scheme::None));
    let expected = loaded(&request(&tiny(), Scheme::None)).encode("a tool", true).unwrap();
    assert_eq!(model.encode("a tool", true).unwrap(), expected);
    let failure = model.encode("a <|tool|>", true).unwrap_err();
    assert_eq!((failure.kind, failure.stage), (FailureKind::Tokenizer, Stage::Generate));
    for word in ["<|tool|>", "512", "tokenizer.json"] {
        assert!(failure.message.contains(word), "\"{word}\" in: {failure}");
    }
}
