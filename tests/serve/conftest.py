from __future__ import annotations

import contextlib
import pydoc_data.topics as topics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong.cli.serve import open_views
from lifelong.model.directory import write_model_files
from lifelong.model.encoder import EncoderOnlyModel
from lifelong.model.transformer import Transformer
from lifelong.serve.app import serving
from lifelong.serve.board import Board
from lifelong.serve.server import address_of, listen, new_server
from lifelong.settings.model import ModelConfig
from lifelong.settings.serve import ServeSettings
from lifelong.tokens.tokenizer import BPETokenizer

SHAPE = {"d_model": 32, "num_layers": 2, "num_query_heads": 4, "num_kv_heads": 2, "max_seq_len": 256}


@pytest.fixture(scope="session")
def tokenizer() -> BPETokenizer:
    return BPETokenizer(vocab_size=400).train([text for _, text in sorted(topics.topics.items())][:10])


def randomise(model: Transformer, seed: int) -> Transformer:
    """Give a model random weights under which the likeliest tokens vary with the text before them."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=float(parameter.ndim == 1), std=0.2)
    return model


@pytest.fixture(scope="session")
def model_dir(tokenizer: BPETokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model with random weights."""
    place = tmp_path_factory.mktemp("models") / "small"
    write_model_files(
        randomise(Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **SHAPE)), 0), tokenizer, place
    )
    return place


@pytest.fixture(scope="session")
def encoder_dir(tokenizer: BPETokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "encoder"
    shape = {**SHAPE, "vocab_size": tokenizer.vocab_size + 1, "causal": False, "mask_token_id": tokenizer.vocab_size}
    write_model_files(randomise(EncoderOnlyModel(ModelConfig(**shape)), 1), tokenizer, place)
    return place


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """Answer in a thread; yields the address."""
    listening = listen("127.0.0.1", 0)
    server = new_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield address_of(listening)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextlib.contextmanager
def served(place: Path, **settings: Any) -> Iterator[str]:
    """Serve a model directory, or an export; yields the address."""
    chosen = ServeSettings.build({"device": "cpu", **settings})
    found, views = open_views(place, chosen)
    with running(serving(views, chosen, Board(found))) as address:
        yield address


@pytest.fixture(scope="session")
def address(model_dir: Path) -> Iterator[str]:
    with served(model_dir) as found:
        yield found


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[str]]:
    return served


@pytest.fixture(scope="session")
def answering() -> Callable[[Any], contextlib.AbstractContextManager[str]]:
    return running
