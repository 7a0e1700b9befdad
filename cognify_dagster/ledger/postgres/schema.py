"""The SQL of a Postgres ledger: tables, guards, server functions, privileges. Text only; `postgres.py` runs it.

Invariants: rows are written by the functions below and by nobody else; every function pins its search path; `append` and its
kin hold one advisory lock until their commit is visible, refuse any isolation level but READ COMMITTED, finish the entry from
bytes and read it back; what a writer sends is rebuilt from its members and must come out byte for byte, so a login that may
append can add entries, but none that would not verify. Signatures are not checked here: Postgres has no Ed25519.
"""

from __future__ import annotations

FORMAT = 2
"""Version of this storage schema, kept in `meta`."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS entry (
    seq bigint PRIMARY KEY, time_us bigint NOT NULL, idem bytea NOT NULL UNIQUE, prev bytea NOT NULL UNIQUE,
    leaf bytea NOT NULL, kind text COLLATE "C" NOT NULL, bytes bytea NOT NULL);
CREATE TABLE IF NOT EXISTS entry_subject (
    subject text COLLATE "C" NOT NULL, seq bigint NOT NULL, PRIMARY KEY (subject, seq));
CREATE INDEX IF NOT EXISTS entry_subject_seq ON entry_subject (seq);
CREATE TABLE IF NOT EXISTS payload (seq bigint PRIMARY KEY, salt bytea, facts_digest bytea, bytes bytea);
CREATE TABLE IF NOT EXISTS node (level int NOT NULL, idx bigint NOT NULL, hash bytea NOT NULL, PRIMARY KEY (level, idx));
CREATE TABLE IF NOT EXISTS checkpoint (
    size bigint NOT NULL, digest bytea NOT NULL, note bytea NOT NULL, PRIMARY KEY (size, digest));
CREATE TABLE IF NOT EXISTS segment (start_seq bigint PRIMARY KEY, end_seq bigint NOT NULL, manifest text NOT NULL);
CREATE TABLE IF NOT EXISTS detached (
    seq bigint PRIMARY KEY, time_us bigint NOT NULL, idem bytea NOT NULL UNIQUE, leaf bytea NOT NULL, facts_digest bytea);
-- who may write what, derived from entries. An act's row enrols a key for kinds, or (kinds NULL) ends one key, or (key_id NULL) all
-- that the holder had; the row of holder `ledger` says that it was founded. `writer` has the keys that count now.
CREATE TABLE IF NOT EXISTS act (
    seq bigint NOT NULL, pos int NOT NULL, holder text NOT NULL, key_id text, kinds text[], PRIMARY KEY (seq, pos));
CREATE TABLE IF NOT EXISTS writer (key_id text COLLATE "C" PRIMARY KEY, workload text NOT NULL, kinds text[] NOT NULL);
"""

# erased bytes leave the table files only when vacuum runs: make it come soon after an erasure
SETTINGS = "".join(
    f"ALTER TABLE {table} SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0);"
    for table in ("payload", "detached")
)

RETIRED = "DROP TRIGGER IF EXISTS no_update ON detached;"
"""What an earlier state of this schema had and this one has not; dropped when a ledger is brought up to date. A release that takes
a function or trigger away, or changes a function's parameters, adds the DROP here."""

