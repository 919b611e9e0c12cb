"""Writes fixtures/golden/mixes.json: the types of all matrices in files that llama.cpp quantized.

Usage: python scripts/golden/mixes.py  (packages: llama-cpp-python 0.3.36, gguf 0.19, numpy)

Each model has random weights and the shapes that the rule of llama.cpp depends on: the number of
layers, experts, grouped attention, and rows that 256 does not divide. The types do not depend on the
values of the weights.
"""

import ctypes
import json
import pathlib
import tempfile

import gguf
import llama_cpp
import numpy as np

OUT = pathlib.Path(__file__).parents[2] / "fixtures/golden/mixes.json"
# the names of llama_ftype, and the names of schemes in modelgate
SCHEMES = {
    "Q4_0": "q4_0", "Q4_1": "q4_1", "Q5_0": "q5_0", "Q5_1": "q5_1", "Q8_0": "q8_0", "Q2_K": "q2_k",
    "Q2_K_S": "q2_k_s", "Q3_K_S": "q3_k_s", "Q3_K_M": "q3_k_m", "Q3_K_L": "q3_k_l", "Q4_K_S": "q4_k_s",
    "Q4_K_M": "q4_k_m", "Q5_K_S": "q5_k_s", "Q5_K_M": "q5_k_m", "Q6_K": "q6_k",
}
# q2_k_s needs an importance matrix, and the types of q4_0 and q5_0 depend on it
VARIANTS = [(ftype, scheme, False) for ftype, scheme in SCHEMES.items() if scheme != "q2_k_s"] + [
    (ftype, scheme, True) for ftype, scheme in SCHEMES.items()
]
# name, layers, hidden, feed-forward, heads, key heads, experts, tied embeddings
MODELS = [
    ("1 layer", 1, 256, 512, 4, 4, 0, False),
    ("4 layers", 4, 256, 512, 4, 4, 0, False),
    ("28 layers, tied embeddings, 4 heads per key", 28, 256, 512, 8, 2, 0, True),
    ("80 layers, 4 heads per key", 80, 256, 512, 8, 2, 0, False),
    ("8 layers, 8 experts", 8, 256, 512, 8, 2, 8, False),
    ("30 layers, rows of 576 and 1536, tied embeddings", 30, 576, 1536, 9, 3, 0, True),
]
VOCABULARY = 64


def write_model(path, layers, hidden, ffn, heads, keys, experts, tied):
    """Write a GGUF file with random weights in f16."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(keys)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    random = np.random.default_rng(13)

    def matrix(name, *shape):
        writer.add_tensor(name, random.normal(0, 0.02, shape).astype(np.float16))

    def norm(name):
        writer.add_tensor(name, np.ones(hidden, np.float32))

    matrix("token_embd.weight", VOCABULARY, hidden)
    norm("output_norm.weight")
    if not tied:
        matrix("output.weight", VOCABULARY, hidden)
    key_rows = hidden // heads * keys
    for layer in (f"blk.{n}" for n in range(layers)):
        norm(f"{layer}.attn_norm.weight")
        norm(f"{layer}.ffn_norm.weight")
        matrix(f"{layer}.attn_q.weight", hidden, hidden)
        matrix(f"{layer}.attn_k.weight", key_rows, hidden)
        matrix(f"{layer}.attn_v.weight", key_rows, hidden)
        matrix(f"{layer}.attn_output.weight", hidden, hidden)
        if experts:
            writer.add_tensor(f"{layer}.ffn_gate_inp.weight", np.zeros((experts, hidden), np.float32))
            for name in "ffn_gate_exps", "ffn_up_exps":
                matrix(f"{layer}.{name}.weight", experts, ffn, hidden)
            matrix(f"{layer}.ffn_down_exps.weight", experts, hidden, ffn)
        else:
            matrix(f"{layer}.ffn_gate.weight", ffn, hidden)
            matrix(f"{layer}.ffn_up.weight", ffn, hidden)
            matrix(f"{layer}.ffn_down.weight", hidden, ffn)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def importance(matrices):
    """Return an importance matrix in which all columns are equally important."""
    entries = (llama_cpp.llama_model_imatrix_data * (len(matrices) + 1))()
    for entry, (name, shape) in zip(entries, matrices.items()):
        count = shape[-1] * (shape[0] if len(shape) == 3 else 1)
        data = (ctypes.c_float * count)(*[1.0] * count)
        entry.name, entry.size = name.encode(), count
        entry.data = ctypes.cast(data, type(entry.data))
        keep.append(data)
    return entries


keep = []  # the memory that llama.cpp reads


def quantized(source, target, name, matrices):
    """Quantize a file with llama.cpp, with an importance matrix if `matrices` are given. Return its
    file type and its tensors."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    parameters.nthread = 2
    if matrices:
        entries = importance(matrices)
        parameters.imatrix = ctypes.cast(entries, type(parameters.imatrix))
    result = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    assert result == 0, name
    reader = gguf.GGUFReader(target)
    file_type = int(reader.get_field("general.file_type").contents())
    assert file_type == int(parameters.ftype)
    return file_type, {tensor.name: tensor for tensor in reader.tensors}


def main():
    models = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, *shape in MODELS:
            source = folder / "source.gguf"
            write_model(source, *shape)
            matrices = {
                tensor.name: [int(size) for size in reversed(tensor.shape)]
                for tensor in gguf.GGUFReader(source).tensors
                if len(tensor.shape) > 1
            }
            files = []
            for ftype, scheme, with_importance in VARIANTS:
                arguments = matrices if with_importance else None
                file_type, tensors = quantized(source, folder / "out.gguf", ftype, arguments)
                types = [tensors[matrix].tensor_type.name.lower() for matrix in matrices]
                file = {"scheme": scheme, "file_type": file_type, "importance": with_importance}
                files.append(file | {"types": types})
            models.append({"name": name, "matrices": list(matrices.items()), "files": files})
    text = json.dumps({"llama_cpp_python": llama_cpp.__version__, "models": models}, separators=(",", ":"))
    OUT.write_text(text + "\n", encoding="utf-8")


main()
