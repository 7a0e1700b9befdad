"""SQL that keeps the table of enrolled writers, so that `append()` refuses keys and kinds that nobody enrolled.

Postgres cannot verify Ed25519, so it judges by what acts say, never by who signed them. What it follows:

* the genesis entry and `workload_enrolled` entries: workload, key and kinds. The id is that of the key, a key stays with the
  workload that had it first, the newest enrolment of a key decides its kinds;
* `key_revoked` entries: that key of a workload ends, and no later enrolment brings it back;
* acts of these two kinds that were erased or cannot be read: every key that the workload had before them ends.

Such an act must name as its enroller or revoker a person whom an earlier entry about people names. That is all: roles, standings, keys of
people, vouchers, rotations, recoveries, recertification and signatures are judged by the governance room alone.

Invariants: where every act about machines took effect in governance, a writer that governance accepts is accepted here; a
key that was never enrolled, a kind that its newest enrolment does not list, and a revoked key are refused. An act that
governance ignores (a false signature, a signer without the role) has its effect here all the same: it can let a writer in whose
entries governance then refuses, or shut one out until it is enrolled with a new key. Decisions never rest on this table.
"""

from __future__ import annotations

from cognify_dagster.ledger.postgres.schema import INNER

RULES = f"""
CREATE OR REPLACE FUNCTION ledger_writer_problem(v_seq bigint, v_kind text, v_key text) RETURNS text STABLE {INNER} AS $f$
DECLARE w record; v_what text := 'entry ' || v_seq || ' (' || v_kind || ')';
BEGIN
    IF NOT EXISTS (SELECT 1 FROM act a WHERE a.seq = 0) THEN
        RETURN NULL;  -- nobody founded this ledger, so it enrols no writers either
    END IF;
    IF v_key = '' THEN RETURN v_what || ' is not signed by a workload; open the workspace with its writer key'; END IF;
    SELECT * INTO w FROM writer x WHERE x.key_id = v_key;
    IF NOT FOUND THEN
        RETURN v_what || CASE WHEN EXISTS (SELECT 1 FROM act a WHERE a.key_id = v_key AND a.kinds IS NOT NULL)
            THEN ': the workload key ' || v_key || ' was revoked; enrol a new one'
            ELSE ': no workload enrolled before it has the key ' || v_key || '; enrol it first' END;
    END IF;
    IF (v_kind = ANY (w.kinds)) IS NOT TRUE THEN
        RETURN 'entry ' || v_seq || ': ' || w.workload || ' may not write ' || v_kind || ' entries; enrol it with this kind first';
    END IF;
    RETURN NULL;
END $f$;

-- Keeps what one act says about machines. The rows of different entries do not depend on one another.
CREATE OR REPLACE FUNCTION ledger_act(v_seq bigint, v_kind text, v_subjects text[], v_payload bytea) RETURNS void {INNER} AS $f$
DECLARE v_facts json; v_items json; v_holder text; v_by text;
BEGIN
    IF (v_kind = 'genesis') <> (v_seq = 0) OR (v_seq > 0 AND 'people' <> ALL (v_subjects)) THEN
        RETURN;  -- a second genesis founds nothing; what is not about people is outside the history that counts
    END IF;
    BEGIN
        -- a NUL in some text, which Postgres cannot hold, must not make the whole unreadable
        v_facts := replace(convert_from(v_payload, 'UTF8'), '\\u0000', '\\ufffd')::json->'facts';
        v_holder := CASE v_kind WHEN 'key_revoked' THEN v_facts->>'holder' ELSE v_facts->'workload'->>'workload' END;
        v_by := CASE v_kind WHEN 'key_revoked' THEN v_facts->>'revoked_by' ELSE v_facts->>'enrolled_by' END;
        IF v_seq = 0 THEN
            IF json_typeof(v_facts->'founders') = 'array' THEN INSERT INTO act VALUES (0, 0, 'ledger', NULL, NULL); END IF;
            v_items := coalesce(v_facts->'workloads', '[]');
        ELSIF (v_holder = ANY (v_subjects) AND v_by IS NOT NULL) IS NOT TRUE THEN
            RAISE data_exception;
        ELSIF NOT EXISTS (SELECT 1 FROM entry_subject p JOIN entry_subject x USING (seq)
            WHERE p.subject = v_by AND p.seq < v_seq AND x.subject IN ('people', 'ledger')) THEN
            RETURN;
        ELSIF v_kind = 'key_revoked' THEN
            INSERT INTO act SELECT v_seq, 0, v_holder, v_facts->>'key_id', NULL WHERE v_holder LIKE 'workload/%';
            RETURN;
        ELSE
            v_items := json_build_array(v_facts->'workload');
        END IF;
        INSERT INTO act SELECT v_seq, w.pos, w.item->>'workload', k.id, ARRAY(SELECT json_array_elements_text(w.item->'kinds'))
            FROM json_array_elements(v_items) WITH ORDINALITY AS w(item, pos),
                LATERAL (SELECT w.item->'key'->>'key_id', decode(w.item->'key'->>'public', 'base64')) AS k(id, public)
            WHERE octet_length(k.public) = 32 AND left(encode(sha256(k.public), 'hex'), 16) = k.id AND w.item->>'workload' LIKE 'workload/%';
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        INSERT INTO act SELECT v_seq, n.pos, n.name, NULL, NULL FROM unnest(v_subjects) WITH ORDINALITY AS n(name, pos)
            WHERE v_seq > 0 AND n.name LIKE 'workload/%';
    END;
END $f$;

CREATE OR REPLACE FUNCTION ledger_writers() RETURNS void {INNER} AS $f$
BEGIN
    DELETE FROM writer;
    INSERT INTO writer SELECT DISTINCT ON (g.key_id) g.key_id, g.holder, g.kinds FROM act g, LATERAL (
            SELECT f.holder, f.seq FROM act f WHERE f.key_id = g.key_id AND f.kinds IS NOT NULL ORDER BY f.seq, f.pos LIMIT 1) AS first
        WHERE g.kinds IS NOT NULL AND g.holder = first.holder AND NOT EXISTS (SELECT 1 FROM act e
            WHERE e.kinds IS NULL AND e.holder = g.holder AND e.seq > first.seq AND coalesce(e.key_id, g.key_id) = g.key_id)
        ORDER BY g.key_id, g.seq DESC, g.pos DESC;
END $f$;
"""
