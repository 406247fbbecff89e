"""Writing text and talking with a model."""
