"""The whole journey in a real browser: the first set-up, passkeys that people vouch for, a rejection, a new revision, an approval with
conditions, the other stages, the release in a real Dagster instance, and a withdrawal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
from playwright.sync_api import Browser, expect

from cognify_dagster.governance import directory
from cognify_dagster.records import DeploymentCompleted, PersonEnrolled, SignOff
from tests.browser.addresses import WALKED
from tests.browser.chromium import Someone
from tests.browser.prepared import FIRST, MODEL, at_desk
from tests.browser.served import Served, serve
from tests.browser.walking import accept_invitation, decide_on, key_id, seen, sign_act, sign_in
from tests.orchestration import project
from tests.orchestration.desk import Ran
from tests.orchestration.stock import Stock
from tests.orchestration.test_sections import with_texts


@pytest.fixture(scope="module")
def stock(built: Stock, tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """A workspace of this module's own, where v1 waits for its first signature, and the home of its Dagster instance."""
    folder = tmp_path_factory.mktemp("journey")
    assert built.home is not None
    shutil.copytree(built.folder, folder / "project")
    shutil.copytree(built.home, folder / "home")
    return Stock(folder / "project", built.keys, folder / "home")


@pytest.fixture(scope="module")
def journey(stock: Stock, founded: Stock, browser: Browser) -> Iterator[Served]:
    """A site that nobody has an account on yet."""
    for name in ("ada", "finn"):
        shutil.copy(founded.folder.parent / f"{name}.key.json", stock.folder / f"{name}.key.json")
    with serve(stock.folder, stock.keys, browser) as found:
        yield found
        found.close_windows()


def run(stock: Stock, *assets: str, definitions: dg.Definitions | None = None) -> Ran:
    """Run assets of v1 in the Dagster instance, in a thread: playwright's event loop holds this one."""

    def work() -> Ran:
        with at_desk(stock) as desk:
            return desk.run(assets, FIRST, definitions=definitions)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.timeout(600)  # many processes, one after the other
def test_from_the_first_set_up_to_a_release_and_its_withdrawal(journey: Served, stock: Stock) -> None:
    # The founders' accounts: two links that work once, no default password.
    links = re.findall(r"http://localhost:\d+/invite/\S+", journey.cognify("review", "setup"))
    assert len(links) == 2
    ada, finn = journey.visitor(), journey.visitor()
    accept_invitation(ada, links[0])
    accept_invitation(finn, links[1])
    late = journey.visitor()
    late.page.goto(links[0])
    expect(late.page.locator("main")).not_to_contain_text("Register a passkey")

    # Their passkeys sign nothing until two people vouched for them with the keys of the founding.
    ada.page.goto(f"/models/{MODEL}/{FIRST}/sign")
    expect(ada.page.get_by_role("button", name="Go on: read the statement")).to_have_count(0)
    for window, person in ((ada, "person/ada"), (finn, "person/finn")):
        vouched = ("--passkey", key_id(window), "--as", "ada.key.json", "--as", "finn.key.json", "--yes")
        journey.cognify("review", "vouch", person, *vouched)
        assert {key.strength for key in keys(journey, person)} == {"S3", "S4"}, "the other key stays"

    # Ada invites Vera; Vera registers a passkey and asks for vouchers; Ada and Finn sign with theirs on the site.
    people = {name: invited(journey, ada, name) for name in ("vera", "carl", "olga")}
    for name, window in people.items():
        window.page.goto("/account")
        window.page.get_by_role("combobox", name="Second person").select_option("person/finn")
        window.page.get_by_role("combobox", name="Workspace admin").select_option("person/ada")
        window.page.get_by_role("button", name="Ask them to sign").click()
        window.page.wait_for_url("**/acts/*")
        sign_act(ada, window.page.url)
        sign_act(finn, window.page.url)
        assert "S4" in {key.strength for key in keys(journey, f"person/{name}")}
    enrolled = journey.site.read().all(PersonEnrolled)[-1].record
    assert {enrolled.vouched_by, *enrolled.witnesses} == {"person/ada", "person/finn"}

    # Vera rejects v1; it cannot be deployed.
    vera, carl, olga = people["vera"], people["carl"], people["olga"]
    sign_in_again(vera)
    seq = decide_on(vera, FIRST, "reject", comments="The failure modes are too thin.")
    assert recorded(journey, seq).decision == "reject"
    refused = run(stock, project.SERVICE)
    assert not refused.success
    assert "reject" in refused.failure.lower()

    # A new revision of the package, with more said; her rejection was about the other one.
    texts = stock.folder / "texts"
    texts.mkdir()
    (texts / "failure_modes.md").write_text(
        "---\nauthor: person/ben\nai_drafted: false\n---\nBeyond 1,200 it ranks by chance.\n"
    )
    built = run(stock, "tiny_package", definitions=with_texts())
    assert built.success, built.failure
    seq = decide_on(vera, FIRST, "approve_with_conditions", condition="Monitor the mean each month.", due="2027-06-30")
    approval = recorded(journey, seq)
    assert (approval.decision, approval.strength) == ("approve_with_conditions", "S4")
    expect(vera.page.locator("main")).to_contain_text(str(seq))

    # The other stages; each receipt comes with a proof that can be kept.
    decide_on(carl, FIRST, "approve")
    olga_seq = decide_on(olga, FIRST, "approve")
    with olga.page.expect_download() as download:
        olga.page.locator("main a[href*=proof]").first.click()
    assert download.value.path().read_text(encoding="utf-8").startswith("c2sp.org/tlog-proof@")

    # The release, in Dagster, and on the site.
    released = run(stock, project.SERVICE)
    assert released.success, released.failure
    deployed = journey.site.read().all(DeploymentCompleted)
    assert [item.record.version for item in deployed] == [FIRST]
    ada.page.goto(f"/models/{MODEL}")
    expect(ada.page.locator("main")).to_contain_text("live on production")

    # Olga takes her approval back: the version may not be deployed again.
    olga.page.goto(f"/models/{MODEL}/{FIRST}")
    withdrawal = decide_on(olga, FIRST, "withdraw", comments="A complaint came in.")
    assert recorded(journey, withdrawal).decision == "withdraw"
    assert withdrawal > olga_seq
    assert not run(stock, project.SERVICE).success
    report = journey.site.workspace.ledger.verify(journey.site.workspace.trust())
    assert not report.findings
    assert seen == set(WALKED)


def invited(journey: Served, ada: Someone, name: str) -> Someone:
    """Ada invites somebody on their page; they register a passkey."""
    ada.page.goto(f"/people/{name}")
    ada.page.get_by_role("button", name="Make an invitation").click()
    link = ada.page.locator("code.link").inner_text()
    window = journey.visitor()
    accept_invitation(window, link)
    return window


def sign_in_again(window: Someone) -> None:
    """Sign out, and in with the passkey."""
    window.page.get_by_role("button", name="Sign out").click()
    sign_in(window)


def keys(journey: Served, person: str) -> list:  # type: ignore[type-arg]
    """A person's keys that are valid now."""
    reading = journey.site.read()
    return list(directory(reading).valid_keys(person, reading.size).values())


def recorded(journey: Served, seq: int) -> SignOff:
    """The sign-off of an entry."""
    found = journey.site.read().find(SignOff, seq)
    assert found is not None
    return found.record
