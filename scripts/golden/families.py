"""Write tiny random models of each supported family and variant, and their reference logits.

    python scripts/golden/families.py

Writes families/<variant>/{config.json,model.safetensors} in fixtures/golden, and
families/golden.json and families/golden.safetensors with the output of transformers: eager
attention, float32, one thread, each prompt in one pass. If two variants differ only in their
configuration, one of them has only a config.json, and golden.json names the variant with its
weights.

With random weights of the usual size, attention is almost uniform, and most mistakes in an
implementation change the logits only slightly. So the weights here are larger, to get sharp
attention and a wide distribution of logits, and norm weights and biases are random too. For a
list of mistakes, the script computes the change of the logits, and fails if a change is small.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PretrainedConfig,
    Qwen2_5OmniConfig,
    Qwen2_5OmniTalkerForConditionalGeneration,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Config,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOLDEN = FIXTURES / "golden"
FAMILIES = GOLDEN / "families"
LENGTHS = (1, 17, 300)
POSITIONS_OF_LONGEST = 12
STEPS = 64

MIN_EFFECT = 1e-2  # change of a logit of the longest prompt by a mistake
MIN_PEAK = 0.3  # mean largest attention probability at the last positions of the longest prompt
MIN_DEVIATION = 1.0  # standard deviation of the logits
MIN_GAP = 1e-3  # difference of router logits between chosen and other experts
MIN_MARGIN = 1e-3  # difference between the best two logits of a greedy step
MIN_DISTINCT = 12  # distinct ids of greedy decoding, because repeated ids test little
MAX_NOISE = 1e-4  # difference of logits between float32 and float64

LLAMA = {
    "vocab_size": 160, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}
QWEN = LLAMA | {"rms_norm_eps": 1e-6, "rope_theta": 1e6}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
WINDOW = {
    "num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1,
}


def thinker_config() -> Qwen2_5OmniThinkerConfig:
    """Return the config of an omni thinker: the text decoder and towers with one small layer each."""
    audio = {
        "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "max_source_positions": 32, "n_window": 8, "output_dim": 64,
    }
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 4,
        "window_size": 16, "fullatt_block_indexes": [0], "out_hidden_size": 64,
    }
    sections = {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"}
    return Qwen2_5OmniThinkerConfig(audio, vision, QWEN | {"rope_scaling": sections})


def omni_config() -> Qwen2_5OmniConfig:
    """Return the config of a complete omni model: a thinker, and a talker that text does not use."""
    talker = {
        "vocab_size": 32, "embedding_size": 64, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }
    return Qwen2_5OmniConfig(thinker_config=thinker_config().to_dict(), talker_config=talker)


@dataclass
class Variant:
    """A model. `without` lists keys that its config.json omits.

    `weights` is the name of the variant with its weights; None if the variant has its own weights.
    """

    name: str
    config: PretrainedConfig
    seed: int
    weights: str | None = None
    without: list[str] = field(default_factory=list)


VARIANTS = [
    Variant("llama", LlamaConfig(**LLAMA), 1),
    # With a head size of 24, one frequency is in the band that the scaling interpolates.
    Variant(
        "llama3-scaling",
        LlamaConfig(**LLAMA | {"hidden_size": 96, "rope_theta": 500000.0, "rope_scaling": LLAMA3}),
        2,
    ),
    # The epsilon is large, so that a wrong epsilon changes the logits.
    Variant("tied", LlamaConfig(**LLAMA | {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}), 63),
    Variant(
        "head-dim", MistralConfig(**LLAMA | {"hidden_size": 96, "head_dim": 40, "sliding_window": None}), 4,
    ),
    Variant("sliding-window", MistralConfig(**LLAMA | {"sliding_window": 16}), 5),
    Variant(
        "mixtral",
        MixtralConfig(
            **LLAMA | {"intermediate_size": 96, "rope_theta": 1e6},
            sliding_window=None, num_local_experts=8, num_experts_per_tok=2,
        ),
        6,
    ),
    Variant("qwen2", Qwen2Config(**QWEN), 7),
    Variant("qwen2-window", Qwen2Config(**QWEN | WINDOW), 8, without=["layer_types"]),
    # If layer_types and max_window_layers differ, layer_types takes precedence.
    Variant(
        "qwen2-layer-types",
        Qwen2Config(
            **QWEN | WINDOW, layer_types=["sliding_attention", "full_attention", "sliding_attention"]
        ),
        8,
        weights="qwen2-window",
    ),
    Variant("omni", omni_config(), 9),
    Variant("omni-thinker", thinker_config(), 10),
    Variant(
        "transformers-5",
        LlamaConfig(**LLAMA | {"hidden_size": 96, "rope_theta": 500000.0, "rope_scaling": LLAMA3}),
        2,
        weights="llama3-scaling",
    ),
    # A square output matrix, so that a transposed one has the same shape.
    Variant("mha", LlamaConfig(**LLAMA | {"vocab_size": 64, "num_key_value_heads": 4}), 12),
]


def mean_and_deviation(name: str, shape: torch.Size) -> tuple[float, float]:
    """Return the mean and the standard deviation of a parameter."""
    kind = ".".join(name.split(".")[-2:])
    inputs = math.prod(shape[1:])
    if "norm" in name or "ln_" in name:
        return (1.0, 0.2) if kind.endswith("weight") else (0.0, 0.1)
    if kind.endswith("bias"):
        return 0.0, 1.0 if kind in ("q_proj.bias", "k_proj.bias") else 0.5
    if "embed_tokens" in name:
        return 0.0, 0.3
    if kind in ("q_proj.weight", "k_proj.weight"):
        return 0.0, 2.0 / math.sqrt(inputs)
    if kind in ("lm_head.weight", "gate.weight"):
        return 0.0, 3.0 / math.sqrt(inputs)
    return 0.0, 1.0 / math.sqrt(inputs)


@torch.no_grad()
def randomize(model, generator: torch.Generator) -> None:
    for name, weight in model.named_parameters():
        mean, deviation = mean_and_deviation(name, weight.shape)
        weight.copy_(torch.randn(weight.shape, generator=generator) * deviation + mean)


def write_weights(variant: Variant) -> None:
    generator = torch.Generator().manual_seed(variant.seed)
    config = copy.deepcopy(variant.config)
    if isinstance(config, Qwen2_5OmniConfig):
        thinker = Qwen2_5OmniThinkerForConditionalGeneration(config.thinker_config)
        talker = Qwen2_5OmniTalkerForConditionalGeneration(config.talker_config)
        parts = {"thinker.": thinker, "talker.": talker}
    elif isinstance(config, Qwen2_5OmniThinkerConfig):
        parts = {"": Qwen2_5OmniThinkerForConditionalGeneration(config)}
    else:
        parts = {"": AutoModelForCausalLM.from_config(config)}
    weights = {}
    for prefix, model in parts.items():
        randomize(model, generator)
        weights |= {prefix + name: weight.detach().bfloat16() for name, weight in model.named_parameters()}
    path = FAMILIES / variant.name / "model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)


ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2_5_omni": "Qwen2_5OmniForConditionalGeneration",
    "qwen2_5_omni_thinker": "Qwen2_5OmniThinkerForConditionalGeneration",
}


def without_defaults(text: dict) -> dict:
    """Return a config without the default values of all configs, except those that loaders use."""
    common = json.loads(PretrainedConfig().to_json_string(use_diff=False))
    for key in ("tie_word_embeddings", "transformers_version"):
        del common[key]
    kept = {key: value for key, value in text.items() if key not in common or value != common[key]}
    return {key: without_defaults(value) if isinstance(value, dict) else value for key, value in kept.items()}


def write_config(variant: Variant) -> None:
    """Write a config in the format of published checkpoints, or of transformers 5 for its variant."""
    text = without_defaults(json.loads(variant.config.to_json_string()))
    # Omit the speech decoder: its default sizes are those of the published model, without weights here.
    text.pop("token2wav_config", None)
    text["architectures"] = [ARCHITECTURES[text["model_type"]]]
    for key in variant.without:
        del text[key]
    if variant.name == "transformers-5":
        theta, scaling = text.pop("rope_theta"), text.pop("rope_scaling")
        text |= {
            "rope_parameters": scaling | {"rope_theta": theta},
            "dtype": "bfloat16", "transformers_version": "5.0.0",
        }
    else:
        text["torch_dtype"] = "bfloat16"
    path = FAMILIES / variant.name / "config.json"
    path.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")


def load(variant: Variant, **changes):
    """Load the stored model in float32, with changes to its text config."""
    weights = FAMILIES / (variant.weights or variant.name)
    # transformers 4 cannot read the config format of transformers 5.
    readable = weights if variant.name == "transformers-5" else FAMILIES / variant.name
    config = type(variant.config).from_pretrained(readable)
    factory = AutoModelForCausalLM
    if isinstance(config, (Qwen2_5OmniConfig, Qwen2_5OmniThinkerConfig)):
        config = getattr(config, "thinker_config", config)
        factory = Qwen2_5OmniThinkerForConditionalGeneration
    for key, value in changes.items():
        setattr(config.get_text_config(), key, value)
    return factory.from_pretrained(
        weights, config=config, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def logits_of(model, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def positions_of(length: int) -> list[int]:
    """Return all positions of a short prompt, or evenly spaced positions of a long one, with the last."""
    count = length if length < LENGTHS[-1] else POSITIONS_OF_LONGEST
    return [(n + 1) * length // count - 1 for n in range(count)]


def decode_greedily(model, ids: list[int]) -> tuple[list[int], list[float]]:
    """Return greedy ids and margins. Each step recomputes the complete row, without a KV cache."""
    chosen, margins = [], []
    while len(chosen) < STEPS:
        values, best = logits_of(model, ids + chosen)[-1].topk(2)
        chosen.append(best[0].item())
        margins.append((values[0] - values[1]).item())
    return chosen, margins


@torch.no_grad()
def attention_peak(model, ids: list[int]) -> float:
    """Return the mean of the largest attention probability, over heads, layers and the last third of rows."""
    found = model(torch.tensor([ids]), use_cache=False, output_attentions=True).attentions
    rows = torch.stack(found)[..., -(len(ids) // 3):, :]
    return rows.amax(-1).mean().item()


def router_gap(model, ids: list[int]) -> float:
    """Return the smallest difference of router logits between a chosen expert and another one."""
    gaps = []

    def record_gap(module, inputs, output):
        ranked = output[1].sort(dim=-1, descending=True).values
        gaps.append((ranked[:, module.top_k - 1] - ranked[:, module.top_k]).min().item())

    hooks = [layer.block_sparse_moe.register_forward_hook(record_gap) for layer in model.model.layers]
    logits_of(model, ids)
    for hook in hooks:
        hook.remove()
    return min(gaps)


# Mistakes. Each function changes the weights or modules of a loaded model, so that the correct
# implementation computes the same as a wrong implementation with the original weights.


def attentions(model):
    return [layer.self_attn for layer in model.model.layers]


def on_heads(linear, head_dim: int, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Apply `change` to the weight and the bias of a projection, in the shape (head, value, input)."""
    for name in ("weight", "bias"):
        values = getattr(linear, name)
        if values is not None:
            heads = values.data.view(values.shape[0] // head_dim, head_dim, -1)
            values.data = change(heads).reshape(values.shape)


def interleaved_rope(model) -> None:
    """RoPE rotates pairs of neighbours instead of pairs at a distance of half a head."""
    for attention in attentions(model):
        d = attention.head_dim
        order = [*range(0, d, 2), *range(1, d, 2)]
        for linear in (attention.q_proj, attention.k_proj):
            on_heads(linear, d, lambda heads: heads[:, order])


def query_one_further(model) -> None:
    """RoPE rotates queries by the angle of the next position."""
    angles = model.model.rotary_emb.inv_freq
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]

    def rotate(heads: torch.Tensor) -> torch.Tensor:
        first, second = heads.chunk(2, dim=1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=1)

    for attention in attentions(model):
        on_heads(attention.q_proj, attention.head_dim, rotate)


