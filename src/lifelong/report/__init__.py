"""What a model learned, as one HTML page and as image files."""