GUARDS = """
CREATE OR REPLACE FUNCTION guard_refuse() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
    RAISE EXCEPTION '@schema@.%: append-only, % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'CG009';
END $f$;
CREATE OR REPLACE FUNCTION guard_archived() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, "@schema@", pg_temp AS $f$
BEGIN
    IF EXISTS (SELECT 1 FROM segment s WHERE s.start_seq <= old.seq AND old.seq < s.end_seq) THEN RETURN old; END IF;
    RAISE EXCEPTION '@schema@.%: append-only, entry % is in no archived segment', TG_TABLE_NAME, old.seq USING ERRCODE = 'CG009';
END $f$;
CREATE OR REPLACE FUNCTION guard_node() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, "@schema@", pg_temp AS $f$
BEGIN
    IF old.level < 8 AND EXISTS (SELECT 1 FROM segment s WHERE s.start_seq <= old.idx << old.level
        AND (old.idx + 1) << old.level <= s.end_seq) THEN RETURN old; END IF;
    RAISE EXCEPTION '@schema@.node: append-only, node %/% is in no archived segment', old.level, old.idx USING ERRCODE = 'CG009';
END $f$;
CREATE OR REPLACE FUNCTION guard_erase() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
    IF new.seq = old.seq AND new.salt IS NULL AND new.facts_digest IS NULL AND new.bytes IS NULL THEN RETURN new; END IF;
    RAISE EXCEPTION '@schema@.payload: append-only, a payload can only be erased' USING ERRCODE = 'CG009';
END $f$;
CREATE OR REPLACE FUNCTION guard_forget() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
    IF new.facts_digest IS NULL AND (new.seq, new.time_us, new.idem, new.leaf) IS NOT DISTINCT FROM (old.seq, old.time_us, old.idem, old.leaf) THEN
        RETURN new;
    END IF;
    RAISE EXCEPTION '@schema@.detached: append-only, of a detached entry only the facts digest can be forgotten' USING ERRCODE = 'CG009';
END $f$;
CREATE OR REPLACE FUNCTION guard_attached() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, "@schema@", pg_temp AS $f$
BEGIN
    IF (SELECT count(*) FROM entry e WHERE e.seq >= old.start_seq AND e.seq < old.end_seq) = old.end_seq - old.start_seq THEN
        RETURN old;
    END IF;
    RAISE EXCEPTION '@schema@.segment: its entries are not back, so it stays' USING ERRCODE = 'CG009';
END $f$;
CREATE OR REPLACE FUNCTION guard_stub() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, "@schema@", pg_temp AS $f$
BEGIN
    IF EXISTS (SELECT 1 FROM entry e WHERE e.seq = old.seq) THEN RETURN old; END IF;
    RAISE EXCEPTION '@schema@.detached: entry % is not back, so its receipt stays', old.seq USING ERRCODE = 'CG009';
END $f$;
"""

_ROW_DELETE = {
    "entry": "guard_archived",
    "payload": "guard_archived",
    "node": "guard_node",
    "segment": "guard_attached",
    "detached": "guard_stub",
}
_NO_UPDATE = ("meta", "entry", "entry_subject", "node", "checkpoint", "segment")
_NO_DELETE = ("meta", "entry_subject", "checkpoint")
_NO_TRUNCATE = (*_NO_UPDATE, "payload", "detached")
GUARDED = _NO_TRUNCATE


def triggers() -> str:
    """Return the statements that create the guards; ENABLE ALWAYS keeps them on under session_replication_role=replica."""
    found: list[tuple[str, str, str, str]] = []
    found += [
        (table, "no_update", "BEFORE UPDATE", "STATEMENT EXECUTE FUNCTION guard_refuse()") for table in _NO_UPDATE
    ]
    found += [
        (table, "no_delete", "BEFORE DELETE", "STATEMENT EXECUTE FUNCTION guard_refuse()") for table in _NO_DELETE
    ]
    found += [
        (table, "no_truncate", "BEFORE TRUNCATE", "STATEMENT EXECUTE FUNCTION guard_refuse()") for table in _NO_TRUNCATE
    ]
    found += [
        (table, "some_delete", "BEFORE DELETE", f"ROW EXECUTE FUNCTION {name}()") for table, name in _ROW_DELETE.items()
    ]
    found.append(("payload", "only_erase", "BEFORE UPDATE", "ROW EXECUTE FUNCTION guard_erase()"))
    found.append(("detached", "only_forget", "BEFORE UPDATE", "ROW EXECUTE FUNCTION guard_forget()"))
    return "".join(
        f"CREATE OR REPLACE TRIGGER {name} {when} ON {table} FOR EACH {what};"
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};"
        for table, name, when, what in found
    )


