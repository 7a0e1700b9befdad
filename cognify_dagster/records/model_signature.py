"""Records about signatures over a model's files in the form that other tools verify."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cognify_dagster.records.base import Digest, Hex64, ModelKey, Record, VersionId, register
from cognify_dagster.records.data import EvidenceItem


@register
class ModelSignature(Record):
    """An OpenSSF model-signing bundle over the files of one sealed model version.

    The bundle is evidence; it lists every file with its SHA-256. It says that whoever holds the key signed these bytes, and nothing
    about approval: sign-offs are entries of their own. `public_key` is what the bundle was verified with when it was recorded; whoever
    relies on it compares the key with one that came another way.
    """

    kind: ClassVar[str] = "model_signature"
    model: ModelKey
    version: VersionId
    training_seq: int = Field(ge=1, description="the sealed run whose files are signed")
    model_digest: Digest = Field(description="the sealed model file, or the list of files of a folder")
    bundle: EvidenceItem
    file_count: int = Field(ge=1)
    public_key: str = Field(max_length=4000, description="PEM, SubjectPublicKeyInfo")
    key_hint: Hex64 = Field(description="SHA-256 of that PEM text, as the bundle names the key")
    algorithm: str = Field(max_length=60, description="such as ecdsa-p256-sha256")
    tool: str = Field(default="", max_length=100, description="what made the bundle, with its version")

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"model/{self.model}@{self.version}")

    def evidence(self) -> tuple[str, ...]:
        return (self.bundle.digest,)
