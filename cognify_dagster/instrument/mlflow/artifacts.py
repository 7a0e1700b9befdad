"""Downloads what an MLflow run left, hashes it, and finds the model in it.

Invariants: only names that the store lists are taken, each of them checked to stay inside our own folder; what the client adds by
itself while downloading is dropped; links are refused; count and size are bounded before anything is downloaded.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.mlflow.store import MlflowStore
from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.training import FilesDigest, digest_files, sha256_file

MAX_FILES = 50_000
MAX_BYTES = 50 * 1024**3
MAX_ATTACHED = 16 * 1024 * 1024
MAX_ATTACHED_FILES = 200
_TYPES = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


@dataclass(frozen=True)
class ModelPlace:
    """Where a run's model is in MLflow: as a logged model (`model_id`), or among the run's artifacts (`path`)."""

    name: str
    model_id: str = ""
    path: str = ""


@dataclass(frozen=True)
class Downloaded:
    """A run's files on this machine. `artifacts` and `model_files` are (path, size, SHA-256) as JSON rows."""

    folder: Path
    artifacts: tuple[dict[str, Any], ...]
    place: ModelPlace | None
    model: Path | None
    digest: FilesDigest | None

    @property
    def model_row(self) -> dict[str, Any] | None:
        """The model as it stands in a state."""
        if self.place is None or self.digest is None:
            return None
        files = [{"path": one.path, "size": one.size, "sha256": one.sha256} for one in self.digest.files]
        return {
            "name": self.place.name,
            "id": self.place.model_id,
            "path": self.place.path,
            "kind": self.digest.kind,
            "sha256": self.digest.sha256,
            "files": files,
        }

    def attachable(self) -> tuple[list[tuple[str, Path, str]], list[str]]:
        """Return the artifacts that are kept whole (name, file, media type), and notes on those that only leave their digest."""
        found: dict[str, tuple[str, Path, str]] = {}
        left = 0
        for row in self.artifacts:
            path = self.folder / "artifacts" / row["path"]
            name = re.sub(r"[^A-Za-z0-9._-]", "_", str(row["path"]).replace("/", "__"))[-120:].lstrip("._-")
            if (
                row["size"] > MAX_ATTACHED
                or not row["size"]
                or not name
                or name in found
                or len(found) >= MAX_ATTACHED_FILES
            ):
                left += 1
                continue
            found[name] = (name, path, _TYPES.get(path.suffix.lower(), "application/octet-stream"))
        notes = (
            [f"{left} artifacts (empty, larger than 16 MiB, or too many) are recorded by their digest only"]
            if left
            else []
        )
        return list(found.values()), notes


def find_model(store: MlflowStore, state: Mapping[str, Any], wanted: str = "") -> ModelPlace | None:
    """Return the run's model, None where it logged none.

    Args:
        store: where the run is.
        state: its state.
        wanted: name or id of a logged model, or the path of an artifact; needed where there are several.

    Raises:
        TrackerError: if there are several and none is named, or the named one is not there.
    """
    run_id, logged = str(state["run"]["id"]), list(state["models"])
    if wanted:
        named = [one for one in logged if wanted in (one["id"], one["name"])]
        if len(named) == 1:
            return ModelPlace(named[0]["name"], model_id=named[0]["id"])
        if named:
            raise TrackerError(f"run {run_id} logged {wanted} {len(named)} times; name one by its id: {_ids(named)}")
        path = _confined(wanted.strip("/"), run_id)
        if _below(store, run_id, path) or any(item.path == path for item in _listed(store, run_id, _parent(path))):
            return ModelPlace(path.rpartition("/")[2], path=path)
        raise TrackerError(f"run {run_id} has no model and no artifact {wanted!r}")
    if len(logged) == 1:
        return ModelPlace(logged[0]["name"], model_id=logged[0]["id"])
    if logged:
        raise TrackerError(f"run {run_id} logged {len(logged)} models; name one (--artifact): {_ids(logged)}")
    folders = [_parent(item.path) for item in _walk(store, run_id, "") if item.path.rpartition("/")[2] == "MLmodel"]
    if len(folders) > 1:
        raise TrackerError(
            f"run {run_id} logged {len(folders)} models; name one (--artifact): {', '.join(sorted(folders))}"
        )
    return ModelPlace(folders[0].rpartition("/")[2] or "model", path=folders[0]) if folders else None


