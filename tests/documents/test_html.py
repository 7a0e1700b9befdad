"""The page of a package: what the PDF shows, in one file that loads nothing, runs nothing and reads well with a screen reader."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import DocumentError, render_html, template_root
from cognify_dagster.documents.html.recorded import index_page, package_index, package_page
from cognify_dagster.documents.html.rendering import style_hash
from cognify_dagster.documents.view.whole import DEFAULT_VERIFY_COMMAND, build_view
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import Package
from tests.documents.story import Story
from tests.documents.test_pdf import ALL, BIG, HOSTILE, SCRIPTS, lines_of

VOID = {"meta", "br", "path", "line", "rect", "circle"}
#: What a page may be made of; nothing that loads, runs or submits.
_TAGS = (
    "html head meta title style body a div header p h1 h2 h3 h4 nav ol li main section dl dt dd table caption thead tbody tr th td",
    "strong em code span br article figure figcaption blockquote footer svg desc text line rect circle path",
)
ALLOWED = {tag for tags in _TAGS for tag in tags.split()}


class Page(HTMLParser):
    """A page as a reader sees it: elements in order with their attributes, and the text of each."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.parts: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.feed(html)
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch(r"h\d", tag):
            self.headings.append((int(tag[1]), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, "elements are nested"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.parts.append(data)
        if self.open and re.fullmatch(r"h\d", self.open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())


@pytest.fixture(scope="module")
def package(two_versions: Story) -> dict[str, Any]:
    return two_versions.content


@pytest.fixture(scope="module")
def html(package: dict[str, Any]) -> str:
    return render_html(package)


def test_it_loads_nothing_and_runs_nothing(html: str) -> None:
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= ALLOWED
    (policy,) = [item for item in page.all("meta") if item.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert policy["content"] == (
        f"default-src 'none'; style-src '{style_hash(style)}'; base-uri 'none'; form-action 'none'"
    ), "the one style sheet is allowed by its hash, and nothing else"
    assert "url(" not in style
    assert "@import" not in style
    for _, attributes in page.elements:
        assert not {"style", "src", "srcset", "xlink:href"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href") or "#").startswith("#"), "links stay in the page"


def test_it_reads_well_with_a_screen_reader(html: str) -> None:
    page = Page(html)
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title")
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == 1
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    steps = [levels[at + 1] - levels[at] for at in range(len(levels) - 1)]
    assert max(steps) == 1, "no level is skipped"
    assert all(text.strip() for _, text in page.headings)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "aria-labelledby"):
            target = attributes.get(name)
            assert target is None or target.removeprefix("#") in ids, target
    assert page.elements[[tag for tag, _ in page.elements].index("body") + 1] == (
        "a",
        {"class": "skip", "href": "#content"},
    )
    assert len(page.all("caption")) == len(page.all("table"))
    assert {item.get("scope") for item in page.all("th")} == {"col", "row"}
    for item in page.all("svg"):
        assert item.get("role") == "img"
    charts = len(page.all("figure"))
    assert charts >= 6
    assert len(page.all("desc")) == charts


def test_it_shows_what_the_pdf_shows(html: str, package: dict[str, Any]) -> None:
    digest = hashlib.sha256(canonical_json(package)).hexdigest()
    view, charts = build_view(
        package, copy="review", signatures=(), package_sha256=digest, verify_command=DEFAULT_VERIFY_COMMAND
    )
    text = Page(html).text
    told = [block for block in view["blocks"] if block["t"] not in ("page", "image")]
    assert len(told) > 100
    for block in told:
        skipped = "How to read" if block["t"] == "p" else ""
        for line in lines_of(
            [block[name] for name in ("v", "head", "rows", "lines", "title", "stage", "caption") if name in block]
        ):
            one = " ".join(line.split())
            if one and "package.json, which is attached" not in one and "copy, of package" not in one:
                assert one.replace("Signatures", "") in text or one in text, (skipped, one)
    assert all(f"<title>{re.search('<title>(.*?)</title>', svg)[1]}</title>" in html for svg in charts.values())  # type: ignore[index]
    assert digest in text


def test_every_chart_has_its_table(html: str) -> None:
    elements = [tag for tag, _ in Page(html).elements if tag in ("figure", "table", "section")]
    for at, tag in enumerate(elements):
        if tag == "figure":
            assert "table" in elements[at + 1 : at + 3], "the numbers stand below the chart"


def test_the_same_input_gives_the_same_bytes_in_another_process(
    html: str, package: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "package.json"
    source.write_bytes(canonical_json(package))
    program = (
        "import sys, json, hashlib; from cognify_dagster.documents import render_html;"
        "print(hashlib.sha256(render_html(json.load(open(sys.argv[1], 'rb'))).encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "3", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == hashlib.sha256(html.encode()).hexdigest()


def bent_by(package: dict[str, Any], said: str) -> dict[str, Any]:
    """The package with a text of somebody else in every place where one may stand."""
    bent: dict[str, Any] = json.loads(json.dumps(package))
    bent["model"]["title"] = bent["model"]["owner"] = bent["model"]["intended_use"] = said
    bent["sections"][0]["text"] = said
    bent["data"][0]["name"] = said
    bent["data"][0]["provenance"]["source"] = said
    bent["training"]["config"] = {said: said}
    bent["evaluation"]["fairness"][0]["attribute"] = said
    bent["evaluation"]["fairness"][0]["groups"][0]["group"] = said
    bent["evaluation"]["metrics"][0]["objective"] = said
    bent["findings"][0]["title"] = bent["findings"][0]["observed"] = said
    bent["lineage"]["nodes"][0]["label"] = bent["events"][0]["text"] = said
    bent["coverage"][0]["title"] = bent["coverage"][0]["lines"][0]["id"] = said
    bent["required_stages"]["stages"][1]["title"] = said
    bent["attestations"] = [
        {
            "text_id": said, "text": said, "text_version": said, "about": said, "digest": "", "party": said,
            "person": {"id": "person/ben", "name": said}, "role": said, "expires": None, "counts": False, "why": said,
            "documents": [], "entry": {"seq": 1, "leaf": "0" * 64, "time": "2026-11-21T08:00:00Z", "actor": said},
        }
    ]  # fmt: skip
    return bent


ATTACKS = {
    "html": '</title></p></td></table><script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:x">y</a>',
    "attribute": '" autofocus onfocus="alert(1)" x="',
    "template": "{{ 1234*4321 }}{% include '/etc/passwd' %}{# x #}${1234*4321}<%= 1234*4321 %>",
    "typst": '#read("package.json") $x$ @preview/x:1 `raw` \\u{41} = Heading',
    "svg": "]]><foreignObject><iframe></iframe></foreignObject>&#x3c;script&#x3e;",
    "entities": "&lt;b&gt; &amp; &copy; &#x202e;",
}


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_hostile_text_is_shown_as_it_is(package: dict[str, Any], attack: str) -> None:
    said = ATTACKS[attack]
    shown = render_html(bent_by(package, said), [{**ALL[0], "name": said, "comments": said, "meaning": said}])
    page = Page(shown)
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "autofocus")]
        assert str(attributes.get("href") or "#").startswith("#")
    assert page.text.count(" ".join(said.split())) > 20
    assert str(1234 * 4321) not in shown, "nothing is evaluated"


def test_controls_and_directions_are_named(package: dict[str, Any]) -> None:
    shown = render_html(bent_by(package, HOSTILE.replace("\x00", "")))
    for bad in ("\u202e", "\x07", "\ue000"):
        assert bad not in shown
    assert shown.count("[U+202E]evil") > 20
    assert "漢字 שלום 😀" in shown, "a browser shows every script"


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_a_script_is_shown_as_it_is_written(package: dict[str, Any], script: str) -> None:
    page = Page(render_html(bent_by(package, SCRIPTS[script])))
    assert page.text.count(SCRIPTS[script]) > 20


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(said=st.text(alphabet=st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=60))
def test_any_text_leaves_the_page_whole(package: dict[str, Any], said: str) -> None:
    page = Page(render_html(bent_by(package, said)))
    assert {tag for tag, _ in page.elements} <= ALLOWED
    assert len(page.all("main")) == 1


def test_fields_of_a_megabyte_are_cut_with_their_digest(package: dict[str, Any]) -> None:
    shown = render_html(bent_by(package, BIG))
    assert len(shown) < 8_000_000
    assert hashlib.sha256(BIG.encode()).hexdigest() in shown
    assert {tag for tag, _ in Page(shown).elements} <= ALLOWED


def test_a_package_with_almost_nothing_says_so_plainly(package: dict[str, Any]) -> None:
    bare: dict[str, Any] = json.loads(json.dumps(package))
    bare.update(
        training=None, evaluation=None, data=[], overlap=[], findings=[], evidence=[], attestations=[], coverage=[]
    )
    bare["gates"] = {"set": None, "outcomes": [], "results": []}
    bare["lineage"] = {"nodes": [], "edges": []}
    bare["objectives"] |= {"metrics": [], "unmapped": []}
    bare["changes"] = {"since": None, "released_entry": None, "items": [], "cut": 0}
    bare["sections"] = [{**section, "text": "", "declared_unavailable": ""} for section in bare["sections"]]
    text = Page(render_html(bare)).text
    for said in (
        "Training run○ none", "Evaluation○ none", "Attestations○ none", "No section is written so far.", "No evaluation is on record",
        "No sealed training run is on record.", "nobody has attested anything", "No framework is in scope", "Awaiting an electronic signature.",
    ):  # fmt: skip
        assert said.replace("○", " ○") in text or said in text, said


def test_signatures_and_waivers_stand_on_the_page(package: dict[str, Any]) -> None:
    text = Page(render_html(package, ALL[:2], waived={"business": "Not signed: waived by order 7."}, refusals=[])).text
    assert "2 of 3 sign-off stages signed" in text
    assert "page for reading, with the signatures so far" in text
    assert "Not signed: waived by order 7." in text
    assert "Answered since" in text
    assert "no refused sign-off or deployment" in text


def test_a_changed_package_or_a_broken_template_gives_no_page(package: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="changed after it was recorded"):
        render_html({**package, "version": "9"}, package_sha256=hashlib.sha256(canonical_json(package)).hexdigest())
    with pytest.raises(DocumentError, match="does not fit its schema"):
        render_html({"format": "x", "created": "2026-11-21T08:00:00Z"})
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "package.html.j2").write_text("{{ view.nothing }}")
    with pytest.raises(DocumentError, match="cannot be rendered"):
        render_html(package, template_folder=tmp_path)


def test_a_recorded_package_is_shown_with_its_sign_offs_and_listed(two_versions: Story) -> None:
    reading = two_versions.ws.read()
    first, second = reading.all(Package, f"model/{two_versions.model}")
    signed, open_ = package_page(two_versions.ws, reading, first), package_page(two_versions.ws, reading, second)
    assert "APPROVED BY ALL STAGES" in signed
    assert "FOR REVIEW" in open_
    rows = package_index(reading)
    assert [(row["version"], row["signatures"], row["deployed_on"]) for row in rows] == [
        ("2", 0, []),
        ("1", 3, ["production"]),
    ]
    assert all(row["newest"] for row in rows)
    page = Page(index_page(reading, rows))
    assert {tag for tag, _ in page.elements} <= ALLOWED
    for row in rows:
        assert row["digest"] in page.text
        assert row["model_digest"] in page.text
        assert f"describes the first {row['describes']} entries" in page.text
    told = [{"framework": "sr26-2@2", "law": {}, "guidance": {"needs_human": 2, "satisfied": 1}}]
    page = Page(index_page(reading, [{**row, "coverage": told} for row in rows]))
    assert "2 a person must judge, 1 evidence present" in page.text, "statuses have the words that the package uses"
    assert "No package is on record." in Page(index_page(reading, [])).text


def test_the_index_shows_hostile_names_as_they_are(two_versions: Story) -> None:
    reading = two_versions.ws.read()
    rows = [{**row, "model": HOSTILE, "version": ATTACKS["html"]} for row in package_index(reading)]
    page = Page(index_page(reading, rows))
    assert {tag for tag, _ in page.elements} <= ALLOWED
    assert ATTACKS["html"] in page.text


def test_both_pages_share_one_style() -> None:
    texts = [(template_root() / "documents" / name).read_text() for name in ("package.html.j2", "packages.html.j2")]
    styles = [re.search(r"{% set style %}(.*?){% endset %}", text, re.DOTALL) for text in texts]
    assert styles[0]
    assert styles[1]
    assert styles[0][1] == styles[1][1]
