"""A small scoring service that runs the live release, and nothing else.

Invariants:

* Which model is live is asked of the ledger, through a function given by the caller, before every score. Nothing in the
  service's own folder decides it: ``release.json`` is shown, never trusted.
* A model file is loaded only after its SHA-256 equalled the live digest, and the bytes loaded are those that were hashed.
* Installing puts the model under its digest as its name, then replaces ``release.json`` in one step; a crash in between
  leaves the former release whole.
* The HTTP server listens on 127.0.0.1 only, takes requests of bounded size, and answers no other host name.

Try it::

    python -m examples.credit_default.scoring --dir DIR --score record.json
    python -m examples.credit_default.scoring --dir DIR --serve 8123
"""

from __future__ import annotations

import argparse
import hmac
import importlib
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from examples.credit_default.cleaning import COLUMNS, LABEL
from examples.credit_default.model import (
    CreditModel,
    ModelFileError,
    load_verified_bytes,
    normal_digest,
    read_verified,
    write_atomically,
)

#: Returns the live release's model digest (64 hex digits, ``sha256:`` before them or not); None where nothing is live.
#: A LookupError means the same as None.
LiveDigestProvider = Callable[[], "str | None"]

#: Reads the ledger of the workspace in the current folder.
DEFAULT_PROVIDER = "examples.credit_default.live:live_digest"

RELEASE_FILE = "release.json"
MODELS_FOLDER = "models"
MAX_REQUEST_BYTES = 64 * 1024
_MAX_RELEASE_BYTES = 1_000_000


class RefusedModel(RuntimeError):
    """The service has no model that it may run; the message says why and what to do."""


class ScoreRequestError(ValueError):
    """A record to score is not usable; the message names the field."""


@dataclass(frozen=True)
class Score:
    """The answer to one record.

    Attributes:
        probability_of_default: Between 0 and 1.
        decision: ``granted`` or ``declined``.
        threshold: Probabilities of at least this are declined.
        model_sha256: Digest of the model that scored.
        release: What ``release.json`` says about this very model; empty where it is about another one.
        not_used: Fields of the record that the model does not take.
    """

    probability_of_default: float
    decision: str
    threshold: float
    model_sha256: str
    release: dict[str, Any]
    not_used: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**self.__dict__, "not_used": list(self.not_used)}


def model_file(target_dir: str | Path, digest: str) -> Path:
    """Where a model of this digest lies in the service's folder."""
    return Path(target_dir) / MODELS_FOLDER / f"{normal_digest(digest)}.joblib"


def install(model_path: str | Path, digest: str, release_info: Mapping[str, Any], target_dir: str | Path) -> Path:
    """Puts a released model where the service picks it up. Doing it again changes nothing.

    Args:
        model_path: The model file.
        digest: The released digest; the file must have it.
        release_info: What to show about the release (model, version, release entry, …): JSON values.
        target_dir: The service's folder; made if it is missing.

    Returns:
        The installed file's path.

    Raises:
        RefusedModel: the file is missing or has another digest; nothing is changed.
        ValueError: ``release_info`` has no JSON form.
    """
    plain = _digest(digest)
    try:
        data = read_verified(model_path, plain)
    except ModelFileError as error:
        raise RefusedModel(f"not installed: {error}") from None
    text = json.dumps({**release_info, "model_sha256": plain}, indent=2, sort_keys=True, allow_nan=False)
    target = model_file(target_dir, plain)
    write_atomically(target, data)
    write_atomically(Path(target_dir) / RELEASE_FILE, (text + "\n").encode("utf-8"))
    return target


def _digest(digest: str) -> str:
    try:
        return normal_digest(digest)
    except ModelFileError as error:
        raise RefusedModel(str(error)) from None


