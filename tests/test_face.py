"""The names that a user imports from `lifelong`, and that importing it is light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lifelong


def test_every_public_name_is_there() -> None:
    for name in lifelong.__all__:
        assert getattr(lifelong, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = lifelong.Nothing


def test_importing_the_package_loads_no_torch() -> None:
    code = "import lifelong, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_is_built_from_the_public_names() -> None:
    from lifelong import ContinualLLM, ModelConfig

    model = ContinualLLM(ModelConfig(vocab_size=50, d_model=32, num_layers=1, num_query_heads=2))
    assert model.config.num_kv_heads == 2
