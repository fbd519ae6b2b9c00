-- Hyperedges, ratings of searches, changes of weights, federated updates; collections that are searched in the database.
ALTER TABLE ruvllm.changes DROP CONSTRAINT changes_kind_check;
ALTER TABLE ruvllm.changes ADD CONSTRAINT changes_kind_check CHECK (kind IN ('agent', 'archive', 'bind', 'closed',
    'delta', 'edge', 'feedback', 'forget', 'memory', 'outcome', 'rate', 'rating', 'undo', 'weigh'));
CREATE TABLE ruvllm.large (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space text NOT NULL,
    collection text NOT NULL,
    encoder text NOT NULL,
    dim integer NOT NULL,
    ready boolean NOT NULL DEFAULT false,
    UNIQUE (space, collection),
    UNIQUE (id, space)
);
ALTER TABLE ruvllm.large ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_space ON ruvllm.large
    USING (space = ANY ((SELECT ruvllm.spaces())::text[]) OR '*' = ANY ((SELECT ruvllm.spaces())::text[]));
GRANT SELECT ON ruvllm.large TO ruvllm_node;
