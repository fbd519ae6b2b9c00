"""Language models from GGUF files and Hugging Face folders to ONNX decoders that every host of ruvllm runs."""

from ruvllm_models.convert.pipeline import convert

__all__ = ["convert"]
