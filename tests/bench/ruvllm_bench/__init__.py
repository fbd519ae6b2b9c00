"""`ruvllm bench …`: what ruvllm measures about itself. A distribution of its own, since no user's program needs it."""
