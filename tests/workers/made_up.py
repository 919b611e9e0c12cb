#!/usr/bin/env python3
"""A worker in another language: speaks the protocol of crates/protocol/schema and reports made-up
values for a model of one tensor. It shows what a worker needs, and that the harness assumes no
engine of its own."""

import hashlib
import json
import os
import sys

events = os.fdopen(int(os.environ["MODELGATE_EVENTS_FD"]), "w", buffering=1)


def tell(event, **fields):
    events.write(json.dumps({"event": event, **fields}) + "\n")


request = json.loads(sys.stdin.readline())
engine = {"name": "made-up", "version": "1", "build": "python", "compute_capability": None}
tell("hello", protocol=request["protocol"], engine=engine)
tell("phase", name="load")
tell("model", architecture="made-up", parameters=512, context=4096, parts=["text"], devices=["cpu"])
tell("tensor", name="model.embed_tokens.weight", file="made-up.bin", shape=[2, 256],
     source_dtype="f32", dtype="q8_0", bytes=544, device="cpu", nmse=1e-6, nonfinite=0,
     rule="embedding", reason=None)
tell("activity", name="read", bytes=2048, busy_s=0.001)
tell("loaded")
tell("phase", name="generate")
for generation in request["generations"]:
    print("generating", generation["name"])  # standard output is free for anything
    tell("generation", name=generation["name"], inputs=["made up"], prompt_tokens=[1, 2],
         tokens=[3, 4], text="Paris is made up.", logprobs=[-0.5, -0.25], nonfinite_logits=0,
         time_to_first_token_s=0.01, decode_tokens_per_s=100.0, finish_reason="stop",
         repeated_identically=True)
text = request["perplexity_text"]
tell("perplexity", text_sha256=hashlib.sha256(text.encode()).hexdigest(), tokens=1000, value=7.5)
tell("done")
sys.stdin.read()  # returns when the harness closes it: then it is time to end
