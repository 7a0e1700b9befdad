"""Records the texts that people keep beside the code, before a package is built from them."""

from collections.abc import Callable
from pathlib import Path

from cognify_dagster.documents.facts.section_files import sync_sections
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.workspace import Workspace


def record_sections(workspace: Workspace, model: str, version: str, folder: str, log: Callable[[str], None]) -> None:
    """Record the Markdown files of a folder as the version's sections; what stands already writes nothing.

    Args:
        workspace: the workspace.
        model: model key.
        version: version id.
        folder: the folder, relative to that of `cognify.toml`; empty for none.
        log: told what was recorded, left out and worth a look.

    Raises:
        UsageError: if there is no such folder inside the project.
        DocumentError: if a file is wrong; none is recorded then, and no package is built without it.
    """
    if not folder:
        return
    project = Path(workspace.config.path).resolve().parent
    path = (project / folder).resolve()
    if not path.is_relative_to(project) or not path.is_dir():
        raise UsageError(
            f"GovernedModel({model!r}, sections={folder!r}): there is no such folder in {project}; it holds one Markdown file a section"
        )
    found = sync_sections(workspace, model, version, path)
    new = [f"{item.section} (revision {item.revision})" for item in found.changes if not item.unchanged]
    if new:
        log(f"recorded the sections {', '.join(new)}")
    for name, why in sorted(found.skipped.items()):
        log(f"section file {name} left out: {why}")
    for note in found.notes:
        log(note)
