"""`ruvllm memory`."""
