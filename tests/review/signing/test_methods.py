"""Other ways to sign than passkeys: what another module has to offer, and that the policy's least strength holds for it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from starlette.responses import Response

from cognify_dagster.governance import DEFAULT_POLICY_YAML, PersonalKey, adopt_policy, parse_policy
from cognify_dagster.records import EnvelopeSignature, PublicKey, SignOff
from cognify_dagster.review.signing import flow
from cognify_dagster.review.signing.methods import METHODS
from cognify_dagster.review.store.pending import PendingStatement
from cognify_dagster.review.visit import Visit
from tests.governance.world import MODEL
from tests.review.signing.journeys import SIGN, prepared
from tests.review.site_world import SiteWorld


@dataclass
class KeyInTheDrawer:
    """A method that signs with a personal key (S3); no site would have it."""

    key: PersonalKey
    name: str = "drawer"
    label: str = "key in the drawer"

    def available(self, visit: Visit, stage: str) -> list[PublicKey]:
        return [self.key.public] if visit.person == self.key.person else []

    def start(self, visit: Visit, pending: PendingStatement) -> Response:
        def make(item: PendingStatement) -> EnvelopeSignature:
            signature = base64.b64encode(self.key.sign(flow.message_of(item))).decode()
            return EnvelopeSignature(keyid=item.key_id, sig=signature)

        return flow.complete(visit, pending.id, make)


@pytest.fixture
def drawer(site_world: SiteWorld) -> Iterator[KeyInTheDrawer]:
    method = KeyInTheDrawer(site_world.world.key("vera"))
    METHODS.append(method)
    yield method
    METHODS.remove(method)


def test_another_method_signs_by_the_same_path(site_world: SiteWorld, drawer: KeyInTheDrawer) -> None:
    vera = site_world.client_for("vera")
    address = prepared(vera, decision="approve")
    page = vera.get(address).text
    assert "Sign with key in the drawer" in page
    assert "data-passkey" not in page
    answer = vera.submit(address)
    assert answer.headers["location"].startswith(f"/models/{MODEL}/1/receipt/")
    assert site_world.world.workspace.read().all(SignOff)[-1].record.strength == "S3"
    assert vera.submit(address).status_code == 409


def test_with_several_keys_the_strongest_comes_first_and_one_can_choose(
    site_world: SiteWorld, drawer: KeyInTheDrawer
) -> None:
    passkey = site_world.passkey("vera").public.key_id
    vera = site_world.client_for("vera")
    page = vera.get(SIGN).text
    assert page.index(f'value="{passkey}"') < page.index(f'value="{drawer.key.key_id}"')
    assert "data-passkey" in vera.get(prepared(vera, decision="approve")).text
    assert "data-passkey" not in vera.get(prepared(vera, decision="approve", key=drawer.key.key_id)).text
    assert vera.submit(SIGN, decision="approve", key="0" * 16).status_code == 422


def test_the_least_strength_of_a_stage_is_said_before_and_holds(site_world: SiteWorld, drawer: KeyInTheDrawer) -> None:
    value = yaml.safe_load(DEFAULT_POLICY_YAML)
    value["stages"]["validation"]["min_strength"] = "S4"
    world = site_world.world
    adopt_policy(world.workspace, parse_policy(value), "passkeys", [world.key("ada"), world.key("finn")])
    vera = site_world.client_for("vera")
    assert "It needs a key of strength S4; you have none here." in vera.get(SIGN).text
    answer = vera.submit(SIGN, decision="approve", stage="validation")
    assert answer.status_code == 422
    assert "needs a signature of strength S4; this one has S3" in html.unescape(answer.text)
    site_world.passkey("vera")
    assert "It needs a key of strength S4" not in vera.get(SIGN).text
    prepared(vera, decision="approve", stage="validation")
