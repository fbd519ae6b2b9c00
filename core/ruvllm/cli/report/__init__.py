"""`ruvllm report`: what coding sessions cost, read from their transcripts."""