HEADER = 'LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, "@schema@", pg_temp'
APPENDER = f"{HEADER} SET plan_cache_mode = force_generic_plan SET enable_seqscan = off"
"""An appending function's plans are made once and by index: one made while the tables were empty would read them all later."""
INNER = 'LANGUAGE plpgsql SET search_path = pg_catalog, "@schema@", pg_temp'

ACT_KINDS = "{genesis,workload_enrolled,key_revoked}"
"""The kinds from which the table `writer` is derived, as an array of Postgres."""

PERSON_SIGNED = (
    "person_enrolled", "workload_enrolled", "key_revoked", "delegated", "delegation_ended", "person_recertified",
    "person_recovered", "entry_disregarded", "policy_adopted",
)  # fmt: skip
"""Kinds that have effect only through the signatures of people inside, whoever wrote the entry: `append()` asks for no
writer, as the governance room asks for none."""

SUBJECT = r"[a-z][a-z0-9_]{0,39}(/[A-Za-z0-9_.+-]{1,120}(@[A-Za-z0-9_.+-]{1,60})?)?"

# the same without counts, which make a regular expression ten times slower; lengths are looked at only where they can matter
LOOSE = r"[a-z][a-z0-9_]*(/[A-Za-z0-9_.+-]+(@[A-Za-z0-9_.+-]+)?)?"

