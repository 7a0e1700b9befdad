"""SQL of the usual append: a signed entry of an enrolled writer in a founded ledger, none of its rows in an archive.

Invariants: nothing is believed that a caller says beside the bytes. The members are put together in canonical form and
must come out as the body, or the call goes to `append()`, which reads the bytes themselves; so does every other case that
is not the usual one, so that each refusal has one place and one text. What is kept is the same, byte for byte.

Why it is faster: PL/pgSQL prepares every expression and statement anew in each transaction, so the time of a call is the
number of them. Here they are few, the long ones come before the lock, and no plan is made twice: with the planner's choice
per call, or with a plan from the day when the tables were empty, each append would pay more than its inserts.
"""

from __future__ import annotations

from cognify_dagster.ledger.postgres.schema import ACT_KINDS, APPENDER, LOOSE, NODES, SUBJECT

_BODY = r"""
    v_names := string_to_array(v_subjects, ',');
    IF octet_length(v_evidence) > 32 THEN
        WHILE v_at < octet_length(v_evidence) LOOP
            v_digest := substr(v_evidence, v_at + 1, 32);
            IF v_digest <= v_before THEN v_names := NULL; END IF;  -- not in order: append() says so
            v_digests := concat(v_digests, ',"sha256:', encode(v_digest, 'hex'), '"');
            v_before := v_digest; v_at := v_at + 32;
        END LOOP;
        v_digests := substr(v_digests, 2);
    ELSIF v_evidence <> '' THEN
        v_digests := concat('"sha256:', encode(v_evidence, 'hex'), '"');
    END IF;
    v_text := concat('{"actor":"', v_actor, '","evidence":[', v_digests, '],"idem":"', encode(v_idem, 'hex'), '","key":"', encode(v_key, 'hex'),
        '","kind":"', v_kind, '","payload":"', encode(sha256('\x636f676e6966792f7061796c6f61642f763100'::bytea || v_salt || v_payload), 'hex'),
        '","schema":', v_schema, ',"sig":"', replace(encode(v_sig, 'base64'), E'\n', ''), '","subjects":["', replace(v_subjects, ',', '","'), '"]}');
    -- the members need no escaping, or they are not those of a canonical body; the evidence is of whole digests, or it is not the body's
    v_usual := convert_to(v_text, 'UTF8') = v_body AND concat(v_kind, ' ', v_actor) ~ '^[a-z][a-z0-9_]* @loose@$'
        AND length(v_kind) <= 60 AND length(v_actor) <= 40 AND v_schema BETWEEN 1 AND 10000 AND cardinality(v_names) BETWEEN 1 AND 64
        AND octet_length(v_idem) = 32 AND octet_length(v_key) = 8 AND octet_length(v_sig) = 64 AND octet_length(v_evidence) & 31 = 0
        AND octet_length(v_salt) = 32 AND octet_length(v_facts) = 32 AND octet_length(v_payload) <= 4194304
        AND v_kind <> ALL ('@act_kinds@') AND v_kind <> 'clock_floor_corrected'
        AND current_setting('transaction_isolation') = 'read committed' AND current_setting('synchronous_commit') <> 'off'
        AND current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'
        AND get_byte(v_payload, 0) = 123 AND position('\x5c7530303030'::bytea IN v_payload) = 0
        AND sha256(convert_to((convert_from(v_payload, 'UTF8')::json->'facts')::text, 'UTF8')) = v_facts;
"""

