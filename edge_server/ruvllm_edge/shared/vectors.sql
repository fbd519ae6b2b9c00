-- Vectors of large collections, for which pgvector is needed. Each collection is a partition with an index of its own,
-- so that no other one takes places among the nearest. Nodes add rows as they append to the log; what is forgotten or
-- archived goes at once, by whomever.
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE ruvllm.vectors (
    large integer NOT NULL,
    space text NOT NULL,
    uid uuid NOT NULL,
    embedding halfvec NOT NULL,
    metadata jsonb NOT NULL,
    words integer[] NOT NULL DEFAULT '{}', -- hashes, as a state file has them
    PRIMARY KEY (uid, large), -- so that no plan reads all of a partition by it
    FOREIGN KEY (large, space) REFERENCES ruvllm.large (id, space)
) PARTITION BY LIST (large);
CREATE INDEX vectors_by_metadata ON ruvllm.vectors USING gin (metadata jsonb_path_ops);
CREATE INDEX vectors_by_words ON ruvllm.vectors USING gin (words);
ALTER TABLE ruvllm.vectors ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_space ON ruvllm.vectors
    USING (space = ANY ((SELECT ruvllm.spaces())::text[]) OR '*' = ANY ((SELECT ruvllm.spaces())::text[]));
GRANT SELECT, INSERT ON ruvllm.vectors TO ruvllm_node;
CREATE FUNCTION ruvllm.take_vector_away() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    DELETE FROM ruvllm.vectors WHERE uid = NEW.target
        AND large IN (SELECT id FROM ruvllm.large WHERE space = NEW.space);
    RETURN NULL;
END $$;
CREATE TRIGGER take_vector_away AFTER INSERT ON ruvllm.changes FOR EACH ROW
    WHEN (NEW.kind IN ('archive', 'forget')) EXECUTE FUNCTION ruvllm.take_vector_away();
