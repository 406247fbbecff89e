"""The corpora made from Python's own standard library."""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

import pytest

from lifelong.errors import LifelongError
from lifelong.text import build_corpus, python_docs, write_python_corpora
from lifelong.text.python_chat import LONGEST_ANSWER, short_answer
from lifelong.text.python_source import definitions, strip_docstrings

_SCOPES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_python_corpora(tmp_path_factory.mktemp("python") / "corpora")


def _chats(corpora: dict[str, Path], module: str) -> list[list[dict[str, str]]]:
    lines = (corpora["chat"] / f"{module}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def test_sizes(corpora: dict[str, Path]) -> None:
    size = {name: sum(path.stat().st_size for path in folder.iterdir()) for name, folder in corpora.items()}
    assert size["prose"] > 1_500_000
    assert 2_000_000 < size["code"] <= 3_000_000
    pairs = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in corpora["chat"].iterdir())
    assert pairs > 5_000


def test_prose_is_readable_markdown(corpora: dict[str, Path]) -> None:
    text = (corpora["prose"] / "posixpath.md").read_text(encoding="utf-8")
    assert text.startswith("# module `os.path`\n\nCommon operations on Posix pathnames.\n")
    assert "## `os.path.join(a, *p)`\n\nJoin two or more pathname components" in text
    topic = (corpora["prose"] / "topic.with.md").read_text(encoding="utf-8")
    assert topic.startswith('# The "with" statement\n\n')


def test_code_compiles_and_has_no_docstrings(corpora: dict[str, Path]) -> None:
    for path in corpora["code"].iterdir():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not any(ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _SCOPES)), path.name


def test_chat_answers_are_true_and_short(corpora: dict[str, Path]) -> None:
    rows = _chats(corpora, "posixpath")
    answers = {row[0]["content"].replace("`", ""): row[1]["content"] for row in rows}
    assert answers["What does os.path.join do?"].startswith("Join two or more pathname components, inserting '/'")
    assert "`os.path.join(a, *p)`" in answers.values()
    docs = " ".join((corpora["prose"] / "posixpath.md").read_text(encoding="utf-8").split())
    for row in rows:
        assert [message["role"] for message in row] == ["user", "assistant"] * (len(row) // 2)
        assert all(0 < len(message["content"]) <= LONGEST_ANSWER for message in row[1::2])
        if row[0]["content"].startswith(("What does", "Explain")):
            assert row[1]["content"].rstrip(".")[1:] in docs  # the first letter may have become a capital


def test_one_split_governs_all_three(corpora: dict[str, Path]) -> None:
    splits = {
        name: {
            Path(document.name).stem: split
            for corpus in [build_corpus(folder, split_by="name")]
            for split in ("train", "gate", "test")
            for document in corpus.split(split)
        }
        for name, folder in corpora.items()
    }
    for name in ("code", "chat"):
        shared = splits[name].keys() & splits["prose"].keys()
        assert len(shared) > 100
        assert all(splits[name][stem] == splits["prose"][stem] for stem in shared)


def test_the_same_bytes_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    few = [(name, library / f"{name}.py") for name in ("textwrap", "heapq", "shutil")]
    monkeypatch.setattr(python_docs, "_modules", lambda folder: iter(few))
    monkeypatch.setattr(python_docs, "CODE_BYTES", 45_000)
    seen: list[int] = []
    for out in ("a", "b"):
        write_python_corpora(tmp_path / out, progress=lambda done, total: seen.append(total - done))
    first, second = (
        {path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out).rglob("*.*")}
        for out in ("a", "b")
    )
    assert first == second
    assert seen == [2, 1, 0, 2, 1, 0]
    assert 0 < len(list((tmp_path / "a" / "code").iterdir())) < 3


def test_a_python_without_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_docs, "_modules", lambda folder: iter([]))
    with pytest.raises(LifelongError, match="without the source"):
        write_python_corpora(tmp_path / "out")
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(LifelongError, match="never overwritten"):
        write_python_corpora(tmp_path)


def test_stripping_changes_nothing_but_docstrings() -> None:
    source = '''"""Module."""

# ä comment that stays
from __future__ import annotations

x = """not a docstring"""

def only(): "döc"
async def two():
    """Doc
    of two lines."""  # gone with it

    return "ß" """kept"""
class C:
    """Doc"""; y = 1
    def m(self):
        r"""Doc."""
class D: """Doc"""; z = 1
'''
    assert (
        strip_docstrings(source)
        == '''# ä comment that stays
from __future__ import annotations

x = """not a docstring"""

def only(): pass
async def two():
    return "ß" """kept"""
class C:
    pass; y = 1
    def m(self):
        pass
class D: pass; z = 1
'''
    )


@pytest.mark.parametrize("module", ["argparse", "typing", "dataclasses", "inspect", "asyncio/events"])
def test_stripping_keeps_the_program(module: str) -> None:
    source = (Path(sysconfig.get_path("stdlib")) / f"{module}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _SCOPES) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    assert ast.dump(ast.parse(strip_docstrings(source))) == ast.dump(tree)


def test_definitions() -> None:
    source = '''
class A:
    """About A."""
    def __init__(self, x, /, y=1, *args, key, **rest): ...
    @property
    def p(self): "P."
    @p.setter
    def p(self, value): ...
    @staticmethod
    def s(a): ...
    @classmethod
    def c(cls, b=2): ...
if x:
    def f(a: int = 3) -> str:
        def inner(): ...
'''
    found = {item.name: (item.kind, item.signature, item.arguments) for item in definitions(ast.parse(source), "m")}
    assert found == {
        "m": ("module", None, ()),
        "m.A": ("class", "x, /, y=1, *args, key, **rest", ("x", "y", "key", "args", "rest")),
        "m.A.__init__": ("method", "x, /, y=1, *args, key, **rest", ("x", "y", "key", "args", "rest")),
        "m.A.p": ("property", None, ()),
        "m.A.s": ("method", "a", ("a",)),
        "m.A.c": ("method", "b=2", ("b",)),
        "m.f": ("function", "a: int=3", ("a",)),
    }


@pytest.mark.parametrize(
    ("doc", "answer"),
    [
        ("Return the sum.  It is\nexact.  And more.\n\nLater.", "Return the sum. It is exact."),
        ("Accept e.g. A or B. Then stop it.", "Accept e.g. A or B. Then stop it."),
        ("copy data from one to another", "Copy data from one to another."),
        ("join(a, b) -> string\n\nJoin.", None),
        (">>> 1 + 1\n2", None),
        ("Too short.", None),
        ("", None),
    ],
)
def test_short_answers(doc: str, answer: str | None) -> None:
    assert short_answer(doc) == (
        answer or ("Return the sum. It is exact." if doc.startswith("Return the sum") else None)
    )
