"""Write reference data of the quantizers: rows of many kinds, and the blocks that ggml computes.

    python scripts/golden/ggml_rows.py

Writes ggml_rows.safetensors in fixtures/golden: the rows of each kind in f32, and for each type the
blocks (`<kind>.<type>`, bytes) of ggml's reference quantizers, which are part of llama-cpp-python.
ggml_rows.json contains the squared error of each row with ggml's dequantizers. The error is null if
the f16 scale or minimum of a block cannot represent the row.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOLDEN = FIXTURES / "golden"
ROWS, COLUMNS = 6, 512

# By type: the name in ggml, and the values and bytes of a block.
TYPES = {
    "q4_0": ("q4_0", 32, 18),
    "q4_k": ("q4_K", 256, 144),
    "q5_0": ("q5_0", 32, 22),
    "q5_1": ("q5_1", 32, 24),
    "q5_k": ("q5_K", 256, 176),
    "q6_k": ("q6_K", 256, 210),
    "q8_0": ("q8_0", 32, 34),
}


def runs(random: np.random.Generator, count: int) -> np.ndarray:
    """Return `count` values in runs of 1 to 150 equal values with random signs."""
    lengths = random.integers(1, 151, count)
    values = random.normal(size=count) * 10 ** random.uniform(-3, 1, count)
    return np.repeat(values, lengths)[:count]


def rows_by_kind() -> dict[str, np.ndarray]:
    random = np.random.default_rng(20)
    shape = (ROWS, COLUMNS)

    def normal() -> np.ndarray:
        return random.normal(size=shape)

    def constant(low: float, high: float) -> np.ndarray:
        return np.ones(shape) * 10 ** random.uniform(low, high, (ROWS, 1))

    def sparse(share: float) -> np.ndarray:
        return normal() * (random.random(shape) < share)

    def bf16(values: np.ndarray) -> np.ndarray:
        return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)

    def with_peaks(values: np.ndarray, peaks: list[float]) -> np.ndarray:
        return values / np.abs(values).max(1, keepdims=True) * np.array(peaks)[:, None]

    kinds = {
        "gaussian": 0.02 * normal(),
        "gaussian_bf16": bf16(0.02 * normal()),
        "laplace": 0.02 * random.laplace(size=shape),
        "student_t": 0.02 * random.standard_t(3, shape),
        "cauchy": 0.02 * np.clip(random.standard_cauchy(shape), -1e4, 1e4),
        "outliers": 0.02 * normal() * np.where(random.random(shape) < 1 / 256, 50, 1),
        "positive": np.abs(normal()),
        "negative": -np.abs(normal()),
        "around_5": 5 + normal(),
        "around_minus_5": -5 + normal(),
        "constant": constant(-3, 3),
        "constant_negative": -constant(-3, 3),
        "constant_in_32": np.repeat(random.normal(size=(ROWS, COLUMNS // 32)), 32, 1),
        "runs": np.stack([runs(random, COLUMNS) for _ in range(ROWS)]),
        "two_values": np.where(random.random(shape) < 0.5, -0.3, 0.7) * constant(-2, 2),
        "few_values": 0.1 * random.integers(-7, 8, shape),
        "zero": np.zeros(shape),
        "sparse_1_in_100": sparse(0.01),
        "sparse_1_in_10": sparse(0.1),
        "sparse_1_in_2": sparse(0.5),
        "tiny_1e-8": 1e-8 * normal(),
        "tiny_1e-6": 1e-6 * normal(),
        "tiny_1e-5": 1e-5 * normal(),
        "tiny_1e-4": 1e-4 * normal(),
        "tiny_constant": constant(-9, -4) * np.array([1, -1, 1, -1, 1, -1])[:, None],
        # Largest magnitudes: q4_0 5.2e5, q4_k -4.1e6 and 6.2e7, q5_k -4.1e6 and 1.3e8, q8_0 8.3e6,
        # q6_k 2.7e8.
        "huge": with_peaks(normal(), [1e5, 5e5, 4e6, 8e6, 2.5e8, 1e9]),
        "huge_positive": with_peaks(np.abs(normal()), [5.3e5, 8.5e6, 6e7, 6.4e7, 1.2e8, 3e8]),
        "mixed_magnitudes": normal() * np.repeat(10 ** random.uniform(-6, 3, (ROWS, COLUMNS // 32)), 32, 1),
        "mixed_kinds": np.concatenate(
            [0.02 * normal()[:, :160], np.full((ROWS, 96), -0.03), sparse(0.1)[:, :160], np.full((ROWS, 96), 0.01)], 1
        ),
    }
    return {kind: np.ascontiguousarray(rows, np.float32) for kind, rows in kinds.items()}


class Ggml:
    """The reference quantizers and the dequantizers of ggml."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("llama_cpp")
        assert package and package.origin, "llama_cpp: not installed; run pip install -r scripts/requirements.txt"
        self.library = ctypes.CDLL(str(Path(package.origin).parent / "lib" / "libggml-base.so"))

    def call(self, name: str, source: np.ndarray, target: np.ndarray, values: int) -> None:
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (source, target)]
        getattr(self.library, name)(*pointers, ctypes.c_int64(values))

    def blocks(self, row: np.ndarray, name: str) -> np.ndarray:
        ggml_name, values, size = TYPES[name]
        blocks = np.zeros(row.size // values * size, np.uint8)
        self.call(f"quantize_row_{ggml_name}_ref", row, blocks, row.size)
        return blocks

    def squared_error(self, row: np.ndarray, name: str, blocks: np.ndarray) -> float | None:
        back = np.zeros(row.size, np.float32)
        self.call(f"dequantize_row_{TYPES[name][0]}", blocks, back, row.size)
        if not np.isfinite(back).all():
            return None
        return math.fsum((row.astype(np.float64) - back) ** 2)


def main() -> None:
    ggml = Ggml()
    tensors, errors = {}, {}
    for kind, rows in rows_by_kind().items():
        assert rows.shape == (ROWS, COLUMNS) and np.isfinite(rows).all(), kind
        tensors[kind] = rows
        errors[kind] = {}
        for name in TYPES:
            blocks = np.stack([ggml.blocks(row, name) for row in rows])
            tensors[f"{kind}.{name}"] = blocks
            errors[kind][name] = [ggml.squared_error(row, name, block) for row, block in zip(rows, blocks)]
        energy = np.square(rows, dtype=np.float64).sum()
        nmse = {name: sum(filter(None, found)) / max(energy, 1e-300) for name, found in errors[kind].items()}
        print(f"{kind:18}", *(f"{name} {value:.2e}" for name, value in nmse.items()))

    path = GOLDEN / "ggml_rows.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    lines = ",\n".join(f"  {json.dumps(kind)}: {json.dumps(found)}" for kind, found in errors.items())
    versions = {package: importlib.metadata.version(package) for package in ("llama-cpp-python", "numpy")}
    (GOLDEN / "ggml_rows.json").write_text(
        f'{{\n "squared_errors": {{\n{lines}\n }},\n "versions": {json.dumps(versions)}\n}}\n'
    )


if __name__ == "__main__":
    main()