# Everything that needs no lock: read the members, check them, put the body together again, check the commitment.
CHECK = (
    (
        """
CREATE OR REPLACE FUNCTION ledger_check(v_body bytea, v_salt bytea, v_facts bytea, v_payload bytea,
    OUT o_problem text, OUT o_text text, OUT o_idem bytea, OUT o_kind text, OUT o_key text,
    OUT o_subjects text[], OUT o_fits boolean) IMMUTABLE LANGUAGE plpgsql AS $f$
DECLARE
    t record; v_json json; v_item text; v_last text; v_sig bytea;
BEGIN
    IF (octet_length(v_body) <= 65535 AND octet_length(v_payload) <= 4194304 AND octet_length(v_salt) = 32 AND octet_length(v_facts) = 32)
        IS NOT TRUE THEN
        o_problem := CASE
            WHEN v_body IS NULL OR v_salt IS NULL OR v_facts IS NULL OR v_payload IS NULL THEN 'body, salt, facts digest and payload are all needed'
            WHEN octet_length(v_body) > 65535
                THEN 'the entry would have more than ' || octet_length(v_body) || ' bytes; the limit is 65535. Put large values into evidence'
            WHEN octet_length(v_payload) > 4194304
                THEN 'the payload has ' || octet_length(v_payload) || ' bytes; above 4194304 put it into evidence'
            ELSE 'salt and facts digest have 32 bytes each' END;
        RETURN;
    END IF;
    o_text := convert_from(v_body, 'UTF8');
    SELECT * INTO t FROM json_to_record(o_text::json) AS x(actor text, evidence text[], idem text, key text, kind text,
        payload text, schema int, sig text, subjects text[]);
    FOREACH v_item IN ARRAY t.subjects LOOP
        IF v_item <= v_last COLLATE "C" THEN o_problem := 'subjects are not sorted and distinct'; RETURN; END IF;
        v_last := v_item;
    END LOOP;
    v_last := NULL;
    FOREACH v_item IN ARRAY t.evidence LOOP
        IF v_item <= v_last COLLATE "C" OR v_item <> 'sha256:' || encode(decode(substr(v_item, 8), 'hex'), 'hex') OR length(v_item) <> 71 THEN
            o_problem := 'evidence is not a sorted list of distinct sha256 digests'; RETURN;
        END IF;
        v_last := v_item;
    END LOOP;
    o_idem := decode(t.idem, 'hex'); o_kind := t.kind; o_key := t.key; o_subjects := t.subjects;
    v_sig := decode(t.sig, 'base64');
    -- The members need no escaping, or their concatenation would not be the body; so it is the canonical form. NULL if one is missing.
    IF ((t.kind || ' ' || t.actor) ~ '^[a-z][a-z0-9_]* @loose@$' AND length(t.kind) <= 60
        AND (length(t.actor) <= 40 OR t.actor ~ '^@subject@$')
        AND t.schema BETWEEN 1 AND 10000 AND cardinality(t.subjects) BETWEEN 1 AND 64
        AND encode(o_idem, 'hex') = t.idem AND octet_length(o_idem) = 32
        AND CASE t.key WHEN '' THEN t.sig = '' ELSE octet_length(v_sig) = 64 AND translate(encode(v_sig, 'base64'), E'\\n', '') = t.sig
            AND length(t.key) = 16 AND encode(decode(t.key, 'hex'), 'hex') = t.key END
        AND encode(sha256('\\x636f676e6966792f7061796c6f61642f763100'::bytea || v_salt || v_payload), 'hex') = t.payload
        AND '{"actor":"' || t.actor || '","evidence":[' || (CASE t.evidence WHEN '{}' THEN '' ELSE '"' || array_to_string(t.evidence, '","') || '"' END)
            || '],"idem":"' || t.idem || '","key":"' || t.key || '","kind":"' || t.kind || '","payload":"' || t.payload || '","schema":'
            || t.schema || ',"sig":"' || t.sig || '","subjects":["' || array_to_string(t.subjects, '","') || '"]}' = o_text) IS NOT TRUE THEN
        o_problem := 'the body is not the canonical form of a body with actor, evidence, idem, key, kind, payload, schema, sig and subjects '
            || 'that commits to this payload and salt';
        RETURN;
    END IF;
    v_json := convert_from(v_payload, 'UTF8')::json;
    IF position('\\x5c7530303030'::bytea IN v_payload) > 0 THEN
        o_fits := true;  -- Postgres cannot look into JSON that holds a NUL; verification compares this digest
    ELSE
        v_json := v_json->'facts';  -- its very text, which is canonical if the payload is
        o_fits := v_json IS NULL OR sha256(convert_to(v_json::text, 'UTF8')) = v_facts;
    END IF;
    IF get_byte(v_payload, 0) <> 123 THEN o_problem := 'the payload is not a JSON object'; END IF;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    o_problem := 'body or payload is not JSON: ' || SQLERRM;
END $f$;
"""
    )
    .replace("@subject@", SUBJECT)
    .replace("@loose@", LOOSE)
)

# What must hold of the session before anything is written, checked in every call because settings can change while it runs.
SESSION = """
    IF current_setting('transaction_isolation') <> 'read committed' OR current_setting('synchronous_commit') = 'off'
        OR current_setting('fsync') = 'off' OR current_setting('full_page_writes') = 'off' THEN
        RAISE EXCEPTION '%', CASE
            WHEN current_setting('transaction_isolation') <> 'read committed' THEN 'append under ' || upper(current_setting('transaction_isolation'))
                || ' is refused: its snapshot is older than the lock. Use READ COMMITTED (default_transaction_isolation)'
            WHEN current_setting('synchronous_commit') = 'off'
                THEN 'append with synchronous_commit=off is refused: an acknowledged entry could be lost. Set synchronous_commit = on'
            ELSE 'append is refused while the server runs with fsync or full_page_writes off; set both to on' END USING ERRCODE = 'CG006';
    END IF;
"""

LOCK = "PERFORM pg_advisory_xact_lock(@lock@);"

