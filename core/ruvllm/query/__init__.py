"""The steps of a query, each on its own; `ruvllm.pipeline` runs them."""
