"""The names that a user imports from `lifelong`, and that importing it is light."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize("set_by_user", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_do_not_spin_for_long_unless_the_user_says_so(set_by_user: dict[str, str]) -> None:
    code = "import os, lifelong; print({k: os.environ.get(k) for k in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')})"
    bare = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env={**bare, **set_by_user}
    )
    wanted = set_by_user or {"GOMP_SPINCOUNT": "5000"}
    assert done.stdout.strip() == str({"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": None} | wanted)


def test_a_model_is_built_from_the_public_names() -> None:
    from lifelong import ContinualLLM, ModelConfig

    model = ContinualLLM(ModelConfig(vocab_size=50, d_model=32, num_layers=1, num_query_heads=2))
    assert model.config.num_kv_heads == 2
