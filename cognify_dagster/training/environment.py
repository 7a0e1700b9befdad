"""What software and hardware a training ran on.

Invariants: no environment variable is recorded, save the image digest that ``COGNIFY_IMAGE_DIGEST`` declares (and only if
it has the form of one); package origins, which can hold credentials, are not recorded; what is absent is said to be
``absent`` (or ``none``, ``undeclared``), never left blank. What cannot change while a process lives (machine, driver) is asked for once; the list of
packages is read again when something was installed on the search path meanwhile.
"""

from __future__ import annotations

import csv
import hashlib
import os
import platform
import re
import sys
import threading
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training._run import run_command
from cognify_dagster.training.lockfiles import LockFile, find_lock_files

ABSENT = "absent"
NOT_IMPORTED = "not imported"
IMAGE_DIGEST_VARIABLE = "COGNIFY_IMAGE_DIGEST"
#: Of a process inside a container whose image's digest nobody declared.
UNDECLARED = "undeclared"
#: Files that Docker and Podman leave in every container.
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")

_IMAGE_DIGEST = re.compile(r"^(?:[a-zA-Z0-9][a-zA-Z0-9._:/-]{0,254}@)?sha256:[0-9a-f]{64}$")
_INSTALLER_NOTES = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"})
_GPU_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")


class Package(BaseModel):
    """An installed distribution.

    Attributes:
        name: Normalised (PEP 503): lower case, ``-`` between words.
        files_sha256: SHA-256 of what its ``RECORD`` lists (see ``record_digest``); empty where there is no such list, as for a
            checkout that was installed in place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    files_sha256: str = ""


class Gpu(BaseModel):
    """A graphics processor as its driver names it. ``memory_mib`` is in MiB, -1 where the driver gives none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory_mib: int


