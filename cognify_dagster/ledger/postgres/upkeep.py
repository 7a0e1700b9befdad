"""SQL for what happens to a Postgres ledger besides appending: checkpoints, erasure, archive, restore, event triggers."""

from __future__ import annotations

from cognify_dagster.ledger.postgres.schema import ACT_KINDS, HEADER, LOCK, SESSION

UPKEEP = f"""
CREATE OR REPLACE FUNCTION ledger_size() RETURNS bigint STABLE LANGUAGE plpgsql SET search_path = pg_catalog, "@schema@", pg_temp AS $f$
BEGIN
    RETURN greatest((SELECT max(e.seq) + 1 FROM entry e), (SELECT max(s.end_seq) FROM segment s), 0);
END $f$;
CREATE OR REPLACE FUNCTION add_checkpoint(v_size bigint, v_note bytea) RETURNS void {HEADER} AS $f$
BEGIN
    {SESSION}
    IF v_size < 0 OR v_size IS NULL OR v_note IS NULL OR octet_length(v_note) > 1000000 THEN
        RAISE EXCEPTION 'a checkpoint needs a size and a note of at most 1,000,000 bytes' USING ERRCODE = 'CG004';
    END IF;
    INSERT INTO checkpoint VALUES (v_size, sha256(v_note), v_note) ON CONFLICT DO NOTHING;
END $f$;

CREATE OR REPLACE FUNCTION erase(v_seqs bigint[]) RETURNS void {HEADER} AS $f$
DECLARE v_seq bigint; r record;
BEGIN
    {SESSION}
    {LOCK}
    FOREACH v_seq IN ARRAY v_seqs LOOP
        IF EXISTS (SELECT 1 FROM segment s WHERE s.start_seq <= v_seq AND v_seq < s.end_seq) THEN
            RAISE EXCEPTION 'the payload of entry % lies in a detached segment; attach it first. Nothing was erased', v_seq USING ERRCODE = 'CG008';
        ELSIF NOT EXISTS (SELECT 1 FROM payload p WHERE p.seq = v_seq) THEN
            RAISE EXCEPTION 'there is no entry % whose payload could be erased; nothing was erased', v_seq USING ERRCODE = 'CG008';
        END IF;
    END LOOP;
    IF EXISTS (SELECT 1 FROM act a WHERE a.seq = 0 AND 0 = ANY (v_seqs)) THEN
        RAISE EXCEPTION 'the genesis entry founds the ledger; its payload cannot be erased' USING ERRCODE = 'CG008';
    END IF;
    UPDATE payload p SET salt = NULL, facts_digest = NULL, bytes = NULL WHERE p.seq = ANY (v_seqs)
        AND NOT (p.salt IS NULL AND p.facts_digest IS NULL AND p.bytes IS NULL);
    FOR r IN SELECT e.seq, e.kind, ARRAY(SELECT x.subject FROM entry_subject x WHERE x.seq = e.seq ORDER BY 1) AS subjects FROM entry e
        WHERE e.seq = ANY (v_seqs) AND e.kind = ANY ('{ACT_KINDS}') LOOP
        DELETE FROM act a WHERE a.seq = r.seq;
        PERFORM ledger_act(r.seq, r.kind, r.subjects, NULL);
    END LOOP;
    IF FOUND THEN PERFORM ledger_writers(); END IF;
END $f$;

-- what a detached entry's receipt still tells of a payload that was erased in its archive
CREATE OR REPLACE FUNCTION forget(v_seqs bigint[]) RETURNS void {HEADER} AS $f$
BEGIN
    {SESSION}
    {LOCK}
    UPDATE detached d SET facts_digest = NULL WHERE d.seq = ANY (v_seqs) AND d.facts_digest IS NOT NULL;
END $f$;

CREATE OR REPLACE FUNCTION detach(v_start bigint, v_end bigint, v_manifest text) RETURNS void {HEADER} AS $f$
DECLARE v_size bigint;
BEGIN
    {SESSION}
    {LOCK}
    IF EXISTS (SELECT 1 FROM segment s WHERE s.start_seq = v_start AND s.end_seq = v_end AND s.manifest = v_manifest) THEN RETURN; END IF;
    v_size := ledger_size();
    IF v_start < 0 OR v_end <= v_start OR v_end > v_size OR v_start & 255 <> 0 OR v_end & 255 <> 0 THEN
        RAISE EXCEPTION 'entries %..% cannot be detached: a segment begins and ends at a multiple of 256 within the ledger''s % entries',
            v_start, v_end - 1, v_size USING ERRCODE = 'CG008';
    END IF;
    IF v_manifest !~ '^[0-9a-f]{{64}}$' THEN
        RAISE EXCEPTION 'the manifest is named by 64 hex digits of SHA-256' USING ERRCODE = 'CG008';
    END IF;
    IF EXISTS (SELECT 1 FROM segment s WHERE s.start_seq < v_end AND s.end_seq > v_start) THEN
        RAISE EXCEPTION 'entries %..% overlap a detached segment', v_start, v_end - 1 USING ERRCODE = 'CG008';
    END IF;
    IF (SELECT count(*) FROM entry e WHERE e.seq >= v_start AND e.seq < v_end) <> v_end - v_start THEN
        RAISE EXCEPTION 'entries %..% are not all there; run `cognify ledger verify`', v_start, v_end - 1 USING ERRCODE = 'CG007';
    END IF;
    INSERT INTO segment VALUES (v_start, v_end, v_manifest);
    INSERT INTO detached SELECT e.seq, e.time_us, e.idem, e.leaf, p.facts_digest FROM entry e LEFT JOIN payload p USING (seq)
        WHERE e.seq >= v_start AND e.seq < v_end;
    DELETE FROM payload p WHERE p.seq >= v_start AND p.seq < v_end;
    DELETE FROM entry e WHERE e.seq >= v_start AND e.seq < v_end;
    DELETE FROM node n WHERE n.level < 8 AND n.idx >= v_start >> n.level AND n.idx < v_end >> n.level;
END $f$;

-- Rows of another store, byte for byte, in order. Every column is compared with the bytes, every leaf and the chain recomputed.
CREATE OR REPLACE FUNCTION ledger_put(v_first bigint, v_seqs bigint[], v_datas bytea[], v_leaves bytea[], v_idems bytea[],
    v_kinds text[], v_times bigint[], v_subjects text[], v_salts bytea[], v_factses bytea[], v_payloads bytea[], v_attach boolean) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, "@schema@", pg_temp AS $f$
DECLARE
    i int; v_seq bigint; v_prev bytea; v_floor bigint; t record; v_names text[]; v_leaf bytea; v_hash bytea; v_left bytea;
    v_idx bigint; v_level int; v_top int := CASE WHEN v_attach THEN 8 ELSE 64 END;
BEGIN
    v_prev := decode(repeat('00', 32), 'hex'); v_floor := 0;
    SELECT x.leaf, x.time_us INTO v_prev, v_floor FROM (SELECT e.leaf, e.time_us FROM entry e WHERE e.seq = v_first - 1
        UNION ALL SELECT d.leaf, d.time_us FROM detached d WHERE d.seq = v_first - 1) AS x LIMIT 1;
    IF NOT FOUND THEN v_prev := decode(repeat('00', 32), 'hex'); v_floor := 0; END IF;
    FOR i IN 1 .. array_length(v_seqs, 1) LOOP
        v_seq := v_first + i - 1;
        SELECT x.ledger, x.prev, x.seq, x.time_us, x.body->>'idem' AS idem, x.body->>'kind' AS kind,
            x.body->>'payload' AS commitment, x.body->'subjects' AS subjects INTO t
            FROM json_to_record(convert_from(v_datas[i], 'UTF8')::json) AS x(ledger text, prev text, seq bigint, time_us bigint, body json);
        v_names := string_to_array(v_subjects[i], ',');
        v_leaf := sha256('\\x00'::bytea || v_datas[i]);
        IF (v_seqs[i] = v_seq AND t.seq = v_seq AND t.ledger = '@origin@' AND t.prev = encode(v_prev, 'hex') AND v_leaf = v_leaves[i]
            AND t.idem = encode(v_idems[i], 'hex') AND t.kind = v_kinds[i] AND t.time_us = v_times[i] AND (t.time_us >= v_floor OR t.kind = 'clock_floor_corrected')
            AND v_names = ARRAY(SELECT json_array_elements_text(t.subjects))) IS NOT TRUE THEN
            RAISE EXCEPTION 'entry % does not follow the one before it, or a column contradicts its bytes; nothing was kept. Verify the source first', v_seq
                USING ERRCODE = 'CG008';
        END IF;
        IF v_payloads[i] IS NOT NULL AND encode(sha256('\\x636f676e6966792f7061796c6f61642f763100'::bytea || v_salts[i] || v_payloads[i]), 'hex')
            IS DISTINCT FROM t.commitment THEN
            RAISE EXCEPTION 'entry %: its payload is not the one it commits to; nothing was kept. Verify the source first', v_seq USING ERRCODE = 'CG008';
        END IF;
        IF v_attach AND NOT EXISTS (SELECT 1 FROM detached d WHERE d.seq = v_seq AND d.leaf = v_leaf) THEN
            RAISE EXCEPTION 'entry % is not the one that was detached; nothing was kept', v_seq USING ERRCODE = 'CG007';
        END IF;
        INSERT INTO entry VALUES (v_seq, v_times[i], v_idems[i], v_prev, v_leaf, v_kinds[i], v_datas[i]);
        INSERT INTO entry_subject SELECT s, v_seq FROM unnest(v_names) AS s ON CONFLICT DO NOTHING;
        INSERT INTO payload VALUES (v_seq, v_salts[i], v_factses[i], v_payloads[i]);
        v_hash := v_leaf; v_left := v_prev; v_idx := v_seq; v_level := 0;
        WHILE v_idx & 1 = 1 AND v_level + 1 < v_top LOOP
            IF v_level > 0 THEN SELECT n.hash INTO STRICT v_left FROM node n WHERE n.level = v_level AND n.idx = v_idx - 1; END IF;
            v_hash := sha256('\\x01'::bytea || v_left || v_hash);
            v_level := v_level + 1; v_idx := v_idx >> 1;
            INSERT INTO node VALUES (v_level, v_idx, v_hash);
        END LOOP;
        IF NOT v_attach AND t.kind = ANY ('{ACT_KINDS}') THEN
            PERFORM ledger_act(v_seq, t.kind, v_names, v_payloads[i]);
        END IF;
        v_prev := v_leaf; v_floor := v_times[i];
    END LOOP;
    IF NOT v_attach THEN PERFORM ledger_writers(); END IF;
END $f$;

CREATE OR REPLACE FUNCTION load_rows(v_first bigint, v_seqs bigint[], v_datas bytea[], v_leaves bytea[], v_idems bytea[], v_kinds text[],
    v_times bigint[], v_subjects text[], v_salts bytea[], v_factses bytea[], v_payloads bytea[]) RETURNS void {HEADER} AS $f$
BEGIN
    {SESSION}
    {LOCK}
    -- later parts of one load come in the same transaction: nobody else can have appended in between, the lock is held
    IF ledger_size() <> v_first OR EXISTS (SELECT 1 FROM segment)
        OR (v_first > 0 AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.seq = 0 AND e.xmin = pg_current_xact_id()::xid)) THEN
        RAISE EXCEPTION 'this ledger is not empty; rows are loaded into an empty one only' USING ERRCODE = 'CG008';
    END IF;
    PERFORM ledger_put(v_first, v_seqs, v_datas, v_leaves, v_idems, v_kinds, v_times, v_subjects, v_salts, v_factses, v_payloads, false);
END $f$;
CREATE OR REPLACE FUNCTION attach_rows(v_first bigint, v_seqs bigint[], v_datas bytea[], v_leaves bytea[], v_idems bytea[], v_kinds text[],
    v_times bigint[], v_subjects text[], v_salts bytea[], v_factses bytea[], v_payloads bytea[]) RETURNS void {HEADER} AS $f$
BEGIN
    {SESSION}
    {LOCK}
    PERFORM ledger_put(v_first, v_seqs, v_datas, v_leaves, v_idems, v_kinds, v_times, v_subjects, v_salts, v_factses, v_payloads, true);
END $f$;
CREATE OR REPLACE FUNCTION attach_done(v_start bigint, v_end bigint, v_manifest text) RETURNS void {HEADER} AS $f$
BEGIN
    {SESSION}
    {LOCK}
    IF (SELECT count(*) FROM entry e WHERE e.seq >= v_start AND e.seq < v_end) <> v_end - v_start THEN
        RAISE EXCEPTION 'the archive does not give all entries of %..%; nothing was kept', v_start, v_end - 1 USING ERRCODE = 'CG008';
    END IF;
    DELETE FROM segment s WHERE s.start_seq = v_start AND s.end_seq = v_end AND s.manifest = v_manifest;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no segment of entries %..% with manifest % is detached', v_start, v_end - 1, v_manifest USING ERRCODE = 'CG008';
    END IF;
    DELETE FROM detached d WHERE d.seq >= v_start AND d.seq < v_end;
END $f$;
"""

