"""The steps of a query, each on its own; `ruvllm.query.pipeline` runs them."""
