-- Least rights: a node may add to the log and say how far it is, and sees the spaces that its role was granted.
CREATE TABLE ruvllm.members (
    role name NOT NULL,
    space text NOT NULL,
    PRIMARY KEY (role, space)
);
CREATE FUNCTION ruvllm.spaces() RETURNS text[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
    'SELECT coalesce(array_agg(space), ''{}'') FROM ruvllm.members WHERE role = session_user';
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ruvllm_node') THEN
        CREATE ROLE ruvllm_node NOLOGIN;
    END IF;
END $$;
ALTER TABLE ruvllm.changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE ruvllm.nodes ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_space ON ruvllm.changes
    USING (space = ANY ((SELECT ruvllm.spaces())::text[]) OR '*' = ANY ((SELECT ruvllm.spaces())::text[]));
CREATE POLICY of_space ON ruvllm.nodes
    USING (space = ANY ((SELECT ruvllm.spaces())::text[]) OR '*' = ANY ((SELECT ruvllm.spaces())::text[]));
GRANT USAGE ON SCHEMA ruvllm TO ruvllm_node;
GRANT SELECT ON ruvllm.migrations TO ruvllm_node;
GRANT SELECT, INSERT ON ruvllm.changes TO ruvllm_node;
GRANT SELECT, INSERT, UPDATE ON ruvllm.nodes TO ruvllm_node;
