"""All stages from sources to a tuned model, each done once: `run`, and what it keeps of itself."""