def tiled_key_heads(model) -> None:
    """Query head n uses key head n modulo the number of key heads, not n divided by the group size."""
    for attention in attentions(model):
        d, groups = attention.head_dim, attention.num_key_value_groups
        heads = attention.q_proj.weight.shape[0] // d
        order = sorted(range(heads), key=lambda head: head % (heads // groups))
        on_heads(attention.q_proj, d, lambda found: found[order])
        out = attention.o_proj.weight
        out.data = out.data.view(-1, heads, d)[:, order].reshape(out.shape)


def no_bias(model) -> None:
    for attention in attentions(model):
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            linear.bias.data.zero_()


def exchange(first, second) -> None:
    """Exchange the weights of two modules."""
    first.weight.data, second.weight.data = second.weight.data, first.weight.data


def query_and_key_exchanged(model) -> None:
    for attention in attentions(model):
        exchange(attention.q_proj, attention.k_proj)


def key_and_value_exchanged(model) -> None:
    exchange(attentions(model)[0].k_proj, attentions(model)[0].v_proj)


def gate_and_up_exchanged(model) -> None:
    layer = model.model.layers[0]
    if hasattr(layer, "mlp"):
        exchange(layer.mlp.gate_proj, layer.mlp.up_proj)
    else:
        for expert in layer.block_sparse_moe.experts:
            exchange(expert.w1, expert.w3)


def without_norm(place: str) -> Callable:
    def change(model) -> None:
        owner = model.model if place == "norm" else model.model.layers[0]
        setattr(owner, place, torch.nn.Identity())
    return change


def norm_weights_ignored(model) -> None:
    model.model.layers[0].input_layernorm.weight.data.fill_(1.0)


def transposed_head(model) -> None:
    head = model.lm_head.weight
    head.data = head.data.T.reshape(head.shape).contiguous()


def experts_exchanged(model) -> None:
    experts = model.model.layers[0].block_sparse_moe.experts
    for name in ("w1", "w2", "w3"):
        exchange(getattr(experts[0], name), getattr(experts[1], name))


def experts_not_renormalised(model) -> None:
    """The weights of the chosen experts come from the softmax over all experts, without normalization."""
    def scale(module, inputs, output):
        hidden, routes = output
        kept = routes.softmax(-1).topk(module.top_k).values.sum(-1)
        return hidden * kept.view(*hidden.shape[:-1], 1), routes
    for layer in model.model.layers:
        layer.block_sparse_moe.register_forward_hook(scale)


def mistakes_of(variant: Variant) -> dict[str, tuple[Callable | None, dict]]:
    """Return the mistakes by name: a change of the loaded model, or changes of its text config."""
    text = variant.config.get_text_config()
    theta = 500000.0 if text.rope_theta == 10000.0 else 10000.0
    found: dict[str, tuple[Callable | None, dict]] = {
        "interleaved RoPE": (interleaved_rope, {}),
        "query one position further": (query_one_further, {}),
        "wrong theta": (None, {"rope_theta": theta}),
        "key and value exchanged": (key_and_value_exchanged, {}),
        "gate and up exchanged": (gate_and_up_exchanged, {}),
        "no attention norm": (without_norm("input_layernorm"), {}),
        "no feed-forward norm": (without_norm("post_attention_layernorm"), {}),
        "no final norm": (without_norm("norm"), {}),
        "norm weights ignored": (norm_weights_ignored, {}),
    }
    if text.num_key_value_heads < text.num_attention_heads:
        found["tiled key heads"] = (tiled_key_heads, {})
    else:
        found["query and key exchanged"] = (query_and_key_exchanged, {})
    if text.tie_word_embeddings:
        found["wrong epsilon"] = (None, {"rms_norm_eps": 1e-6})
    else:
        found["transposed head"] = (transposed_head, {})
    if (getattr(text, "rope_scaling", None) or {}).get("rope_type") == "llama3":
        found["no scaling"] = (None, {"rope_scaling": None})
    if "qwen2" in text.model_type or "omni" in text.model_type:
        found["no bias"] = (no_bias, {})
    if getattr(text, "sliding_window", None):
        for name, window in (("window 15", 15), ("window 17", 17), ("no window", 1024)):
            found[name] = (None, {"sliding_window": window})
    if "sliding_attention" in getattr(text, "layer_types", ()):
        found["window in all layers"] = (None, {"layer_types": ["sliding_attention"] * 3})
    if variant.name == "qwen2-layer-types":
        others = ["full_attention", "sliding_attention", "sliding_attention"]
        found["layer types ignored"] = (None, {"layer_types": others})
    if text.model_type == "mixtral":
        found["experts exchanged"] = (experts_exchanged, {})
        found["experts not renormalised"] = (experts_not_renormalised, {})
    return found


def effects(variant: Variant, prompts: list[list[int]], correct: list[torch.Tensor]) -> dict[str, dict]:
    """Return the largest change of a golden logit, for each mistake and prompt length."""
    found = {}
    for name, (change, changes) in mistakes_of(variant).items():
        model = load(variant, **changes)
        if change:
            change(model)
        found[name] = {}
        for ids, expected in zip(prompts, correct):
            got = logits_of(model, ids)[positions_of(len(ids))]
            found[name][str(len(ids))] = round((got - expected).abs().max().item(), 6)
    return found


def measure(variant: Variant) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return the golden entry of a variant, and its logits by variant and prompt length."""
    model = load(variant)
    vocabulary = model.lm_head.weight.shape[0]
    generator = torch.Generator().manual_seed(1000 + variant.seed)
    prompts = [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in LENGTHS]

    entries, logits, rows = [], [], []
    for ids in prompts:
        positions = positions_of(len(ids))
        logits.append(logits_of(model, ids)[positions].contiguous())
        entries.append({"length": len(ids), "token_ids": ids, "positions": positions})
        greedy, margins = decode_greedily(model, ids)
        entries[-1] |= {"greedy": greedy, "greedy_margins": margins}
        if len(ids) > 1:  # with a single token, a model repeats itself, and margins can be small
            assert min(margins) > MIN_MARGIN, min(margins)
            assert len(set(greedy)) >= MIN_DISTINCT, greedy
            rows.append(ids + greedy)

    entry = {
        "name": variant.name,
        "weights": variant.weights or variant.name,
        "weights_sha256": hashlib.sha256(
            (FAMILIES / (variant.weights or variant.name) / "model.safetensors").read_bytes()
        ).hexdigest(),
        "prompts": entries,
        "attention_peak": attention_peak(model, prompts[-1]),
        "logit_deviation": logits[-1].std().item(),
        "mistakes": effects(variant, prompts, logits),
    }
    assert entry["attention_peak"] > MIN_PEAK, entry["attention_peak"]
    assert entry["logit_deviation"] > MIN_DEVIATION, entry["logit_deviation"]
    for name, effect in entry["mistakes"].items():
        assert effect[str(LENGTHS[-1])] > MIN_EFFECT, (name, effect)
    if model.config.model_type == "mixtral":
        entry["router_gap"] = min(router_gap(model, ids) for ids in [prompts[0], *rows])
        assert entry["router_gap"] > MIN_GAP, entry["router_gap"]

    exact = logits_of(model.double(), prompts[-1])[positions_of(LENGTHS[-1])]
    entry["float32_noise"] = (exact - logits[-1]).abs().max().item()
    assert entry["float32_noise"] < MAX_NOISE, entry["float32_noise"]
    tensors = {f"{variant.name}/{len(ids)}": values for ids, values in zip(prompts, logits)}
    return entry, tensors


def check_stored(variant: Variant) -> None:
    """Assert that the stored weights have the type and the names that the config of a variant needs."""
    stored = load_file(FAMILIES / (variant.weights or variant.name) / "model.safetensors")
    assert all(weight.dtype == torch.bfloat16 for weight in stored.values())
    prefix = {"qwen2_5_omni": "thinker."}.get(variant.config.model_type, "")
    assert f"{prefix}model.embed_tokens.weight" in stored
    assert (f"{prefix}lm_head.weight" in stored) == (variant.name != "tied")


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    entries, tensors = [], {}
    for variant in VARIANTS:
        (FAMILIES / variant.name).mkdir(parents=True, exist_ok=True)
        write_config(variant)
        if variant.weights is None:
            write_weights(variant)
        check_stored(variant)
        entry, logits = measure(variant)
        entries.append(entry)
        tensors |= logits
        smallest = min(entry["mistakes"], key=lambda name: entry["mistakes"][name]["300"])
        print(
            f"{variant.name:18} peak {entry['attention_peak']:.2f}  deviation {entry['logit_deviation']:.2f}  "
            f"noise {entry['float32_noise']:.1e}  smallest effect {entry['mistakes'][smallest]['300']:.2f} ({smallest})"
        )

    path = FAMILIES / "golden.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
    }
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    (FAMILIES / "golden.json").write_text(
        f'{{\n "variants": [\n{lines}\n ],\n "versions": {json.dumps(versions)}\n}}\n'
    )


if __name__ == "__main__":
    main()
