"""What each role may do: the least role that an operation takes, of every operation there is."""

from __future__ import annotations

OPEN = ""  # no key is needed

_USE = """
GET /metrics
GET /stats
GET /v1/stats
GET /v1/savings
GET /v1/usage
POST /v1/route
POST /v1/route/complex
POST /v1/tools/search
POST /query
POST /v1/query
POST /session
POST /v1/sessions
GET /v1/sessions/{id}
DELETE /v1/sessions/{id}
GET /v1/agents
POST /v1/memory/search
GET /v1/memory/graph
GET /v1/memory/{id}/timeline
GET /v1/patterns
GET /v1/memory
GET /v1/memory/stats
POST /v1/query/plan
GET /v1/reliability
GET /v1/agents/lint
GET /v1/backends
POST /v1/backends/select
GET /v1/models
GET /v1/models/{id}
POST /v1/chat/completions
POST /v1/completions
POST /v1/embeddings
POST /v1/responses
GET /v1/responses/{id}
DELETE /v1/responses/{id}
POST /v1/messages
POST /v1/messages/count_tokens
POST /v1/systemone
POST /v1/decisions
GET /api/tags
GET /api/version
POST /api/chat
POST /api/generate
POST /api/embed
GET /v1/federated
GET /v1/federated/model
GET /mcp
POST /mcp
DELETE /mcp
"""
_TEACH = """
POST /feedback
POST /v1/feedback
PUT /v1/agents
DELETE /v1/agents
DELETE /v1/agents/{name}
POST /v1/memory
DELETE /v1/memory/{id}
POST /v1/memory/forget
POST /v1/memory/{id}/reopen
POST /v1/memory/hyperedges
DELETE /v1/memory/hyperedges/{id}
POST /v1/federated/updates
GET /v1/feedback
DELETE /v1/feedback/{id}
POST /v1/memory/edges
POST /v1/patterns
PUT /v1/backends
POST /v1/backends/outcomes
POST /v1/jobs
"""
_ADMIN = """
GET /v1/state
PUT /v1/state
DELETE /v1/state
GET /v1/keys
POST /v1/keys
DELETE /v1/keys/{name}
POST /v1/keys/{name}/rotate
GET /v1/audit
"""
_OPEN = """
GET /health
GET /v1/health
GET /ready
GET /openapi.json
GET /docs
"""
ROLE_OF = {
    tuple(line.split()): role
    for role, lines in ((OPEN, _OPEN), ("use", _USE), ("teach", _TEACH), ("admin", _ADMIN))
    for line in lines.split("\n")
    if line
}


def role_of(method: str, path: str) -> str:
    """The least role that may do it; an operation that nobody thought about is an administrator's."""
    return ROLE_OF.get((method, path), "admin")
