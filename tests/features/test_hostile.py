"""Files of other makers that lie, or are programs: named, never run, never followed into all the memory there is."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from exporting import QUICK, exported, new_place, train
from lifelong.cli.app import main
from lifelong.errors import LifelongError
from lifelong.files import read_json, write_json
from lifelong.model.gguf_file import gguf_to_directory
from lifelong.model.gguf_header import check_header
from lifelong.model.outside import load_outside
from lifelong.tokens.templates import render


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_place(tmp_path_factory.mktemp("hostile"))
    train(folder, folder / "m", steps=["--steps", "2", "--batch-size", "4", "--sequence-length", "32"])
    assert main(["export", str(folder / "m"), "--to", "huggingface", "--out", str(folder / "h"), *QUICK]) == 0
    return folder


@pytest.fixture(scope="module")
def gguf(place: Path) -> bytes:
    pytest.importorskip("gguf")
    from lifelong.export.gguf_writer import write_gguf
    from lifelong.model.directory import load_model

    model, tokenizer = load_model(place / "m", device="cpu")
    write_gguf(model, tokenizer, place / "m.gguf", "fp16", name="m", where="m")
    return (place / "m.gguf").read_bytes()


def taken(data: bytes, folder: Path) -> bool:
    """Whether a file is read; a refusal names it, and is no other error."""
    file = folder / "x.gguf"
    file.write_bytes(data)
    try:
        gguf_to_directory(file, folder / "x")
        load_outside(folder / "x")
    except LifelongError as error:
        assert "x" in str(error.where)
        return False
    return True


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), value=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_a_changed_or_cut_gguf_file_is_read_or_refused_and_nothing_else(
    where: float, value: bytes, cut: bool, gguf: bytes, tmp_path: Path
) -> None:
    place = int(where**3 * (len(gguf) - len(value)))  # most of them in the header
    if cut:
        assert not taken(gguf[:place], tmp_path)
    else:
        taken(gguf[:place] + value + gguf[place + len(value) :], tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:], "tensors"),
        (lambda data: data[:16] + struct.pack("<Q", 2**60) + data[24:], "keys"),
        (lambda data: data[:24] + struct.pack("<Q", 2**62) + data[32:], "text of"),
        (lambda data: b"GGML" + data[4:], "begin with GGUF"),
        (lambda data: data[:4] + struct.pack("<I", 9) + data[8:], "version"),
        (lambda data: _key(9, struct.pack("<IQ", 0, 2**62)), "lists"),
        (lambda data: _key(9, struct.pack("<IQ", 9, 1)), "list of values of kind 9"),
        (lambda data: _key(99, b""), "kind 99"),
    ],
)
def test_numbers_that_cannot_be_true_are_named_before_anything_is_read(
    changed: Any, says: str, gguf: bytes, tmp_path: Path
) -> None:
    (tmp_path / "x.gguf").write_bytes(changed(gguf))
    with pytest.raises(LifelongError, match=says):
        check_header(tmp_path / "x.gguf")


def _key(kind: int, value: bytes) -> bytes:
    """A file with one key."""
    return b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", kind) + value


def imported(place: Path, tmp_path: Path, **keys: Any) -> int:
    """Import a stock directory with other keys in its config.json."""
    for file in (place / "h").iterdir():
        if file.is_file() and file.name not in ("manifest.json", "export.json", "verification.json"):
            (tmp_path / "s").mkdir(exist_ok=True)
            (tmp_path / "s" / file.name).write_bytes(file.read_bytes())
    write_json(tmp_path / "s" / "config.json", {**read_json(tmp_path / "s" / "config.json"), **keys})
    return main(["import", str(tmp_path / "s"), "--out", str(tmp_path / "out")])


def test_keys_that_would_run_code_are_refused_or_left_out_and_unknown_ones_are_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(place, tmp_path, auto_map={"AutoModel": "evil.Model"}) == 2
    assert "never run" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert imported(place, tmp_path, auto_map=None, attn_implementation="someone/kernel", flavour="plum") == 0
    said = capsys.readouterr().err
    assert "attn_implementation = 'someone/kernel' in config.json is left out" in said and "flavour" in said
    written = read_json(tmp_path / "out" / "config.json")
    assert "attn_implementation" not in written and "flavour" not in written


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"num_hidden_layers": 10**9}, "layers"),
        ({"intermediate_size": 10**9}, "a file of weights of"),
        ({"hidden_size": -64}, "d_model"),
        ({"vocab_size": "many"}, "vocab_size"),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken(
    keys: dict[str, Any], says: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(place, tmp_path, **keys) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


HOSTILE = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''.__class__ }}{{ cycler.__init__.__globals__['os'].system('true') }}",
    "{{ 'a' * 999999999999 }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ '%999999999999d' % 1 }}",
    "{{ 'a'|center(999999999999) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "x" * 200_000,
]


@pytest.mark.parametrize("template", HOSTILE)
def test_a_template_that_loops_or_reaches_out_ends_with_an_error(template: str) -> None:
    with pytest.raises((TemplateError, RecursionError)):
        render(template, messages=[{"role": "user", "content": "x"}])


def test_a_template_of_other_makers_is_not_run_by_import_and_not_written_by_export(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(place, tmp_path) == 0
    config = read_json(tmp_path / "out" / "tokenizer_config.json")
    for template in HOSTILE[:2]:
        write_json(tmp_path / "out" / "tokenizer_config.json", {**config, "chat_template": template})
        found = exported(tmp_path / "out", tmp_path / "e", capsys, "--to", "huggingface")
        assert any("neither run nor kept" in note for note in found["notes"])
        for file in (tmp_path / "e").glob("*.j*"):
            assert template not in file.read_text(encoding="utf-8") and json.dumps(template) not in file.read_text()
