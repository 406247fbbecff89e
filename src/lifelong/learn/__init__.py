"""Lessons: replay, EWC, the gate, the ledger."""
