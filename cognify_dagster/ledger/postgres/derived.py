"""What a Postgres ledger keeps beside its entries: compared with what this release would make of them.

Invariants: nothing here is evidence and nothing is repaired; each difference is reported. The derivation of the writers' table is
done again from entry bytes and payloads by the server's functions, whose text, owner, settings and guards were compared with
this release's first, in a transaction that leaves nothing behind. Acts inside a detached segment cannot be read again; their
kept form stands in for them. Whoever replaces the server itself can answer anything: decisions never rest on these tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cognify_dagster.ledger.postgres.schema import ACT_KINDS, FORMAT, HEADER, INNER, LOCK

_KEPT = ("act", "writer")

DERIVED = f"""
CREATE OR REPLACE FUNCTION ledger_kept() RETURNS jsonb STABLE {INNER} AS $f$
BEGIN
    RETURN jsonb_build_object({", ".join(f"'{table}', (SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]') FROM {table} AS t)" for table in _KEPT)});
END $f$;
CREATE OR REPLACE FUNCTION ledger_derived() RETURNS TABLE (o_seq bigint, o_text text) {HEADER} AS $f$
DECLARE v_before jsonb; v_after jsonb; r record; t record;
BEGIN
    {LOCK}
    v_before := ledger_kept();
    BEGIN
        DELETE FROM act a WHERE NOT EXISTS (SELECT 1 FROM segment s WHERE s.start_seq <= a.seq AND a.seq < s.end_seq);
        FOR r IN SELECT e.seq, e.bytes AS data, p.bytes AS payload FROM entry e LEFT JOIN payload p USING (seq)
            WHERE e.seq = 0 OR e.seq IN (SELECT x.seq FROM entry_subject x WHERE x.subject = 'people')
        LOOP
            SELECT x.body->>'kind' AS kind, ARRAY(SELECT json_array_elements_text(x.body->'subjects')) AS names
                INTO t FROM json_to_record(convert_from(r.data, 'UTF8')::json) AS x(body json);
            IF t.kind = ANY ('{ACT_KINDS}') THEN PERFORM ledger_act(r.seq, t.kind, t.names, r.payload); END IF;
        END LOOP;
        PERFORM ledger_writers();
        v_after := ledger_kept();
        RAISE EXCEPTION 'nothing of this is kept' USING ERRCODE = 'CG099';
    EXCEPTION WHEN SQLSTATE 'CG099' THEN NULL;
        WHEN data_exception THEN o_text := 'an entry about people cannot be read: ' || SQLERRM; RETURN NEXT; RETURN;
    END;
    RETURN QUERY SELECT (d.row->>'seq')::bigint, format('table %s %s', k.key, d.how) || ': ' || left(d.row::text, 300)
        FROM jsonb_object_keys(v_before) AS k(key), LATERAL (
            SELECT b.row, 'holds a row that no entry accounts for' AS how FROM (SELECT jsonb_array_elements(v_before->k.key) EXCEPT ALL SELECT jsonb_array_elements(v_after->k.key)) AS b(row)
            UNION ALL
            SELECT a.row, 'lacks a row that follows from the entries' FROM (SELECT jsonb_array_elements(v_after->k.key) EXCEPT ALL SELECT jsonb_array_elements(v_before->k.key)) AS a(row)) AS d
        ORDER BY k.key LIMIT 100;
