"""Write reference data of the tiny models: the output of transformers with the stored weights.

    python scripts/golden/tiny.py [MODEL ...]

Writes tiny-MODEL.json (prompts, token ids, greedy decoding, perplexity) and
tiny-MODEL.safetensors (logits at some positions) in fixtures/golden. Without arguments, it
writes the data of all models. All values are computed in float32 with eager attention on one
thread, one prompt at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path

import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOLDEN = FIXTURES / "golden"
TINY = FIXTURES / "tiny"
MAX_STEPS = 32

# By model: the class, and the number of positions of a prompt whose logits are stored. The number
# limits the size of the file to half a megabyte.
MODELS = {
    "llama": (AutoModelForCausalLM, 8),
    "mixtral": (AutoModelForCausalLM, 7),
    "qwen2.5-omni": (Qwen2_5OmniThinkerForConditionalGeneration, 8),
}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def dialogue(*texts: str) -> list[dict[str, str]]:
    """Return alternating messages of user and assistant."""
    return [(user, assistant)[n % 2](text) for n, text in enumerate(texts)]


CAPITALS = dialogue(
    "What is the capital of Italy?", "The capital of Italy is Rome.",
    "Which city is the capital of Japan?", "The capital of Japan is Tokyo.",
    "Tell me the capital of Peru.", "The capital of Peru is Lima.",
    "What is the capital of Kenya?", "The capital of Kenya is Nairobi.",
)
SUMS = dialogue(
    "What is 2 plus 2?", "2 plus 2 is 4.", "How much is 5 plus 1?", "5 plus 1 is 6.",
    "Add 3 and 6.", "3 plus 6 is 9.", "What is 4 plus 4?", "4 plus 4 is 8.",
)
COUNTS = dialogue(
    "Count from 1 to 5.", "1, 2, 3, 4, 5.", "Can you count from 1 to 8?", "1, 2, 3, 4, 5, 6, 7, 8.",
)
PROSE = (
    "In the morning Anna walks to the market. Grass is green. Anna has 3 apples and finds 2 more. "
    "Now Anna has 5 apples. The capital of Spain is Madrid."
)

# A prompt is a list of messages or a plain text.
PROMPTS: dict[str, list[dict[str, str]] | str] = {
    "empty": "",
    "one-letter": "T",
    "one-word": "The",
    "capital-france": [user("What is the capital of France?")],
    "capital-iceland": [user("Tell me the capital of Iceland.")],
    "capital-nepal": [user("Which city is the capital of Nepal?")],
    "sum-3-4": [user("What is 3 plus 4?")],
    "sum-6-6": [user("Add 6 and 6.")],
    "opposite-hot": [user("What is the opposite of hot?")],
    "opposite-quiet": [user("Which word is the opposite of quiet?")],
    "colour-lemon": [user("What colour is a lemon?")],
    "count-5": [user("Count from 1 to 5.")],
    "count-15": [user("Can you count from 1 to 15?")],
    "hello": [user("Hello!")],
    "story": [user("Tell me a story.")],
    "system-capital": [system("You are a helpful assistant."), user("What is the capital of Egypt?")],
    "system-brief": [
        system("You are a helpful assistant. Answer in one short sentence."), user("How much is 5 plus 6?"),
    ],
    "system-own": [system("Speak only of boats and bread."), user("What is the opposite of early?")],
    "spaces": [user("  What is the capital of Greece?\n\n")],
    "other-bytes": [user("caf\u00e9, na\u00efve, \u65e5\u672c, \U0001f41f ~ {x}[0] \\ #1 <tag>")],
    "prose-short": "The capital of Germany is",
    "prose-sum": "Ben has 4 coins and finds 3 more. Now Ben has",
    "prose-100": PROSE + "\n\n" + PROSE.replace("Anna", "Hugo"),
    "prose-200": "\n\n".join(PROSE.replace("Anna", name) for name in ("Clara", "David", "Emma", "Felix")),
    "turns-3": [*CAPITALS[:4], user("What is 1 plus 6?")],
    "turns-4-sums": [*SUMS[:6], user("What colour is snow?")],
    "turns-5": [*CAPITALS, user("What is the capital of Cuba?")],
    "turns-6": [system("Be brief and polite."), *SUMS, *COUNTS[:2], user("Which word is the opposite of wet?")],
    "turns-9": [*CAPITALS, *SUMS, user("Tell me the capital of Ghana.")],
    "turns-11": [system("Answer the question."), *COUNTS, *SUMS, *CAPITALS, user("Count to 10.")],
}


def load_tokenizer(folder: Path):
    """Return the tokenizer, with the chat template from chat_template.json if the file exists."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = folder / "chat_template.json"
    if template.exists():
        tokenizer.chat_template = json.loads(template.read_text())["chat_template"]
    return tokenizer


