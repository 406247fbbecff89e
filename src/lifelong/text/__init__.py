"""Documents: reading, cleaning, deduplication and splitting. Needs nothing but the standard library."""

from __future__ import annotations

from lifelong.text.corpus import Corpus, build_corpus, load_prepared, open_corpus, prepare
from lifelong.text.document import DataSource, Document
from lifelong.text.prepared import is_prepared
from lifelong.text.python_docs import write_python_corpora
from lifelong.text.readers import read_sources
from lifelong.text.sources import load_sources

__all__ = [
    "Corpus",
    "DataSource",
    "Document",
    "build_corpus",
    "is_prepared",
    "load_prepared",
    "load_sources",
    "open_corpus",
    "prepare",
    "read_sources",
    "write_python_corpora",
]
