from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lifelong.errors import LifelongError
from lifelong.settings.model import ModelConfig
from lifelong.settings.presets import (
    list_presets,
    load_preset,
    run_memory_bytes,
    state_bytes,
    train_memory_bytes,
    weight_bytes,
)

SIZES = {
    "tiny": 10e6,
    "small": 50e6,
    "medium": 200e6,
    "large": 500e6,
    "gpt-tiny": 4.6e6,
    "gpt-small": 90e6,
    "gpt-medium": 350e6,
}


@pytest.mark.parametrize("name", ["tiny", "small", "medium", "large"])
def test_f03_a_preset_has_the_parameters_of_its_name(name: str) -> None:
    assert load_preset(name).config().parameters == pytest.approx(SIZES[name], rel=0.05)


@pytest.mark.parametrize("name", ["gpt-tiny", "gpt-small", "gpt-medium"])
def test_f04_a_gpt_preset_has_the_parameters_of_its_name(name: str) -> None:
    assert load_preset(name).config().parameters == pytest.approx(SIZES[name], rel=0.05)


def test_the_presets_are_these_and_the_quickstarts() -> None:
    found = {preset.name: preset.config() for preset in list_presets()}
    assert found.keys() == {"nano", *SIZES}
    assert found["nano"].parameters < 3e6


@pytest.mark.parametrize("name", ["medium", "large", "gpt-medium"])
def test_large_presets_have_the_head_dimension_that_gguf_readers_need(name: str) -> None:
    assert load_preset(name).config().head_dim == 128


def test_a_preset_takes_another_vocabulary_and_other_changes() -> None:
    config = load_preset("nano").config(vocab_size=1000, max_seq_len=64)
    assert (config.vocab_size, config.max_seq_len, config.d_model) == (1000, 64, 192)
    with pytest.raises(LifelongError, match="Did you mean 'num_layers'"):
        load_preset("nano").config(num_layer=3)


def test_an_unknown_preset_names_the_nearest_and_all() -> None:
    with pytest.raises(LifelongError) as caught:
        load_preset("meduim")
    assert caught.value.what == "unknown preset 'meduim'. Did you mean 'medium'?"
    assert "gpt-tiny" in str(caught.value.fix)


@pytest.mark.parametrize("name", ["../presets/nano", "", "nano/../nano"])
def test_a_name_is_not_a_way_out_of_the_folder(name: str) -> None:
    with pytest.raises(LifelongError, match="unknown preset"):
        load_preset(name)


def test_a_preset_of_one_s_own_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmodel:\n  d_model: 64\n  num_layers: 2\n  num_heads: 4\n")
    assert load_preset(path).config().num_query_heads == 4
    assert load_preset(str(path)).reference_vocab_size == 8000


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name: mine\nmodel:\n  d_model: 64\n  num_layer: 2\n  num_query_heads: 4\n", 4, "unknown setting 'num_layer'"),
        ("name: mine\nmodel:\n  d_model: 64\n", 2, "num_layers"),
        ("name: mine\nmodell:\n  d_model: 64\n", 2, "unknown setting 'modell'"),
        ("name: mine\nmodel: 3\n", 2, "model"),
    ],
)
def test_a_wrong_preset_file_names_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(LifelongError) as caught:
        load_preset(path)
    assert message in str(caught.value)
    assert f"{path}:{line}" in str(caught.value)


def test_memory_estimates_grow_with_what_they_count() -> None:
    config = load_preset("tiny").config()
    assert weight_bytes(config) == 4 * config.parameters == 2 * weight_bytes(config, 2)
    # Weights, gradients and two numbers a weight; Muon saves one of them for the matrices of the blocks.
    assert state_bytes(config, "adamw") == 16 * config.parameters
    assert 12 * config.parameters < state_bytes(config, "muon") < 16 * config.parameters
    base = train_memory_bytes(config, 8, 256)
    assert state_bytes(config) < base < train_memory_bytes(config, 16, 256) < train_memory_bytes(config, 16, 512)
    assert train_memory_bytes(config, 8, 256, precision="bf16") < base
    assert run_memory_bytes(config, 16) < run_memory_bytes(config) == run_memory_bytes(config, config.max_seq_len)


def test_guide_style_construction_of_a_config() -> None:
    config = ModelConfig(vocab_size=8000, d_model=256, num_layers=6, num_query_heads=8, num_kv_heads=2)
    assert (config.head_dim, config.num_kv_heads) == (32, 2)


def test_presets_and_settings_need_no_torch() -> None:
    rooms = "load, presets, train, learn, prepare, generate"
    code = (
        f"import sys; from lifelong.settings import {rooms}; presets.list_presets(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc")
def test_estimated_training_memory_is_near_what_a_process_takes() -> None:
    code = """
import torch
from lifelong.model.cross_entropy import linear_cross_entropy
from lifelong.model.transformer import Transformer
from lifelong.settings.presets import load_preset, train_memory_bytes
from lifelong.settings.train import OptimizerSettings
from lifelong.train.optim import build_optimizers

def peak():
    # Not ru_maxrss, which begins with the size of the process that started this one.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

torch.nn.functional.linear(torch.randn(512, 512), torch.randn(512, 512))
before = peak()
config = load_preset("gpt-tiny").config()
model = Transformer(config)
optimizers = build_optimizers(model, OptimizerSettings())
for _ in range(3):
    ids = torch.randint(0, config.vocab_size, (8, 512))
    states = model.hidden(ids).flatten(0, 1)
    linear_cross_entropy(states, model.lm_head.weight, ids.flatten()).backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
print((peak() - before) / train_memory_bytes(config, 8, 512))
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    # Allocators differ between machines; a factor of two is what the estimate promises.
    assert 0.5 < float(result.stdout) < 2.0