# In a schema of their own: cascading from the ledger's schema to them would drop the event triggers before these could refuse it.
EVENT_TRIGGERS = """
CREATE SCHEMA IF NOT EXISTS "@trigger@";
REVOKE ALL ON SCHEMA "@trigger@" FROM PUBLIC;
CREATE OR REPLACE FUNCTION "@trigger@".guard_ddl() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE c record;
BEGIN
    FOR c IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
        IF c.schema_name = '@schema@' OR c.objid = ANY (ARRAY[@oids@]::oid[]) OR c.object_identity LIKE '% on @like@.%' OR @by_owner@ THEN
            RAISE EXCEPTION 'the ledger schema @schema@ is locked: % is refused. A superuser may disable event trigger @trigger@_ddl; verification detects what follows',
                c.command_tag USING ERRCODE = 'CG009';
        END IF;
    END LOOP;
END $f$;
CREATE OR REPLACE FUNCTION "@trigger@".guard_drop() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE c record;
BEGIN
    FOR c IN SELECT * FROM pg_event_trigger_dropped_objects() LOOP
        IF c.schema_name = '@schema@' OR (c.object_type = 'schema' AND c.object_name = '@schema@') THEN
            RAISE EXCEPTION 'the ledger schema @schema@ is locked: dropping % is refused', c.object_identity USING ERRCODE = 'CG009';
        END IF;
    END LOOP;
END $f$;
REVOKE ALL ON FUNCTION "@trigger@".guard_ddl(), "@trigger@".guard_drop() FROM PUBLIC;
"""
