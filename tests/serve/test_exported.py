"""ONNX and GGUF exports over HTTP, asked as models are."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from driving import done, refused
from lifelong.generate.chat import ChatSession
from lifelong.generate.engine import generate
from lifelong.model.adapters import AdapterConfig, adapted_layers, attach_adapter, save_adapter
from lifelong.model.directory import adapter_path, load_model, write_model_files
from lifelong.model.transformer import Transformer
from lifelong.serve.app import serving
from lifelong.serve.board import Board
from lifelong.serve.exported import Exported
from lifelong.serve.sources import Sources
from lifelong.settings.model import ModelConfig
from lifelong.settings.serve import ServeSettings
from lifelong.tokens.tokenizer import BPETokenizer

PACKAGES = {"gguf": "xllamacpp", "onnx": "onnxruntime_genai"}
QUESTION: list[Any] = [{"role": "user", "content": "What is a list?"}]
QUICK = ["--strings", 50, "--tokens", 40]
SHORT: dict[str, Any] = {"prompt": "The import", "max_tokens": 10, "temperature": 0}


@pytest.fixture(scope="module")
def taught(tokenizer: BPETokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, and an adapter beside it."""
    place = tmp_path_factory.mktemp("exports") / "m"
    shape = {"d_model": 32, "num_layers": 2, "num_query_heads": 2, "num_kv_heads": 1, "max_seq_len": 256}
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=float(parameter.ndim == 1), std=0.2)
    write_model_files(model, tokenizer, place)
    config = AdapterConfig(rank=4, dropout=0.0)
    attach_adapter(model, config)
    with torch.no_grad():
        for _, layer in adapted_layers(model):
            layer.adapter.lora_A.normal_(std=0.3)
            layer.adapter.lora_B.normal_(std=0.3)
    save_adapter(model, config, adapter_path(place, "drama"))
    (place / "lifelong" / "state.json").write_text(json.dumps({"adapters": [{"name": "drama"}]}))
    return place


def export(taught: Path, target: str, *flags: str) -> Path:
    pytest.importorskip(PACKAGES[target], reason=f"not installed: pip install 'lifelong[{target}]'")
    out = taught.parent / "-".join((target, *flags)).replace("--", "")
    if not out.exists():
        done("export", taught, "--to", target, "--out", out, "--precision", "fp32", *flags, *QUICK)
    return out


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def exported(request: pytest.FixtureRequest, taught: Path) -> Path:
    """The GGUF file has the adapter beside it; an ONNX graph has no room for one."""
    return export(taught, request.param, *(["--adapter", "base"] if request.param == "onnx" else []))


@pytest.fixture(scope="module")
def client(exported: Path, serve: Any) -> Iterator[openai.OpenAI]:
    with serve(exported) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def is_onnx(place: Path) -> bool:
    return place.name.startswith("onnx")


def test_f43_an_export_over_http_writes_what_its_model_writes(
    client: openai.OpenAI, exported: Path, taught: Path
) -> None:
    names = [model.id for model in client.models.list()]
    assert names == (["base"] if is_onnx(exported) else ["base", "drama"])
    texts = {}
    for name in [*names, *reversed(names)]:  # every model is left and come back to
        model, tokenizer = load_model(taught, device="cpu", adapter=name)
        texts[name] = client.completions.create(model=name, **SHORT).choices[0].text
        assert texts[name] == generate(model, tokenizer, "The import", max_tokens=10, temperature=0)[0]
    assert len(set(texts.values())) == len(names)
    with pytest.raises(openai.NotFoundError, match="There are: base") as caught:
        client.completions.create(model="auto", prompt="a")
    assert caught.value.code == "model_not_found"


def test_f43_an_export_streams_a_conversation_and_counts_its_tokens(client: openai.OpenAI, taught: Path) -> None:
    asked: dict[str, Any] = {"model": "base", "messages": QUESTION, "max_tokens": 12, "temperature": 0}
    found = client.chat.completions.create(**asked)
    model, tokenizer = load_model(taught, device="cpu", adapter="base")
    expected = ChatSession(model, tokenizer, max_tokens=12, temperature=0).ask("What is a list?")
    assert found.choices[0].message.content == expected
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == expected
    # How many pieces there are depends on who is faster: what is written while one is sent goes with the next.
    assert choices[-1].finish_reason == found.choices[0].finish_reason
    assert found.usage is not None and chunks[-1].usage == found.usage
    assert found.usage.prompt_tokens == len(tokenizer.encode_chat(QUESTION, add_generation_prompt=True)[0])
    assert 0 < found.usage.completion_tokens <= 12


