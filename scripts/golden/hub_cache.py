"""Write reference data of the Hugging Face cache, and compare the cache of modelgate with it.

    cargo build --release --workspace --bins
    python scripts/golden/hub_cache.py

Writes hub_cache.json in fixtures/golden. It contains the cache that snapshot_download of
huggingface_hub writes for the files of the tiny Llama that modelgate downloads: symlinks with their
targets, short files with their content, other files with their hash. Then `modelgate prefetch`
downloads the same files to another cache, and the script asserts that huggingface_hub finds all of
them: offline and without a warning, and that a download with a network transfers no content. The
script tests an open repository, and a gated one that the hub lists as available by xet.

It needs a separate environment with huggingface_hub 2.4.0, because the transformers version of
requirements.txt needs an older one.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_DISABLE_XET"] = "1"

import huggingface_hub  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"
NEEDED = [
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def tree(cache: Path) -> dict[str, dict[str, str]]:
    """Return the files in a cache by path, without locks, markers and files that only one tool writes."""
    entries = {}
    for path in sorted(cache.rglob("*")):
        name = path.relative_to(cache).as_posix()
        if path.is_dir() or name == "CACHEDIR.TAG":
            continue
        if any(part in (".locks", ".modelgate", "trees") for part in Path(name).parts):
            continue
        if path.is_symlink():
            entries[name] = {"link": os.readlink(path)}
        elif path.stat().st_size < 100:
            entries[name] = {"text": path.read_text()}
        else:
            entries[name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return entries


def download_with_huggingface_hub(endpoint: str, repo: str, token: str | None, cache: Path) -> None:
    huggingface_hub.snapshot_download(
        repo, endpoint=endpoint, token=token or False, cache_dir=cache, allow_patterns=NEEDED
    )


def download_with_modelgate(endpoint: str, repo: str, token: str | None, cache: Path) -> None:
    manifest = cache.parent / "models.toml"
    manifest.write_text(
        f'schema = 1\n[[model]]\nid = "tiny"\nrepo = "{repo}"\nquantization = "q8_0"\n'
    )
    environment = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HOME": str(cache.parent)}
    environment["MODELGATE_MANIFEST"] = str(manifest)
    if token:
        environment["HF_TOKEN"] = token
    subprocess.run([RELEASE / "modelgate", "prefetch"], env=environment, check=True)


def assert_found(endpoint: str, repo: str, token: str | None, cache: Path) -> None:
    """Assert that huggingface_hub finds the files in `cache` and does not download them again."""
    snapshot = Path(
        huggingface_hub.snapshot_download(
            repo, cache_dir=cache, local_files_only=True, allow_patterns=NEEDED
        )
    )
    before = {path: path.stat() for path in snapshot.parents[1].joinpath("blobs").iterdir()}
    for path in sorted(snapshot.iterdir()):
        found = huggingface_hub.try_to_load_from_cache(repo, path.name, cache_dir=cache)
        assert found == str(path), (found, path)
        again = huggingface_hub.hf_hub_download(
            repo, path.name, endpoint=endpoint, token=token or False, cache_dir=cache
        )
        assert again == str(path), (again, path)
    download_with_huggingface_hub(endpoint, repo, token, cache)
    after = {path: path.stat() for path in snapshot.parents[1].joinpath("blobs").iterdir()}
    for path, stat in before.items():
        assert stat.st_ino == after[path].st_ino and stat.st_mtime == after[path].st_mtime, path
    assert before.keys() == after.keys()
    scanned = huggingface_hub.scan_cache_dir(cache)
    assert not scanned.warnings, scanned.warnings
    assert [found.repo_id for found in scanned.repos] == [repo]
    print(f"{repo}: huggingface_hub {huggingface_hub.__version__} finds {len(before)} files")


def main() -> None:
    hub = subprocess.Popen(
        [RELEASE / "xtask", "hub", ROOT / "fixtures" / "tiny" / "llama"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    endpoint = hub.stdout.readline().strip()
    golden = {}
    for repo, token in [("owner/Tiny", None), ("owner/Gated", "hf_known")]:
        with tempfile.TemporaryDirectory() as folder:
            expected, actual = Path(folder) / "huggingface_hub", Path(folder) / "modelgate"
            expected.mkdir()
            actual.mkdir()
            download_with_huggingface_hub(endpoint, repo, token, expected)
            golden[repo] = tree(expected)
            download_with_modelgate(endpoint, repo, token, actual)
            assert tree(actual) == golden[repo], (tree(actual), golden[repo])
            assert_found(endpoint, repo, token, actual)
    hub.stdin.close()
    hub.wait()
    text = json.dumps({"huggingface_hub": huggingface_hub.__version__, "caches": golden}, indent=1)
    (ROOT / "fixtures" / "golden" / "hub_cache.json").write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
