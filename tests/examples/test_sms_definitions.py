"""The SMS example as Dagster sees it; loading it needs neither torch nor transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg

ROOT = Path(__file__).resolve().parents[2]


def test_the_definitions_load_and_every_asset_says_what_it_is_and_whose() -> None:
    from examples.sms_finetune.definitions import OWNER, defs

    dg.Definitions.validate_loadable(defs)
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert set(specs) == {
        "sms_split",
        "sms_train",
        "sms_holdout",
        "sms_model",
        "sms_eval",
        "sms_spam_package",
        "sms_filter",
    }
    for name, spec in specs.items():
        assert list(spec.owners) == [OWNER], name
        assert spec.description, name
        assert spec.code_version, name


def test_training_waits_for_the_holdout_so_that_leakage_stops_it() -> None:
    from examples.sms_finetune.definitions import defs

    graph = defs.resolve_asset_graph()
    assert dg.AssetKey("sms_holdout") in graph.get(dg.AssetKey("sms_model")).parent_keys
    (check,) = [key for key in graph.asset_check_keys if key.asset_key == dg.AssetKey("sms_holdout")]
    assert check.name == "no_overlap"
    assert graph.get(check).blocking


def test_loading_the_code_location_imports_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; import examples.sms_finetune.definitions, examples.sms_finetune.demo, examples.sms_finetune.service\n"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_demo_founds_nothing_in_a_folder_that_holds_something(tmp_path: Path) -> None:
    from examples.sms_finetune import demo

    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    assert demo.main(["--tiny", "--folder", str(tmp_path)]) == 2
    assert [item.name for item in tmp_path.iterdir()] == ["mine.txt"]
