"""Several nodes, one memory: what each of them writes reaches the others through an append-only log in PostgreSQL.

Each node decides from its own state file alone; no request ever waits for the database.
"""
