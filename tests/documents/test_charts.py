"""The charts: titled and described, the same bytes again, text never markup, and readable with nothing, one thing or sixty."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents.charts import (
    Bar,
    Measured,
    Moment,
    Node,
    Pair,
    bars,
    calibration,
    limits,
    lineage,
    pairs,
    timeline,
)
from cognify_dagster.documents.pdf import rendering as pdf_module
from cognify_dagster.documents.view.cleaning import screen_text

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</text><script>alert(1)</script>&amp; "quoted" {{ 7*7 }} #read("x") $x$ \u202eevil \x07'
SCRIPTS = "Łódź Κατανομή Оценка Վարկային საკრედიტო الائتمان می\u200cخواهم אשראי जोखिम ความเสี่ยง ✓"
LONG = "a_very_long_name_of_a_group_that_nobody_can_read_in_one_line_" * 20


def names(count: int) -> list[str]:
    return [f"item {n}" for n in range(count)]


def moments(count: int) -> list[Moment]:
    return [
        Moment(f"2026-{1 + n // 28:02d}-{1 + n % 28:02d}T08:00:00Z", f"lane {n % 15}", f"item {n}")
        for n in range(count)
    ]


def chain(count: int) -> tuple[list[Node], list[tuple[str, str]]]:
    return (
        [Node(str(n), "data set", f"item {n}", f"{n:064x}") for n in range(count)],
        [(str(n), str(n + 1)) for n in range(count - 1)],
    )


CHARTS: dict[str, Callable[[list[str]], str]] = {
    "bars": lambda said: bars("T", [Bar(name, 0.5, 0.4, 0.6, name) for name in said], limit=0.4, limit_label="limit"),
    "pairs": lambda said: pairs("T", "before", "after", [Pair(name, 0.25, 0.5) for name in said]),
    "limits": lambda said: limits("T", [Measured(name, 3.5, 3.0, 4.0, "<=", 20.0, name) for name in said]),
    "calibration": lambda said: calibration("T", [(n / 60, n / 60, n / 70, n / 50) for n in range(len(said))]),
    "timeline": lambda said: timeline("T", [Moment("2026-11-21T08:00:00Z", name, name) for name in said]),
    "lineage": lambda said: lineage(
        "T",
        [Node(str(n), name, name, name) for n, name in enumerate(said)],
        [("0", str(n)) for n in range(1, len(said))],
    ),
}


def parsed(svg: str) -> ET.Element:
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def texts(svg: str) -> list[str]:
    return ["".join(item.itertext()) for item in parsed(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", list(CHARTS))
@pytest.mark.parametrize("count", [0, 1, 60])
def test_a_chart_is_titled_described_and_inside_its_frame(kind: str, count: int) -> None:
    root = parsed(CHARTS[kind](names(count)))
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert root[0].text == "T"
    assert root[1].text
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert height <= 1.55 * width or height <= 1100, "it fits a page"
    for item in root.iter():
        for name, end in (
            ("x", width),
            ("x1", width),
            ("x2", width),
            ("cx", width),
            ("y", height),
            ("y1", height),
            ("cy", height),
        ):
            if name in item.attrib:
                assert -1 <= float(item.attrib[name]) <= end + 1, (item.tag, name)
    assert "nan" not in ET.tostring(root, encoding="unicode").lower()


@pytest.mark.parametrize("kind", list(CHARTS))
def test_nothing_to_show_is_said(kind: str) -> None:
    assert texts(CHARTS[kind]([])) == [parsed(CHARTS[kind]([]))[1].text]
    assert texts(CHARTS[kind]([]))[0].startswith("Nothing to show")


@pytest.mark.parametrize("kind", [kind for kind in CHARTS if kind != "calibration"])
def test_text_is_never_markup_and_scripts_stay_as_they_are(kind: str) -> None:
    shown = CHARTS[kind]([HOSTILE, SCRIPTS, LONG])
    root = parsed(shown)
    tags = {item.tag.removeprefix(SVG) for item in root.iter()}
    assert tags <= {"svg", "title", "desc", "text", "line", "rect", "circle", "path"}
    assert "style=" not in shown
    assert "href" not in shown
    for bad in ("\u202e", "\x07"):
        assert bad not in shown
    assert "[U+202E]" in (root[1].text or "")
    assert any("Łódź" in text for text in texts(shown))
    assert all(len(text) < 130 for text in texts(shown)), "a long name is cut with …"
    assert any(text.endswith("…") for text in texts(shown))


@pytest.mark.parametrize("kind", list(CHARTS))
def test_what_is_left_out_is_counted(kind: str) -> None:
    shown = " ".join(texts(CHARTS[kind](names(200))))
    said = {
        "bars": "170 more stand in the table only",
        "pairs": "170 more stand in the table only",
        "limits": "176 more stand in the table only",
        "calibration": "observed rate",
        "timeline": "120 earlier entries stand in the table only",
        "lineage": "188 more in the table",
    }
    assert said[kind] in shown


def test_the_same_input_gives_the_same_bytes_in_another_process() -> None:
    program = (
        "import hashlib; from tests.documents.test_charts import CHARTS, names;"
        "print(hashlib.sha256(''.join(draw(names(40)) for draw in CHARTS.values()).encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    here = hashlib.sha256("".join(draw(names(40)) for draw in CHARTS.values()).encode()).hexdigest()
    assert done.stdout.strip() == here


def test_what_cannot_be_measured_is_said_and_never_drawn() -> None:
    shown = bars("T", [Bar("small", None, None, None, "n = 3"), Bar("odd", float("nan"), None, None, "")])
    assert texts(shown).count("too few records to measure") == 2
    assert "not measured" in texts(limits("T", [Measured("m", None, None, None, ">=", 0.5, "missing")]))
    assert "none" in texts(pairs("T", "a", "b", [Pair("x", None, 0.5)]))


def test_a_metric_off_the_scale_of_shares_has_a_scale_of_its_own() -> None:
    shown = texts(
        limits(
            "T",
            [Measured("loss", 3.5, 3.0, 4.0, "<=", 20.0, "pass"), Measured("auc", 0.7, None, None, ">=", 0.6, "pass")],
        )
    )
    assert {"0", "20"} <= set(shown)
    assert any("scale 0 to 1 unless its ends are printed" in text for text in shown)
    assert "1" not in shown


@settings(deadline=None)
@given(
    st.floats(-1e12, 1e12, allow_nan=False),
    st.floats(-1e12, 1e12, allow_nan=False),
    st.sampled_from([">=", "<=", ">", "<"]),
)
def test_every_value_and_limit_stays_in_the_frame(value: float, limit: float, op: str) -> None:
    root = parsed(limits("T", [Measured("m", value, value, value, op, limit, "word")]))
    for item in root.iter(f"{SVG}circle"):
        assert 245 <= float(item.attrib["cx"]) <= 531


@settings(deadline=None)
@given(st.floats(0.001, 1.0))
def test_ticks_of_the_calibration_chart_are_round(peak: float) -> None:
    chart = calibration("C", [(peak, peak, peak, peak)])
    ticks = sorted({float(text) for text in re.findall(r">(\d\.\d+)</text>", chart)})
    step = round(ticks[1] - ticks[0], 6)
    assert step in (0.02, 0.05, 0.1, 0.2)
    assert ticks == pytest.approx([step * n for n in range(len(ticks))])
    assert 1.0 + 1e-9 >= ticks[-1] >= peak - 1e-6


def test_breaks_of_a_day_or_more_are_marked_with_their_length() -> None:
    quick = [Moment(f"2026-11-21T08:{n:02d}:00Z", "training", "x") for n in range(5)]
    assert "dashed" not in timeline("T", quick)
    slow = [*quick, Moment("2026-11-22T20:00:00Z", "gates", "y"), Moment("2026-12-24T20:00:00Z", "release", "z")]
    shown = texts(timeline("T", slow))
    assert "36 hours" in shown
    assert "32 days" in shown
    assert {"2026-11-21", "2026-11-22", "2026-12-24"} <= set(shown)


def test_sources_stand_left_of_what_came_from_them() -> None:
    nodes, edges = chain(5)
    root = parsed(lineage("T", nodes, edges))
    places = {item.text: float(item.attrib["x"]) for item in root.iter(f"{SVG}text")}
    assert [places[f"item {n}"] for n in range(5)] == sorted(places[f"item {n}"] for n in range(5))
    assert len({places[f"item {n}"] for n in range(5)}) == 5


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_any_graph_is_drawn_and_a_circle_is_broken(edges: list[tuple[int, int]]) -> None:
    nodes = [Node(str(n), "k", f"item {n}", "") for n in range(10)]
    root = parsed(lineage("T", nodes, [(str(a), str(b)) for a, b in edges]))
    shown = [item.text for item in root.iter(f"{SVG}text")]
    assert all(f"item {n}" in shown for n in range(10)), "a node is never lost"


def test_every_chart_is_printed_with_every_script() -> None:
    said = [SCRIPTS, HOSTILE, LONG]
    files = {f"{kind}.svg": draw(said).encode() for kind, draw in CHARTS.items()}
    body = "\n".join(f'#image("{name}", alt: "chart")' for name in files)
    head = '#let o = json(bytes(sys.inputs.families))\n#set document(title: "t")\n#set text(lang: "en", font: ("Libertinus Serif",) + o)\n= A\n'
    pdf = pdf_module.run_typst({**files, "package.typ": (head + body).encode()}, {}, 0)
    assert pdf.startswith(b"%PDF-")


def test_a_screen_shows_scripts_that_the_print_fonts_lack() -> None:
    items = [Bar("信用", 0.5, None, None, "")]
    assert "[U+4FE1]" in bars("T", items)
    assert "信用" in bars("T", items, clean=screen_text)


def test_drawings_wait_for_the_cleaner() -> None:
    from cognify_dagster.documents.view.evaluation import evaluation_blocks
    from cognify_dagster.documents.view.signatures import sign_offs

    charts: dict[str, Any] = {}
    package = {"evaluation": None, "training": None, "required_stages": {"stages": []}}
    evaluation_blocks(package, charts, sign_offs(package, "review", []))
    assert charts == {}