# The last entry, under the lock: v_next, v_prev, v_floor are read once in a call and then carried along.
_LAST = """
        SELECT e.seq + 1, e.leaf, e.time_us, e.leaf = sha256('\\x00'::bytea || e.bytes), EXISTS (SELECT 1 FROM segment),
            (SELECT c.o_kind = ANY (w.kinds) FROM writer w WHERE w.key_id = c.o_key)
            INTO v_next, v_prev, v_floor, v_same, v_archived, v_may FROM entry e ORDER BY e.seq DESC LIMIT 1;
        IF v_archived IS NOT FALSE THEN
            SELECT d.seq + 1, d.leaf, d.time_us, d.fits INTO v_next, v_prev, v_floor, v_same FROM (
                SELECT v_next - 1 AS seq, v_prev AS leaf, v_floor AS time_us, v_same AS fits UNION ALL
                (SELECT x.seq, x.leaf, x.time_us, true FROM detached x ORDER BY x.seq DESC LIMIT 1)) AS d ORDER BY d.seq DESC NULLS LAST LIMIT 1;
        END IF;
        IF v_next IS NULL THEN
            v_next := 0; v_prev := decode(repeat('00', 32), 'hex'); v_floor := 0;
        ELSIF NOT v_same THEN
            RAISE EXCEPTION 'the last entry''s leaf hash is not that of its bytes; nothing is appended to a damaged ledger. Run `cognify ledger verify`'
                USING ERRCODE = 'CG010';
        END IF;
        SELECT max(k.size) INTO v_covered FROM checkpoint k;
        IF v_covered > v_next THEN
            RAISE EXCEPTION 'a checkpoint of % entries is kept here, the ledger has %: it was rolled back, and nothing is appended. Replay the lost entries '
                '(`cognify ledger replay`), or open a new ledger that cites the loss (`cognify ledger continue`)', v_covered, v_next USING ERRCODE = 'CG011';
        END IF;
"""

# The entry with the same idempotency key: then v_seq is set, and v_duplicate or v_code.
_FIND = """
    v_code := NULL; v_duplicate := false;
    SELECT coalesce((SELECT e.seq FROM entry e WHERE e.idem = c.o_idem), (SELECT d.seq FROM detached d WHERE d.idem = c.o_idem)) INTO v_seq;
    IF v_seq IS NOT NULL THEN
        SELECT e.leaf, e.time_us, p.facts_digest = v_facts INTO v_leaf, v_time, v_same FROM entry e LEFT JOIN payload p USING (seq)
            WHERE e.seq = v_seq UNION ALL SELECT d.leaf, d.time_us, d.facts_digest = v_facts FROM detached d WHERE d.seq = v_seq;
        IF v_same THEN
            v_duplicate := true;
        ELSE
            v_code := 'CG001';
            v_message := 'entry ' || v_seq || ' already has this idempotency key ' || CASE WHEN v_same IS NULL
                THEN 'and its payload was erased, so that a retry cannot be compared with it; record something new under a new key'
                ELSE 'with other facts; a retry must record the same facts' END;
        END IF;
    END IF;
"""

# Complete subtrees that end with entry v_seq, from v_prev and v_leaf.
NODES = """
            v_hash := v_leaf; v_left := v_prev; v_idx := v_seq; v_level := 0;
            WHILE v_idx & 1 = 1 LOOP
                IF v_level > 0 THEN
                    SELECT n.hash INTO v_left FROM node n WHERE n.level = v_level AND n.idx = v_idx - 1;
                    IF NOT FOUND THEN
                        RAISE EXCEPTION 'the tree cache misses node %/%; nothing is appended. Run `cognify ledger verify`', v_level, v_idx - 1
                            USING ERRCODE = 'CG010';
                    END IF;
                END IF;
                v_hash := sha256('\\x01'::bytea || v_left || v_hash);
                v_level := v_level + 1; v_idx := v_idx >> 1;
                INSERT INTO node VALUES (v_level, v_idx, v_hash);
            END LOOP;
"""