class ScoringService:
    """Scores records with the live release. Safe to use from several threads."""

    def __init__(self, target_dir: str | Path, live_digest_provider: LiveDigestProvider) -> None:
        """Opens the folder and loads the live model.

        Args:
            target_dir: The folder that `install` writes to.
            live_digest_provider: Asked before every score; reads the ledger.

        Raises:
            RefusedModel: nothing is live, the live release is not installed, or its file has another digest.
        """
        self._dir = Path(target_dir)
        self._provider = live_digest_provider
        self._lock = threading.Lock()
        self._loaded: tuple[str, CreditModel] | None = None
        self._live_model()

    @property
    def live_digest(self) -> str:
        """The live release's digest, asked anew.

        Raises:
            RefusedModel: nothing is live, or the ledger can't be asked.
        """
        try:
            live = self._provider()
        except LookupError as error:
            raise RefusedModel(f"{error}; nothing may be scored until a release is approved and deployed") from error
        except Exception as error:  # whatever fails there, the service must not score
            raise RefusedModel(
                f"the live release can't be read ({type(error).__name__}: {error}); check the ledger with 'cognify doctor'"
            ) from error
        if live is None:
            raise RefusedModel("no release is live; nothing may be scored until one is approved and deployed")
        return _digest(live)

    def _live_model(self) -> tuple[str, CreditModel]:
        live = self.live_digest
        with self._lock:
            if self._loaded is None or not hmac.compare_digest(self._loaded[0], live):
                self._loaded = None  # a former release must not go on scoring when the live one can't be loaded
                self._loaded = (live, self._load(live))
            return self._loaded

    def _load(self, live: str) -> CreditModel:
        path = model_file(self._dir, live)
        if not path.exists():
            raise RefusedModel(
                f"the live release's model {live[:12]}… is not installed in {self._dir}{self._installed()}; "
                "run the deployment of the approved version"
            )
        try:
            return load_verified_bytes(read_verified(path, live), name=str(path))
        except ModelFileError as error:
            raise RefusedModel(
                f"{error}. Deploy the approved version again, and find out who changed the file"
            ) from None

    def _installed(self) -> str:
        shown = str(self.release_info().get("model_sha256", ""))[:12]
        return f" ({RELEASE_FILE} names {shown}…)" if shown else ""

    def release_info(self) -> dict[str, Any]:
        """What ``release.json`` says: for display only. Empty where it is missing or unreadable."""
        try:
            with (self._dir / RELEASE_FILE).open("rb") as stream:
                content = json.loads(stream.read(_MAX_RELEASE_BYTES))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def score(self, record: Mapping[str, Any]) -> Score:
        """Scores one record.

        Args:
            record: Column names of the data and whole numbers. Columns that are no features are ignored, and listed.

        Raises:
            ScoreRequestError: a feature is missing or not a number, or a field is unknown.
            RefusedModel: see `ScoringService`.
        """
        import pandas as pd

        digest, model = self._live_model()
        row = _check_record(record, model.features)
        probability = float(model.predict_default(pd.DataFrame([row]))[0])
        info = self.release_info()
        return Score(
            probability_of_default=probability,
            decision="declined" if probability >= model.threshold else "granted",
            threshold=model.threshold,
            model_sha256=digest,
            release=info if info.get("model_sha256") == digest else {},
            not_used=tuple(sorted(name for name in record if name not in model.features)),
        )


def _check_record(record: Any, features: Sequence[str]) -> dict[str, float]:
    if not isinstance(record, Mapping):
        raise ScoreRequestError(f"expected an object with the fields {', '.join(features)}")
    unknown = sorted(str(name) for name in record if name not in COLUMNS or name == LABEL)
    if unknown:
        raise ScoreRequestError(
            f"{unknown[0]}: unknown field; the known ones are the columns of the data, without the label"
        )
    row = {}
    for name in features:
        value = record.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise ScoreRequestError(f"{name}: {'is required' if name not in record else 'expected a finite number'}")
        row[name] = float(value)
    return row


