"""An example of every GET route, in the prepared workspace."""

from __future__ import annotations

from collections.abc import Callable

from cognify_dagster.records import FindingOpened, SectionWritten, SignOff
from tests.browser.prepared import FIRST, MODEL, SECOND
from tests.browser.served import Served

Address = Callable[[Served], str]
VERSION = f"/models/{MODEL}/{SECOND}"


def fixed(address: str) -> Address:
    """An address that is the same in every workspace."""
    return lambda _: address


def receipt(site: Served) -> str:
    """The receipt of the newest sign-off."""
    found = site.site.read().all(SignOff)[-1]
    return f"/models/{found.record.model}/{found.record.version}/receipt/{found.seq}"


def texts(site: Served) -> str:
    """The difference between the two texts of a section."""
    old, new = (item.seq for item in site.site.read().all(SectionWritten) if item.record.section == "failure_modes")
    return f"{VERSION}/sections/failure_modes/diff?from={old}&to={new}"


def finding(site: Served) -> str:
    """The beginning of an act: how a finding is resolved."""
    found = site.site.read().all(FindingOpened)[-1]
    return f"/acts/new/finding?model={MODEL}&version={SECOND}&entry={found.seq}"


#: pages for people who are signed in
PAGES: dict[str, Address] = {
    "/": fixed("/"),
    "/models": fixed("/models"),
    "/models/{model}": fixed(f"/models/{MODEL}"),
    "/models/{model}/{version}": fixed(VERSION),
    "/models/{model}/{version}/bundle": fixed(f"{VERSION}/bundle"),
    "/models/{model}/{version}/compare": fixed(f"{VERSION}/compare?with={FIRST}"),
    "/models/{model}/{version}/sign": fixed(f"{VERSION}/sign"),
    "/models/{model}/{version}/receipt/{seq}": receipt,
    "/acts": fixed("/acts"),
    "/datasets": fixed("/datasets"),
    "/datasets/{name}": fixed("/datasets/tiny_train"),
    "/datasets/{name}/diff": fixed("/datasets/tiny_train/diff"),
    "/ledger": fixed("/ledger"),
    "/ledger/entries/{seq}": fixed("/ledger/entries/3"),
    "/people": fixed("/people"),
    "/people/{person:path}": fixed("/people/vera"),
    "/policy": fixed("/policy"),
    "/access": fixed("/access"),
    "/access/batches": fixed("/access/batches"),
    "/account": fixed("/account"),
    "/acts/new/{what}": finding,
    "/grants": fixed("/grants"),
    "/ledger/checkpoints": fixed("/ledger/checkpoints"),
    "/models/{model}/{version}/sections": fixed(f"{VERSION}/sections"),
    "/models/{model}/{version}/sections/{section}": fixed(f"{VERSION}/sections/failure_modes"),
    "/models/{model}/{version}/sections/{section}/diff": texts,
    "/oidc": fixed("/oidc"),
    "/tokens": fixed("/tokens"),
    "/webhooks": fixed("/webhooks"),
    "/reminders": fixed("/reminders"),
}
#: pages that only a journey leads to; `walking.look` checks them there
WALKED: tuple[str, ...] = (
    "/invite/{token}",
    "/models/{model}/{version}/sign/{statement}",
    "/acts/{act}",
    "/acts/{act}/sign/{statement}",
)
#: pages for everybody
PUBLIC: dict[str, Address] = {
    "/login": fixed("/login"),
}
#: what is no page: files, answers to programs, and the two ends of a single sign-on
FILES: tuple[str, ...] = (
    "/access/export",
    "/acts/{act}/draft",
    "/datasets/{name}/croissant.json",
    "/healthz",
    "/ledger/checkpoint",
    "/ledger/consistency",
    "/ledger/entries/{seq}/bytes",
    "/ledger/entries/{seq}/evidence/{digest}",
    "/ledger/entries/{seq}/proof",
    "/ledger/entries/{seq}/statements/{number}",
    "/models/export.csv",
    "/models/export.jsonl",
    "/models/{model}/{version}/download/{what}",
    "/models/{model}/{version}/receipt/{seq}/envelope.json",
    "/oidc/callback",
    "/oidc/login",
    "/policy/download",
    "/readyz",
)
