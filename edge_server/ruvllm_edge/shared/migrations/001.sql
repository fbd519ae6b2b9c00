-- The log: what nodes wrote, never changed. Its order is (xid, place); what can still be joined by an earlier row is
-- not read yet (see log.py). `data` is json, not jsonb: numbers and texts come back as they were written.
CREATE TABLE ruvllm.changes (
    space text NOT NULL,
    uid uuid NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    place bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('agent', 'archive', 'closed', 'edge', 'feedback', 'forget', 'memory', 'outcome',
        'rate', 'undo')),
    target uuid,
    node text NOT NULL,
    data json NOT NULL,
    vector bytea,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space, uid)
);
CREATE UNIQUE INDEX changes_in_order ON ruvllm.changes (space, xid, place);
CREATE UNIQUE INDEX changes_forgotten ON ruvllm.changes (space, target) WHERE kind = 'forget';
CREATE INDEX changes_by_target ON ruvllm.changes (space, target) WHERE target IS NOT NULL;

-- How far each node has applied the log of a space.
CREATE TABLE ruvllm.nodes (
    space text NOT NULL,
    node text NOT NULL,
    name text NOT NULL,
    xid xid8 NOT NULL,
    place bigint NOT NULL,
    waiting bigint NOT NULL,
    seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space, node)
);
