#!/usr/bin/env python3
"""An example of a worker in another language. It implements the protocol of schemas/request.json and
schemas/event.json, reads only the config.json of the model, and reports invented values. It shows
what a worker needs, and that the harness does not depend on a particular engine."""

import hashlib
import json
import math
import os
import sys

events = os.fdopen(int(os.environ["MODELGATE_EVENTS_FD"]), "w", buffering=1)


def emit(event, **fields):
    events.write(json.dumps({"event": event, **fields}) + "\n")


def shapes(config):
    """Yield the names (without ".weight") and the shapes of the tensors of a Llama model."""
    hidden, ffn, vocabulary = (config[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    yield "model.embed_tokens", [vocabulary, hidden]
    for layer in (f"model.layers.{n}" for n in range(config["num_hidden_layers"])):
        for name, rows in ("q", hidden), ("k", keys), ("v", keys), ("o", hidden):
            yield f"{layer}.self_attn.{name}_proj", [rows, hidden]
        yield from ((f"{layer}.mlp.{name}_proj", [ffn, hidden]) for name in ("gate", "up"))
        yield f"{layer}.mlp.down_proj", [hidden, ffn]
        yield from ((f"{layer}.{name}_layernorm", [hidden]) for name in ("input", "post_attention"))
    yield "model.norm", [hidden]
    yield "lm_head", [vocabulary, hidden]


request = json.loads(sys.stdin.readline())
with open(request["files"]["config"], encoding="utf-8") as file:
    tensors = list(shapes(json.load(file)))
engine = {"name": "made-up", "version": "1", "build": "python", "compute_capability": None}
emit("hello", protocol=request["protocol"], engine=engine)
emit("phase", name="load")
emit("model", architecture="llama", parameters=sum(math.prod(shape) for _, shape in tensors),
     context=4096, parts=["text"], devices=["cpu"])
for name, shape in tensors:
    norm, size = name.endswith("norm"), math.prod(shape)
    emit("tensor", name=f"{name}.weight", file="made-up.bin", shape=shape, source_dtype="bf16",
         dtype="f32" if norm else "q8_0", bytes=4 * size if norm else size // 32 * 34,
         device="cpu", nmse=None if norm else 1e-6, non_finite=0, role="norm" if norm else "linear", reason=None)
emit("activity", name="read", bytes=2048, busy_s=0.001)
emit("loaded")
emit("phase", name="generate")
for generation in request["generations"]:
    print("generating", generation["name"])  # workers may print any text to standard output
    fixed = generation["tokens"]  # requests for synthetic models contain token ids instead of a chat
    tokens = [3] * generation["max_tokens"] if fixed else [3, 4]
    emit("generation", name=generation["name"], inputs=[] if fixed else ["made up"],
         prompt_tokens=fixed or [1, 2], tokens=tokens, text="" if fixed else "Paris is made up.",
         logprobs=[-0.5] * len(tokens), non_finite_logits=0, time_to_first_token_s=0.01,
         decode_tokens_per_s=100.0, finish_reason="length" if fixed else "stop",
         repeated_identically=True)
text = request["perplexity_text"]
if text is not None:
    emit("perplexity", text_sha256=hashlib.sha256(text.encode()).hexdigest(), tokens=1000, value=7.5)
emit("done")
sys.stdin.read()  # returns when the harness closes standard input, which asks the worker to end
