"""Speed and size of language models on this machine, measured on one of random weights."""
