"""The sign-off journey: decide, read the exact statement, sign it with one's own key. The receipt is the page after it."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from cognify_dagster.governance import directory
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.rendering import make_path
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.signing import choices, flow, passkey
from cognify_dagster.review.signing.choices import FormError
from cognify_dagster.review.signing.methods import keys_here, method_of
from cognify_dagster.review.signing.shown import viewed
from cognify_dagster.review.signing.starting import begun_here
from cognify_dagster.review.signing.statements import DECISIONS, KINDS, shown
from cognify_dagster.review.store.pending import PendingStatement
from cognify_dagster.review.visit import Visit

_FIELDS = ("decision", "stage", "comments", "targets", "expires", "links", "entry", "finding", "key")


class Blank(dict[str, str]):
    """The fields of a form for its template: one that is not there is empty."""

    def __missing__(self, key: str) -> str:
        return ""


@page("/models/{model}/{version}/sign", Need.PERSON)
def sign(visit: Visit) -> Response:
    """Show what there is to decide, and what keeps the visitor from it."""
    model, version = flow.version_of(visit)
    form: dict[str, str] = {}
    again = visit.query("again")
    if again:
        form = json.loads(flow.pending_for(visit, again, f"{model}@{version}").form)
    return _form(visit, model, version, form, [])


@page("/models/{model}/{version}/sign", Need.PERSON, methods=("POST",))
def sign_prepare(visit: Visit) -> Response:
    """Prepare the statement of what was decided, or say what is wrong."""
    model, version = flow.version_of(visit)
    form = {name: visit.field(name) for name in (*_FIELDS, *_condition_fields()) if visit.field(name)}
    choice = choices.read_choice(visit.reading, model, version, visit.person, form)
    if isinstance(choice, list):
        return _form(visit, model, version, form, choice)
    try:
        prepared = flow.prepare_sign_off(visit, model, version, choice, form.get("key", ""), form)
    except ReviewError as error:
        if type(error) is not ReviewError:
            raise
        prepared = [str(error)]
    if isinstance(prepared, list):
        visit.detail = "; ".join(prepared)[:300]
        return _form(visit, model, version, form, [FormError("", text) for text in prepared])
    return visit.redirect(make_path("models", model, version, "sign", prepared.id))


@page("/models/{model}/{version}/sign/{statement}", Need.PERSON)
def sign_confirm(visit: Visit) -> Response:
    """Show the exact statement, to be signed now."""
    model, version = flow.version_of(visit)
    pending = flow.pending_for(visit, visit.param("statement"), f"{model}@{version}")
    here = make_path("models", model, version, "sign")
    return confirm_page(visit, pending, here=here, back=make_path("models", model, version, "sign", again=pending.id))


@page("/models/{model}/{version}/sign/{statement}", Need.PERSON, methods=("POST",))
def sign_finish(visit: Visit) -> Response:
    """Sign and submit."""
    model, version = flow.version_of(visit)
    pending = flow.pending_for(visit, visit.param("statement"), f"{model}@{version}")
    return method_of(pending).start(visit, pending)


def confirm_page(visit: Visit, pending: PendingStatement, *, here: str, back: str, **more: Any) -> Response:
    """Show a prepared statement with the button that signs it; `back` leads to where it can be changed."""
    people = directory(visit.reading)
    key = people.signing_key(visit.person, pending.key_id, visit.reading.size)
    options: dict[str, Any] | None = None
    over = pending.used is not None or pending.expires <= int(visit.now.timestamp()) or key is None
    if not over and pending.method == passkey.PasskeyMethod.name:
        options = passkey.request_options(visit, pending)
    return visit.render(
        "sign_confirm.html.j2",
        pending=pending,
        statement=shown(pending.statement, people, strength=key.strength if key is not None else ""),
        method=method_of(pending),
        options=json.dumps(options) if options is not None else "",
        over=over,
        post=f"{here}/{pending.id}",
        back=back,
        seconds=flow.SECONDS,
        **more,
    )


def _condition_fields() -> list[str]:
    return [f"c{row}_{part}" for row in range(choices.ROWS) for part in ("kind", "text", "due", "limit")]


def _form(visit: Visit, model: str, version: str, form: dict[str, str], wrong: list[FormError]) -> Response:
    package = flow.package_of(visit, model, version)
    decision = flow.decision_of(visit, model, version)
    stages = flow.stage_views(visit, decision) if package is not None else []
    people = directory(visit.reading)
    keys = keys_here(visit, "sign_off")
    seen = viewed(visit, package) if package is not None else None
    mine = [item for item in stages if not item.obstacles]
    default = next((item.name for item in mine if not item.state.done), mine[0].name if mine else "")
    return visit.render(
        "sign.html.j2",
        status=422 if wrong else 200,
        model=model,
        version=version,
        package=package,
        files=Shelf(visit).of_package(package) if package is not None else None,
        decision=decision,
        stages=stages,
        names=people.name,
        stage=form.get("stage") or default,
        keys=keys,
        elsewhere=_elsewhere(people.valid_keys(visit.person, visit.reading.size), {item.key.key_id for item in keys}),
        command=_command(model, version, form.get("stage") or default),
        seen=seen,
        others=begun_here(visit, decision),
        own=choices.own_sign_offs(visit.reading, model, version, visit.person),
        decisions=DECISIONS,
        kinds=KINDS,
        rows=range(choices.ROWS),
        form=Blank(form),
        problems=[item.text for item in wrong],
        wrong=Blank({item.field: item.text for item in wrong if item.field}),
    )


def _elsewhere(keys: dict[str, Any], here: set[str]) -> list[tuple[str, str]]:
    """The visitor's keys with which they cannot sign on this site: id and strength."""
    return [(key_id, key.strength) for key_id, key in keys.items() if key_id not in here and key.oidc is None]


def _command(model: str, version: str, stage: str) -> str:
    return f"cognify sign {model} {version} --key YOUR.key.json --open" + (f" --stage {stage}" if stage else "")