_STATE = r"""
        SELECT e.seq + 1, e.leaf, e.time_us, e.leaf = sha256('\x00'::bytea || e.bytes) AND v_now >= e.time_us - @skew@ AND e.seq + 1 = coalesce(v_expected, e.seq + 1)
            AND NOT EXISTS (SELECT 1 FROM checkpoint k WHERE k.size > e.seq + 1) AND NOT EXISTS (SELECT 1 FROM segment) AND NOT EXISTS (SELECT 1 FROM entry x WHERE x.idem = v_idem)
            AND (SELECT v_kind = ANY (w.kinds) FROM writer w WHERE w.key_id = encode(v_key, 'hex'))
            INTO o_seq, v_prev, o_time, v_usual FROM entry e ORDER BY e.seq DESC LIMIT 1;
        v_heads := '';
        FOREACH v_subject IN ARRAY v_names LOOP
            v_head := NULL;
            SELECT x.seq INTO v_head FROM entry_subject x WHERE x.subject = v_subject ORDER BY x.seq DESC LIMIT 1;
            IF v_subject <= v_last COLLATE "C" OR (v_head IS NULL AND v_subject !~ '^@subject@$') THEN v_usual := false; END IF;
            v_heads := concat(v_heads, ',"', v_subject, '":', coalesce(v_head, -1)); v_last := v_subject;
        END LOOP;
"""

_KEEP = r"""
            o_time := greatest(v_now, o_time); o_duplicate := false;
            v_data := convert_to(concat('{"body":', v_text, ',"heads":{', substr(v_heads, 2), '},"ledger":"@origin@","prev":"', encode(v_prev, 'hex'),
                '","seq":', o_seq, ',"time_us":', o_time, ',"v":1}'), 'UTF8');
            o_leaf := sha256('\x00'::bytea || v_data);
            INSERT INTO entry VALUES (o_seq, o_time, v_idem, v_prev, o_leaf, v_kind, v_data) RETURNING bytes = v_data AND octet_length(bytes) <= 65535 INTO v_usual;
            IF v_usual IS NOT TRUE THEN
                RAISE EXCEPTION '%', CASE WHEN octet_length(v_data) > 65535
                    THEN 'the entry has ' || octet_length(v_data) || ' bytes; the limit is 65535. Put large values into evidence'
                    ELSE 'the database did not keep the entry''s bytes; nothing was appended' END
                    USING ERRCODE = CASE WHEN octet_length(v_data) > 65535 THEN 'CG004' ELSE 'CG010' END;
            END IF;
            INSERT INTO entry_subject SELECT s, o_seq FROM unnest(v_names) AS s;
            INSERT INTO payload VALUES (o_seq, v_salt, v_facts, v_payload);
@nodes@            RETURN;
"""

MEMBERS = "bytea, text, bytea, bytea, bytea, text, integer, bytea, text, bytea, bytea, bytea, bigint, bigint"
"""Types of the parameters of `append_members`."""

ORDINARY = (
    (
        f"""
CREATE OR REPLACE FUNCTION append_members(v_body bytea, v_actor text, v_evidence bytea, v_idem bytea, v_key bytea, v_kind text, v_schema int,
    v_sig bytea, v_subjects text, v_salt bytea, v_facts bytea, v_payload bytea, v_now bigint, v_expected bigint,
    OUT o_seq bigint, OUT o_leaf bytea, OUT o_time bigint, OUT o_duplicate boolean) {APPENDER} AS $f$
DECLARE
    v_usual boolean; v_text text; v_names text[]; v_digests text; v_digest bytea; v_before bytea; v_at int := 0; v_last text; v_subject text;
    v_head bigint; v_heads text; v_prev bytea; v_data bytea; v_hash bytea; v_left bytea; v_idx bigint; v_level int;
BEGIN
{_BODY}
    IF v_usual THEN
        v_text := concat(v_text, pg_advisory_xact_lock(@lock@));  -- void: nothing is added; cheaper than a statement
        @take_time@
{_STATE}
        IF v_usual THEN
{_KEEP}
        END IF;
    END IF;
    SELECT a.o_seq, a.o_leaf, a.o_time, a.o_duplicate INTO o_seq, o_leaf, o_time, o_duplicate
        FROM append(v_body, v_salt, v_facts, v_payload, v_now, v_expected) AS a;
END $f$;
"""
    )
    .replace("@nodes@", NODES.replace("v_seq", "o_seq").replace("v_leaf", "o_leaf"))
    .replace("@loose@", LOOSE)
    .replace("@act_kinds@", ACT_KINDS)
    .replace("@subject@", SUBJECT)
)
