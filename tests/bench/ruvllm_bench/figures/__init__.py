"""`ruvllm bench figures`: what docs/benchmarks.md says, measured beside other programs in the same run."""
