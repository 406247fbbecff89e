"""The names under which readers report what they cannot read, each with what it means."""

from __future__ import annotations

from collections.abc import Callable

from lifelong.text.document import BadInput

# Called with each problem; reading goes on with the next row, or (a fatal one) stops with this file.
OnProblem = Callable[[BadInput], None]

RULES: dict[str, str] = {
    "unreadable": "the system refuses to read the file",
    "archive": "an archive of files: unpack it first",
    "empty-file": "the file that was named holds not one byte",
    "binary": "a NUL byte: not text",
    "not-utf8": "not UTF-8, or not the encoding that was given",
    "bad-compression": "gzip or zstd data that is damaged or cut off",
    "too-compressed": "a compressed file that grows out of all proportion",
    "bad-json": "not JSON by the standard (RFC 8259)",
    "duplicate-key": "the same key or column twice",
    "bad-number": "NaN, Infinity, or a number too large to hold",
    "lone-surrogate": "half of a surrogate pair, which is not Unicode text",
    "too-deep": "nested too deeply",
    "too-long-row": "one row (or one page to be parsed whole) beyond the size limit",
    "bad-table": "CSV or TSV whose quotes or columns do not fit",
    "bad-file": "a Parquet, PDF, HTML or notebook file that its library cannot read",
    "no-text": "a page or PDF in which no text was found",
    "wrong-type": "a value that is not of the type its key needs",
    "missing-key": "a row without the key or column that its format needs",
    "unknown-role": "a message whose role is not system, user or assistant",
    "empty-messages": "a conversation without messages, or with nothing but empty ones",
}
