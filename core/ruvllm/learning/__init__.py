"""What feedback teaches: adapters of the embeddings, patterns, and the memory that keeps old tasks from being lost."""