def _strict_json(raw: bytes) -> Any:
    def refuse(text: str) -> Any:
        raise ScoreRequestError(f"{text} is not a number in JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ScoreRequestError(f"{name}: given twice")
            found[name] = value
        return found

    try:
        return json.loads(raw.decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique)
    except ScoreRequestError:
        raise
    except (ValueError, RecursionError) as error:
        raise ScoreRequestError(f"the request is not JSON in UTF-8 ({error})") from None


def make_server(service: ScoringService, port: int) -> ThreadingHTTPServer:
    """An HTTP server on 127.0.0.1: ``POST /score`` with one record as JSON, ``GET /health``. Port 0: any free one."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30
        server_version = "credit-default-scoring"
        sys_version = ""

        def do_GET(self) -> None:
            if not self._local():
                return
            if self.path != "/health":
                self._answer(404, {"error": "not found; POST /score or GET /health"})
                return
            try:
                self._answer(200, {"status": "serving", "model_sha256": service._live_model()[0]})
            except RefusedModel as error:
                self._answer(503, {"status": "refused", "error": str(error)})

        def do_POST(self) -> None:
            if not self._local():
                return
            if self.path != "/score":
                self._answer(404, {"error": "not found; POST /score or GET /health"})
                return
            if self.headers.get_content_type() != "application/json":
                self._answer(415, {"error": "send the record as application/json"})
                return
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
                self.close_connection = True
                self._answer(
                    413, {"error": f"a record has at most {MAX_REQUEST_BYTES} bytes, with their number stated"}
                )
                return
            try:
                score = service.score(_strict_json(self.rfile.read(int(length))))
            except ScoreRequestError as error:
                self._answer(422, {"error": str(error)})
            except RefusedModel as error:
                self._answer(503, {"status": "refused", "error": str(error)})
            else:
                self._answer(200, score.to_json())

        def _local(self) -> bool:
            # Another host name means that a web page somewhere made a browser here send the request.
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            if host in ("127.0.0.1", "localhost"):
                return True
            self._answer(403, {"error": "this service answers to 127.0.0.1 only"})
            return False

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            data = (json.dumps(content, allow_nan=False) + "\n").encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps requests out of the terminal: they are about people."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def _provider(arguments: argparse.Namespace) -> LiveDigestProvider:
    if arguments.live_digest is not None:
        digest: str = arguments.live_digest
        return lambda: digest
    module_name, _, function = arguments.provider.partition(":")
    try:
        found: LiveDigestProvider = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise RefusedModel(
            f"--provider {arguments.provider}: can't be used ({error}); give MODULE:FUNCTION, a function without arguments "
            "that returns the live release's model digest, or give --live-digest"
        ) from None
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 0 for a score, 1 where the model is refused, 2 for unusable input."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.credit_default.scoring", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--dir", required=True, type=Path, help="the folder that the deployment installs into")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--provider",
        default=DEFAULT_PROVIDER,
        help=f"MODULE:FUNCTION that reads the live release's model digest from the ledger (default: {DEFAULT_PROVIDER})",
    )
    source.add_argument(
        "--live-digest", help="the live release's model digest, as you read it from the ledger yourself"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--score", type=Path, metavar="RECORD", help="score one record from a JSON file")
    what.add_argument("--serve", type=int, metavar="PORT", help="serve POST /score on 127.0.0.1 (0: any free port)")
    arguments = parser.parse_args(argv)
    try:
        service = ScoringService(arguments.dir, _provider(arguments))
        if arguments.score is not None:
            with arguments.score.open("rb") as stream:
                raw = stream.read(MAX_REQUEST_BYTES)
            print(json.dumps(service.score(_strict_json(raw)).to_json(), indent=2))
            return 0
        server = make_server(service, arguments.serve)
    except RefusedModel as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except (ScoreRequestError, OSError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with server:
        print(f"scoring on http://127.0.0.1:{server.server_address[1]}/score (Ctrl-C stops)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
