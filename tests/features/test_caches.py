"""Token caches from the command line: built, resumed after a kill, refused when stale, mixed, trained from."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifelong.cli.app import main
from lifelong.files import sha256_file
from lifelong.model.directory import load_model
from lifelong.tokens import BPETokenizer, open_cache
from lifelong.tokens.decoding import decode_documents

_TEXTS = [text for _, text in sorted(topics.topics.items())]
_PRESET = """\
name: small-test
description: for tests
reference_vocab_size: 600
model: {d_model: 32, num_layers: 1, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, notes, conversations, a tokenizer and a preset."""
    root = tmp_path_factory.mktemp("caches")
    for folder, texts in (("docs", _TEXTS[:60]), ("notes", _TEXTS[60:90])):
        (root / folder).mkdir()
        for number, text in enumerate(texts):
            (root / folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"Tell me about {name}."},
                {"role": "assistant", "content": text[:600]},
            ]
        }
        for name, text in sorted(topics.topics.items())
    ]
    (root / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats), encoding="utf-8")
    BPETokenizer(600).train(_TEXTS).save(root / "tok")
    (root / "small.yaml").write_text(_PRESET)
    return root


@pytest.fixture(scope="module")
def caches(place: Path) -> Path:
    """Caches `docs` and `notes` of text, `talk` of conversations."""
    for name, source in (("docs", "docs"), ("notes", "notes"), ("talk", "chats.jsonl")):
        assert build(place, source, place / "caches", "--name", name) == 0
    return place / "caches"


def build(place: Path, source: str, out: Path, *more: str) -> int:
    """Run `lifelong cache build` on a source of the fixture."""
    return main(["cache", "build", str(place / source), "--tokenizer", str(place / "tok"), "--out", str(out), *more])


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every shard file and the facts below a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def test_f38_text_goes_to_pretrain_and_conversations_to_sft(
    place: Path, caches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = BPETokenizer.load(place / "tok")
    for split in ("train", "val", "test"):
        text = open_cache(caches / "pretrain" / "docs" / split, tokenizer)
        assert (text.path / "shard_00000.bin").is_file()
        assert not text.has_mask
        talk = open_cache(caches / "sft" / "talk" / split, tokenizer)
        assert talk.has_mask
        assert {path.name for path in talk.path.glob("shard_*")} == {
            f"shard_00000.{suffix}" for suffix in ("bin", "idx", "mask.bin", "json")
        }
    assert not (caches / "sft" / "docs").exists()
    meta = json.loads((caches / "pretrain/docs/train/meta.json").read_text())
    assert meta["dtype"] == "<u2"
    assert meta["shards"][0]["sha256"]["bin"] == sha256_file(caches / "pretrain/docs/train/shard_00000.bin")
    assert set(meta["fingerprint"]) == {"tokenizer", "source", "settings"}
    # What was text comes back as text, byte for byte; the splits share nothing.
    found = {}
    for split in ("train", "val", "test"):
        cache = open_cache(caches / "pretrain" / "docs" / split)
        found[split] = [item.text for item in decode_documents(cache, tokenizer, range(cache.documents))]
        assert sum(len(text.encode()) for text in found[split]) == cache.bytes
    assert len({text for texts in found.values() for text in texts}) == sum(map(len, found.values()))
    capsys.readouterr()
    assert main(["cache", "show", str(caches), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown) == 9
    assert main(["cache", "show", str(caches / "sft/talk/train"), "--sample", "0", "--json"]) == 0
    sample = json.loads(capsys.readouterr().out)
    assert [piece["text"] for piece in sample["pieces"] if piece["special"]][:2] == ["<|user|>", "<|end|>"]
    assert [piece["trained"] for piece in sample["pieces"]] == [False, False, False, False, True, True]
    assert main(["cache", "show", str(caches / "sft/talk/train"), "--sample", "0"]) == 0
    assert "trained on" in capsys.readouterr().out


def test_f38_budgets_shards_and_parallel_builds(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--name", "d", "--train-tokens", "20000", "--val-tokens", "3000", "--shard-bytes", "10000", "--json")
    capsys.readouterr()
    assert build(place, "docs", tmp_path / "one", *options, "--workers", "1") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["over_budget"]
    train = open_cache(tmp_path / "one/pretrain/d/train")
    longest = int(np.diff(train.starts).max())
    assert 20_000 <= train.tokens < 20_000 + longest
    assert len(train.facts.shards) > 3
    for shard in train.facts.shards:
        assert 2 * shard.tokens <= 10_000 or shard.documents == 1
    # Whole documents only: each shard but the first begins where one before it ended.
    assert all(train.read(int(border) - 1, int(border))[0] == 0 for border in train.borders[1:])
    monkeypatch.setattr("lifelong.tokens.encoding.PARALLEL_FROM", 1)
    monkeypatch.setattr("lifelong.tokens.cache_sets.CHUNK_BYTES", 20_000)
    assert build(place, "docs", tmp_path / "two", *options, "--workers", "2") == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
def test_f38_a_killed_build_goes_on_without_redoing_finished_shards(place: Path, tmp_path: Path) -> None:
    source = tmp_path / "many"
    source.mkdir()
    words = " ".join(_TEXTS).split()
    for number in range(1600):  # enough that the build is still busy when the kill arrives
        text = " ".join(random.Random(number).choices(words, k=600))
        (source / f"{number}.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "lifelong.cli.app", "cache", "build", str(source), "--tokenizer"]
    command += [str(place / "tok"), "--name", "many", "--shard-bytes", "16000", "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*command[3:], str(whole)]) == 0
    process = subprocess.Popen([*command, str(cut)], stderr=subprocess.DEVNULL)
    partial = cut / "pretrain/many/.train.partial"
    while process.poll() is None and not (partial / "shard_00002.json").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "pretrain/many/train").exists()
    (partial / ".shard_00003.json.0123abcd.tmp").write_text("{")  # as a kill in the midst of a write leaves it
    kept = {path: path.stat().st_ino for path in partial.glob("shard_*.bin") if path.with_suffix(".json").exists()}
    assert len(kept) >= 3
    done = subprocess.run([*command, str(cut)], capture_output=True, text=True, check=True)
    assert "Going on with the caches of 'many'" in done.stderr
    for path, inode in kept.items():
        assert (cut / "pretrain/many/train" / path.name).stat().st_ino == inode
    assert contents(whole) == contents(cut)


def test_f38_a_stale_cache_is_refused_with_the_reason(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "texts", tmp_path / "c"
    source.mkdir()
    for number, text in enumerate(_TEXTS[:8]):
        (source / f"{number}.txt").write_text(text, encoding="utf-8")
    common = ["--out", str(out), "--name", "n"]
    assert main(["cache", "build", str(source), "--tokenizer", str(place / "tok"), *common]) == 0
    before = contents(out)
    assert main(["cache", "build", str(source), "--tokenizer", str(place / "tok"), *common]) == 0
    assert "is up to date" in capsys.readouterr().out
    assert main(["cache", "build", str(source), "--tokenizer", str(place / "tok"), *common, "--seed", "3"]) == 2
    assert "other settings (seed was 0, is 3)" in capsys.readouterr().err
    BPETokenizer(400).train(_TEXTS[:8]).save(tmp_path / "tok2")
    assert main(["cache", "build", str(source), "--tokenizer", str(tmp_path / "tok2"), *common]) == 2
    assert "another tokenizer" in capsys.readouterr().err
    (source / "new.txt").write_text(_TEXTS[9], encoding="utf-8")
    assert main(["cache", "build", str(source), "--tokenizer", str(place / "tok"), *common]) == 2
    error = capsys.readouterr().err
    assert "its sources have changed" in error
    assert "--fresh" in error
    assert before == {name: digest for name, digest in contents(out).items() if name in before}
    assert main(["cache", "build", str(source), "--tokenizer", str(place / "tok"), *common, "--fresh"]) == 0
    assert contents(out) != before


def test_f38_build_all_names_what_cannot_be_had_and_builds_the_rest(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    rows: dict[str, list[dict[str, Any]]] = {
        "fineweb-edu/train": [{"text": text, "id": f"{n}", "url": "u", "score": 3.0} for n, text in enumerate(_TEXTS)],
        "dolly-15k/train": [
            {"instruction": f"Say {n}", "context": "", "response": text[:200], "category": "open_qa"}
            for n, text in enumerate(_TEXTS)
        ],
    }
    for name, values in rows.items():
        path = hub / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in values), encoding="utf-8")
    monkeypatch.setenv("LIFELONG_HUB_DIR", str(hub))
    roam = tmp_path / "roam"
    roam.mkdir()
    for number, text in enumerate(_TEXTS[:6]):
        lines = [line for line in text.splitlines() if line.strip()]
        (roam / f"Page {number}.md").write_text("".join(f"- {line.strip()}\n" for line in lines), encoding="utf-8")
    primer = tmp_path / "primer.txt"
    primer.write_text("\n\n<dialogue>\n\n".join(f"user: {n}?\nassistant: {t[:200]}" for n, t in enumerate(_TEXTS[:20])))
    command = ["cache", "build-all", "--tokenizer", str(place / "tok"), "--cache-dir", str(tmp_path / "all")]
    command += ["--roam-dir", str(roam), "--primer", str(primer), "--fineweb-train-tokens", "9000"]
    command += ["--fineweb-val-tokens", "900", "--workers", "1"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 2
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert sorted(result["failed"]) == ["oasst1", "wikitext"]
    assert "not built: wikitext, oasst1" in output.err
    assert "--skip wikitext oasst1" in output.err
    for place_ in ("pretrain/fineweb_edu", "pretrain/roam", "sft/dolly15k"):
        assert open_cache(tmp_path / "all" / place_ / "train").documents > 0
    assert any((tmp_path / "all" / group / "primer" / "train").is_dir() for group in ("pretrain", "sft"))
    assert result["built"]["fineweb_edu"]["stopped_early"]
    assert main([*command, "--skip", "wikitext", "oasst1"]) == 0
    assert main([*command, "--skip", "wikitxt"]) == 2
    assert "Did you mean 'wikitext'" in capsys.readouterr().err


def train(place: Path, out: Path, *more: str) -> int:
    """Train a very small model for a few steps."""
    settings = ["--preset", str(place / "small.yaml"), "--batch-size", "4", "--threads", "1"]
    length = [] if "--sequence-length" in more else ["--sequence-length", "32"]
    return main(["train", "--out", str(out), *settings, *length, *more])


def test_f39_a_weighted_mixture_of_caches_trains_a_model(
    place: Path, caches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = ["--cache-dir", str(caches), "--mix", "docs=0.8", "notes=0.2", "--steps", "40"]
    assert train(place, tmp_path / "m", *mixed, "--data.validation", "notes") == 0
    shown = capsys.readouterr().err
    assert "mixture of 5,120 tokens" in shown
    assert "├─ docs    80.0%" in shown
    run = next((tmp_path / "m/runs").iterdir())
    facts = json.loads((run / "run.json").read_text())
    assert facts["mixture"]["parts"][1]["share"] == pytest.approx(0.2)
    # Held-out text of `notes` decides, in bits per byte of the cache's own text; it fell.
    assert facts["after"]["bits_per_byte"] < facts["before"]["bits_per_byte"]
    val = open_cache(caches / "pretrain/notes/val")
    assert facts["after"]["bytes"] <= val.bytes
    _, tokenizer = load_model(tmp_path / "m")
    assert tokenizer.fingerprint == val.fingerprint
    assert (tmp_path / "m/lifelong/domains/base/gate.jsonl").read_text()
    assert (tmp_path / "m/lifelong/memory/examples.jsonl").read_text()


def test_f39_the_guides_data_section_loads_as_it_stands(
    place: Path, caches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "data": {
            "caches": {"pretrain_token_cache": str(caches / "pretrain")},
            "mix_pretrain": {"docs": 0.6, "notes": 0.4},
            "val_pretrain_source": "docs",
        },
        "steps": 3,
    }
    (tmp_path / "pretrain.json").write_text(json.dumps(config))
    assert train(place, tmp_path / "m", "--config", str(tmp_path / "pretrain.json")) == 0
    assert "60.0%" in capsys.readouterr().err
    config["data"]["mix_pretrain"] = {"docs": 0.6, "noets": 0.4}  # type: ignore[index]
    (tmp_path / "wrong.json").write_text(json.dumps(config))
    assert train(place, tmp_path / "w", "--config", str(tmp_path / "wrong.json")) == 2
    error = capsys.readouterr().err
    assert "there is no cache 'noets'. Did you mean 'notes'" in error
    assert "There are: docs, notes." in error


def test_f39_caches_given_as_data_with_weights_and_the_planned_tree(
    place: Path, caches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", f"{caches}/pretrain/docs@1", f"{caches}/pretrain/notes@3"]
    assert train(place, tmp_path / "m", *data, "--steps", "3") == 0
    assert "75.0%" in capsys.readouterr().err
    assert train(place, tmp_path / "m2", *data, str(place / "docs"), "--steps", "3") == 2
    assert "cannot be read in one run" in capsys.readouterr().err
    assert train(place, tmp_path / "m2", "--steps", "3") == 2
    assert "nothing to train on" in capsys.readouterr().err
    assert main(["cache", "mix", str(caches), "--mix", "docs=0.1", "notes=0.9", "--tokens", "300000", "--json"]) == 0
    output = capsys.readouterr()
    planned = json.loads(output.out)
    assert planned["parts"][1]["epochs"] == pytest.approx(4)
    assert "'notes' is small" in planned["warnings"][0]


def test_f42_conversations_from_a_cache_train_the_assistants_turns(place: Path, caches: Path, tmp_path: Path) -> None:
    options = ("--phase", "sft", "--cache-dir", str(caches), "--steps", "60", "--sequence-length", "64")
    assert train(place, tmp_path / "m", *options) == 0
    facts = json.loads(next((tmp_path / "m/runs").glob("*/run.json")).read_text())
    assert facts["after"]["bits_per_byte"] < facts["before"]["bits_per_byte"]
    [run] = (tmp_path / "m/runs").iterdir()
    assert all((run / kept / "model.safetensors").is_file() for kept in ("latest", "best"))


@pytest.mark.slow
def test_a_run_from_caches_resumes_bit_for_bit(place: Path, caches: Path, tmp_path: Path, interrupted_at: Any) -> None:
    mixed = ["--cache-dir", str(caches), "--mix", "docs=0.5", "notes=0.5", "--steps", "12"]
    assert train(place, tmp_path / "whole", *mixed) == 0
    with interrupted_at(5):
        assert train(place, tmp_path / "cut", *mixed) == 130
    assert main(["resume", str(tmp_path / "cut")]) == 0
    assert sha256_file(tmp_path / "cut/model.safetensors") == sha256_file(tmp_path / "whole/model.safetensors")


def test_f29_the_weight_of_a_source_counts_its_tokens(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", f"{place}/docs", f"{place}/notes@2.0", "--tokenizer", str(place / "tok")]
    assert train(place, tmp_path / "m", *data, "--steps", "4") == 0
    facts = json.loads(next((tmp_path / "m/runs").glob("*/run.json")).read_text())
    plain, double = facts["mixture"]["parts"]
    assert (plain["name"], double["name"]) == ("weight 1", "weight 2")
    # Twice as often, token for token.
    assert double["epochs"] == pytest.approx(2 * plain["epochs"], rel=0.01)
    drawn = capsys.readouterr().err
    assert "├─ weight 1" in drawn
    assert train(place, tmp_path / "w", "--data", f"{place}/docs@-1", "--steps", "4") == 2
    assert "not a positive number" in capsys.readouterr().err
