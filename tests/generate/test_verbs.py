"""`lifelong generate` and `lifelong chat` on a model directory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lifelong.cli.app import main
from lifelong.generate.chat import DEFAULT_SYSTEM
from lifelong.generate.engine import generate
from lifelong.model import kernel
from lifelong.model.directory import write_model_files
from lifelong.model.transformer import Transformer
from lifelong.settings.model import ModelConfig
from lifelong.tokens.tokenizer import BPETokenizer

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(model: Transformer, tokenizer: BPETokenizer, tmp_path: Path) -> Path:
    write_model_files(model, tokenizer, tmp_path / "model")
    (tmp_path / "model" / "lifelong").mkdir()
    return tmp_path / "model"


def told(capsys: Capture, *arguments: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_f10_prompts_of_a_file_are_written_side_by_side_as_each_alone(
    place: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "The names"}\n\n"def f("\n', encoding="utf-8")
    flags = ("--seed", 3, "--max-tokens", 12, "--min-p", 0.01, "--repetition-penalty", 1.1, "--stop", "e")
    found = told(capsys, "generate", place, "--prompt-file", file, "--num-samples", 2, *flags)["results"]
    assert [one["prompt"] for one in found] == ["The names", "def f("]
    for one in found:
        alone = told(capsys, "generate", place, "--prompt", one["prompt"], "--num-samples", 2, *flags)
        assert alone == one
        assert not any("e" in text for text in one["texts"])
        assert set(one["finish"]) <= {"stop", "length"}
    several = told(capsys, "generate", place, "--prompt", "The names", "--prompt", "def f(", "--num-samples", 2, *flags)
    assert several["results"] == found
    assert main(["generate", str(place), "--prompt-file", str(file), "--max-tokens", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("--- 1\nThe names") and "--- 2\ndef f(" in out
    assert "1 empty lines" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "x", "--temperature", "-1"], "temperature"),
        (["--prompt", "x", "--top-p", "1.5"], "top_p"),
        (["--prompt", "x", "--greedy", "--temperature", "0.7"], "--greedy is temperature 0, and temperature 0.7"),
        (["--prompt", "x", "--max-tokens", "96"], "at most 95"),
        (["--prompt", "x", "--stop", ""], "empty"),
        (["--prompt", "x", "--interactive"], "give either"),
        ([], "give either"),
        (["--prompt-file", "no.txt"], "no.txt"),
        (["--prompt-file", "bad.jsonl"], "bad.jsonl:2"),
        (["--prompt-file", "other.jsonl"], "other.jsonl:1"),
        (["--prompt-file", "empty.txt"], "no prompt"),
    ],
)
def test_what_cannot_be_written_is_said(
    place: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text('"good"\n{"prompt": \n', encoding="utf-8")
    Path("other.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    Path("empty.txt").write_text("\n\n", encoding="utf-8")
    assert main(["generate", str(place), *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err and "Traceback" not in err and not out


def test_greedy_is_temperature_0_in_both_verbs(place: Path, capsys: Capture) -> None:
    for verb, asked in (("generate", "--prompt"), ("chat", "--message")):
        words = (verb, place, asked, "The names of", "--max-tokens", 8)
        assert told(capsys, *words, "--greedy") == told(capsys, *words, "--temperature", 0)


def test_an_encoder_says_what_it_can_do(tokenizer: BPETokenizer, tmp_path: Path, capsys: Capture) -> None:
    from lifelong.model.encoder import build_model

    config = ModelConfig(
        vocab_size=tokenizer.vocab_size + 1, d_model=32, num_layers=1, num_query_heads=2, causal=False,
        mask_token_id=tokenizer.vocab_size,
    )  # fmt: skip
    write_model_files(build_model(config), tokenizer, tmp_path / "encoder")
    assert main(["generate", str(tmp_path / "encoder"), "--prompt", "x"]) == 2
    assert "write text" in capsys.readouterr().err


def test_a_long_and_an_empty_prompt_are_handled_and_said(place: Path, capsys: Capture) -> None:
    assert main(["generate", str(place), "--prompt", "many words " * 99, "--max-tokens", "5"]) == 0
    assert "do not fit the context" in capsys.readouterr().err
    assert told(capsys, "generate", place, "--prompt", "", "--max-tokens", 5)["prompt"] == ""


def talk(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, *lines: str, flags: tuple[str, ...] = ()
) -> Any:
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    assert main(["chat", str(place), "--max-tokens", "6", *flags]) == 0
    return capsys.readouterr()


def remembers(place: Path, *roles: str) -> None:
    """Let the directory tell of conversations."""
    row = {"messages": [{"role": role, "content": "x"} for role in roles]}
    (place / "lifelong" / "memory").mkdir()
    (place / "lifelong" / "memory" / "examples.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")


def test_f43_a_conversation_is_saved_loaded_tried_again_and_steered(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    remembers(place, "user", "assistant")
    file, other = tmp_path / "chat.json", tmp_path / "again.json"
    found = talk(
        place, monkeypatch, capsys,
        "/help", "/seed 5", "hello", f"/save {file}", "/retry", "/seed x", "/params temperature=0 top-k=3",
        "/params colour=1", "/nothing", "/load nowhere.json", f"/load {file}", "more", f"/save {other}",
        "/system Be brief.", "/reset", "/quit", "never",
    )  # fmt: skip
    for said in (
        "/retry",
        "unknown command /nothing",
        "'colour'",
        "temperature=0.0  top_p=0.9  top_k=3",
        "nowhere.json",
    ):
        assert said in found.err
    assert "Traceback" not in found.err
    first, second = (json.loads(path.read_text(encoding="utf-8"))["messages"] for path in (file, other))
    assert [one["role"] for one in first] == ["user", "assistant"]
    assert second[:2] == first and second[2]["content"] == "more" and len(second) == 4
    talk(place, monkeypatch, capsys, "hello", f"/save {other}", flags=("--seed", "5"))
    assert json.loads(other.read_text(encoding="utf-8"))["messages"] == first
    file.write_text('{"messages": [{"role": "assistant", "content": "x"}]}', encoding="utf-8")
    assert "in turns" in talk(place, monkeypatch, capsys, f"/load {file}").err


def test_f43_instructions_are_built_in_for_a_model_that_knows_any(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    remembers(place, "system", "user", "assistant")
    file = tmp_path / "chat.json"
    assert DEFAULT_SYSTEM in talk(place, monkeypatch, capsys, "hello", f"/save {file}").err
    assert json.loads(file.read_text(encoding="utf-8"))["messages"][0]["content"] == DEFAULT_SYSTEM
    (tmp_path / "own.txt").write_text("Speak like a sailor.\n", encoding="utf-8")
    talk(place, monkeypatch, capsys, "hello", f"/save {file}", flags=("--system-file", str(tmp_path / "own.txt")))
    assert json.loads(file.read_text(encoding="utf-8"))["messages"][0]["content"] == "Speak like a sailor."


def test_f43_a_model_that_was_taught_no_conversations_goes_on_with_the_text(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    found = talk(place, monkeypatch, capsys, "The names of", flags=("--seed", "5"))
    assert "was not taught to talk" in found.err
    expected = told(capsys, "generate", place, "--prompt", "The names of", "--max-tokens", 6, "--seed", 5)["texts"]
    assert found.out == f"{expected[0]}\n"


def test_f43_ctrl_c_stops_the_answer_and_not_the_program(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from lifelong.generate.chat import ChatSession

    original, calls = ChatSession.ask, iter([True, False])

    def ask(self: ChatSession, text: str, on_text: Any = None) -> str:
        if next(calls):
            raise KeyboardInterrupt
        return original(self, text, on_text)

    monkeypatch.setattr(ChatSession, "ask", ask)
    found = talk(place, monkeypatch, capsys, "hello", "hello again")
    assert "(stopped)" in found.err and found.out.strip()


def test_writing_with_a_model_of_ours_does_not_import_transformers(place: Path) -> None:
    code = (
        "import sys; from lifelong.cli.app import main; "
        f"assert main(['generate', {str(place)!r}, '--prompt', 'The', '--max-tokens', '3']) == 0; "
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("The")
    assert "'torch'" in ran.stderr and "'transformers'" not in ran.stderr


def test_f34_samples_stand_beside_the_figures_of_an_evaluation(place: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "held.txt").write_text("The names of things are held in tables.\n" * 20, encoding="utf-8")
    config = tmp_path / "evaluate.yaml"
    config.write_text(
        "generation: {prompts: [The names, 'x ='], max_tokens: 9, temperature: 0.7, top_k: 20, top_p: 0.95, "
        "num_samples: 3}\n",
        encoding="utf-8",
    )
    sources = ("--data", tmp_path / "held.txt", "--split", "train", "--seed", 4)
    found = told(capsys, "evaluate", place, *sources, "--config", config)
    assert [one["prompt"] for one in found["samples"]] == ["The names", "x ="]
    sampling = (
        "--temperature",
        0.7,
        "--top-k",
        20,
        "--top-p",
        0.95,
        "--num-samples",
        3,
        "--max-tokens",
        9,
        "--seed",
        4,
    )
    for one in found["samples"]:
        assert one["texts"] == told(capsys, "generate", place, "--prompt", one["prompt"], *sampling)["texts"]
    assert "samples" not in told(capsys, "evaluate", place, *sources)
    assert main(["evaluate", str(place), *map(str, sources), "--generation.prompts", "The names"]) == 0
    assert "--- The names (1)\n" in capsys.readouterr().out


def test_f10_bf16_is_another_precision_of_the_same_weights(
    model: Transformer, tokenizer: BPETokenizer, place: Path, capsys: Capture
) -> None:
    flags = ("--prompt", "The names of", "--temperature", 0, "--max-tokens", 20)
    exact = told(capsys, "generate", place, *flags)["texts"]
    if kernel.load_kernel() is None:
        assert main(["generate", str(place), "--prompt", "The", "--precision", "bf16"]) == 2
        return
    model.set_precision("bf16")
    expected = generate(model, tokenizer, "The names of", temperature=0, max_tokens=20)
    assert told(capsys, "generate", place, *flags, "--precision", "bf16")["texts"] == expected != exact
