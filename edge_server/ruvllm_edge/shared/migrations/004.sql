-- What of a space may be in the log, held to by the database as well; what joins which memories; words of collections
-- that are searched here. Operators of json and of arrays use no index under row-level security, so that what nodes
-- look for is in columns of its own, or behind a function that knows their spaces.
CREATE TABLE ruvllm.shares (
    space text PRIMARY KEY,
    share text NOT NULL CHECK (share IN ('texts', 'vectors', 'deltas'))
);
ALTER TABLE ruvllm.shares ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_space ON ruvllm.shares USING (space = '*'
    OR space = ANY ((SELECT ruvllm.spaces())::text[]) OR '*' = ANY ((SELECT ruvllm.spaces())::text[]));
GRANT SELECT ON ruvllm.shares TO ruvllm_node;
CREATE FUNCTION ruvllm.unshared(allowed text, kind text, data json) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT kind <> 'forget' AND CASE allowed WHEN 'deltas' THEN kind <> 'delta' WHEN 'vectors' THEN
        kind IN ('agent', 'feedback', 'outcome', 'undo') OR coalesce(data->>'text', data->>'reason') IS NOT NULL
        ELSE false END
$$;
CREATE FUNCTION ruvllm.refuse_unshared() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    allowed text := (SELECT share FROM ruvllm.shares WHERE space IN (NEW.space, '*') ORDER BY space = '*' LIMIT 1);
BEGIN
    IF ruvllm.unshared(allowed, NEW.kind, NEW.data) THEN
        RAISE EXCEPTION 'space % shares % alone', NEW.space, allowed USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_unshared BEFORE INSERT ON ruvllm.changes FOR EACH ROW EXECUTE FUNCTION ruvllm.refuse_unshared();

CREATE TABLE ruvllm.joined (
    space text NOT NULL,
    memory uuid NOT NULL,
    uid uuid NOT NULL,
    PRIMARY KEY (space, memory, uid),
    FOREIGN KEY (space, uid) REFERENCES ruvllm.changes ON DELETE CASCADE
);
CREATE INDEX joined_by ON ruvllm.joined (space, uid);
ALTER TABLE ruvllm.joined ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_space ON ruvllm.joined
    USING (space = ANY ((SELECT ruvllm.spaces())::text[]) OR '*' = ANY ((SELECT ruvllm.spaces())::text[]));
GRANT SELECT ON ruvllm.joined TO ruvllm_node;
CREATE FUNCTION ruvllm.ends_of(data json) RETURNS SETOF uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT DISTINCT one::uuid FROM unnest(string_to_array(data->>'members', ',')
        || ARRAY[data->>'source', data->>'target']) one
    WHERE one ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
$$;
CREATE FUNCTION ruvllm.note_joined() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO ruvllm.joined SELECT NEW.space, one, NEW.uid FROM ruvllm.ends_of(NEW.data) one;
    RETURN NULL;
END $$;
CREATE TRIGGER note_joined AFTER INSERT ON ruvllm.changes FOR EACH ROW
    WHEN (NEW.kind IN ('bind', 'edge', 'weigh')) EXECUTE FUNCTION ruvllm.note_joined();
INSERT INTO ruvllm.joined SELECT c.space, one, c.uid FROM ruvllm.changes c, ruvllm.ends_of(c.data) one
    WHERE c.kind IN ('bind', 'edge', 'weigh');

ALTER TABLE ruvllm.large ADD COLUMN words boolean NOT NULL DEFAULT false;
DO $$ BEGIN
    IF to_regclass('ruvllm.vectors') IS NOT NULL THEN
        ALTER TABLE ruvllm.vectors ADD COLUMN words integer[] NOT NULL DEFAULT '{}';
        CREATE INDEX vectors_by_words ON ruvllm.vectors USING gin (words);
    END IF;
END $$;
-- The memories of a collection that have most of some words: those that up to a `common` number of memories have, and
-- of these the rare ones count more; where all are commoner, those that have all.
CREATE FUNCTION ruvllm.worded(among integer, sought integer[], most integer, common integer DEFAULT 2000)
RETURNS TABLE (uid uuid, score float8) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    rare integer[];
    weights float8[];
BEGIN
    IF NOT EXISTS (SELECT FROM ruvllm.large l WHERE l.id = among AND (l.space = ANY (ruvllm.spaces())
        OR '*' = ANY (ruvllm.spaces()) OR pg_catalog.pg_has_role(session_user,
            (SELECT relowner FROM pg_catalog.pg_class WHERE oid = 'ruvllm.large'::regclass), 'USAGE'))) THEN
        RETURN;
    END IF;
    SELECT array_agg(word), array_agg(1 / ln(2 + count)) INTO rare, weights FROM (
        SELECT word, (SELECT count(*) FROM (SELECT FROM ruvllm.vectors v WHERE v.large = among
            AND v.words @> ARRAY[word] LIMIT common + 1) found) AS count FROM unnest(sought) word) counted
        WHERE count <= common;
    IF rare IS NULL THEN
        RETURN QUERY SELECT v.uid, 0::float8 FROM ruvllm.vectors v WHERE v.large = among AND v.words @> sought
            LIMIT most;
    ELSE
        RETURN QUERY SELECT v.uid, (SELECT sum(weight) FROM unnest(rare, weights) one (word, weight)
            WHERE one.word = ANY (v.words)) AS worth FROM ruvllm.vectors v WHERE v.large = among AND v.words && rare
            ORDER BY worth DESC LIMIT most;
    END IF;
END $$;
