"""Models for other programs: Hugging Face, ONNX and GGUF files, each compared with the trained model."""
