"""Row F13: any causal model of transformers as a base, and models brought in; transformers and PEFT are the oracles."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bases import make_base
from lifelong.cli.app import main
from lifelong.files import read_json, sha256_file
from lifelong.model.directory import load_model
from lifelong.tokens.loading import load_tokenizer
from lifelong.train.folder import RunFolder

QUICK = ["--threads", "1", "--batch-size", "4", "--sequence-length", "64", "--evaluation.max-bytes", "4000"]
QUESTION = [{"role": "user", "content": "What is 12345?"}]


def stock(place: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()


def logits_of(place: Path, ids: list[int]) -> torch.Tensor:
    """The base weights' logits, through our classes."""
    model, _ = load_model(place, device="cpu", adapter=None)
    with torch.no_grad():
        return model(torch.tensor([ids]))


def same_logits(place: Path, other: Path | None = None) -> None:
    ids = load_tokenizer(place).encode("The quick brown fox yields 42.")
    with torch.no_grad():
        expected = stock(other or place)(torch.tensor([ids])).logits
    torch.testing.assert_close(logits_of(place, ids)[..., : expected.shape[-1]], expected, rtol=1e-4, atol=1e-4)


def said_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("text")
    for name, text in sorted(topics.topics.items())[:40]:
        (place / f"{name}.txt").write_text(text[:3000])
    return place


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 that was trained further here; tests copy it."""
    place = tmp_path_factory.mktemp("trained")
    base = make_base(place / "gpt2")
    words = ["train", "--data", str(text), "--base", str(base), "--out", str(place / "m"), *QUICK]
    assert main([*words, "--steps", "60", "--learning-rate", "1e-2"]) == 0
    return place / "m"


@pytest.fixture
def ours(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "m"))


def test_f13_gpt2_learns_and_is_a_stock_model_again(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = RunFolder.find(trained).facts
    before, after = facts["before"]["bits_per_byte"], facts["after"]["bits_per_byte"]
    assert after < 0.75 * before  # held-out text; the baseline is the base itself
    assert facts["start"]["pretrained"] == "gpt2"
    config = read_json(trained / "config.json")
    assert (config["model_type"], config["architectures"]) == ("gpt2", ["GPT2LMHeadModel"])
    same_logits(trained)
    found = said_json(capsys, "evaluate", str(trained))
    assert found["bits_per_byte"] < 0.8 * before
    ids = load_tokenizer(trained).encode("def f(): 12")
    assert transformers.AutoTokenizer.from_pretrained(trained)("def f(): 12")["input_ids"] == ids


@pytest.mark.parametrize("family", ["opt", "gemma"])
def test_f13_other_families_are_trained_and_written_as_stock_models(family: str, text: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / family, family)
    words = ["train", "--data", str(text), "--base", str(base), "--out", str(tmp_path / "m"), *QUICK]
    assert main([*words, "--steps", "15", "--learning-rate", "1e-2"]) == 0
    facts = RunFolder.find(tmp_path / "m").facts
    assert facts["after"]["bits_per_byte"] < 0.95 * facts["before"]["bits_per_byte"]
    same_logits(tmp_path / "m")


def test_f13_gpt2_writes_what_transformers_writes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said_json(
        capsys, "generate", str(trained), "--prompt", "The yield", "--max-tokens", "20", "--temperature", "0"
    )
    tokenizer = load_tokenizer(trained)
    ids = [tokenizer.eos_id, *tokenizer.encode("The yield")]
    written = stock(trained).generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, len(ids) :].tolist()
    assert found["texts"] == [tokenizer.decode(written)]
    assert "answer" in said_json(capsys, "chat", str(trained), "--message", "Hello", "--max-tokens", "5")


def test_f13_gpt2_is_found_again_and_tuned_to_chat(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chats = tmp_path / "chats.json"
    rows = [{"question": f"What is {name}?", "answer": text[:150]} for name, text in sorted(topics.topics.items())]
    chats.write_text(json.dumps(rows))
    words = ["train", "--data", str(chats), "--out", str(ours), "--phase", "sft", *QUICK, "--steps", "5"]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "continuing training" in said and "Learning rate 1e-05" in said
    same_logits(ours)


def test_f13_a_lesson_on_gpt2_is_kept_as_a_peft_adapter_and_undone(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel

    new = tmp_path / "new.txt"
    new.write_text("\n\n".join(topics.topics[name] for name in sorted(topics.topics)[45:55]))
    root = sha256_file(ours / "model.safetensors")
    lesson = ["--domain", "new", "--threads", "1", "--sequence-length", "64", "--epochs", "2", "--ewc-lambda", "100"]
    found = said_json(capsys, "learn", str(ours), str(new), *lesson, "--learning-rate", "5e-3", "--accept")
    assert found["accepted"]
    matrix = said_json(capsys, "matrix", str(ours))
    assert matrix["domains"][-1] == "new" and matrix["bpb"][-1][-1] < matrix["bpb"][0][-1]
    config = read_json(ours / "lifelong/adapters/new/adapter_config.json")
    assert config["fan_in_fan_out"] and set(config["target_modules"]) == {"c_attn", "c_proj", "c_fc"}
    model, tokenizer = load_model(ours, device="cpu", adapter="new")
    ids = torch.tensor([tokenizer.encode("The yield expression")])
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(stock(ours), ours / "lifelong/adapters/new").eval()(ids).logits
        torch.testing.assert_close(model(ids), theirs, rtol=1e-4, atol=1e-4)
        assert (theirs - stock(ours)(ids).logits).abs().max() > 1e-2
    assert main(["rollback", str(ours)]) == 0
    assert sha256_file(ours / "model.safetensors") == root
    assert not any((ours / "lifelong/adapters").rglob("*.safetensors"))


@pytest.mark.slow
def test_f13_an_interrupted_run_on_gpt2_goes_on_bit_for_bit(text: Path, tmp_path: Path, interrupted_at: Any) -> None:
    base = make_base(tmp_path / "gpt2")  # with dropout, as GPT-2 has it

    def words(out: str) -> list[str]:
        place = ["--base", str(base), "--out", str(tmp_path / out)]
        return ["train", "--data", str(text), *place, *QUICK, "--steps", "6", "--learning-rate", "1e-3"]

    assert main(words("whole")) == 0
    with interrupted_at(3):
        assert main(words("cut")) == 130
    assert main(["resume", str(tmp_path / "cut")]) == 0
    assert sha256_file(tmp_path / "cut/model.safetensors") == sha256_file(tmp_path / "whole/model.safetensors")


def test_f13_a_base_is_named_as_on_the_hub_and_found_in_its_cache(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    repository = tmp_path / "cache" / "models--someone--tiny-gpt2"
    make_base(repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", str(text), "--out", str(tmp_path / "m"), *QUICK, "--steps", "1"]
    assert main([*words, "--model-name", "someone/tiny-gpt2"]) == 0
    assert RunFolder.find(tmp_path / "m").facts["start"]["pretrained"] == "someone/tiny-gpt2"
    assert "Learning rate 5e-05" in capsys.readouterr().err
    make_base(tmp_path / "someone" / "tiny-gpt2")  # a directory of that name wins
    assert main([*words[:4], str(tmp_path / "n"), *words[5:], "--base", "someone/tiny-gpt2"]) == 0
    assert RunFolder.find(tmp_path / "n").facts["start"]["model"] == "someone/tiny-gpt2"


def test_f13_a_base_that_is_nowhere_is_refused_with_what_to_do(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(text), "--out", str(tmp_path / "m"), "--base"]
    assert main([*words, "distilgpt2-of-nobody"]) == 2
    said = capsys.readouterr().err
    assert "cannot be had" in said and "hf download" in said and "Traceback" not in said
    assert main([*words, str(tmp_path / "nowhere")]) == 2
    assert "no such base model here" in capsys.readouterr().err and not (tmp_path / "m").exists()


def test_f13_a_directory_is_imported_and_its_own_chat_format_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(tmp_path / "base", "qwen2", chatml=True)
    found = said_json(capsys, "import", str(base), "--out", str(tmp_path / "m"))
    assert any("ChatML" in note for note in found["notes"])
    same_logits(tmp_path / "m", base)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    talk = [{"role": "system", "content": "Be brief."}, *QUESTION, {"role": "assistant", "content": "A number."}]
    tokenizer = load_tokenizer(tmp_path / "m")
    ids, learned = tokenizer.encode_chat(talk)
    assert theirs.apply_chat_template(talk, return_dict=False) == ids
    assert (
        tokenizer.decode([i for i, counts in zip(ids, learned, strict=True) if counts], False) == "A number.<|im_end|>"
    )
    asked = theirs.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    assert tokenizer.encode_chat(QUESTION, add_generation_prompt=True)[0] == asked
    assert main(["import", str(base), "--out", str(tmp_path / "m")]) == 2  # never overwritten
    assert [event["event"] for event in said_history(tmp_path / "m", capsys)] == ["import"]
    chats = tmp_path / "chats.json"
    chats.write_text(json.dumps([{"question": f"What is {n}?", "answer": t[:80]} for n, t in topics.topics.items()]))
    assert (
        main(["train", "--data", str(chats), "--out", str(tmp_path / "m"), "--phase", "sft", *QUICK, "--steps", "2"])
        == 0
    )
    assert load_tokenizer(tmp_path / "m").special.chatml


def said_history(place: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["history", str(place), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    events: list[dict[str, Any]] = found["events"] if isinstance(found, dict) else found
    return events


def test_f13_old_weights_are_imported_from_a_torch_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file

    base = make_base(tmp_path / "base")
    whole = make_base(tmp_path / "whole")
    state = load_file(base / "model.safetensors")
    # As the hub's oldest GPT-2 files name their tensors.
    torch.save({name.removeprefix("transformer."): value for name, value in state.items()}, base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    said_json(capsys, "import", str(base), "--out", str(tmp_path / "m"))
    same_logits(tmp_path / "m", whole)
    torch.save({"wte.weight": state["transformer.wte.weight"]}, base / "pytorch_model.bin")
    assert main(["import", str(base), "--out", str(tmp_path / "n")]) == 2
    assert "is missing" in capsys.readouterr().err
