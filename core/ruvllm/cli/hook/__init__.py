"""`ruvllm hook`, the process that answers it quickly, and what writes it into the settings of coding clients."""
