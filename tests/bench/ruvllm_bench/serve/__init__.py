"""The server under load, for long, and when it is killed."""
