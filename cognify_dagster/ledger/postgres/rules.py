"""SQL that derives who may write which kinds from genesis, enrolments and revocations: governance's rules without signatures.

Mirrors `Directory` of the governance room, entry by entry: the same acts have an effect, a key has the same span, the newest
enrolment of a key decides its kinds, an unreadable or erased act ends the keys of whom it was about. One thing is missing:
Postgres cannot verify Ed25519, so an act whose only fault is a false signature has its effect here and none in governance.
Decisions are made by governance alone; this derivation only keeps honest machines within their kinds, and a stolen database
login without a workload key from writing anything but such acts.
"""

from __future__ import annotations

from cognify_dagster.ledger.postgres.schema import INNER

_WRITER = f"""
CREATE OR REPLACE FUNCTION ledger_writer_problem(v_seq bigint, v_kind text, v_key text) RETURNS text STABLE {INNER} AS $f$
DECLARE w record; v_what text := 'entry ' || v_seq || ' (' || v_kind || ')';
BEGIN
    IF NOT EXISTS (SELECT 1 FROM act a WHERE a.seq = 0 AND a.kind = 'genesis' AND a.readable) THEN
        RETURN NULL;  -- nobody founded this ledger, so it enrols no writers either
    END IF;
    IF v_key = '' THEN RETURN v_what || ' is not signed by a workload; open the workspace with its writer key'; END IF;
    SELECT g.workload, g.kinds, k.until_seq IS NULL AND k.key_id IS NOT NULL AS valid INTO w
        FROM workload_grant g LEFT JOIN holder_key k ON k.holder = g.workload AND k.key_id = g.key_id
        WHERE g.key_id = v_key ORDER BY g.since_seq DESC, g.pos DESC LIMIT 1;
    IF NOT FOUND THEN RETURN v_what || ': no workload enrolled before it has the key ' || v_key || '; enrol it first'; END IF;
    IF NOT w.valid THEN RETURN v_what || ': the workload key ' || v_key || ' was revoked; enrol a new one'; END IF;
    IF v_kind <> ALL (w.kinds) THEN
        RETURN 'entry ' || v_seq || ': ' || w.workload || ' may not write ' || v_kind || ' entries; enrol it with this kind first';
    END IF;
    RETURN NULL;
END $f$;
"""

