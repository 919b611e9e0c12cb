"""Compare the pre-tokenizers of GGUF vocabularies with llama.cpp, and write its token ids.

    python scripts/golden/pre_tokenizers.py --llama-cpp <llama.cpp's source tree> [--gguf <file>]

Writes pre_tokenizers.json and byte_level_vocabulary.gguf in fixtures/golden. The source tree must
have the vocabularies in models/. `--gguf` names another file to compare, for example a complete
model; the option can be repeated.

The script reads the rules from the Rust table (pre_tokenizers.rs) and creates the tokenizers with the
same library. It compares their token ids in three ways:

1. with the ids that the source tree contains for its vocabularies,
2. with the ids by llama.cpp for these vocabularies and the files of `--gguf`,
3. for each name in the table, with the ids by llama.cpp for one vocabulary whose metadata have that
   name.

The vocabulary of 3 is trained on the texts, and on their words by each rule. So it has a token for
most words of each rule, and tokens across the ends of words. Trained vocabularies of models hide most
differences: they were trained with one rule, and have no token across the ends of its words.
Two more tokens have no merges, so that only rules that ignore merges use them.
`results` has the ids of all texts, including a BOS token if the rule adds it, and
`names` the index in `results` for each name. If the rule normalizes texts, the ids are those by
llama.cpp for the normalized text, because llama.cpp does not normalize.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import struct
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
from gguf import GGUFReader, GGUFWriter
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.trainers import BpeTrainer

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "crates/engine/src/formats/gguf/pre_tokenizers.rs"
GOLDEN = ROOT / "fixtures/golden"
VOCABULARY = GOLDEN / "byte_level_vocabulary.gguf"
MAX_TOKENS = 30_000
MAX_TOKEN_LENGTH = 256
UNMERGED = ["zqxj", "\u0120zqxj"]  # tokens that no merges produce
ADDED_KINDS = (2, 3, 4)  # unknown, control, user-defined
UNUSED = 5

TEXTS = [
    "1", "12", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890",
    "in 2024 and 1999", "a1b22c333d4444", "x  12345  y", "3.14159 1,000,000 -42 1e10 0xFF",
    "١٢٣٤٥ ๑๒๓๔๕ ４５６７ Ⅷ ½ ²³", "12٣٤5",
    "你好，世界！2024年", "こんにちは世界。カタカナ・ー", "한국어 텍스트 ㄱㄴㄷ ㄅㄆㄇ", "中文English混合123文字",
    "㐀豈𠀀 〇々〆", "“引号”——……《书名》、－￥",
    "I'm you're he'll we've it's I'd don't", "I'M YOU'RE HE'LL WE'VE IT'S I'D DON'T I'Ll 'sad 'Tis",
    "'s 't '' 'x' l'homme Ankara'da Türkiye'nin",
    "e\u0301a\u0308 cafe\u0301 \u0301x a\u0300\u0301b", "é ä café Å \u212b \u2126 ﬁ ſ 'ſ",
    "हिन्दी भाषा বাংলা தமிழ்", "ภาษาไทย ลาว ລາວ ភាសាខ្មែរ မြန်မာ", "שָׁלוֹם العَرَبِيَّة، نص؟ ۔", "ЁЖИК Привет ΑΒΓ αβγ ԱԲ ǅ ʰ",
    "😀😃 \U0001f469\u200d\U0001f469\u200d\U0001f467 🇩🇪 \u2764\ufe0f ☺ 1\ufe0f\u20e3", "a\tb\t\tc \t d", "a\r\nb\r\n\r\nc\n\n\nd\r e", "\n", "\r\n", " \n ", "\n \n\n  \n x",
    " ", "  ", "   ", "\t", "x ", "x  ", "x   ", " x", "  x", "    x", "x" + " " * 17 + "y" + " " * 40,
    "!!! ??? ... --- *** ### $$$ ``` ~~~ |||", "a.b,c;d:e!f?g", "(a) [b] {c} <d> \"e\" 'f'", ".word ,word /path/to #tag @user",
    "x=y+1; a<b>c^d~e|f`g$h", "foo();\n\n  bar(); // c\n/* d */\n", "end.\n\nNext!\r\n/ x/\n/y", "!\n/\n", "word/\n./\n//\n",
    "snake_case __init__ _x_ CONST_NAME", "HelloWorld camelCase HTTPServer iPhone XMLHttpRequest ABCdef ÉCOLE École",
    "Hello WORLD hello World", "a b c d e f", "the quick brown fox", "if (x == 10) {\n\treturn 100;\n}\n",
    "https://example.com/a?b=c&d=1234#e", "a\u00a0b\u2003c\u3000d \u00a0 e\u0085f\u200bg\ufeffh", "\u3000\u3000x  \u3000y",
    "IMGIMGABCZ <sentinel:12> IMGIMGZ", "a\x00b\x1cc\x7f", "\U0010ffff\ue000\u0378", " \u0301", "«À» ¿Qué? ¡Sí! €5 £6 ©®™ ±×÷",
    "1 2  3   4", "12 345\n6789", " 1234", "  1234567", "x12345y678", "No. 5: 7,5% (8/9)", "  leading and trailing  ",
    "zqxj zqxj",
]


@dataclass
class Rule:
    """One entry of the Rust table."""

    names: list[str]
    patterns: list[str]
    ignore_merges: bool
    normalizer: str | None
    adds_bos: bool


def rust_strings(code: str, constants: dict[str, str]) -> list[str]:
    """Return the values of a list of string expressions: literals, names and `concat!`."""
    token = re.compile(r'\s*(?:r"([^"]*)"|("(?:[^"\\]|\\.)*")|(concat!\()|(\))|([A-Z]\w*)|(,))')
    values, joined, at = [], None, 0
    while code[at:].strip():
        found = token.match(code, at)
        if found is None:
            raise ValueError(f"unexpected code in {TABLE.name}: {code[at:at + 40]!r}")
        at = found.end()
        raw, plain, start, end, name, _ = found.groups()
        if start:
            joined = []
        elif end:
            values.append("".join(joined))
            joined = None
        elif raw is not None or plain or name:
            value = raw if raw is not None else ast.literal_eval(plain) if plain else constants[name]
            (values if joined is None else joined).append(value)
    return values


def read_table() -> list[Rule]:
    """Read all entries of the Rust table."""
    code = re.sub(r"^\s*//.*$", "", TABLE.read_text(), flags=re.M)
    constants: dict[str, str] = {}
    for name, value in re.findall(r"^const (\w+): &str =(.*?);$", code, flags=re.M | re.S):
        (constants[name],) = rust_strings(value, constants)
    entry = re.compile(
        r"PreTokenizer \{\s*names: &\[(.*?)\],\s*patterns: &\[(.*?)\],\s*ignore_merges: (\w+),"
        r'\s*normalizer: (?:None|Some\("(\w+)"\)),\s*adds_bos: (\w+),\s*\}',
        re.S,
    )
    rules = [
        Rule(
            rust_strings(names, {}),
            rust_strings(patterns, constants),
            ignores == "true",
            normalizer or None,
            bos == "true",
        )
        for names, patterns, ignores, normalizer, bos in entry.findall(code)
    ]
    if len(rules) != code.count("PreTokenizer {") - 1:  # the definition of the type is not an entry
        raise ValueError(f"{TABLE.name}: an entry has an unknown form")
    return rules


class Vocabulary:
    """The vocabulary of a GGUF file."""

    def __init__(self, path: Path) -> None:
        fields = GGUFReader(path).fields

        def value(key: str, default=None):
            field = fields.get(f"tokenizer.ggml.{key}")
            return default if field is None else field.contents()

        self.model = value("model")
        self.pre = value("pre", "default")
        self.tokens = value("tokens", [])
        self.kinds = value("token_type", [1] * len(self.tokens))
        self.merges = value("merges", [])
        self.bos = value("bos_token_id")
        self.adds_bos = value("add_bos_token")

    def tokenizer(self, rule: Rule) -> Tokenizer:
        """Create the tokenizer as tokenizer_json.rs does."""
        with_kinds = list(zip(self.tokens, self.kinds, strict=True))
        merges = []
        for merge in self.merges:
            at = merge.index(" ", 1)
            merges.append([merge[:at], merge[at + 1 :]])
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        splits = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in rule.patterns
        ]
        single = [{"Sequence": {"id": "A", "type_id": 0}}]
        special = {}
        if rule.adds_bos if self.adds_bos is None else self.adds_bos:
            text = self.tokens[self.bos]
            single.insert(0, {"SpecialToken": {"id": text, "type_id": 0}})
            special[text] = {"id": text, "ids": [int(self.bos)], "tokens": [text]}
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        data = {
            "version": "1.0",
            "added_tokens": [
                {"id": token_id, "content": text, **flags, "special": kind != 4}
                for token_id, (text, kind) in enumerate(with_kinds)
                if kind in ADDED_KINDS
            ],
            "model": {
                "type": "BPE",
                "vocab": {text: token_id for token_id, (text, kind) in enumerate(with_kinds) if kind != UNUSED},
                "merges": merges,
                "ignore_merges": rule.ignore_merges,
            },
            "normalizer": rule.normalizer and {"type": rule.normalizer},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
            "decoder": byte_level,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": special,
            },
        }
        return Tokenizer.from_str(json.dumps(data))


def write_vocabulary(texts: list[str], rules: list[Rule]) -> None:
    """Train and write the vocabulary in which the words of all rules are tokens."""
    texts = [text for text in texts if UNMERGED[0] not in text]
    words = set(texts)
    for rule in rules:
        for text in texts:
            pieces = [text]
            for pattern in rule.patterns:
                split = Split(Regex(pattern), "isolated")
                pieces = [part for piece in pieces for part, _ in split.pre_tokenize_str(piece)]
            words.update(pieces)
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = BpeTrainer(
        vocab_size=MAX_TOKENS,
        min_frequency=1,
        initial_alphabet=ByteLevel.alphabet(),
        max_token_length=MAX_TOKEN_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(words), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get) + UNMERGED
    writer = GGUFWriter(VOCABULARY, "gpt2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokens, "<|endoftext|>"])
    writer.add_token_types([1] * len(tokens) + [3])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(len(tokens))
    writer.add_eos_token_id(len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    print(f"{VOCABULARY.name}: {len(tokens)} tokens")


def with_pre_tokenizer(source: bytes, name: str) -> bytes:
    """Replace the value of `tokenizer.ggml.pre`. The file must have no tensors."""
    key = b"tokenizer.ggml.pre" + struct.pack("<I", 8)
    at = source.index(key) + len(key)
    (length,) = struct.unpack_from("<Q", source, at)
    value = name.encode()
    return source[:at] + struct.pack("<Q", len(value)) + value + source[at + 8 + length :]


def llama_cpp_ids(path: Path, texts: list[str], special: bool) -> list[list[int]]:
    """Return the ids by llama.cpp. `special` adds the tokens that the vocabulary adds to a text."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    ids = [model.tokenize(text.encode(), add_bos=special, special=False) for text in texts]
    model.close()
    return ids


