"""The tiny project as `tests/browser/test_dagster.py` has Dagster run it: each run in one process, which starts far sooner than one a step."""

import dagster as dg

from tests.orchestration import project

defs = dg.Definitions.merge(project.defs, dg.Definitions(executor=dg.in_process_executor))