# A record that today's schema would refuse is "unreadable" to governance; these are the same demands.
_READ = f"""
CREATE OR REPLACE FUNCTION rule_members(v json, v_needed text[], v_allowed text[]) RETURNS boolean IMMUTABLE {INNER} AS $f$
DECLARE v_names text[];
BEGIN
    IF v IS NULL OR json_typeof(v) <> 'object' THEN RETURN false; END IF;
    v_names := ARRAY(SELECT json_object_keys(v));
    RETURN v_needed <@ v_names AND (v_allowed IS NULL OR v_names <@ v_allowed);
END $f$;
CREATE OR REPLACE FUNCTION rule_texts(v json) RETURNS boolean IMMUTABLE {INNER} AS $f$
BEGIN
    RETURN json_typeof(v) = 'array' AND NOT EXISTS (SELECT 1 FROM json_array_elements(v) AS x WHERE json_typeof(x) <> 'string');
END $f$;
CREATE OR REPLACE FUNCTION rule_text(v json, v_pattern text) RETURNS boolean IMMUTABLE {INNER} AS $f$
BEGIN
    RETURN coalesce(json_typeof(v) = 'string' AND (v #>> '{{}}') ~ v_pattern, false);
END $f$;
CREATE OR REPLACE FUNCTION rule_key(v json) RETURNS boolean IMMUTABLE {INNER} AS $f$
BEGIN
    RETURN rule_members(v, '{{key_id,public}}', '{{key_id,public,algorithm,strength}}') AND rule_text(v->'key_id', '^[0-9a-f]{{16}}$')
        AND json_typeof(v->'public') = 'string' AND coalesce(v->>'algorithm', 'ed25519') = 'ed25519' AND coalesce(v->>'strength', 'S3') = 'S3';
END $f$;
CREATE OR REPLACE FUNCTION rule_person(v json) RETURNS boolean IMMUTABLE {INNER} AS $f$
BEGIN
    RETURN rule_members(v, '{{person,name,roles,keys}}', '{{person,name,title,roles,aliases,keys}}')
        AND rule_text(v->'person', '^person/[a-z0-9][a-z0-9-]{{1,60}}$') AND json_typeof(v->'name') = 'string'
        AND length(v->>'name') BETWEEN 1 AND 200 AND coalesce(json_typeof(v->'title'), 'string') = 'string' AND rule_texts(v->'roles')
        AND (v->'aliases' IS NULL OR rule_texts(v->'aliases')) AND json_typeof(v->'keys') = 'array'
        AND NOT EXISTS (SELECT 1 FROM json_array_elements(v->'keys') AS k WHERE rule_key(k) IS NOT TRUE);
END $f$;
CREATE OR REPLACE FUNCTION rule_workload(v json) RETURNS boolean IMMUTABLE {INNER} AS $f$
BEGIN
    RETURN rule_members(v, '{{workload,key,kinds}}', '{{workload,key,kinds}}')
        AND rule_text(v->'workload', '^workload/[A-Za-z0-9][A-Za-z0-9_.-]{{0,60}}$') AND rule_key(v->'key') AND rule_texts(v->'kinds');
END $f$;
CREATE OR REPLACE FUNCTION rule_envelope(v json) RETURNS boolean IMMUTABLE {INNER} AS $f$
BEGIN
    RETURN rule_members(v, '{{payload,payloadType,signatures}}', '{{payload,payloadType,signatures}}')
        AND json_typeof(v->'payload') = 'string' AND json_typeof(v->'payloadType') = 'string' AND json_typeof(v->'signatures') = 'array'
        AND NOT EXISTS (SELECT 1 FROM json_array_elements(v->'signatures') AS s
            WHERE (rule_members(s, '{{keyid,sig}}', '{{keyid,sig}}') AND json_typeof(s->'keyid') = 'string' AND json_typeof(s->'sig') = 'string') IS NOT TRUE);
END $f$;
CREATE OR REPLACE FUNCTION rule_base64(v text) RETURNS bytea IMMUTABLE {INNER} AS $f$
BEGIN
    IF v !~ '^[A-Za-z0-9+/]*={{0,2}}$' OR length(v) % 4 <> 0 THEN RETURN NULL; END IF;
    RETURN decode(v, 'base64');
EXCEPTION WHEN data_exception THEN RETURN NULL;
END $f$;
CREATE OR REPLACE FUNCTION rule_details(v_kind text, v_facts json) RETURNS jsonb IMMUTABLE {INNER} AS $f$
DECLARE v_ok boolean;
BEGIN
    IF v_kind = 'genesis' THEN
        v_ok := rule_members(v_facts, '{{origin,log_key,trial,founders,policy,policy_digest,recovery_threshold,recovery_keys,created}}', NULL)
            AND json_typeof(v_facts->'founders') = 'array' AND coalesce(json_typeof(v_facts->'workloads'), 'array') = 'array'
            AND NOT EXISTS (SELECT 1 FROM json_array_elements(v_facts->'founders') AS p WHERE rule_person(p) IS NOT TRUE)
            AND NOT EXISTS (SELECT 1 FROM json_array_elements(coalesce(v_facts->'workloads', '[]')) AS w WHERE rule_workload(w) IS NOT TRUE);
        IF v_ok IS NOT TRUE THEN RETURN NULL; END IF;
        RETURN jsonb_build_object('workloads', coalesce((v_facts->'workloads')::jsonb, '[]'), 'founders',
            (SELECT coalesce(jsonb_agg(rule_standing(p)), '[]') FROM json_array_elements(v_facts->'founders') AS p));
    ELSIF v_kind = 'person_enrolled' THEN
        v_ok := rule_person(v_facts->'person') AND rule_text(v_facts->'vouched_by', '^person/[a-z0-9][a-z0-9-]{{1,60}}$') AND rule_envelope(v_facts->'envelope');
        IF v_ok IS NOT TRUE THEN RETURN NULL; END IF;
        RETURN rule_standing(v_facts->'person');
    ELSIF v_kind = 'workload_enrolled' THEN
        v_ok := rule_workload(v_facts->'workload') AND rule_text(v_facts->'enrolled_by', '^person/[a-z0-9][a-z0-9-]{{1,60}}$') AND rule_envelope(v_facts->'envelope');
        IF v_ok IS NOT TRUE THEN RETURN NULL; END IF;
        RETURN (v_facts->'workload')::jsonb;
    END IF;
    v_ok := rule_text(v_facts->'holder', '^(person/[a-z0-9][a-z0-9-]{{1,60}}|workload/[A-Za-z0-9][A-Za-z0-9_.-]{{0,60}})$')
        AND rule_text(v_facts->'key_id', '^[0-9a-f]{{16}}$') AND json_typeof(v_facts->'reason') = 'string' AND v_facts->>'reason' <> ''
        AND rule_text(v_facts->'revoked_by', '^person/[a-z0-9][a-z0-9-]{{1,60}}$') AND rule_envelope(v_facts->'envelope');
    IF v_ok IS NOT TRUE THEN RETURN NULL; END IF;
    RETURN jsonb_build_object('holder', v_facts->'holder', 'key_id', v_facts->'key_id');
END $f$;
CREATE OR REPLACE FUNCTION rule_standing(v json) RETURNS jsonb IMMUTABLE {INNER} AS $f$
BEGIN
    RETURN jsonb_build_object('person', v->'person', 'roles', (v->'roles')::jsonb, 'keys', (v->'keys')::jsonb);
END $f$;
"""