class Environment(BaseModel):
    """The captured environment.

    Attributes:
        lock_sha256: SHA-256 of the lines ``name==version`` of all packages, sorted, each ended by a line feed.
        gpu: ``present``, ``absent``, or ``unreadable`` where the driver's tool is there but fails.
        driver: The driver's version, or ``absent`` / ``unreadable``.
        cuda: The CUDA version that the driver supports, or ``absent`` / ``unreadable``.
        memory_bytes: Main memory in bytes, -1 where the system doesn't say.
        image_digest: The container image's digest as declared by ``COGNIFY_IMAGE_DIGEST``; without it ``undeclared`` where Docker's or
            Podman's mark shows a container, else ``none``.
        torch: Version of PyTorch and of the CUDA and cuDNN that it was built for, if the process had imported it; else
            ``not imported``. It is never imported for this.
        lock_files: The lock files beside the code (see `find_lock_files`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    python_version: str
    python_implementation: str
    os: str
    kernel: str
    machine: str
    cpu: str
    cpu_count: int
    memory_bytes: int
    gpu: Literal["present", "absent", "unreadable"]
    gpus: tuple[Gpu, ...]
    driver: str
    cuda: str
    image_digest: str
    packages: tuple[Package, ...]
    lock_sha256: str
    hostname: str
    torch: dict[str, str] = {"version": NOT_IMPORTED, "cuda": NOT_IMPORTED, "cudnn": NOT_IMPORTED}
    lock_files: tuple[LockFile, ...] = ()

    def requirements(self) -> str:
        """The packages as pip reads them: lines ``name==version``, sorted. Their SHA-256 is ``lock_sha256``."""
        return requirement_lines(self.packages)

    def to_facts(self) -> dict[str, Any]:
        """What has to be equal for the same result: plain JSON, without what differs from host to host."""
        return self.model_dump(mode="json", exclude=set(_OBSERVED))

    def to_observed(self) -> dict[str, Any]:
        """What describes this host only: plain JSON."""
        return self.model_dump(mode="json", include=set(_OBSERVED))


_OBSERVED = ("hostname", "kernel", "cpu", "cpu_count", "memory_bytes")


def requirement_lines(packages: Iterable[Package]) -> str:
    """Lines ``name==version``, sorted, each ended by a line feed."""
    return "".join(sorted(f"{package.name}=={package.version}\n" for package in packages))


def capture_environment(code: str | Path | None = None) -> Environment:
    """Describes the running interpreter and its machine.

    The first call in a process takes 0.2 to 0.4 s with 200 packages, and longer where a graphics driver answers slowly; later ones
    take a millisecond. `prefetch_environment` makes the first one in the background.

    Args:
        code: The folder or file of the training code, beside which lock files are looked for; none are without it.

    Raises:
        TrainingError: ``COGNIFY_IMAGE_DIGEST`` is set to something that is not an image digest.
    """
    packages = _CACHE.packages()
    gpu, gpus, driver, cuda = _CACHE.gpus()
    return Environment(
        python_version=platform.python_version(),
        python_implementation=platform.python_implementation(),
        os=_CACHE.os_name(),
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine() or ABSENT,
        cpu=_CACHE.cpu_name(),
        cpu_count=os.cpu_count() or -1,
        memory_bytes=_memory_bytes(),
        gpu=gpu,
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        image_digest=_image_digest(),
        packages=packages,
        lock_sha256=hashlib.sha256(requirement_lines(packages).encode("utf-8")).hexdigest(),
        hostname=platform.node() or ABSENT,
        torch=_torch(),
        lock_files=find_lock_files(code) if code is not None else (),
    )


def prefetch_environment() -> None:
    """Reads what takes long (packages, driver) in the background, so that capturing the environment later is cheap.

    It returns at once. What can't be read is said by `capture_environment`; only what would make that fail is said here, so that
    no finished training is lost for it.

    Raises:
        TrainingError: ``COGNIFY_IMAGE_DIGEST`` is set to something that is not an image digest.
    """
    _image_digest()
    threading.Thread(target=_CACHE.fill, name="cognify-environment", daemon=True).start()


Gpus = tuple[Literal["present", "absent", "unreadable"], tuple[Gpu, ...], str, str]


class _Cache:
    """What was read in this process before."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._packages: tuple[object, tuple[Package, ...]] | None = None
        self._gpus: tuple[str | None, Gpus] | None = None
        self._os: str | None = None
        self._cpu: str | None = None

    def packages(self) -> tuple[Package, ...]:
        """The packages, read again if a folder of the search path changed: an installation changes the one it goes to."""
        with self._lock:
            state = _search_path()
            if self._packages is None or self._packages[0] != state:
                self._packages = (state, _packages())
            return self._packages[1]

    def gpus(self) -> Gpus:
        with self._lock:
            path = os.environ.get("PATH")
            if self._gpus is None or self._gpus[0] != path:
                self._gpus = (path, _gpus())
            return self._gpus[1]

    def os_name(self) -> str:
        with self._lock:
            self._os = self._os or _os_name()
            return self._os

    def cpu_name(self) -> str:
        with self._lock:
            self._cpu = self._cpu or _cpu_name()
            return self._cpu

    def fill(self) -> None:
        try:
            self.gpus()
            self.packages()
        except Exception:  # capturing says it again, where it is heard
            return

    def after_fork(self) -> None:
        """A thread of the parent may have held the lock; it does not live in the child."""
        self._lock = threading.RLock()


def _search_path() -> object:
    found: list[object] = []
    for name in sys.path:
        try:
            state = os.stat(name or ".")
        except OSError:
            found.append((name, None))
            continue
        found.append((name, state.st_ino, state.st_mtime_ns))
    return tuple(found)


_CACHE = _Cache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CACHE.after_fork)


