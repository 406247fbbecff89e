"""The whole story in one command, on text that every machine has."""