_STATEMENT = f"""
CREATE OR REPLACE FUNCTION rule_statement(v_kind text, v_facts json, OUT o_signer text, OUT o_key text, OUT o_digest bytea, OUT o_ok boolean)
    IMMUTABLE {INNER} AS $f$
DECLARE v_envelope json := v_facts->'envelope'; v_bytes bytea; v json; p json; v_content text;
BEGIN
    o_ok := false;
    v_bytes := rule_base64(v_envelope->>'payload');
    IF v_bytes IS NULL THEN RETURN; END IF;
    o_digest := sha256(v_bytes);
    v := convert_from(v_bytes, 'UTF8')::json;
    p := v->'predicate';
    o_signer := p->>'person'; o_key := p->>'key_id';
    -- stored facts are canonical, so leaving a member out leaves the canonical form of the rest
    SELECT '{{' || string_agg(to_json(e.key)::text || ':' || e.value::text, ',') || '}}' INTO v_content
        FROM json_each(v_facts) AS e WHERE e.key NOT IN ('envelope', 'envelopes');
    o_ok := coalesce(rule_members(v, '{{_type,subject,predicateType,predicate}}', '{{_type,subject,predicateType,predicate}}')
        AND v->>'_type' = 'https://in-toto.io/Statement/v1' AND v->>'predicateType' = 'urn:cognify:predicate:act:v1'
        AND v_envelope->>'payloadType' = 'application/vnd.in-toto+json' AND json_array_length(v_envelope->'signatures') = 1
        AND length(v_envelope->'signatures'->0->>'sig') = 88
        AND p->>'ledger' = '@origin@' AND p->>'kind' = v_kind
        AND (v->'subject')::jsonb = jsonb_build_array(jsonb_build_object('name', v_kind, 'digest',
            jsonb_build_object('sha256', encode(sha256(convert_to(v_content, 'UTF8')), 'hex')))), false);
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    o_ok := false;
END $f$;
CREATE OR REPLACE FUNCTION ledger_act(v_seq bigint, v_kind text, v_schema int, v_subjects text[], v_payload bytea) RETURNS void {INNER} AS $f$
DECLARE v_facts json; v_details jsonb; v_names text[]; s record;
BEGIN
    IF v_kind = 'genesis' AND v_seq > 0 THEN RETURN; END IF;  -- a second genesis founds nothing
    IF v_kind <> 'genesis' AND 'people' <> ALL (v_subjects) THEN RETURN; END IF;  -- outside the history that counts
    BEGIN
        IF v_schema = 1 AND v_payload IS NOT NULL THEN  -- an erased act is one that cannot be read
            v_facts := convert_from(v_payload, 'UTF8')::json->'facts';
            v_details := rule_details(v_kind, v_facts);
        END IF;
        v_names := CASE v_kind
            WHEN 'genesis' THEN ARRAY['ledger', 'policy'] || ARRAY(SELECT x->>'person' FROM jsonb_array_elements(v_details->'founders') AS x)
                || ARRAY(SELECT x->>'workload' FROM jsonb_array_elements(v_details->'workloads') AS x)
            WHEN 'key_revoked' THEN ARRAY['people', v_details->>'holder']
            ELSE ARRAY['people', coalesce(v_details->>'person', v_details->>'workload')] END;
        IF (v_names <@ v_subjects AND v_subjects <@ v_names) IS NOT TRUE THEN v_details := NULL; END IF;
        IF v_details IS NOT NULL AND v_kind <> 'genesis' THEN s := rule_statement(v_kind, v_facts); END IF;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        v_details := NULL;
    END;
    IF v_details IS NULL THEN
        INSERT INTO act VALUES (v_seq, v_kind, v_subjects, false, false, NULL, NULL, NULL, NULL, NULL);
    ELSIF v_kind = 'genesis' THEN
        INSERT INTO act VALUES (v_seq, v_kind, v_subjects, true, true, NULL, NULL, NULL, NULL, v_details);
    ELSE
        INSERT INTO act VALUES (v_seq, v_kind, v_subjects, true, s.o_ok,
            coalesce(v_facts->>'vouched_by', v_facts->>'enrolled_by', v_facts->>'revoked_by'), s.o_signer, s.o_key, s.o_digest, v_details);
    END IF;
    PERFORM ledger_apply(v_seq);
    PERFORM ledger_writers();
END $f$;
"""

