"""Finds the files that a fine-tuned model was loaded from, digests them, and reads their licence from the model card beside them.

Invariants: nothing is fetched; in the Hub's cache links are followed only to files of the same repository; the digest is over the
bytes, as for any other model folder, so a base model that is itself governed has the digest of its own record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.training import FileDigest, FilesDigest, TrainingError, digest_files, sha256_file
from cognify_dagster.training.files import MAX_FILES, files_listing

NO_LICENCE = "not stated by its files"
_MAX_CARD_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class BaseModel:
    """Where a base model lies and what its files say.

    Attributes:
        name: repository id, or the folder's name.
        folder: where its files are on this machine.
        digest: of all its files.
        licence: from the model card, or `NO_LICENCE`.
        revision: commit of the repository, where it came from the Hub's cache.
    """

    name: str
    folder: Path
    digest: FilesDigest
    licence: str
    revision: str = ""


def name_of(model: Any) -> tuple[str, str]:
    """Return what the model was loaded from (path or repository id) and its commit; empty where it was made anew."""
    config = getattr(model, "config", None)
    name = getattr(model, "name_or_path", "") or getattr(config, "_name_or_path", "") or ""
    return str(name), str(getattr(config, "_commit_hash", None) or "")


def find_base(name: str, revision: str = "", folder: str | Path | None = None) -> BaseModel | None:
    """Digest the files behind a name.

    Args:
        name: path of a folder, or repository id.
        revision: commit, for a repository in the Hub's cache.
        folder: the folder, where the caller knows it.

    Returns:
        None where the files are not on this machine.

    Raises:
        TrainingError: files that can't be read, or links that lead out of the repository's cache.
    """
    if folder is not None or (name and Path(name).is_dir()):
        where = Path(folder if folder is not None else name).absolute()
        if not where.is_dir():
            raise TrainingError(f"base model: {where} is no folder")
        return BaseModel(where.name, where, digest_files(where), licence_of(where))
    where_cached = _cached(name, revision) if name else None
    if where_cached is None:
        return None
    return BaseModel(name, where_cached, _digest_cached(where_cached), licence_of(where_cached), where_cached.name)


def licence_of(folder: Path) -> str:
    """Return the licence that the card's header (README.md) names, or `NO_LICENCE`."""
    import yaml

    card = folder / "README.md"
    try:
        with card.open("rb") as stream:
            text = stream.read(_MAX_CARD_BYTES).decode("utf-8", "replace")
    except OSError:
        return NO_LICENCE
    header = re.match(r"---\r?\n(.*?)\r?\n---\s*(?:\r?\n|$)", text, re.DOTALL)
    if header is None:
        return NO_LICENCE
    try:
        stated = yaml.safe_load(header.group(1))
    except yaml.YAMLError:
        return NO_LICENCE
    if not isinstance(stated, dict):
        return NO_LICENCE
    licence = stated.get("license")
    if isinstance(licence, list):
        licence = ", ".join(str(item) for item in licence)
    if licence == "other" and stated.get("license_name"):
        licence = stated["license_name"]
    return str(licence).strip()[:200] if licence else NO_LICENCE


def _cached(name: str, revision: str) -> Path | None:
    """The snapshot folder of a repository in the Hub's cache."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    for file in ("config.json", "adapter_config.json"):
        try:
            found = try_to_load_from_cache(name, file, revision=revision or None)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def _digest_cached(folder: Path) -> FilesDigest:
    """The digest of a snapshot folder whose files are links into the repository's blobs."""
    repository = folder.parent.parent.resolve()
    rows: list[FileDigest] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        target = path.resolve()
        if not target.is_relative_to(repository) or not target.is_file():
            raise TrainingError(
                f"base model: {path} leads out of the repository's cache; load the model from a plain folder"
            )
        if len(rows) >= MAX_FILES:
            raise TrainingError(f"base model: {folder} holds more than {MAX_FILES} files")
        rows.append(FileDigest(path.relative_to(folder).as_posix(), target.stat().st_size, sha256_file(target)))
    if not rows:
        raise TrainingError(f"base model: {folder} holds no file")
    rows.sort(key=lambda item: item.path.encode())
    import hashlib

    total = hashlib.sha256(files_listing(rows)).hexdigest()
    return FilesDigest("folder", folder.name, tuple(rows), sum(item.size for item in rows), total)
