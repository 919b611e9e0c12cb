"""Train a bundled tiny model: a model of a few million parameters with its tokenizer.

    pip install -r scripts/requirements.txt
    python scripts/tiny/train.py llama

The script trains the tokenizer and the model on the text of corpus.py, on the CPU and without
downloads. It writes fixtures/tiny/MODEL in the Hugging Face layout, and facts.json and
perplexity.txt, which are the same for all models. Then it checks the written model: greedy
decoding must give the correct reply to every question, alone, after a system prompt and at the
end of a long chat. If a reply is wrong, the exit status is not 0; in this case, continue the
training with --only-repair, for up to four rounds.

The weights depend slightly on the processor and on the number of threads. The bundled Llama was
trained with shorter repair rounds. Regenerate the reference data in fixtures/golden after each run.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer

import corpus
import evaluation
import learning
from families import Family
from families.llama import Llama
from families.mixtral import Mixtral
from families.qwen2_5_omni import Qwen2_5Omni
from rows import Encoder, Samples

TINY = Path(__file__).resolve().parents[2] / "fixtures" / "tiny"
SEED = 20240723
SENTENCES = 77  # in the text for the perplexity, about 1000 tokens
FAMILIES: dict[str, Family] = {family.folder: family for family in (Llama(), Mixtral(), Qwen2_5Omni())}


def held_out_text() -> str:
    """Return the text for the perplexity, from a seed that the training does not use."""
    return corpus.prose(random.Random(SEED + 1), SENTENCES) + "\n"


def write_facts(path: Path) -> None:
    facts = [{"question": fact.questions[0], "answer": fact.answer} for fact in corpus.all_facts()]
    lines = ",\n".join("  " + json.dumps(fact) for fact in facts)
    path.write_text(f"[\n{lines}\n]\n")


def make(family: Family, steps: int, out: Path, only_repair: bool) -> None:
    """Train a model, and write the model, the facts and the text for the perplexity."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    folder = out / family.folder
    tokenizer = family.make_tokenizer(rng)
    model = family.reload(folder) if only_repair else family.make_model()
    samples = Samples(Encoder(family, tokenizer), rng)
    if not only_repair:
        learning.train(model, samples, steps)
    learning.repair(model, samples)

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    family.save(model, tokenizer, folder)
    assert len(list(folder.glob("*.safetensors"))) == 2
    for path in folder.iterdir():
        path.chmod(0o644)
    write_facts(out / "facts.json")
    (out / "perplexity.txt").write_text(held_out_text())


def verify(family: Family, folder: Path) -> bool:
    """Return whether the written model passes the evaluation, as stored and rounded to 4 bits."""
    encoder = Encoder(family, AutoTokenizer.from_pretrained(folder))
    model = family.load(folder)
    wrong = evaluation.report(model, encoder, held_out_text(), "bfloat16")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(learning.round_to_4_bits(parameter))
    wrong_at_4_bits = evaluation.report(model, encoder, held_out_text(), "4 bits")
    return wrong == 0 and wrong_at_4_bits <= 0.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=FAMILIES)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=TINY)
    parser.add_argument("--only-repair", action="store_true", help="continue the training of the existing model")
    parser.add_argument("--only-check", action="store_true", help="evaluate the existing model")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    family = FAMILIES[options.model]
    if not options.only_check:
        make(family, options.steps, options.out, options.only_repair)
    return 0 if verify(family, options.out / family.folder) else 1


if __name__ == "__main__":
    sys.exit(main())