_APPLY = f"""
CREATE OR REPLACE FUNCTION rule_valid(v_holder text, v_key text, v_seq bigint) RETURNS boolean STABLE {INNER} AS $f$
BEGIN
    RETURN EXISTS (SELECT 1 FROM holder_key k WHERE k.holder = v_holder AND k.key_id = v_key AND k.since_seq < v_seq
        AND (k.until_seq IS NULL OR v_seq < k.until_seq));
END $f$;
CREATE OR REPLACE FUNCTION rule_admin(v_person text, v_seq bigint) RETURNS boolean STABLE {INNER} AS $f$
BEGIN
    RETURN coalesce((SELECT 'workspace_admin' = ANY (s.roles) FROM standing s WHERE s.person = v_person AND s.since_seq < v_seq
        ORDER BY s.since_seq DESC LIMIT 1), false);
END $f$;
CREATE OR REPLACE FUNCTION rule_free(v_holder text, v_keys jsonb) RETURNS boolean STABLE {INNER} AS $f$
DECLARE k jsonb; v_public bytea;
BEGIN
    FOR k IN SELECT jsonb_array_elements(v_keys) LOOP
        v_public := rule_base64(k->>'public');
        IF v_public IS NULL OR octet_length(v_public) <> 32 OR left(encode(sha256(v_public), 'hex'), 16) <> k->>'key_id' THEN RETURN false; END IF;
        IF EXISTS (SELECT 1 FROM holder_key h WHERE h.public = k->>'public' AND h.holder <> v_holder) THEN RETURN false; END IF;
    END LOOP;
    RETURN true;
END $f$;
CREATE OR REPLACE FUNCTION rule_add_keys(v_holder text, v_keys jsonb, v_seq bigint) RETURNS void {INNER} AS $f$
BEGIN
    INSERT INTO holder_key SELECT v_holder, k->>'key_id', k->>'public', v_seq, NULL FROM jsonb_array_elements(v_keys) AS k
        ON CONFLICT (holder, key_id) DO NOTHING;  -- keys once known keep their span
END $f$;
CREATE OR REPLACE FUNCTION ledger_apply(v_seq bigint) RETURNS void {INNER} AS $f$
DECLARE a record; d jsonb; x jsonb; v_holder text; v_pos int := 0;
BEGIN
    SELECT * INTO STRICT a FROM act t WHERE t.seq = v_seq;
    d := a.details;
    IF NOT a.readable THEN
        IF a.kind <> 'genesis' THEN
            UPDATE holder_key k SET until_seq = v_seq WHERE k.holder = ANY (a.holders) AND k.until_seq IS NULL;
        END IF;
        RETURN;
    END IF;
    IF a.kind = 'genesis' THEN
        FOR x IN SELECT jsonb_array_elements(d->'founders') LOOP
            DELETE FROM standing s WHERE s.person = x->>'person';
            INSERT INTO standing VALUES (x->>'person', v_seq, ARRAY(SELECT jsonb_array_elements_text(x->'roles')));
            DELETE FROM holder_key k WHERE k.holder = x->>'person';
            PERFORM rule_add_keys(x->>'person', x->'keys', v_seq);
        END LOOP;
        FOR x IN SELECT jsonb_array_elements(d->'workloads') LOOP
            INSERT INTO workload_grant VALUES (v_seq, v_pos, x->'key'->>'key_id', x->>'workload', ARRAY(SELECT jsonb_array_elements_text(x->'kinds')));
            v_pos := v_pos + 1;
            DELETE FROM holder_key k WHERE k.holder = x->>'workload';
            PERFORM rule_add_keys(x->>'workload', jsonb_build_array(x->'key'), v_seq);
        END LOOP;
        RETURN;
    END IF;
    IF NOT a.signed OR a.signer IS DISTINCT FROM a.claimed OR NOT rule_valid(a.signer, a.signer_key, v_seq)
        OR EXISTS (SELECT 1 FROM used_statement u WHERE u.digest = a.statement) THEN
        RETURN;
    END IF;
    IF a.kind = 'key_revoked' THEN
        IF a.signer = d->>'holder' OR rule_admin(a.signer, v_seq) THEN
            UPDATE holder_key k SET until_seq = v_seq WHERE k.holder = d->>'holder' AND k.key_id = d->>'key_id' AND k.until_seq IS NULL;
        END IF;
        RETURN;
    END IF;
    v_holder := coalesce(d->>'person', d->>'workload');
    x := CASE a.kind WHEN 'person_enrolled' THEN d->'keys' ELSE jsonb_build_array(d->'key') END;
    IF a.signer = v_holder OR NOT rule_admin(a.signer, v_seq) OR NOT rule_free(v_holder, x) THEN RETURN; END IF;
    INSERT INTO used_statement VALUES (a.statement);
    IF a.kind = 'person_enrolled' THEN
        INSERT INTO standing VALUES (v_holder, v_seq, ARRAY(SELECT jsonb_array_elements_text(d->'roles')));
    ELSE
        INSERT INTO workload_grant VALUES (v_seq, 0, d->'key'->>'key_id', v_holder, ARRAY(SELECT jsonb_array_elements_text(d->'kinds')));
    END IF;
    PERFORM rule_add_keys(v_holder, x, v_seq);
END $f$;
CREATE OR REPLACE FUNCTION ledger_writers() RETURNS void {INNER} AS $f$
BEGIN
    DELETE FROM writer;
    INSERT INTO writer SELECT g.key_id, g.workload, g.kinds, k.since_seq, k.until_seq
        FROM (SELECT DISTINCT ON (w.key_id) * FROM workload_grant w ORDER BY w.key_id, w.since_seq DESC, w.pos DESC) AS g
        JOIN holder_key k ON k.holder = g.workload AND k.key_id = g.key_id;
END $f$;
CREATE OR REPLACE FUNCTION ledger_replay() RETURNS void {INNER} AS $f$
DECLARE v_seq bigint;
BEGIN
    DELETE FROM holder_key; DELETE FROM standing; DELETE FROM workload_grant; DELETE FROM used_statement;
    FOR v_seq IN SELECT a.seq FROM act a ORDER BY a.seq LOOP PERFORM ledger_apply(v_seq); END LOOP;
    PERFORM ledger_writers();
END $f$;
"""

RULES = _WRITER + _READ + _STATEMENT + _APPLY