# A new entry, under the lock. Leaves v_code NULL and fills v_seq, v_leaf, v_time, or sets v_code and v_message.
_NEW = """
        v_seq := v_next; v_least := v_floor;
        IF c.o_kind = 'clock_floor_corrected' THEN  -- it may lie before the entry before it; verification judges who signed it
            v_least := least(v_floor, substring(convert_from(v_payload, 'UTF8')::json->'facts'->>'floor_us' FROM '^[0-9]{1,16}$')::bigint);
        END IF;
        IF v_expected <> v_seq - v_added THEN  -- the size before this call
            v_code := 'CG002'; v_message := 'the ledger has ' || (v_seq - v_added) || ' entries, not ' || v_expected || '; decide again';
        ELSIF v_now < v_least - @skew@ THEN
            v_code := 'CG003';
            v_message := 'this machine''s clock is ' || round((v_least - v_now) / 1e6) || ' s before entry ' || (v_seq - 1) || '; correct the clock. If it is that entry''s clock that ran ahead, two workspace admins run `cognify ledger correct-clock`';
        ELSIF NOT c.o_fits THEN
            v_code := 'CG004'; v_message := 'the facts digest is not that of the payload''s canonical facts';
        ELSIF v_may IS NOT TRUE AND v_seq > 0 AND c.o_kind <> ALL ('@person_signed@') THEN
            v_message := ledger_writer_problem(v_seq, c.o_kind, c.o_key);
            IF v_message IS NOT NULL THEN v_code := 'CG005'; END IF;
        END IF;
        IF v_code IS NULL THEN
            v_time := greatest(v_now, v_least);
            v_heads := '';
            FOREACH v_subject IN ARRAY c.o_subjects LOOP
                SELECT x.seq INTO v_head FROM entry_subject x WHERE x.subject = v_subject AND x.seq < v_seq ORDER BY x.seq DESC LIMIT 1;
                IF v_head IS NULL AND v_subject !~ '^@subject@$' THEN  -- a subject that is here already was looked at then
                    v_code := 'CG004'; v_message := 'subject ' || left(v_subject, 80) || ' is malformed';
                END IF;
                v_heads := v_heads || ',"' || v_subject || '":' || coalesce(v_head, -1);
            END LOOP;
            IF v_code IS NULL THEN v_data := convert_to('{"body":' || c.o_text || ',"heads":{' || substr(v_heads, 2) || '},"ledger":"@origin@","prev":"' || encode(v_prev, 'hex')
                || '","seq":' || v_seq || ',"time_us":' || v_time || ',"v":1}', 'UTF8'); END IF;
            IF octet_length(v_data) > 65535 THEN
                v_code := 'CG004';
                v_message := 'the entry has ' || octet_length(v_data) || ' bytes; the limit is 65535. Put large values into evidence';
            END IF;
        END IF;
        IF v_code IS NULL THEN
            v_leaf := sha256('\\x00'::bytea || v_data);
            INSERT INTO entry VALUES (v_seq, v_time, c.o_idem, v_prev, v_leaf, c.o_kind, v_data);
            INSERT INTO entry_subject SELECT s, v_seq FROM unnest(c.o_subjects) AS s;
            INSERT INTO payload VALUES (v_seq, v_salt, v_facts, v_payload);
@nodes@            SELECT e.bytes = v_data INTO v_same FROM entry e WHERE e.seq = v_seq;
            IF v_same IS NOT TRUE THEN
                RAISE EXCEPTION 'the database did not keep the entry''s bytes; nothing was appended' USING ERRCODE = 'CG010';
            END IF;
            IF c.o_kind = ANY ('@act_kinds@') THEN
                PERFORM ledger_act(v_seq, c.o_kind, c.o_subjects, v_payload);
                PERFORM ledger_writers();
            END IF;
            v_next := v_seq + 1; v_prev := v_leaf; v_floor := v_time; v_added := v_added + 1;
        END IF;
""".replace("@subject@", SUBJECT).replace("@nodes@", NODES)
_NEW = _NEW.replace("@act_kinds@", ACT_KINDS).replace("@person_signed@", f"{{{','.join(PERSON_SIGNED)}}}")

