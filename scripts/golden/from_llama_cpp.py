"""Write reference data of llama.cpp: GGUF files, and the logits that it computes from them.

    python scripts/golden/from_llama_cpp.py --llama-cpp <llama.cpp's source tree>

The tree must contain convert_hf_to_gguf.py and gguf-py. Use the tree in vendor/ of the source
package of llama-cpp-python, in the version of scripts/requirements.txt. Its converter writes the
tiny models as GGUF, llama.cpp quantizes them, and llama-cpp-python evaluates the prompts of the
golden files, each in one pass, on one thread, with a float32 cache and without flash attention.

The script writes to llama_cpp/ next to it: logits.safetensors and logits.json, the quantized
tiny-llama-q4_k_m.gguf, and for each tokenizer a GGUF file with the vocabulary only.

The converter identifies published tokenizers by their hash, and takes scores from a sentencepiece
model. The tiny tokenizers have neither, so this script provides pre-tokenizers, scores and token
types; tokenization.py compares the resulting ids. The logits depend slightly on the processor and
on the build of llama.cpp.

If weights are not float32, llama.cpp rounds activations too. A format `<name>-dequantized` contains
the rounded weights as float32, so that its logits show only the rounding of weights.

The text decoder of the omni model is evaluated as a Qwen2. The script also converts the complete
omni model, and compares its logits once, in float32. They differ only by the epsilon of the norms,
which llama.cpp as of llama-cpp-python 0.3.36 does not read for the architecture qwen2vl.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOLDEN = FIXTURES / "golden"
TINY = FIXTURES / "tiny"
OUT = GOLDEN / "llama_cpp"
POSITIONS = 2
F32 = 0  # the number of the type in ggml

FILE_TYPES = {
    "f32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
# The maximum mean Kullback-Leibler divergence from transformers, in nats. Rounding can route a
# token to another expert, and then single logits differ much.
LIMITS = {"f32": 1e-9, "f16": 1e-5, "q8_0": 1e-2, "q4_k_m": 1e-1}
LIMIT_WITHOUT_EPSILON = 1e-6
# The formats whose logits are stored for all models, and one more for the tiny Llama.
STORED_FORMATS = ("f16", "q8_0")
STORED_FORMAT_OF_LLAMA = "q4_k_m-dequantized"


def load_converter(tree: Path):
    """Return the converter of llama.cpp, patched to accept the tiny tokenizers."""
    sys.path.insert(0, str(tree))
    converter = importlib.import_module("convert_hf_to_gguf")
    text_model = importlib.import_module("conversion").TextModel
    vocabulary = importlib.import_module("gguf").LlamaHfVocab
    types = importlib.import_module("gguf").TokenType

    # The converter identifies a pre-tokenizer by the hash of an encoded text, which works for
    # published vocabularies only.
    def pre_tokenizer(model, tokenizer) -> str:
        return "llama-bpe" if model.hf_arch == "LlamaForCausalLM" else "qwen2"

    text_model.get_vocab_base_pre = pre_tokenizer

    # Without a tokenizer.model, the converter has no scores. In a vocabulary of sentencepiece, pieces
    # are listed in the order of their merges, so the score falls with the id.
    def score(vocabulary, token_id: int) -> float:
        return -float(token_id)

    # The converter also treats special tokens without a role as normal tokens.
    def token_type(vocabulary, token_id: int, text: bytes, special_ids: set[int]):
        tokenizer = vocabulary.tokenizer
        if token_id == tokenizer.unk_token_id:
            return types.UNKNOWN
        if token_id in tokenizer.added_tokens_decoder:
            return types.CONTROL
        return types.BYTE if text.startswith(b"<0x") and len(text) == 6 else types.NORMAL

    vocabulary.get_token_score = score
    vocabulary.get_token_type = token_type

    def convert(folder: Path, out: Path, *options: str) -> None:
        sys.argv = ["convert_hf_to_gguf.py", str(folder), "--outfile", str(out), *options]
        converter.main()
        logging.disable()

    return convert


def quantize(source: Path, target: Path, file_type: int) -> Path:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = 1
    parameters.ftype = file_type
    parameters.allow_requantize = True
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters)
    assert not failed, target
    return target


def evaluate(path: Path, prompts: list[dict]) -> dict[str, torch.Tensor]:
    model = llama_cpp.Llama(
        str(path), n_ctx=1024, n_batch=1024, n_ubatch=1024, n_threads=1, n_threads_batch=1,
        type_k=F32, type_v=F32, flash_attn=False, logits_all=True, verbose=False,
    )
    logits = {}
    for prompt in prompts:
        model.reset()
        model.eval(prompt["token_ids"])
        logits[prompt["name"]] = torch.from_numpy(np.array(model.scores[prompt["positions"]]))
    model.close()
    return logits


@torch.no_grad()
def evaluate_with_transformers(folder: Path, prompts: list[dict]) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return {
        prompt["name"]: model(torch.tensor([prompt["token_ids"]]), use_cache=False).logits[0][prompt["positions"]]
        for prompt in prompts
    }


def chosen_prompts(golden: str) -> list[dict]:
    """Return all prompts of a model with evenly spaced positions, including the last one."""
    found = json.loads((GOLDEN / f"{golden}.json").read_text())["prompts"]
    prompts = []
    for prompt in found:
        ids = prompt["token_ids"]
        count = min(POSITIONS, len(ids))
        positions = [(n + 1) * len(ids) // count - 1 for n in range(count)]
        prompts.append({"name": prompt["name"], "token_ids": ids, "positions": positions})
    return prompts


def compare(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the largest difference of a logit, and the mean Kullback-Leibler divergence of rows."""
    differences = [(got[name] - expected[name]).abs().max() for name in expected]
    divergences = torch.cat([
        torch.nn.functional.kl_div(
            got[name].double().log_softmax(-1), expected[name].double().log_softmax(-1),
            log_target=True, reduction="none",
        ).sum(-1)
        for name in expected
    ])
    return {"max_difference": max(differences).item(), "mean_divergence": divergences.mean().item()}


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain_qwen(omni: Path, folder: Path) -> Path:
    """Write the text decoder of the omni model as a Qwen2 checkpoint and return its folder."""
    folder.mkdir()
    config = json.loads((omni / "config.json").read_text())["thinker_config"]["text_config"]
    # For text, the positions of the three sections are the same.
    del config["rope_scaling"]
    config |= {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {}
    for shard in sorted(omni.glob("*.safetensors")):
        for name, weight in load_file(shard).items():
            name = name.removeprefix("thinker.")
            if name.startswith(("model.", "lm_head.")):
                weights[name] = weight
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.json"):
        shutil.copy(omni / name, folder)
    return folder


def named_for_converter(omni: Path, folder: Path) -> Path:
    """Copy the omni model, with the architecture name of the published model, for the converter."""
    shutil.copytree(omni, folder)
    config = json.loads((omni / "config.json").read_text())
    config["architectures"] = ["Qwen2_5OmniModel"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def types_of(path: Path) -> dict[str, str]:
    """Return the type of each tensor of a GGUF file."""
    reader = importlib.import_module("gguf").GGUFReader(path)
    return {tensor.name: tensor.tensor_type.name.lower() for tensor in reader.tensors}


def write(entries: list[dict], tensors: dict[str, torch.Tensor], converter: str) -> None:
    path = OUT / "logits.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    golden = {
        "files": {path.name: hash_of(path) for path in sorted(OUT.glob("*.gguf"))},
        "versions": {
            "llama-cpp-python": llama_cpp.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "convert_hf_to_gguf.py": converter,
        },
    }
    models = ",\n".join("  " + json.dumps(entry) for entry in entries)
    others = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
    (OUT / "logits.json").write_text(f'{{\n "models": [\n{models}\n ],\n{others}\n}}\n')


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama-cpp", type=Path, required=True, help="source tree of llama.cpp")
    tree = parser.parse_args().llama_cpp
    convert = load_converter(tree)
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    entries, tensors = [], {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for model in ("tiny-llama", "tiny-mixtral", "tiny-qwen2.5-omni"):
            source = TINY / model.removeprefix("tiny-")
            omni = model == "tiny-qwen2.5-omni"
            folder = plain_qwen(source, work / "tiny-qwen2") if omni else source
            convert(folder, OUT / f"{model}.vocab.gguf", "--vocab-only", "--outtype", "f16")

            files = {kind: work / f"{model}-{kind}.gguf" for kind in ("f32", "f16")}
            for kind, path in files.items():
                convert(folder, path, "--outtype", kind)
            for kind in ("q8_0", "q4_k_m"):
                files[kind] = quantize(files["f32"], work / f"{model}-{kind}.gguf", FILE_TYPES[kind])
                exact = f"{kind}-dequantized"
                files[exact] = quantize(files[kind], work / f"{model}-{exact}.gguf", FILE_TYPES["f32"])
            if model == "tiny-llama":
                shutil.copy(files["q4_k_m"], OUT)

            prompts = chosen_prompts(model)
            expected = evaluate_with_transformers(folder, prompts)
            differences = {}
            for kind, path in files.items():
                logits = evaluate(path, prompts)
                differences[kind] = compare(logits, expected)
                if kind in STORED_FORMATS or (kind == STORED_FORMAT_OF_LLAMA and model == "tiny-llama"):
                    tensors |= {f"{model}/{kind}/{prompt}": values for prompt, values in logits.items()}
                print(f"{model} {kind:18} {differences[kind]}")
                assert differences[kind]["mean_divergence"] < LIMITS[kind.removesuffix("-dequantized")]
            if omni:
                path = work / "omni.gguf"
                convert(named_for_converter(source, work / "tiny-omni"), path, "--outtype", "f32")
                complete = compare(evaluate(path, prompts), expected)
                print(f"{model} {'complete':18} {complete}")
                assert complete["mean_divergence"] < LIMIT_WITHOUT_EPSILON
            entries.append({
                "model": model,
                "formats": differences,
                "prompts": prompts,
                "q4_k_m_types": types_of(files["q4_k_m"]),
                "weights_sha256": {path.name: hash_of(path) for path in sorted(source.glob("*.safetensors"))},
            })
    write(entries, tensors, hash_of(tree / "convert_hf_to_gguf.py"))


if __name__ == "__main__":
    main()
