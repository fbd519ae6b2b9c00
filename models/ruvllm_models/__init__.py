"""The model artifacts of ruvllm, as package data in `data/`; manifest.json says what each one is."""

from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(__file__).with_name("data")