def _torch() -> dict[str, str]:
    """What PyTorch says of itself, if somebody else imported it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"version": NOT_IMPORTED, "cuda": NOT_IMPORTED, "cudnn": NOT_IMPORTED}
    found = {"version": str(getattr(torch, "__version__", "unreadable"))}
    try:
        found["cuda"] = str(torch.version.cuda or ABSENT)
        found["cudnn"] = str(torch.backends.cudnn.version() or ABSENT)
    except Exception:  # a foreign library may fail in any way, and stops no training
        found = {"cuda": "unreadable", "cudnn": "unreadable", **found}
    return found


def _packages() -> tuple[Package, ...]:
    """What is importable: of two copies of a distribution on the search path, the first one counts."""
    found: dict[str, Package] = {}
    for distribution in metadata.distributions():
        raw = distribution.metadata["Name"] if distribution.metadata else None
        if not raw:
            continue  # remains of an interrupted installation: nothing that could be imported by name
        name = re.sub(r"[-_.]+", "-", raw).lower()
        if name not in found:
            version = distribution.version or "unknown"
            found[name] = Package(name=name, version=version, files_sha256=_files_digest(distribution))
    return tuple(found[name] for name in sorted(found))


def _files_digest(distribution: metadata.Distribution) -> str:
    """Digests the list of files; a list that cannot be read is as good as none, and stops no training."""
    try:
        return record_digest(distribution.read_text("RECORD") or "")
    except (OSError, ValueError, csv.Error):
        return ""


def record_digest(record: str) -> str:
    """Digests what an installed ``RECORD`` (CSV: path, ``sha256=…``, size) says of a distribution's own files.

    The files are as the installer listed them; they are not read again. Left out is what differs from one installation of the same
    wheel to another: scripts outside the package folder (they name the interpreter), bytecode, and the installer's own notes.

    Returns:
        SHA-256 (hex) of the lines ``path,sha256=…``, sorted, each ended by a line feed; empty if no file is listed with a digest.
    """
    lines = []
    for row in csv.reader(record.splitlines()):
        if len(row) < 2 or not row[1] or row[0].startswith(("..", "/")) or row[0].endswith(".pyc"):
            continue
        folder, _, file = row[0].rpartition("/")
        if folder.endswith(".dist-info") and file in _INSTALLER_NOTES:
            continue
        lines.append(f"{row[0]},{row[1]}\n")
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8")).hexdigest() if lines else ""


def _os_name() -> str:
    if sys.platform.startswith("linux"):
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return "Linux (release not stated)"
    return f"{platform.system()} {platform.release()}"


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _memory_bytes() -> int:
    try:
        return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return -1


def _image_digest() -> str:
    value = os.environ.get(IMAGE_DIGEST_VARIABLE, "").strip()
    if not value:
        return UNDECLARED if any(os.path.exists(mark) for mark in CONTAINER_MARKS) else "none"
    if not _IMAGE_DIGEST.match(value):  # the value is not repeated: it may have been set to something secret
        raise TrainingError(
            f"{IMAGE_DIGEST_VARIABLE}: expected 'sha256:' and 64 hex digits, optionally after 'name@'; "
            "set it to the digest that the image was pulled by, or unset it"
        )
    return value


def _gpus() -> Gpus:
    listing = run_command(_GPU_QUERY)
    if listing.problem.endswith("is not installed"):
        return "absent", (), ABSENT, ABSENT
    gpus, driver = parse_gpu_listing(listing.stdout.decode("utf-8", "replace"))
    if listing.problem or not gpus:
        return "unreadable", (), "unreadable", "unreadable"
    summary = run_command(("nvidia-smi",)).stdout.decode("utf-8", "replace")
    version = re.search(r"CUDA Version:\s*([0-9.]+)", summary)
    return "present", gpus, driver, version.group(1) if version else "unreadable"


def parse_gpu_listing(text: str) -> tuple[tuple[Gpu, ...], str]:
    """Reads ``name, memory in MiB, driver version`` lines as nvidia-smi prints them; unreadable lines are left out."""
    gpus: list[Gpu] = []
    driver = "unreadable"
    for line in text.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 2)]
        if len(parts) != 3 or not parts[0]:
            continue
        gpus.append(Gpu(name=parts[0], memory_mib=int(parts[1]) if parts[1].isdigit() else -1))
        driver = parts[2]
    return tuple(gpus), driver
