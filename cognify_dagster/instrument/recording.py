"""What adapters write to: a `Run` of the SDK or a `TrainingRecorder` of a Dagster asset. Both have these methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from cognify_dagster.training import CodeState


@runtime_checkable
class Recording(Protocol):
    """The writing half of a training record. Every method may be called from any thread, until the record is complete.

    What each one takes and raises stands at `cognify_dagster.training.TrainingRecorder`.
    """

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Record hyperparameters and settings."""

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Add a point to a metric's curve."""

    def log_artifact(self, name: str, content: bytes | str | Path, media_type: str) -> None:
        """Attach a file or bytes."""

    def log_checkpoint(
        self, path: str | Path, *, step: int | None = None, name: str = "", note: str = "", keep: bool = False
    ) -> Any:
        """Record a checkpoint: its files, digests and root."""

    def log_seeds(self, **seeds: int) -> None:
        """Record seeds by library."""

    def log_extra(self, key: str, value: Any) -> None:
        """Record a fact that has no place of its own."""

    def set_architecture(
        self,
        name: str,
        *,
        framework: str,
        framework_version: str,
        parameters: int | None = None,
        **details: Any,
    ) -> None:
        """State what kind of model this is."""

    def set_base_model(
        self,
        name: str,
        *,
        sha256: str,
        licence: str,
        source: str = "",
        parent: tuple[str, str] | None = None,
        **details: Any,
    ) -> None:
        """State which model this one was made from; `parent` is model key and version where that was a governed run."""

    def set_feature_code(self, code: str | Path | CodeState) -> None:
        """State the feature pipeline's code, where it is another."""

    def set_compute(
        self,
        *,
        flops: float | None = None,
        flops_method: str = "",
        parameters: int | None = None,
        tokens: int | None = None,
        hardware: str = "",
        device_seconds: float | None = None,
        energy_kwh: float | None = None,
        energy_method: str = "",
    ) -> None:
        """State what the training cost."""

    def set_distributed(
        self,
        *,
        world_size: int,
        backend: str = "",
        strategy: str = "",
        mesh: Mapping[str, Any] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """State over how many processes it ran, and the rows of the shard manifest."""

    def link_external(
        self, system: str, run: str, *, experiment: str = "", uri: str = "", snapshot: bytes | None = None
    ) -> None:
        """Name the same run in another tracking tool."""

    def set_rerun(
        self,
        command: Sequence[str],
        *,
        folder: str = ".",
        tolerances: Mapping[str, float] | None = None,
        same_bytes: bool = False,
    ) -> None:
        """State how to run the training again."""

    def note_selection(self, text: str) -> None:
        """Record why this configuration was chosen."""

    def save_model(self, path: str | Path) -> Path:
        """Register the saved model, a file or a folder."""
