"""`ruvllm eval`: measure accuracy, calibration and speed on one's own prompts."""
