"""A model over HTTP: what clients of OpenAI's interface speak, and a page."""
