"""Three corpora that every machine has: the documentation, the source and the questions of Python's standard library.

Modules are parsed, never imported, so nothing of them runs. The same interpreter gives the same bytes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from lifelong.errors import LifelongError
from lifelong.files import atomic_directory, claim_output
from lifelong.text.python_chat import conversations
from lifelong.text.python_source import Definition, definitions, strip_docstrings

KIND = "python-corpora"
CODE_BYTES = 3_000_000
# Tests, tools with interfaces of their own, tables of data, and the twin of posixpath. (Folders of installed packages
# are no identifiers, so they are never entered.)
_LEFT_OUT = {"test", "tests", "idlelib", "idle_test", "lib2to3", "encodings", "turtledemo", "pydoc_data", "ensurepip"}
_LEFT_OUT |= {"__pycache__", "__phello__", "ntpath"}
# Modules that are known by another name than that of their file.
_KNOWN_AS = {"posixpath": "os.path", "_pydecimal": "decimal", "_pyio": "io", "_pydatetime": "datetime"}
_UNDERLINE = re.compile(r"^(?P<title>\S.*)\n(?P<line>[*=\-~^\"]{3,})$", re.MULTILINE)
_LEVELS = {"*": "#", "=": "##", "-": "###", "~": "####", "^": "####", '"': "####"}


def write_python_corpora(out: str | Path, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Path]:
    """Write the folders ``prose`` (Markdown), ``code`` (Python) and ``chat`` (JSONL), one file a module in each.

    - prose: docstrings under headings with name and signature, and the language topics of ``pydoc_data``;
    - code: the source without docstrings, modules chosen by a hash of their name up to 3 MB;
    - chat: questions on names, signatures and docstrings, with answers taken from them.

    Files of one module share their stem, so ``split_by="name"`` holds a module out of all three.

    Args:
        out: a new directory, or one that this function wrote before.
        progress: called with (modules done, modules in all).

    Returns:
        The three folders by name.

    Raises:
        LifelongError: this interpreter came without its library's source, or ``out`` holds something else.
    """
    out = Path(out)
    claim_output(out, KIND)
    library = Path(sysconfig.get_path("stdlib"))
    modules = dict(_modules(library))
    if not modules:
        raise LifelongError(
            "this Python came without the source of its standard library",
            where=str(library),
            fix="Use another Python, or train on files of your own.",
        )
    with atomic_directory(out, KIND) as folder:
        for name in ("prose", "code", "chat"):
            (folder / name).mkdir()
        code_bytes = 0
        # In the order of a hash, so that the code that fits is a fair choice, and the same one every time.
        for number, name in enumerate(sorted(modules, key=_order), start=1):
            code_bytes += _write_module(folder, name, modules[name], room=CODE_BYTES - code_bytes)
            if progress:
                progress(number, len(modules))
        for name, text in _topics(library):
            _write(folder / "prose" / f"topic.{name}.md", _topic_markdown(text))
    return {name: out / name for name in ("prose", "code", "chat")}


def _modules(folder: Path, package: str = "") -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name.isidentifier() and path.name not in _LEFT_OUT:
                yield from _modules(path, f"{package}{path.name}.")
        elif path.suffix == ".py" and path.stem not in _LEFT_OUT and path.stem.isidentifier():
            name = package.rstrip(".") if path.stem == "__init__" else package + path.stem
            if name and not name.startswith("_sysconfigdata"):
                yield name, path


def _order(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()


def _write_module(folder: Path, name: str, path: Path, *, room: int) -> int:
    """Write what a module gives to each corpus; its code only where it fits in ``room`` bytes. Returns those taken."""
    try:
        source = path.read_text(encoding="utf-8").replace("\f", "")
        tree = ast.parse(source)
    except (UnicodeDecodeError, SyntaxError):  # a stray file among the library's: nothing to learn from it
        return 0
    known = list(definitions(tree, _KNOWN_AS.get(name, name)))
    if prose := module_markdown(known):
        _write(folder / "prose" / f"{name}.md", prose)
    if rows := conversations(known):
        lines = (json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in rows)
        _write(folder / "chat" / f"{name}.jsonl", "".join(lines))
    code = strip_docstrings(source)
    size = len(code.encode("utf-8"))
    if not code.strip() or size > room:
        return 0
    _write(folder / "code" / f"{name}.py", code)
    return size


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def module_markdown(known: list[Definition]) -> str:
    """Return a module's documentation as Markdown, or an empty string where it documents nothing."""
    parts = []
    for item in known:
        if not item.doc:
            continue
        signature = "" if item.signature is None else f"({item.signature})"
        keyword = {"module": "module ", "class": "class ", "property": "property "}.get(item.kind, "")
        parts.append(f"{'#' * min(item.depth + 1, 4)} {keyword}`{item.name}{signature}`\n\n{item.doc}\n")
    return "\n".join(parts)


def _topics(library: Path) -> Iterator[tuple[str, str]]:
    path = library / "pydoc_data" / "topics.py"
    if not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for name, text in ast.literal_eval(node.value).items():
                yield re.sub(r"\W+", "-", name), text


def _topic_markdown(text: str) -> str:
    """Turn the underlined titles of rendered documentation into Markdown headings."""

    def heading(match: re.Match[str]) -> str:
        title, line = match["title"], match["line"]
        return f"{_LEVELS[line[0]]} {title}" if len(line) == len(title) else match[0]

    return _UNDERLINE.sub(heading, text).strip() + "\n"
