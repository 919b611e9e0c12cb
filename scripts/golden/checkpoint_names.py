"""Record the tensor names and layouts with which the installed transformers saves checkpoints.

    python scripts/golden/checkpoint_names.py

Loads the weights of variants of families.py, saves each model with `save_pretrained`, once in the
format of the loaded checkpoint and once with the names of the modules in memory
(`save_original_format=False`), and writes checkpoint_names.json in fixtures/golden. The thinker of
the variant `omni` is loaded from the checkpoint of the complete model, whose names begin with
`thinker.`. For each saved
checkpoint it contains config.json, and for each saved tensor its shape and the names of the tensors
of the variant whose values it contains, one after the other.

The script compares all values, so that the list is sufficient to create the checkpoint again. It
needs a separate environment with transformers 5.24.0, because requirements.txt has version 4.57.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, MixtralForCausalLM, Qwen2_5OmniThinkerForConditionalGeneration

GOLDEN = Path(__file__).resolve().parents[2] / "fixtures" / "golden"
MODELS = {
    "mixtral": MixtralForCausalLM,
    "omni": Qwen2_5OmniThinkerForConditionalGeneration,
    "omni-thinker": Qwen2_5OmniThinkerForConditionalGeneration,
}


def parts(name: str, saved: torch.Tensor, weights: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of the tensors of the variant whose values are those of a saved tensor."""
    for own, value in weights.items():
        if value.shape == saved.shape and torch.equal(value, saved):
            return [own]
    stem = name.replace(".mlp.", ".block_sparse_moe.")
    matrices = {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}[stem.rsplit(".", 1)[1]]
    stem = stem.rsplit(".", 1)[0]
    names = [f"{stem}.{expert}.{matrix}.weight" for expert in range(len(saved)) for matrix in matrices]
    joined = torch.cat([weights[part].flatten() for part in names])
    assert torch.equal(joined, saved.flatten()), name
    return names


def checkpoint(variant: str, original_format: bool) -> dict:
    """Save a variant, and return the description of the saved checkpoint."""
    folder = GOLDEN / "families" / variant
    weights = load_file(folder / "model.safetensors")
    config = AutoConfig.from_pretrained(folder)
    config = getattr(config, "thinker_config", config)
    model, report = MODELS[variant].from_pretrained(
        folder, config=config, dtype=next(iter(weights.values())).dtype, output_loading_info=True
    )
    assert not any(report.values()), report
    with tempfile.TemporaryDirectory() as target:
        model.save_pretrained(target, save_original_format=original_format)
        saved = load_file(Path(target) / "model.safetensors")
        config = json.loads((Path(target) / "config.json").read_text())
    tensors = {
        name: {"shape": list(value.shape), "parts": parts(name, value, weights)}
        for name, value in sorted(saved.items())
    }
    return {
        "variant": variant,
        "original_format": original_format,
        "config": config,
        "tensors": tensors,
    }


def main() -> None:
    checkpoints = [checkpoint(variant, original) for variant in MODELS for original in (True, False)]
    data = {"transformers": transformers.__version__, "checkpoints": checkpoints}
    path = GOLDEN / "checkpoint_names.json"
    path.write_text(json.dumps(data, indent=1) + "\n")
    print(f"{path.name}: {len(checkpoints)} checkpoints, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
