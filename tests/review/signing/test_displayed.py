"""Opening the package page is what makes a statement say that the package was displayed."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from cognify_dagster.governance import read_sign_off
from cognify_dagster.records import Package, SignOff
from cognify_dagster.review.signing.methods import METHODS
from tests.review.reading.conftest import told_site, told_template
from tests.review.signing.test_methods import KeyInTheDrawer
from tests.review.site_world import SiteWorld

__all__ = ["told_site", "told_template"]
PAGE = "/models/credit_default/2"


@pytest.fixture
def _drawer(told_site: SiteWorld) -> Iterator[None]:
    method = KeyInTheDrawer(told_site.world.keys["person/vera"])
    METHODS.append(method)
    yield
    METHODS.remove(method)


@pytest.mark.usefixtures("_drawer")
def test_a_package_that_was_opened_here_is_named_as_displayed(told_site: SiteWorld) -> None:
    vera = told_site.client_for("vera")
    assert "You have not opened this package here" in vera.get(f"{PAGE}/sign").text
    assert vera.get(PAGE).status_code == 200
    told_site.client_for("carl")
    assert "The statement will say that this site displayed" in vera.get(f"{PAGE}/sign").text
    answer = vera.submit(f"{PAGE}/sign", decision="acknowledge")
    assert answer.status_code == 303, answer.text
    assert vera.submit(answer.headers["location"]).status_code == 303
    reading = told_site.world.workspace.read()
    said = read_sign_off(base64.b64decode(reading.all(SignOff)[-1].record.envelope.payload))
    package = reading.latest(Package, "model/credit_default@2")
    assert package is not None
    assert said.viewed is not None
    assert (said.viewed.digest, said.viewed.media_type) == (package.record.package.digest, "application/json")
