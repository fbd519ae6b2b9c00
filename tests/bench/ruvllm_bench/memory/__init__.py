"""Speed, recall and size of what is remembered."""
