"""Rows F13 (a base), F14 and F15: training further, with models made by transformers as outside bases."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lifelong import check_model_exists, continue_training, create_dataloaders, load_model
from lifelong.cli.app import main
from lifelong.errors import LifelongError
from lifelong.files import read_json, sha256_file
from lifelong.model.store import ModelStore
from lifelong.train.folder import RunFolder

QUICK = ["--batch-size", "4", "--sequence-length", "32", "--threads", "1", "--evaluation.max-bytes", "2000"]
SMALL = """\
name: small-test
description: for tests
reference_vocab_size: 400
model: {d_model: 32, num_layers: 2, num_query_heads: 2, num_kv_heads: 1, max_seq_len: 64}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON file of questions and answers, as guide B's ``--data data.json``."""
    rows = [
        {"question": f"What is said of {name}?", "answer": text[:1500]}
        for name, text in sorted(topics.topics.items())[:60]
    ]
    path = tmp_path_factory.mktemp("data") / "data.json"
    path.write_text(json.dumps(rows))
    return path


def make_base(place: Path, family: str = "llama", *, rows: int = 0, **config: Any) -> Path:
    """A random small model of transformers', with a plain byte-level tokenizer: no token of our chat format."""
    import transformers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([topics.topics["yield"], topics.topics["lambda"]], trainer)
    classes = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    }
    make_config, make_model = classes[family]
    torch.manual_seed(0)
    shape: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2}
    if family != "gpt2":
        shape = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 64,
            "tie_word_embeddings": family == "qwen3",
        }
    size = max(rows, tokenizer.get_vocab_size())
    model = make_model(make_config(vocab_size=size, bos_token_id=0, eos_token_id=0, pad_token_id=0, **shape, **config))
    model.save_pretrained(place)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(place)
    return place


def as_torch_file(place: Path) -> Path:
    """Turn a model's safetensors into ``pytorch_model.bin``."""
    from safetensors.torch import load_file

    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    return place