def _ids(models: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']} ({one['id']})" for one in models[:20])


def download(store: MlflowStore, run_id: str, place: ModelPlace | None, folder: Path) -> Downloaded:
    """Download a run's artifacts and its model into an empty folder of the caller, and hash them.

    Raises:
        TrackerError: if a name leads out of the folder, or there is more than a record can name.
        TrackerUnreachable: if the store does not give what it lists.
    """
    from mlflow.artifacts import download_artifacts

    listed = _walk(store, run_id, "")
    inside = f"{place.path}/" if place is not None and place.path else None
    model_listed: list[Any] = []
    if place is not None and place.model_id:
        model_listed = _walk_model(store, place.model_id)
        if not model_listed:
            raise TrackerError(f"model {place.model_id} of run {run_id} holds no file")
    _bound(run_id, [*listed, *model_listed])
    target = folder / "artifacts"
    if listed:
        store.ask(
            f"download the artifacts of run {run_id}",
            lambda: download_artifacts(run_id=run_id, dst_path=str(folder / "got"), tracking_uri=store.uri),
        )
        _keep(folder / "got", target, [item.path for item in listed])
    rows = [_row(target, item.path) for item in listed]
    if place is None:
        return Downloaded(folder, tuple(rows), None, None, None)
    if place.model_id:
        # its own location, since MLflow looks a models:/ address up in the store that the process is set to
        location = store.ask(
            f"find model {place.model_id}", lambda: str(store.client.get_logged_model(place.model_id).artifact_location)
        )
        store.ask(
            f"download model {place.model_id}",
            lambda: download_artifacts(
                artifact_uri=location, dst_path=str(folder / "gotmodel"), tracking_uri=store.uri
            ),
        )
        _flatten(folder / "gotmodel", location)
        model = folder / "model" / _name(place.name)
        _keep(folder / "gotmodel", model, [item.path for item in model_listed])
    else:
        model = target / place.path
        rows = [row for row in rows if row["path"] != place.path and not str(row["path"]).startswith(str(inside))]
    return Downloaded(folder, tuple(rows), place, model, digest_files(model))


def _name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).strip("._") or "model"


def _keep(source: Path, target: Path, names: Sequence[str]) -> None:
    """Move the listed files out of a download, and drop the rest."""
    target.mkdir(parents=True)
    for name in names:
        found = source / name
        if found.is_symlink() or not found.is_file():
            raise TrackerError(f"{name}: MLflow lists this artifact and does not give it as a plain file")
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(found, place)
    shutil.rmtree(source, ignore_errors=True)


def _flatten(folder: Path, location: str) -> None:
    """Some artifact stores put what they download below a folder of the location's own name."""
    inner = folder / location.rstrip("/").rpartition("/")[2]
    if inner.is_dir() and [item.name for item in folder.iterdir()] == [inner.name]:
        moved = folder.with_name(folder.name + "-inner")
        inner.rename(moved)
        shutil.rmtree(folder)
        moved.rename(folder)


def _row(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return {"path": name, "size": path.stat().st_size, "sha256": sha256_file(path)}


def _bound(run_id: str, listed: Sequence[Any]) -> None:
    size = sum(int(item.file_size or 0) for item in listed)
    if len(listed) > MAX_FILES or size > MAX_BYTES:
        raise TrackerError(f"run {run_id} left {len(listed)} files with {size} bytes, more than a record is made for")


def _walk(store: MlflowStore, run_id: str, path: str) -> list[Any]:
    return _files(lambda below: _listed(store, run_id, below), path, run_id)


def _below(store: MlflowStore, run_id: str, path: str) -> bool:
    return bool(_listed(store, run_id, path))


def _listed(store: MlflowStore, run_id: str, path: str) -> list[Any]:
    return store.ask(
        f"list the artifacts of run {run_id}", lambda: list(store.client.list_artifacts(run_id, path or None))
    )


def _walk_model(store: MlflowStore, model_id: str) -> list[Any]:
    def listed(path: str) -> list[Any]:
        return store.ask(
            f"list the files of model {model_id}",
            lambda: list(store.client.list_logged_model_artifacts(model_id, path or None)),
        )

    return _files(listed, "", model_id)


def _files(listed: Any, start: str, where: str) -> list[Any]:
    found: dict[str, Any] = {}
    pending, seen = [start], set()
    while pending:
        folder = pending.pop()
        if folder in seen:
            continue
        seen.add(folder)
        for item in listed(folder):
            path = _confined(item.path, where)
            if path == folder:
                continue
            if item.is_dir:
                pending.append(path)
            else:
                found[path] = item
        if len(found) + len(seen) > MAX_FILES:
            raise TrackerError(f"{where} left more than {MAX_FILES} files")
    return [found[path] for path in sorted(found)]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _confined(path: str, where: str) -> str:
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts) or ":" in parts[0]:
        raise TrackerError(f"{where}: {path[:200]!r} is no usable name of an artifact")
    return path
