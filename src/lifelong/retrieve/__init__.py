"""Finding passages in a body of text, and answering with them."""
