"""Roam and Logseq: folders of Markdown outlines, with page links, block ids and attributes.

The outline stays an outline; its own notation becomes what a person would read: ``[[Page]]`` the page's name,
``((id))`` the text of that block where the tree holds it, ``key:: value`` a fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifelong.text.document import Document
from lifelong.text.readers.opening import read_text
from lifelong.text.readers.plain import front_matter
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

_ID = r"[A-Za-z0-9_-]{6,64}"
_REFERENCE = re.compile(rf"\(\(({_ID})\)\)")
_EMBED = re.compile(rf"\{{\{{\s*(?:\[\[)?embed(?:-path|-children)?(?:\]\])?:?\s*\(\(({_ID})\)\)\s*\}}\}}")
_ALIAS = re.compile(rf"\[([^\[\]\n]+)\]\((?:\[\[[^\n]{{1,200}}?\]\]|\(\({_ID}\)\))\)")
_LINK = re.compile(r"\[\[([^\[\]\n]+)\]\]")
_TASK = re.compile(r"\{\{\s*\[\[(TODO|DONE)\]\]\s*\}\}")
_BULLET = re.compile(r"(?P<indent>[ \t]*)[-*+][ \t]+(?P<text>.*)")
_ATTRIBUTE = re.compile(r"(?P<key>[^\s:`\[\]()][^:`\n\[\]()]{0,60}|\[\[[^\[\]\n]+\]\]):: ?(?P<value>.*)")
_OWN_ID = re.compile(rf"[ \t]*(?:[-*+][ \t]+)?id:: *(?P<id>{_ID})[ \t]*")
_TRAILING_ID = re.compile(rf"[ \t]\^(?P<id>{_ID})[ \t]*$")
_FENCE = re.compile(r"[ \t]*(?:[-*+][ \t]+)?(`{3,}|~{3,})")
_ROOM = 1 << 20  # characters of other blocks in one page: blocks of blocks of blocks grow fast
_NOTE = "block references that lead nowhere"


class Blocks:
    """The texts of all blocks of a tree that have an id; the files are read at the first question."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.texts: dict[str, str] | None = None

    def get(self, block: str) -> str | None:
        """Return the text of a block, or None where no file of the tree holds it."""
        if self.texts is None:
            self.texts = {}
            for path in self.paths:
                self.texts |= _ids(path)
        return self.texts.get(block)


def _ids(path: Path) -> dict[str, str]:
    """Return the blocks of one file that carry an id: ``id:: x`` below the bullet, or ``^x`` at its end."""
    texts, last = {}, ""
    try:
        with path.open(encoding="utf-8", errors="replace") as handle:  # what is not UTF-8 is refused when it is read
            while line := handle.readline(1 << 20):
                if own := _OWN_ID.fullmatch(line.rstrip("\r\n")):
                    texts[own["id"]] = last
                    continue
                bullet = _BULLET.match(line)
                last = (bullet["text"] if bullet else line).strip()
                if trailing := _TRAILING_ID.search(last):
                    last = last[: trailing.start()].rstrip()
                    texts[trailing["id"]] = last
    except OSError:
        return {}
    return texts


def read_roam(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    """Yield a page as one Markdown document: its outline without Roam's notation.

    ``meta`` holds ``title`` (from the file's name), ``links`` (pages it names) and ``attributes`` (of ``key:: value``).
    References to blocks that the tree does not hold stay as they are, and are counted.
    """
    text, meta = front_matter(read_text(file))
    title = Path(file.name).with_suffix("").as_posix()
    page = _Page(file.blocks or Blocks([file.path]))
    outline = page.read(text.replace("\r\n", "\n").replace("\r", "\n"))
    if not outline.strip():
        return
    file.notes.update({_NOTE: page.lost} if page.lost else {})
    facts: dict[str, Any] = {"title": title}
    facts |= {"links": sorted(page.links)} if page.links else {}
    facts |= {"attributes": page.attributes} if page.attributes else {}
    facts |= {"unresolved_references": page.lost} if page.lost else {}
    yield Document(outline, str(file.path), file.name, "markdown", weight=file.weight, meta=meta | facts)


class _Page:
    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.lost, self.room = blocks, 0, _ROOM
        self.links: set[str] = set()
        self.attributes: dict[str, str] = {}

    def read(self, text: str) -> str:
        """Return the outline as plain Markdown; fenced code stays as it is."""
        lines, fence = [], ""
        for line in text.split("\n"):
            mark = _FENCE.match(line)
            if fence:
                lines.append(line)
                fence = "" if mark and mark[1].startswith(fence) else fence
                continue
            if mark:
                fence = mark[1]
                lines.append(line)
            elif not _OWN_ID.fullmatch(line):
                lines.append(self._line(line))
        return "\n".join(lines)

    def _line(self, line: str) -> str:
        bullet = _BULLET.fullmatch(line)
        start, body = (line[: bullet.start("text")], bullet["text"]) if bullet else ("", line)
        if trailing := _TRAILING_ID.search(body):
            body = body[: trailing.start()]
        if attribute := _ATTRIBUTE.fullmatch(body.strip()):
            key, value = self.plain(attribute["key"]), self.plain(attribute["value"])
            if len(self.attributes) < 1000:
                self.attributes[key] = value
            body = f"{key}: {value}".rstrip()
        else:
            body = self.plain(body)
        return start + body

    def plain(self, text: str, depth: int = 0) -> str:
        """Return a line without Roam's notation; blocks within blocks are followed four deep."""
        if "[" not in text and "((" not in text and "{{" not in text:
            return text
        text = _TASK.sub(lambda found: "[ ]" if found[1] == "TODO" else "[x]", text)
        self.links.update(_LINK.findall(text))
        text = _ALIAS.sub(r"\1", text)
        text = _EMBED.sub(r"((\1))", text)
        text = _REFERENCE.sub(lambda found: self._block(found, depth), text)
        for _ in range(4):  # [[links [[in]] links]], from the inside
            text, count = _LINK.subn(r"\1", text)
            if not count:
                break
            self.links.update(_LINK.findall(text))
        return text

    def _block(self, found: re.Match[str], depth: int) -> str:
        block = self.blocks.get(found[1]) if depth < 4 else None
        if block is None or len(block) > self.room:
            self.lost += 1
            return found[0]
        self.room -= len(block)
        return self.plain(block, depth + 1)
