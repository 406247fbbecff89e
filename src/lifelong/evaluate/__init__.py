"""Measuring a model: bits per byte, baselines, ranked answers, and the matrix of what it kept."""