_VARS = """
    c record; v_seq bigint; v_leaf bytea; v_time bigint; v_same boolean; v_duplicate boolean; v_code text; v_message text;
    v_next bigint; v_prev bytea; v_floor bigint; v_least bigint; v_heads text; v_head bigint; v_subject text; v_data bytea; v_hash bytea; v_left bytea; v_idx bigint; v_level int;
    v_added bigint := 0; v_archived boolean; v_may boolean; v_covered bigint;
"""
_CLOCK = "IF @server_clock@ OR v_now IS NULL THEN v_now := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint; END IF;"

APPEND = f"""
CREATE OR REPLACE FUNCTION append(v_body bytea, v_salt bytea, v_facts bytea, v_payload bytea, v_now bigint, v_expected bigint,
    OUT o_seq bigint, OUT o_leaf bytea, OUT o_time bigint, OUT o_duplicate boolean) {APPENDER} AS $f$
DECLARE {_VARS}
BEGIN
    {SESSION}
    c := ledger_check(v_body, v_salt, v_facts, v_payload);
    IF c.o_problem IS NOT NULL THEN RAISE EXCEPTION '%', c.o_problem USING ERRCODE = 'CG004'; END IF;
    -- Looked for before the lock: most retries need none. Should two calls with one key meet, the unique index refuses the second one,
    -- which the caller then repeats.
    {_FIND}
    IF v_seq IS NULL THEN
        {LOCK}
        {_CLOCK}
        {_LAST}
        {_NEW}
    END IF;
    IF v_code IS NOT NULL THEN RAISE EXCEPTION '%', v_message USING ERRCODE = v_code; END IF;
    o_seq := v_seq; o_leaf := v_leaf; o_time := v_time; o_duplicate := v_duplicate;
END $f$;
CREATE OR REPLACE FUNCTION append_batch(v_bodies bytea[], v_salts bytea[], v_factses bytea[], v_payloads bytea[], v_now bigint,
    v_expected bigint, v_each boolean)
    RETURNS TABLE (o_seq bigint, o_leaf bytea, o_time bigint, o_duplicate boolean, o_code text, o_message text) {APPENDER} AS $f$
DECLARE {_VARS} i int; v_body bytea; v_salt bytea; v_facts bytea; v_payload bytea;
BEGIN
    {SESSION}
    {LOCK}
    {_CLOCK}
    FOR i IN 1 .. coalesce(array_length(v_bodies, 1), 0) LOOP
        v_body := v_bodies[i]; v_salt := v_salts[i]; v_facts := v_factses[i]; v_payload := v_payloads[i];
        c := ledger_check(v_body, v_salt, v_facts, v_payload);
        IF c.o_problem IS NOT NULL THEN
            v_code := 'CG004'; v_message := c.o_problem;
        ELSE
            {_FIND}
            IF v_seq IS NULL THEN
                IF v_next IS NULL THEN
                    {_LAST}
                ELSE
                    SELECT c.o_kind = ANY (w.kinds) INTO v_may FROM writer w WHERE w.key_id = c.o_key;
                END IF;
                {_NEW}
            END IF;
        END IF;
        IF v_code IS NULL THEN
            o_seq := v_seq; o_leaf := v_leaf; o_time := v_time; o_duplicate := v_duplicate; o_code := NULL; o_message := NULL;
        ELSIF v_each THEN
            o_seq := NULL; o_leaf := NULL; o_time := NULL; o_duplicate := NULL; o_code := v_code; o_message := v_message;
        ELSE
            RAISE EXCEPTION '%', v_message USING ERRCODE = v_code, DETAIL = 'entry ' || i || ' of the batch';
        END IF;
        RETURN NEXT;
    END LOOP;
END $f$;
"""