def encode(tokenizer, prompt) -> tuple[str, list[int]]:
    """Return the rendered text of a prompt and its token ids."""
    if isinstance(prompt, str):
        return prompt, tokenizer(prompt).input_ids
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return text, tokenizer.apply_chat_template(prompt, tokenize=True, add_generation_prompt=True)


def chosen_positions(length: int, max_count: int) -> list[int]:
    """Return evenly spaced positions, including the last one."""
    count = min(max_count, length)
    return [(n + 1) * length // count - 1 for n in range(count)]


@torch.no_grad()
def logits_of(model, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def decode_greedily(model, ids: list[int], stops: set[int]) -> dict[str, list]:
    """Return greedy ids, margins and log-probabilities. Each step recomputes the complete row."""
    chosen, margins, logprobs = [], [], []
    while len(chosen) < MAX_STEPS:
        last = logits_of(model, ids + chosen)[-1]
        best, second = last.topk(2).values.tolist()
        chosen.append(last.argmax().item())
        margins.append(best - second)
        logprobs.append(last.log_softmax(0).max().item())
        if chosen[-1] in stops:
            break
    return {"greedy": chosen, "greedy_margins": margins, "greedy_logprobs": logprobs}


def perplexity(model, tokenizer, text: str) -> dict[str, float]:
    ids = tokenizer(text).input_ids
    loss = torch.nn.functional.cross_entropy(logits_of(model, ids)[:-1], torch.tensor(ids[1:]))
    return {"tokens": len(ids), "value": math.exp(loss.item())}


def shard_hashes(folder: Path) -> dict[str, str]:
    shards = sorted(folder.glob("*.safetensors"))
    return {shard.name: hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards}


def write(name: str, golden: dict, tensors: dict[str, torch.Tensor]) -> None:
    """Write the logits as safetensors, and the other data as JSON with one prompt per line."""
    path = GOLDEN / f"{name}.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    prompts = ",\n".join("  " + json.dumps(prompt) for prompt in golden["prompts"])
    others = ",\n".join(f" {json.dumps(key)}: {json.dumps(golden[key])}" for key in golden if key != "prompts")
    (GOLDEN / f"{name}.json").write_text(f'{{\n "prompts": [\n{prompts}\n ],\n{others}\n}}\n')


def make(name: str) -> None:
    """Compute and write the reference data of one model."""
    folder = TINY / name
    model_class, max_positions = MODELS[name]
    tokenizer = load_tokenizer(folder)
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    eos = model.generation_config.eos_token_id
    stops = set(eos) if isinstance(eos, list) else {eos}

    entries, tensors = [], {}
    for prompt_name, prompt in PROMPTS.items():
        text, ids = encode(tokenizer, prompt)
        if not ids:
            continue  # an empty text, with a tokenizer that adds no BOS token
        positions = chosen_positions(len(ids), max_positions)
        tensors[prompt_name] = logits_of(model, ids)[positions].contiguous()
        entries.append({
            "name": prompt_name,
            "messages": None if isinstance(prompt, str) else prompt,
            "text": text,
            "token_ids": ids,
            "positions": positions,
            **decode_greedily(model, ids, stops),
        })
        print(f"{prompt_name:16} {len(ids):4} tokens  {tokenizer.decode(entries[-1]['greedy'])!r}")

    golden = {
        "prompts": entries,
        "perplexity": perplexity(model, tokenizer, (TINY / "perplexity.txt").read_text()),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "safetensors": safetensors.__version__,
        },
        "weights_sha256": shard_hashes(folder),
    }
    write(f"tiny-{name}", golden, tensors)
    print(f"{name}: perplexity {golden['perplexity']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    names = parser.parse_args().models or list(MODELS)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in names:
        make(name)


if __name__ == "__main__":
    main()
