"""One transformer, its adapters, and the directories it lives in."""