def test_an_export_obeys_stop_seed_and_echo(client: openai.OpenAI, exported: Path, taught: Path) -> None:
    whole = client.completions.create(model="base", **SHORT).choices[0].text
    word = whole[4:6]
    cut = client.completions.create(model="base", **SHORT, stop=word).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(word)], "stop")
    assert client.completions.create(model="base", **SHORT, echo=True).choices[0].text == "The import" + whole
    drawn: dict[str, Any] = {"model": "base", "prompt": "The import", "max_tokens": 10, "seed": 3, "n": 2}
    texts = [choice.text for choice in client.completions.create(**drawn).choices]
    assert len(set(texts)) == 2 and [choice.text for choice in client.completions.create(**drawn).choices] == texts
    if is_onnx(exported):  # the draws are ours, too
        model, tokenizer = load_model(taught, device="cpu", adapter="base")
        assert texts == generate(model, tokenizer, "The import", max_tokens=10, seed=3, num_samples=2)


def test_an_export_refuses_what_its_program_does_not_tell(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tells no log-probabilities") as caught:
        client.completions.create(model="base", prompt="a", logprobs=0, echo=True, max_tokens=0)
    assert caught.value.param == "logprobs"
    with pytest.raises(openai.BadRequestError, match="tells no log-probabilities"):
        client.chat.completions.create(model="base", messages=QUESTION, logprobs=True)
    with pytest.raises(openai.BadRequestError, match="this model writes text"):
        client.embeddings.create(model="base", input="a")
    with pytest.raises(openai.BadRequestError, match="this model reads 256 tokens"):
        client.completions.create(model="base", prompt="a", max_tokens=1000)


def test_who_asks_an_export_beside_others_waits(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]

    def ask(number: int) -> str:
        return client.completions.create(model=names[number % len(names)], **SHORT).choices[0].text

    alone = [ask(number) for number in range(len(names))]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(16))) == [alone[number % len(names)] for number in range(16)]


def test_an_adapter_in_the_weights_is_the_only_model(taught: Path) -> None:
    views = Exported(export(taught, "gguf", "--merged"))
    assert views.targets == {"merged": "routed", "drama": "routed"}
    views.close()


def test_an_export_that_nobody_asked_is_let_go(taught: Path) -> None:
    """llama.cpp waits forever where it is told to end before it has begun."""
    place = export(taught, "gguf")
    for _ in range(5):
        Exported(place).close()


def test_an_export_answers_with_passages(
    taught: Path, answering: Callable[[Any], AbstractContextManager[str]], tmp_path: Path
) -> None:
    (tmp_path / "lists.md").write_text("# Lists\n\nA list keeps values in order.\n")
    done("index", tmp_path / "lists.md", "--store", tmp_path / "store")
    place = export(taught, "gguf")
    views = Exported(place, context=200)
    app = serving(views, ServeSettings.build({}), Board(place), Sources(tmp_path / "store", views))
    with answering(app) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        found = client.chat.completions.create(
            model="base", messages=QUESTION, max_tokens=4, extra_body={"passages": 1}
        )
        [source] = found.model_dump()["lifelong"]["sources"]
        assert "keeps values in order" in source["text"]


def test_what_cannot_be_served_so_is_refused(
    exported: Path,
    taught: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LIFELONG_API_KEY", raising=False)
    target, other = ("onnx", "gguf") if is_onnx(exported) else ("gguf", "onnx")
    assert f"--engine {other} does not run" in refused(capsys, "serve", exported, "--engine", other)
    assert f"--to {target}" in refused(capsys, "serve", taught, "--engine", target)
    assert "no such" in refused(capsys, "serve", tmp_path / "nowhere", "--engine", target)
    assert "precision that it was made in" in refused(capsys, "serve", exported, "--precision", "bf16")
    assert "where its own program does" in refused(capsys, "serve", exported, "--device", "cuda")
    assert "reads 256 tokens, not 300" in refused(capsys, "serve", exported, "--context", 300)
    said = refused(capsys, "serve", exported, "--engine", target, "--host", "0.0.0.0", "--queue", 7)
    assert "writes one text at a time" in said and "up to 7 more wait" in said and "--api-key" in said
    shutil.copytree(exported, tmp_path / "cut")
    for file in (tmp_path / "cut").glob(f"*.{target}"):
        file.write_bytes(file.read_bytes()[:3000])
    assert "does not load the file" in refused(capsys, "serve", tmp_path / "cut")
