"""Pages, PDF files and notebooks: the text that a person would read there."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lifelong.text.document import BadInput, Document
from lifelong.text.readers.facts import plain_facts
from lifelong.text.readers.json_rows import json_values
from lifelong.text.readers.opening import binary, decode, read_whole
from lifelong.text.readers.rules import OnProblem

if TYPE_CHECKING:
    from lifelong.text.readers.listing import SourceFile

_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([A-Za-z0-9_-]{2,40})", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")


def read_html(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    """Yield a page's main text as Markdown, without menus and footers; ``meta`` has title, author and date.

    The text is read as UTF-8, or in the character set that the page itself names.
    """
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # what it cannot read is ours to report
    page = _page(file)
    try:
        found = trafilatura.bare_extraction(page, include_formatting=True, include_comments=False, with_metadata=True)
    except Exception as error:  # a parser of hostile text may fail in any way
        raise _bad(file, "HTML page", error) from None
    text = _readable(getattr(found, "text", None) or "")
    if not text.strip():
        fix = "Pages that are made by scripts hold no text: save them from a browser."
        raise BadInput("no-text", "no text was found on the page", where=str(file.path), fix=fix, fatal=True)
    facts = {key: getattr(found, key, None) for key in ("title", "author", "date", "url")}
    yield _document(file, text, {key: value for key, value in facts.items() if value})


def _page(file: SourceFile) -> str:
    data = read_whole(file)
    if b"\0" in data:
        raise binary(file.path)
    named = _CHARSET.search(data[:2048])
    if named and file.source.encoding is None:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            try:
                return data.decode(named[1].decode("ascii"))
            except (LookupError, UnicodeError):
                pass  # reported as not UTF-8, which names the line
    return decode(data.removeprefix(b"\xef\xbb\xbf"), file.path, 1)


def read_pdf(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    """Yield the text of a PDF, its pages separated by blank lines; ``meta`` has title, author and pages."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    data = read_whole(file, as_text=False)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise BadInput(
                "bad-file", "the PDF needs a password", where=str(file.path), fix="Save it without one.", fatal=True
            )
        pages = [page.extract_text() for page in reader.pages]
        facts = {"title": reader.metadata.title, "author": reader.metadata.author} if reader.metadata else {}
    except BadInput:
        raise
    except Exception as error:  # as above
        raise _bad(file, "PDF", error) from None
    text = _readable("\n\n".join(page.strip() for page in pages if page.strip()))
    if not text.strip():
        fix = "A scan holds pictures of text: run OCR on it first (such as ocrmypdf)."
        raise BadInput("no-text", f"no text on its {len(pages)} pages", where=str(file.path), fix=fix, fatal=True)
    facts = {key: str(value) for key, value in facts.items() if value}
    yield _document(file, text, facts | {"pages": len(pages)}, kind="text")


def read_ipynb(file: SourceFile, report: OnProblem) -> Iterator[Document]:
    """Yield a Jupyter notebook (format 4) as Markdown: its texts, and its code in fences; outputs are left out."""
    where = str(file.path)

    def refuse(problem: BadInput) -> None:
        problem.fatal = True
        raise problem

    _, book = next(json_values(file, refuse), (None, None))
    if not isinstance(book, dict) or not isinstance(cells := book.get("cells"), list):
        fix = "Open and save it in a present-day Jupyter: format 4 has 'cells'."
        raise BadInput("missing-key", "the notebook has no list of 'cells'", where=where, fix=fix, fatal=True)
    language = _language(book)
    parts = []
    for number, cell in enumerate(cells, start=1):
        source = cell.get("source") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            what = f"cell {number} has no 'source' of text"
            raise BadInput("wrong-type", what, where=where, fatal=True)
        if not source.strip():
            continue
        if cell.get("cell_type") == "code":
            parts.append(_fenced(source, language))
        else:
            parts.append(source.strip("\n"))
        if cell.get("outputs"):
            file.notes["outputs of notebook cells left out"] += 1
    if parts:
        yield _document(file, "\n\n".join(parts) + "\n", {"language": language} if language else {})


def _fenced(source: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", source)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{source.strip(chr(10))}\n{fence}"


def _language(book: dict[str, Any]) -> str:
    facts: Any = book.get("metadata")
    for key in ("language_info", "name"):
        facts = facts.get(key) if isinstance(facts, dict) else None
    return facts if isinstance(facts, str) and _LANGUAGE.fullmatch(facts) else ""


def _document(file: SourceFile, text: str, facts: dict[str, Any], kind: str = "markdown") -> Document:
    try:
        meta = plain_facts(facts)
    except ValueError:
        file.notes["facts beside the text too large to keep"] += 1
        meta = {}
    return Document(text, str(file.path), file.name, kind, weight=file.weight, meta=meta)


def _readable(text: str) -> str:
    """Return text without NUL bytes and half characters, which PDF fonts can spell."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _bad(file: SourceFile, what: str, error: Exception) -> BadInput:
    why = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return BadInput("bad-file", f"not a usable {what}: {why}", where=str(file.path), fatal=True)
