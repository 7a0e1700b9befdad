"""The wheel carries what the product needs: templates, type marker, console script, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_templates_and_type_marker_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "cognify_dagster/py.typed" in names
    assert "cognify_dagster/__init__.pyi" in names
    assert "cognify_dagster/_templates/frameworks/sr26-2.yaml" in names
    assert any(name.startswith("cognify_dagster/_templates/documents/") for name in names)
    assert any(name.startswith("cognify_dagster/_templates/schemas/") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]


def test_a_template_is_used_from_an_installed_wheel_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """Dependencies come from this environment by path; the package itself only from the wheel."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True, symlinks=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((home / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    code = (
        "import cognify_dagster, cognify_dagster.documents as d;"
        "from cognify_dagster.documents.frameworks.loading import template_root, load_framework;"
        "print(cognify_dagster.__file__); print(template_root()); print(load_framework('sr26-2').title)"
    )
    result = subprocess.run([python, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    package, root, title = result.stdout.splitlines()
    assert package.startswith(str(home))
    assert root.startswith(str(home))
    assert "SR 26-2" in title
    script = subprocess.run(
        [home / "bin" / "cognify", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert script.returncode == 0, script.stderr
    assert "ledger" in script.stdout


def test_constraints_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    for line in pins:
        assert "==" in line.split(";")[0], f"not an exact pin: {line}"
        assert "://" not in line
        assert not line.startswith("-")