END $f$;
"""

_FUNCTION = re.compile(r'CREATE OR REPLACE FUNCTION (?:"\w+"\.)?(\w+)\((.*?)\$f\$(.*?)\$f\$', re.DOTALL)
_SET = re.compile(r"SET (\w+) = (.+?)(?= SET | AS |$)")
_TRIGGER = re.compile(r"ALTER TABLE (\w+) ENABLE ALWAYS TRIGGER (\w+)")
_UPDATE = "run `cognify ledger init --url` with the same origin and schema, as a superuser, then verify again"
REMEDY = f". If this package was upgraded since the server was set up, {_UPDATE}; if not, somebody changed it"
OUTDATED = "outdated: "
"""How a text begins about a server that was not brought up to date after an upgrade: less is proven, nothing is wrong."""
Texts = tuple[str, Callable[[], Mapping[str, str]]]
Rows = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
Found = tuple[int | None, str]


def check_meta(rows: Rows, origin: str) -> Iterator[Found]:
    """Compare the table of settings with the ledger that was opened."""
    meta: dict[str, str] = dict(rows("SELECT key, value FROM {s}.meta", ()))
    if set(meta) != {"format", "origin", "server_clock", "roles"}:
        yield None, f"table meta holds {sorted(meta)}, not format, origin, roles and server_clock"
    if meta.get("origin") != origin or meta.get("format") != str(FORMAT):
        yield None, f"table meta names the ledger {meta.get('origin')!r} in format {meta.get('format')}"
    if meta.get("server_clock", "") not in ("true", "false"):
        yield None, f"table meta: server_clock is {meta.get('server_clock')!r}, not true or false"


def check_functions(rows: Rows, schema: str, sql: str) -> Iterator[Found]:
    """Compare the functions with the text `sql` that a release would create; `meta` decides about the clock in it."""
    wanted = {
        name: (body, "SECURITY DEFINER" in head, sorted(_set(found) for found in _SET.findall(head)))
        for name, head, body in _FUNCTION.findall(sql)
    }
    found: dict[str, list[Any]] = {}
    for name, body, definer, config in rows(
        "SELECT proname, prosrc, prosecdef, proconfig FROM pg_proc WHERE pronamespace = to_regnamespace(%s)", (schema,)
    ):
        settings = sorted(_set(tuple(item.split("=", 1))) for item in config or ())
        found.setdefault(name, []).append((body, definer, settings))
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted:
            text = "not there" if name in wanted else "not one of this release"
        elif len(found[name]) > 1:
            text = f"there {len(found[name])} times"
        elif found[name] != [wanted[name]]:
            text = "not as this release made it"
        else:
            continue
        yield None, f"function {name} is {text}{REMEDY}"


def _set(found: tuple[str, ...]) -> tuple[str, str]:
    """A setting and its value, without quotes, which Postgres writes only around names that need them."""
    name, value = found
    return name, re.sub(r'["\s]', "", value)


def check_triggers(rows: Rows, schema: str, sql: str) -> Iterator[Found]:
    """Compare the triggers with those that the text `sql` would create."""
    wanted = set(_TRIGGER.findall(sql))
    enabled = {
        (table, name): state
        for table, name, state in rows(
            "SELECT c.relname, t.tgname, t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE c.relnamespace = to_regnamespace(%s) AND NOT t.tgisinternal",
            (schema,),
        )
    }
    for table, name in sorted(wanted | enabled.keys()):
        state = enabled.get((table, name))
        if (table, name) not in wanted or state != "A":
            what = (
                "is not one of this release" if (table, name) not in wanted else "is off" if state else "is not there"
            )
            yield None, f"trigger {name} of table {table} {what}{REMEDY}"


def check_code(rows: Rows, schema: str, fill: Callable[[str], str], texts: Texts) -> list[Found]:
    """Compare functions and triggers with this release's. If they are, all of them, those of an earlier release, that is what is
    found: no tampering, but not what this release would prove either.

    Args:
        rows: runs a query.
        schema: the ledger's schema.
        fill: puts the ledger's own names into SQL.
        texts: the SQL of this release, and what returns that of earlier ones by version.
    """

    def compare(sql: str) -> list[Found]:
        return [*check_functions(rows, schema, sql), *check_triggers(rows, schema, sql)]

    current, earlier = texts
    found = compare(fill(current))
    if found:
        for version, text in earlier().items():
            if not compare(fill(text)):
                return [
                    (None, f"{OUTDATED}the server's functions and guards are those of release {version}; {_UPDATE}")
                ]
    return found


def check_rights(rows: Rows, schema: str) -> Iterator[Found]:
    """Compare event triggers, owners and rights with what `init_postgres` sets up."""
    for name, state in rows(
        "SELECT evtname, evtenabled::text FROM pg_event_trigger WHERE evtname IN (%s, %s) AND evtenabled <> 'A'",
        (f"{schema}_guard_ddl", f"{schema}_guard_drop"),
    ):
        yield None, f"event trigger {name} is {'off' if state == 'D' else 'not always on'}"
    ((prefix,),) = rows("SELECT coalesce((SELECT value FROM {s}.meta WHERE key = 'roles'), '')", ())
    owner = f"{prefix}_owner"
    for name, other in rows(
        "SELECT x.name, pg_get_userbyid(x.owner)::text FROM (SELECT relname::text, relowner FROM pg_class WHERE relnamespace = to_regnamespace(%s) "
        "UNION ALL SELECT proname::text, proowner FROM pg_proc WHERE pronamespace = to_regnamespace(%s) "
        "UNION ALL SELECT nspname::text, nspowner FROM pg_namespace WHERE nspname = %s) AS x(name, owner) WHERE pg_get_userbyid(x.owner) <> %s ORDER BY 1",
        (schema, schema, schema, owner),
    ):
        yield None, f"{name} belongs to {other}, not to {owner}, which the table meta names"
    for name, who, right in rows(
        "SELECT c.relname::text, coalesce(pg_get_userbyid(nullif(a.grantee, 0))::text, 'everybody'), a.privilege_type FROM pg_class c, aclexplode(c.relacl) AS a "
        "WHERE c.relnamespace = to_regnamespace(%s) AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT' ORDER BY 1, 2",
        (schema,),
    ):
        yield None, f"{who} may {right} table {name}"


def check_rows(rows: Rows) -> Iterator[Found]:
    """Derive the writers' tables again and compare."""
    for seq, text in rows("SELECT o_seq, o_text FROM {s}.ledger_derived()", ()):
        yield (None if seq is None else int(seq)), str(text)
