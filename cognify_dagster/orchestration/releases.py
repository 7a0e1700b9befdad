"""What went live on a target, looked up among new entries only. No Dagster in here."""

from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.records import DeploymentCompleted
from cognify_dagster.workspace import Reading, Recorded


class Releases:
    """The completed deployments of a model to a target that follow from a grant, oldest first. The last one is live.

    It grows with the ledger: `update` reads only what is new.
    """

    def __init__(self, model: str, target: str) -> None:
        self.model, self.target = model, target
        self.done: list[Recorded[DeploymentCompleted]] = []
        self._last: dict[str, int] = {}
        self._places: dict[int, int] = {}
        self._upto = -1

    def update(self, reading: Reading) -> "Releases":
        """Take in what was released since; the last one is what `governance.live` says too."""
        subject = f"release/{self.model}.{self.target}"
        head = reading.view.heads.get(subject, -1)
        if head > self._upto:
            for item in reading.since(DeploymentCompleted, subject, self._upto):
                if grant_of(reading, item) is not None:
                    self._last[item.record.version] = self._places[item.seq] = len(self.done)
                    self.done.append(item)
            self._upto = head
        return self

    def last(self, version: str) -> Recorded[DeploymentCompleted] | None:
        """The newest deployment of a version."""
        place = self._last.get(version)
        return None if place is None else self.done[place]

    def successor(self, item: Recorded[DeploymentCompleted]) -> Recorded[DeploymentCompleted] | None:
        """What went live after it."""
        place = self._places[item.seq] + 1
        return self.done[place] if place < len(self.done) else None
