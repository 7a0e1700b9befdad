"""Records about single sign-on: an issuer's archived keys, which of its groups give which roles, what a person's groups gave.

None of them gives anybody a role: roles stand in enrolments; groups can only narrow them.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar

from pydantic import Field

from cognify_dagster.records.base import Digest, Hex64, Part, PersonId, Record, register
from cognify_dagster.records.governance import Envelope

Issuer = Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=500)]
Role = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
Group = Annotated[str, Field(min_length=1, max_length=200)]


def issuer_subject(issuer: str) -> str:
    """Return the ledger subject of an issuer: `issuer/` and 32 hex digits of the SHA-256 of its URL."""
    return "issuer/" + hashlib.sha256(issuer.encode()).hexdigest()[:32]


class IssuerKey(Part):
    """A public key of an issuer: the members of its JWK (RFC 7517) that verifying needs."""

    kty: str = Field(pattern=r"^(RSA|EC|OKP)$")
    kid: str = Field(default="", max_length=500)
    alg: str = Field(default="", max_length=20)
    crv: str = Field(default="", max_length=20)
    n: str = Field(default="", max_length=2000)
    e: str = Field(default="", max_length=20)
    x: str = Field(default="", max_length=100)
    y: str = Field(default="", max_length=100)


@register
class IssuerKeysArchived(Record):
    """The keys with which an issuer signs, as the site found them. Issuers replace keys; what they signed stays provable."""

    kind: ClassVar[str] = "issuer_keys_archived"
    issuer: Issuer
    keys: tuple[IssuerKey, ...] = Field(min_length=1, max_length=50)
    digest: Digest = Field(description="SHA-256 of the keys' canonical JSON, sorted")

    def subjects(self) -> tuple[str, ...]:
        return (issuer_subject(self.issuer),)


@register
class GroupsMapped(Record):
    """Which groups of an issuer stand for which roles; two workspace admins sign it. The newest one counts."""

    kind: ClassVar[str] = "groups_mapped"
    issuer: Issuer
    claim: str = Field(min_length=1, max_length=100, description="the claim of the ID token that lists the groups")
    groups: dict[Group, tuple[Role, ...]] = Field(max_length=500)
    reason: str = Field(min_length=1, max_length=1000)
    signers: tuple[PersonId, ...]
    envelopes: tuple[Envelope, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return (issuer_subject(self.issuer), *sorted(set(self.signers)))


@register
class GroupsClaimed(Record):
    """A person signed in, and their groups stand for other roles than the last time."""

    kind: ClassVar[str] = "groups_claimed"
    person: PersonId
    issuer: Issuer
    roles: tuple[Role, ...] = Field(description="the roles that their groups stand for, sorted")
    mapping_seq: int = Field(ge=1, description="the entry of the mapping that says so")
    token_digest: Hex64 = Field(description="SHA-256 of the ID token, which is not kept")

    def facts(self) -> dict[str, Any]:
        """Return the facts with roles sorted, so that their order is nobody's news."""
        return {**super().facts(), "roles": sorted(set(self.roles))}

    def subjects(self) -> tuple[str, ...]:
        return (self.person,)
