"""How far a page says the ledger is proven, where a log key was revoked: as `cognify ledger verify` says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.governance import judge_acts, revoke_log_key
from cognify_dagster.ledger import Checkpoint, TrustFile, VerifierKey, read_secret, sign_note
from cognify_dagster.ledger.quorum import cosign, cosigner_key
from cognify_dagster.ledger.verification.verify import Anchored
from cognify_dagster.review.access import verification
from cognify_dagster.review.access.verification import AnchoredHead, Standing, standing
from cognify_dagster.workspace.workspace import log_keys
from tests.review.site_world import SiteWorld

AT = "2026-01-01T00:00:00Z"


@pytest.fixture
def site(founded_site: SiteWorld) -> SiteWorld:
    founded_site.world.workspace.ledger.sign_checkpoint()
    return founded_site


def secret(site: SiteWorld) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(read_secret(log_keys(site.world.workspace.config)[0]))


def note(site: SiteWorld, size: int, key: Ed25519PrivateKey | None = None, root: bytes | None = None) -> str:
    """A head of the first entries, signed by the log key or another."""
    origin = site.world.workspace.origin
    head = Checkpoint(origin, size, root or site.world.workspace.ledger.root(size))
    return sign_note(head.text(), origin, key or secret(site))


def revoke(site: SiteWorld, size: int) -> None:
    world, signer = site.world, site.world.workspace.ledger.signer
    assert signer is not None
    admins = [world.key("ada"), world.key("finn")]
    revoke_log_key(
        world.workspace, str(signer.verifier), last_good_size=size, reason="the key was copied", signers=admins
    )


def keep(site: SiteWorld, signed: str, size: int) -> None:
    site.world.workspace.ledger.store.add_checkpoint(size, signed)


def trusting(site: SiteWorld, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Change the workspace's trust file."""
    trust = TrustFile(**{**site.world.workspace.trust().__dict__, **changes})  # type: ignore[arg-type]
    monkeypatch.setattr(site.world.workspace, "trust", lambda: trust)


def judged(site: SiteWorld, *anchors: str) -> Standing:
    """The standing on the page, which is the level of a verification of the same ledger with the same places outside."""
    site.site.state["ledger-anchored"] = tuple(AnchoredHead(item, AT, "vault") for item in anchors)
    found = standing(site.site, site.site.read())
    heads = [Anchored("vault", verification._head_of(item), AT) for item in anchors]
    report = site.world.workspace.ledger.verify(
        site.world.workspace.trust(), acts=judge_acts, anchored=heads, remembered=[("vault", item) for item in anchors]
    )
    assert found.level == (report.level or "none"), (found, report)
    return found


def test_before_anything_is_revoked_the_head_counts(site: SiteWorld) -> None:
    found = judged(site)
    assert (found.level, found.uncovered) == ("L1", 0)


def test_heads_of_a_revoked_key_count_for_nothing(site: SiteWorld) -> None:
    revoke(site, 3)
    found = judged(site)
    assert (found.level, found.covered) == ("L0", 0)
    assert "revoked" in found.problem
    assert "revoked" in site.client_for("vera").get("/ledger").text


def test_also_those_of_before_the_revocation_where_nobody_outside_remembers_them(site: SiteWorld) -> None:
    keep(site, note(site, 3), 3)
    revoke(site, 3)
    assert judged(site).level == "L0"


def test_a_head_up_to_the_last_good_size_counts_where_a_place_outside_remembers_it(site: SiteWorld) -> None:
    good, late = note(site, 3), note(site, 5)
    revoke(site, 4)
    found = judged(site, good)
    assert (found.level, found.covered, found.anchored_at, found.anchors) == ("L3", 3, AT, ("vault",))
    assert judged(site, late).level == "L0", "beyond the last good size"
    assert judged(site, late, good).covered == 3


def test_a_note_that_no_log_key_signed_gets_no_time(site: SiteWorld) -> None:
    site.world.snapshot("newer")
    forged = note(site, site.site.read().size, Ed25519PrivateKey.generate())
    site.site.state["ledger-anchored"] = (AnchoredHead(forged, AT, "vault"),)
    assert standing(site.site, site.site.read()).level == "L1"


def test_a_head_that_witnesses_cosigned_counts_up_to_the_last_good_size(
    site: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Ed25519PrivateKey.generate()
    witnesses = (("w", cosigner_key("w.example", witness)),)
    trusting(site, monkeypatch, witnesses=witnesses, groups=(), quorum="w")
    signed = note(site, 3)
    text = signed.partition("\n\n")[0] + "\n"
    keep(site, signed + cosign(text, "w.example", witness, 1_790_000_000), 3)
    assert judged(site).level == "L2"
    revoke(site, 3)
    found = judged(site)
    assert (found.level, found.covered, found.cosigners) == ("L2", 3, ("w",))
    revoke(site, 2)
    assert judged(site).level == "L0"


def test_the_key_after_it_carries_the_level(site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    revoke(site, 3)
    fresh = Ed25519PrivateKey.generate()
    key = VerifierKey(site.world.workspace.origin, fresh.public_key().public_bytes_raw())
    trusting(site, monkeypatch, logs=(*site.world.workspace.trust().logs, key))
    assert judged(site).level == "L0"
    size = site.site.read().size
    keep(site, note(site, size, fresh), size)
    found = judged(site)
    assert (found.level, found.covered) == ("L1", size)
    for place in range(30):  # whoever copied the key signs on: their heads count for nothing, and hide none that does
        site.world.enrol(f"newcomer-{place}")
        young = site.site.read().size
        keep(site, note(site, young), young)
    assert (judged(site).level, judged(site).covered) == ("L1", size)


def test_a_revocation_that_two_admins_did_not_sign_takes_nothing_away(site: SiteWorld) -> None:
    from cognify_dagster.records import LogKeyRevoked

    signer = site.world.workspace.ledger.signer
    assert signer is not None
    site.world.write(LogKeyRevoked(vkey=str(signer.verifier), last_good_size=1, reason="x", approvers=("person/ada",)))
    assert judged(site).level == "L1"


def test_a_head_that_contradicts_the_entries_is_said_also_of_a_revoked_key(site: SiteWorld) -> None:
    revoke(site, 3)
    keep(site, note(site, 4, root=b"\x07" * 32), 4)
    assert judged(site).level == "none"


def test_the_job_keeps_the_note_of_what_an_anchor_vouches_for(
    site: SiteWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from cognify_dagster.workspace.anchoring import put
    from cognify_dagster.workspace.config import AnchorConfig

    folder = tmp_path / "vault"
    folder.mkdir()
    anchor = AnchorConfig(name="vault", kind="folder", options={"path": str(folder), "write_once": True})
    monkeypatch.setattr(site.world.workspace, "config", replace(site.world.workspace.config, anchors=(anchor,)))
    signed = site.world.workspace.ledger.latest_checkpoint()
    assert signed is not None
    put(site.world.workspace.config, anchor, signed)
    verification.ask_anchors(site.site)
    (kept,) = site.site.state["ledger-anchored"]
    assert (kept.note, kept.place) == (signed, "vault")
    assert standing(site.site, site.site.read()).level == "L3"
