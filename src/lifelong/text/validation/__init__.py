"""Data quality: what is wrong with text before it is trained on, where, and what to do about it."""

from __future__ import annotations

from lifelong.text.validation.checker import Checker
from lifelong.text.validation.report import Example, Finding, ValidationReport
from lifelong.text.validation.sources import check_sources

__all__ = ["Checker", "Example", "Finding", "ValidationReport", "check_sources"]
