"""Read a Python module without importing it: what it documents, and its source without that documentation."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

_Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Definition:
    """A module, class or function as its source states it.

    Attributes:
        name: the dotted name, the module included.
        kind: ``module``, ``class``, ``function`` or ``method``.
        signature: what stands between the parentheses, or None where nothing is called.
        arguments: names of the parameters, without ``self`` and ``cls``.
        doc: the docstring, dedented; empty where there is none.
        depth: 0 for the module, 1 for what stands at its top level, and so on.
    """

    name: str
    kind: str
    signature: str | None
    arguments: tuple[str, ...]
    doc: str
    depth: int

    @property
    def public(self) -> bool:
        """Whether no part of the name begins with an underscore."""
        return not any(part.startswith("_") for part in self.name.split("."))


def definitions(tree: ast.Module, module: str) -> Iterator[Definition]:
    """Yield the module, then its classes, functions and methods in order; what functions hold is left out."""
    yield Definition(module, "module", None, (), _doc(tree), 0)
    yield from _inside(tree, module, 1, in_class=False)


def _inside(scope: ast.AST, prefix: str, depth: int, *, in_class: bool) -> Iterator[Definition]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.ClassDef):
            name = f"{prefix}.{node.name}"
            signature, arguments = _constructor(node)
            yield Definition(name, "class", signature, arguments, _doc(node), depth)
            yield from _inside(node, name, depth + 1, in_class=True)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_property = any(isinstance(item, ast.Name) and "property" in item.id for item in node.decorator_list)
            is_setter = any(isinstance(item, ast.Attribute) and item.attr in _ACCESSORS for item in node.decorator_list)
            if is_setter:
                continue
            bound = in_class and not any(
                isinstance(item, ast.Name) and item.id == "staticmethod" for item in node.decorator_list
            )
            signature, arguments = (None, ()) if is_property else _parameters(node, bound=bound)
            kind = "property" if is_property else "method" if in_class else "function"
            yield Definition(f"{prefix}.{node.name}", kind, signature, arguments, _doc(node), depth)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            # What is defined under a condition still is a name of the module.
            yield from _inside(node, prefix, depth, in_class=in_class)


_ACCESSORS = ("setter", "deleter", "getter")


def _doc(node: ast.AST) -> str:
    doc = ast.get_docstring(node, clean=False) if isinstance(node, _Scope) else None
    return inspect.cleandoc(doc).strip() if doc else ""


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> tuple[str, tuple[str, ...]]:
    every = node.args
    positional = [*every.posonlyargs, *every.args]
    if bound and positional:  # what the caller writes: without self or cls
        first = positional[0]
        every = ast.arguments(
            posonlyargs=[item for item in every.posonlyargs if item is not first],
            args=[item for item in every.args if item is not first],
            vararg=every.vararg,
            kwonlyargs=every.kwonlyargs,
            kw_defaults=every.kw_defaults,
            kwarg=every.kwarg,
            defaults=every.defaults[-(len(positional) - 1) :] if len(positional) > 1 else [],
        )
    extra = [item for item in (every.vararg, every.kwarg) if item]
    names = tuple(item.arg for item in [*every.posonlyargs, *every.args, *every.kwonlyargs, *extra])
    return ast.unparse(every), names


def _constructor(node: ast.ClassDef) -> tuple[str | None, tuple[str, ...]]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _parameters(item, bound=True)
    return None, ()


def strip_docstrings(source: str) -> str:
    """Return Python source without its docstrings; everything else, comments included, stays as it was.

    A body that held nothing else gets ``pass``. Works on the positions that the parser reports, so strings that only
    look like docstrings are safe.

    Raises:
        SyntaxError: the source is not Python.
    """
    tree = ast.parse(source)
    lines = source.encode("utf-8").splitlines(keepends=True)  # the parser counts columns in bytes
    for node, alone in sorted(_docstrings(tree), key=lambda item: -item[0].lineno):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        rest = after.strip()
        if alone or before.strip() or (rest and not rest.startswith(b"#")):
            lines[first : last + 1] = [before + b"pass" + after]
            continue
        stop = last + 1
        while stop < len(lines) and not lines[stop].strip():
            stop += 1  # the blank lines that set the docstring off
        lines[first:stop] = []
    return b"".join(lines).decode("utf-8").lstrip("\n")


def _docstrings(tree: ast.Module) -> Iterator[tuple[ast.stmt, bool]]:
    for node in ast.walk(tree):
        if isinstance(node, _Scope) and ast.get_docstring(node, clean=False) is not None:
            yield node.body[0], len(node.body) == 1
