"""Complex queries: taken apart, answered part by part, and put together again."""