@pytest.fixture
def preset(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SMALL)
    return str(tmp_path / "small.yaml")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained from nothing here; tests copy it."""
    place = tmp_path_factory.mktemp("trained")
    (place / "small.yaml").write_text(SMALL)
    assert main(["train", "--data", str(data), "--out", str(place / "m"), "--preset", str(place / "small.yaml"),
                 "--steps", "3", *QUICK]) == 0  # fmt: skip
    return place / "m"


@pytest.fixture
def ours(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "m"))


def train(data: Path, out: Path, *more: str, steps: int = 2) -> int:
    return main(["train", "--data", str(data), "--out", str(out), "--steps", str(steps), *QUICK, *more])


def start_of(out: Path) -> dict[str, Any]:
    """What the newest run recorded of its start."""
    return dict(RunFolder.find(out).facts["start"])


def test_f14_scenario_1_nothing_exists_and_a_new_model_is_trained(
    data: Path, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not check_model_exists(str(tmp_path / "m"))
    assert train(data, tmp_path / "m", "--preset", preset) == 0
    said = capsys.readouterr().err
    assert f"No existing model in {tmp_path / 'm'}: training a new one." in said
    assert "Learning rate 0.003: the standard of muon for a new model." in said
    assert check_model_exists(str(tmp_path / "m"))
    assert start_of(tmp_path / "m")["kind"] == "new"


def test_f14_scenario_2_a_trained_model_is_trained_further_and_the_session_is_recorded(
    data: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sha256_file(ours / "model.safetensors")
    assert train(data, ours, "--domain", "more") == 0
    said = capsys.readouterr().err
    assert f"Found an existing trained model in {ours}: continuing training from it." in said
    assert sha256_file(ours / "model.safetensors") != before
    assert main(["history", str(ours), "--json"]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert [(event["event"], event["from"]) for event in events] == [("train", "new"), ("train", "further")]
    assert main(["matrix", str(ours), "--json"]) == 0
    matrix = json.loads(capsys.readouterr().out)
    assert (matrix["domains"], len(matrix["bpb"])) == (["base", "more"], 2)
    assert all(value is not None for row in matrix["bpb"] for value in row)
    assert main(["history", str(ours)]) == 0
    assert "pretrain further" in capsys.readouterr().out
    assert ModelStore.open(ours).damage() == []


def test_a_training_is_undone_to_the_byte_by_going_to_a_state_and_comes_back(
    data: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def content() -> dict[str, str]:
        apart = (ours / "lifelong/HEAD", ours / "lifelong/generations", ours / "lifelong/objects", ours / "runs")
        return {
            str(path.relative_to(ours)): sha256_file(path)
            for path in sorted(ours.rglob("*"))
            if path.is_file() and not any(path == one or one in path.parents for one in apart)
            and path.name not in ("history.jsonl", "writer.lock", "MIRROR")
        }  # fmt: skip

    first = content()
    assert train(data, ours, "--domain", "more") == 0
    second = content()
    assert second != first
    capsys.readouterr()
    assert main(["rollback", str(ours)]) == 2
    assert "rollback MODEL --to STATE" in capsys.readouterr().err
    assert main(["rollback", str(ours), "--to", "1"]) == 0
    assert "Undone: training (more)" in capsys.readouterr().out
    assert content() == first
    assert main(["rollback", str(ours), "--to", "2"]) == 0
    assert content() == second
    assert main(["history", str(ours)]) == 0
    assert "back to state 1" in capsys.readouterr().out
    for words, said in (
        (["--to", "9"], "not in its history"),
        (["--to", "4"], "in force"),
        (["1", "--to", "1"], "either"),
    ):
        assert main(["rollback", str(ours), *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_f14_scenario_3_with_an_onnx_model_beside_it_the_trained_model_goes_on(
    data: Path, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed: pip install 'lifelong[onnx]'")
    onnx = tmp_path / "onnx"
    assert main(["export", str(ours), "--to", "onnx", "--out", str(onnx), "--strings", "50", "--tokens", "30"]) == 0
    before = read_json(onnx / "export.json")["fingerprint"]
    assert train(data, ours, "--onnx-output", str(onnx)) == 0
    said = capsys.readouterr().err
    assert f"Found an ONNX model at {onnx}: it is stale once the model is trained further, and updated then." in said
    assert "continuing training from it" in said and f"The ONNX export in {onnx} is up to date." in said
    assert start_of(ours)["kind"] == "further" and read_json(onnx / "export.json")["fingerprint"] != before


@pytest.mark.parametrize("verb", ["train", "pipeline", "learn"])
def test_f14_an_onnx_model_of_other_makers_is_refused_before_anything_is_trained(
    verb: str, data: Path, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"an export")
    words = {
        "train": ["train", "--data", str(data), "--out", str(ours)],
        "pipeline": ["pipeline", "--data", str(data), "--out", str(ours)],
        "learn": ["learn", str(ours), str(data), "--domain", "more"],
    }
    before = sha256_file(ours / "model.safetensors")
    assert main([*words[verb], "--onnx-output", str(tmp_path / "onnx")]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert sha256_file(ours / "model.safetensors") == before
    assert (tmp_path / "onnx" / "model.onnx").read_bytes() == b"an export"


def test_f14_scenario_4_an_onnx_model_alone_cannot_be_trained_and_training_starts_fresh(
    data: Path, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    (out / "onnx").mkdir(parents=True)
    (out / "onnx" / "model.onnx").write_bytes(b"an export")
    assert train(data, out, "--preset", preset) == 0
    said = capsys.readouterr().err
    assert f"warning: found an ONNX model at {out / 'onnx'}, but its source model is not in {out}." in said
    assert start_of(out)["kind"] == "new" and (out / "onnx" / "model.onnx").read_bytes() == b"an export"


def test_f14_an_onnx_model_in_out_itself_is_moved_aside(
    data: Path, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "model.onnx").write_bytes(b"an export")
    assert train(data, out, "--preset", preset) == 0
    assert "it is an ONNX model, which cannot be trained further" in capsys.readouterr().err
    assert (tmp_path / "m.incomplete-1" / "model.onnx").read_bytes() == b"an export"


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_f14_scenario_5_an_incomplete_model_is_moved_aside_whole_and_training_starts_fresh(
    lacking: str, data: Path, ours: Path, preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ours / lacking).unlink()
    files = sorted(path.relative_to(ours) for path in ours.rglob("*") if path.is_file())
    assert train(data, ours, "--preset", preset, "--dry-run") == 0
    assert not (tmp_path / "m.incomplete-1").exists()
    assert train(data, ours, "--preset", preset) == 0
    said = capsys.readouterr().err
    assert f"Incomplete model in {ours}: {lacking}" in said and "is missing" in said
    assert f"moved to {tmp_path / 'm.incomplete-1'}" in said
    aside = tmp_path / "m.incomplete-1"
    assert sorted(path.relative_to(aside) for path in aside.rglob("*") if path.is_file()) == files
    assert start_of(ours)["kind"] == "new" and check_model_exists(ours)
    assert len(ModelStore.open(ours).history()) == 1


def test_f14_other_peoples_files_and_weights_in_several_files_are_refused_and_stay(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    assert train(data, tmp_path / "m") == 2
    assert "thesis.txt" in capsys.readouterr().err
    (tmp_path / "m" / "thesis.txt").rename(tmp_path / "m" / "model-00001-of-00002.safetensors")
    assert train(data, tmp_path / "m") == 2
    assert "several files" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_f14_fresh_starts_over_and_keeps_what_was_in_the_history(
    data: Path, ours: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sha256_file(ours / "model.safetensors")
    assert train(data, ours, "--fresh", "--preset", preset, "--domain", "other") == 0
    said = capsys.readouterr().err
    assert "--fresh asks for a new one: it is replaced, and kept in its history" in said
    store = ModelStore.open(ours)
    assert store.files(1)["model.safetensors"]["sha256"] == before
    assert (ours / "lifelong" / "objects" / before[:2] / before).is_file()
    # It knows nothing of the other's text, so it does not claim to.
    assert store.state()["domains"] == ["other"] and list(store.state()["memory"]) == ["other"]
    assert start_of(ours)["kind"] == "new"


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_f13_f15_a_base_of_transformers_trains_at_5e_5_and_goes_on_at_1e_5(
    family: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = make_base(tmp_path / "base", family), tmp_path / "m"
    files = {path.name: path.read_bytes() for path in base.iterdir()}
    assert train(data, out, "--model-name", str(base)) == 0
    said = capsys.readouterr().err
    assert f"Training from base model {base}." in said
    assert "Learning rate 5e-05: the standard for a pretrained base." in said
    assert "added to the vocabulary, from id 320: <|system|>" in said
    assert "the embeddings got 4 more rows" in said
    assert {path.name: path.read_bytes() for path in base.iterdir()} == files
    assert train(data, out) == 0
    said = capsys.readouterr().err
    assert "continuing training from it" in said
    assert "Learning rate 1e-05: lower, to preserve what the model knows." in said
    assert start_of(out)["learning_rate"] == 1e-5
    assert [event["learning_rate"] for event in ModelStore.open(out).history()] == [5e-5, 1e-5]
    from transformers import AutoModelForCausalLM

    model, _ = load_model(out)
    other = AutoModelForCausalLM.from_pretrained(out)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids), other(ids).logits, atol=1e-4)


def test_f14_a_stock_directory_with_pytorch_model_bin_is_trained_further_and_kept(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = as_torch_file(make_base(tmp_path / "m"))
    digest = sha256_file(out / "pytorch_model.bin")
    assert check_model_exists(out)
    assert train(data, out) == 0
    said = capsys.readouterr().err
    assert "continuing training from it" in said and "Learning rate 1e-05" in said
    assert "kept as the first state of its history" in said
    # No stale copy at the root; the one that was found is in the first state.
    assert not (out / "pytorch_model.bin").exists() and (out / "model.safetensors").is_file()
    store = ModelStore.open(out)
    assert store.files(1)["pytorch_model.bin"]["sha256"] == digest
    assert sha256_file(out / "lifelong" / "objects" / digest[:2] / digest) == digest
    assert [event["event"] for event in store.history()] == ["adopted", "train"]
    assert main(["history", str(out)]) == 0
    assert "as it was found" in capsys.readouterr().out


def test_f14_an_explicit_base_beats_detection(
    data: Path, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(tmp_path / "base", rows=384)  # rows to spare for the added tokens
    assert train(data, ours, "--base", str(base)) == 0
    said = capsys.readouterr().err
    assert "--base names another" in said and "more rows" not in said
    assert read_json(ours / "config.json")["vocab_size"] == 384
    assert start_of(ours)["kind"] == "base"
    assert ModelStore.open(ours).state()["pretrained"] == "base"


def test_f13_a_base_of_ours_brings_what_it_remembers(data: Path, ours: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "chat", "--base", str(ours), "--phase", "sft") == 0
    store = ModelStore.open(tmp_path / "chat")
    assert store.state()["domains"] == ["base", "chat"]
    assert set(store.state()["memory"]) == {"base", "chat"}
    for split in ("gate", "test"):
        place = Path("lifelong", "domains", "base", f"{split}.jsonl")
        assert (tmp_path / "chat" / place).read_bytes() == (ours / place).read_bytes()


def test_f15_a_model_trained_from_nothing_goes_on_at_a_share_of_its_peak_rate(
    data: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the share is of the highest rate: it does not shrink with every session
        assert train(data, ours) == 0
        assert "Learning rate 0.0006: 0.2 of 0.003, the highest" in capsys.readouterr().err
        assert RunFolder.find(ours).facts["learning_rate"] == pytest.approx(6e-4)
        assert max(row["lr"] for row in RunFolder.find(ours).metrics()) == pytest.approx(6e-4)


def test_f15_a_rate_that_is_given_wins_and_the_model_still_goes_on(
    data: Path, ours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, ours, "--learning-rate", "2e-5") == 0
    said = capsys.readouterr().err
    assert "Learning rate 2e-05: as given." in said and "continuing training" in said
    assert start_of(ours)["reason"] == "as given"


@pytest.mark.parametrize(
    ("change", "word", "fix"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "needs code of its own", "without such code"),
        ({"model_type": "telepathy"}, "model type 'telepathy' is no causal language model", "leave --base out"),
        ({"attention_bias": True}, "_proj.bias is missing", ""),
    ],
)
def test_f14_a_base_that_cannot_be_computed_here_is_refused(
    change: dict[str, Any], word: str, fix: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(tmp_path / "base")
    config = read_json(base / "config.json")
    (base / "config.json").write_text(json.dumps({**config, **change}))
    assert train(data, tmp_path / "m", "--base", str(base)) == 2
    said = capsys.readouterr().err
    assert word in said and fix in said and "Traceback" not in said
    assert not (tmp_path / "m").exists()


def test_f14_a_file_of_weights_with_code_in_it_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = as_torch_file(make_base(tmp_path / "base"))
    torch.save({"model.norm.weight": Path("x")}, base / "pytorch_model.bin")
    assert train(data, tmp_path / "m", "--base", str(base)) == 2
    said = capsys.readouterr().err
    assert "cannot be read as plain tensors" in said and "pytorch_model.bin" in said


def test_f13_a_base_that_is_not_here_says_how_to_get_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(data, tmp_path / "m", "--base", "distilgpt2") == 2
    assert "hf download" in capsys.readouterr().err


def test_f14_continue_training_on_batches_of_ones_own_keeps_the_best_epoch(ours: Path, tmp_path: Path) -> None:
    texts = [topics.topics[name] for name in sorted(topics.topics)[:6]]
    _, tokenizer = load_model(ours)
    batches, held_out = create_dataloaders(texts[:4], texts[4:], tokenizer, batch_size=8, max_length=32)
    before = sha256_file(ours / "model.safetensors")
    found = continue_training(
        model_path=str(ours),
        train_dataloader=batches,
        val_dataloader=held_out,
        learning_rate=1e-3,
        epochs=2,
        checkpoint_dir=str(tmp_path / "continued"),
        early_stopping_patience=3,
    )
    assert found["epochs_completed"] == len(found["train_losses"]) == len(found["val_losses"]) == 2
    assert found["val_losses"][1] < found["val_losses"][0] and found["best_epoch"] == 2
    assert not found["early_stopped"]
    assert check_model_exists(found["best_model"]) and sha256_file(ours / "model.safetensors") == before
    # The oracle: transformers computes the same loss of the same batches.
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(found["best_model"])
    nats = tokens = 0.0
    with torch.no_grad():
        for batch in held_out or []:
            count = int((batch["labels"][:, 1:] != -100).sum())
            nats, tokens = nats + float(other(**batch).loss) * count, tokens + count
    assert nats / tokens == pytest.approx(found["val_losses"][1], rel=1e-2)
    assert ModelStore.open(tmp_path / "continued" / "best_model").state()["matrix"]["sessions"] == ["start", "batches"]


def test_f14_continue_training_stops_early_and_refuses_another_vocabulary(ours: Path) -> None:
    texts = [topics.topics[name] for name in sorted(topics.topics)[:4]]
    _, tokenizer = load_model(ours)
    batches, held_out = create_dataloaders(texts[:2], texts[2:], tokenizer, batch_size=8, max_length=32)
    found = continue_training(ours, batches, held_out, learning_rate=1.0, epochs=9, early_stopping_patience=1)
    assert found["early_stopped"] and found["epochs_completed"] == found["best_epoch"] + 1
    assert check_model_exists(ours) and len(ModelStore.open(ours).history()) == 2
    wrong = [{key: value + 10**6 for key, value in batch.items()} for batch in batches]
    with pytest.raises(LifelongError, match="the model knows"):
        continue_training(ours, wrong, epochs=1)