def compare(label: str, texts: list[str], found: list[list[int]], expected: list[list[int]]) -> int:
    """Print the number of equal texts and all differences; return the number of differences."""
    wrong = [entry for entry in zip(texts, found, expected, strict=True) if entry[1] != entry[2]]
    print(f"{label}: {len(texts) - len(wrong)} of {len(texts)} texts are equal")
    for text, ids, reference in wrong:
        print(f"  {text!r}: {ids}, expected {reference}")
    return len(wrong)


def lines(values: list) -> str:
    """Return a JSON list with one value in each line."""
    return "[\n" + ",\n".join(json.dumps(value, separators=(",", ":")) for value in values) + "\n]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    models = arguments.llama_cpp / "models"
    rules = {name: rule for rule in read_table() for name in rule.names}

    def encode(tokenizer: Tokenizer, texts: list[str], special: bool = False) -> list[list[int]]:
        return [tokenizer.encode(text, add_special_tokens=special).ids for text in texts]

    def reference(path: Path, rule: Rule, texts: list[str], special: bool = False) -> list[list[int]]:
        if rule.normalizer:
            texts = [unicodedata.normalize(rule.normalizer, text) for text in texts]
        return llama_cpp_ids(path, texts, special)

    differences = 0
    shared: list[str] = []
    for path in [*sorted(models.glob("ggml-vocab-*.gguf")), *arguments.gguf]:
        vocabulary = Vocabulary(path)
        if vocabulary.model != "gpt2":
            print(f"{path.name}: skipped, tokenizer.ggml.model is {vocabulary.model}")
            continue
        rule = rules[vocabulary.pre]
        tokenizer = vocabulary.tokenizer(rule)
        texts_path = Path(f"{path}.inp")
        label = f"{path.name} ({vocabulary.pre})"
        if texts_path.exists():
            texts = texts_path.read_text().split("\n__ggml_vocab_test__\n")
            listed_lines = Path(f"{path}.out").read_text().splitlines()
            listed = [[int(number) for number in line.split()] for line in listed_lines]
            texts = texts[: len(listed)]
            differences += compare(f"{label}, listed", texts, encode(tokenizer, texts), listed)
            shared.extend(text for text in texts if text not in shared and text not in TEXTS)
        texts = [*shared, *TEXTS]
        differences += compare(f"{label}, llama.cpp", texts, encode(tokenizer, texts), reference(path, rule, texts))

    texts = [*shared, *TEXTS]
    write_vocabulary(texts, list(rules.values()))
    vocabulary = Vocabulary(VOCABULARY)
    source = VOCABULARY.read_bytes()
    results: list[list[list[int]]] = []
    names = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        for name, rule in rules.items():
            path.write_bytes(with_pre_tokenizer(source, name))
            expected = reference(path, rule, texts, special=True)
            differences += compare(name, texts, encode(vocabulary.tokenizer(rule), texts, special=True), expected)
            if expected not in results:
                results.append(expected)
            names[name] = results.index(expected)
    (GOLDEN / "pre_tokenizers.json").write_text(
        f'{{"llama-cpp-python": "{llama_cpp.__version__}",\n"tokens": {len(vocabulary.tokens)},\n"texts": {lines(texts)},\n'
        f'"names": {json.dumps(names)},\n"results": {lines(results)}}}\n'
    )
    print(f"{len(names)} names, {len(results)} distinct results, {len(texts)} texts, {differences} differences")


if __name__ == "__main__":
    main()
