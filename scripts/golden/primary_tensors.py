"""Write the list of all tensors of the primary models, as transformers creates them.

    python scripts/golden/primary_tensors.py

Creates each model on the meta device (without memory or download) from
fixtures/configs/<id>/config.json and writes fixtures/golden/tensors/<id>.json: the name and the
shape of each tensor of the checkpoint, one per line, sorted by name. The script asserts that the
numbers of parameters are the published ones.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOLDEN = FIXTURES / "golden"
CONFIGS = FIXTURES / "configs"

# By id: config class, model class, prefixes of the counted tensors, and their number of parameters.
MODELS = {
    "llama-3.1-70b-instruct": (LlamaConfig, LlamaForCausalLM, ("",), 70_553_706_496),
    "mixtral-8x22b-instruct-v0.1": (MixtralConfig, MixtralForCausalLM, ("",), 140_630_071_296),
    "qwen2.5-omni-7b": (
        Qwen2_5OmniConfig,
        Qwen2_5OmniForConditionalGeneration,
        ("thinker.model.", "thinker.lm_head."),
        7_615_616_512,
    ),
}


def tensor_shapes(config_class, model_class, path: Path) -> dict[str, list[int]]:
    """Return the names and shapes of all parameters and persistent buffers."""
    config = config_class.from_dict(json.loads(path.read_text()))
    with torch.device("meta"):
        model = model_class(config)
    return {name: list(tensor.shape) for name, tensor in sorted(model.state_dict().items())}


def count(shapes: dict[str, list[int]], prefixes: tuple[str, ...]) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefixes))


def write(path: Path, shapes: dict[str, list[int]]) -> None:
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(shape, separators=(',', ':'))}" for name, shape in shapes.items())
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{{\n{lines}\n}}\n")


def main() -> None:
    for name, (config_class, model_class, prefixes, parameters) in MODELS.items():
        shapes = tensor_shapes(config_class, model_class, CONFIGS / name / "config.json")
        counted = count(shapes, prefixes)
        assert counted == parameters, f"{name}: expected {parameters} parameters, found {counted}"
        write(GOLDEN / "tensors" / f"{name}.json", shapes)
        print(f"{name}: {len(shapes)} tensors, {count(shapes, ('',))} elements, {counted} of the language model")


if __name__ == "__main__":
    main()
