"""The report: one page, complete, self-contained, honest."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from multirun_analysis.errors import AnalysisError
from multirun_analysis.figures.style import Picture, inline_svg
from multirun_analysis.reporting.page import Section, report
from multirun_analysis.trials.run_info import Origin
from tests.support.trials import make_frame, make_localization

MANY = tuple(f"c{number}" for number in range(6))


class Reader(HTMLParser):
    """Nesting, ids, links inside and everything that would be fetched."""

    void = ("meta", "br", "link", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.headings: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if tag == "a" and name == "href":
                self.links.append(value or "")
            if (name in ("src", "srcset", "data") or tag == "link") and not (value or "").startswith("data:"):
                self.fetched.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def both() -> pd.DataFrame:
    frame = make_frame(
        {"backbone": ("efficientnet_b5", "resnet18")}, MANY, weights="random:seed0", input_size=128
    )
    at = (frame["backbone"] == "resnet18") & (frame["layer"] == "all")
    frame.loc[at, ["image_auroc", "status", "reason"]] = [float("nan"), "failed", "weights <lack> layer4"]
    return frame


@pytest.fixture(scope="module")
def text(both: pd.DataFrame) -> str:
    def draw(
        picture: Picture, prefix: str
    ) -> str:  # drawing is slow, and each figure is drawn in its own tests
        return (
            inline_svg(picture, prefix)
            if picture.name.endswith(("pareto", "against_published"))
            else "<svg></svg>"
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multirun_analysis.reporting.page.inline_svg", draw)
        return report(both, ["sweep 'first' has not ended"])


def test_it_is_one_page_that_fetches_nothing(text: str) -> None:
    page = Reader(text)
    assert page.open == []
    assert page.fetched == []
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    assert all(link.removeprefix("#") in page.ids for link in page.links)
    assert page.tags.count("style") >= 1
    assert 'name="viewport"' in text
    assert "@media print" in text


def test_everything_is_in_it_for_each_backbone(text: str) -> None:
    headings = Reader(text).headings
    for title in (
        "Table 2: reduction and mean AUROC",
        "Table 3: AUROC by category and layer (k-NN, NPCA 50 %)",
        "Table 4: mean AUROC by pooling",
        "Mean AUROC by reduction and layer",
        "Which group explains how much of the AUROC",
        "Accuracy against scoring time",
    ):
        assert headings.count(title) == 2, title
    assert "Statements of Ono & Mori, checked" not in headings  # a verdict needs 8 categories
    assert headings.index("Best configurations (chosen on the test images)") < headings.index(
        "Table 2: reduction and mean AUROC"
    )
    assert text.count("<figure>") == 14
    assert text.count("<svg") == 14
    assert "Not made: only pooling avg" in text


def test_warnings_and_coverage_come_first(text: str, both: pd.DataFrame) -> None:
    head = text[: text.index('id="coverage"')]
    assert "WARNING: random weights (random:seed0)" in head
    assert "has not ended" in head
    assert "60 trials failed (backbone resnet18; layer all): weights &lt;lack&gt; layer4" in head
    start = text.index('id="coverage"')
    table = text[start : text.index("</section>", start)]
    rows = re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', table)
    counts = {
        name: [int(float(v)) for v in re.findall(r'data-value="([^"]+)"', cells)] for name, cells in rows
    }
    assert counts == {"efficientnet_b5": [30, 180, 180, 0, 0], "resnet18": [30, 180, 120, 60, 0]}


def test_a_page_of_localization_is_whole_too() -> None:
    text = report(make_localization(categories=MANY))
    page = Reader(text)
    assert page.open == []
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    assert all(link.removeprefix("#") in page.ids for link in page.links)
    assert text.count("<figure>") == text.count("<svg") == 1
    assert page.headings.count("Localization: accuracy against scoring time") == 1


@pytest.fixture
def no_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time."""
    monkeypatch.setattr(
        "multirun_analysis.reporting.page._section",
        lambda one, prefix: Section(prefix, f"[{one.study.backbone}]", [], [], []),
    )


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multirun_analysis.reporting.page.inline_svg", lambda picture, prefix: "<svg></svg>")


@pytest.mark.usefixtures("no_sections")
def test_missing_trials_are_counted(both: pd.DataFrame) -> None:
    one = both[both["backbone"] == "efficientnet_b5"].iloc[1:]
    assert '<td data-value="1.0">1</td>' in report(one)


@pytest.mark.usefixtures("no_sections")
def test_a_backbone_that_is_not_clear_is_said_and_the_others_are_there(both: pd.DataFrame) -> None:
    twice = both[both["backbone"] == "resnet18"].assign(weights="other")
    page = report(pd.concat([both, twice], ignore_index=True))
    assert "resnet18: not in this report: the trials have several values of weights" in page
    assert "[efficientnet_b5]" in page
    assert "[resnet18]" not in page
    with pytest.raises(AnalysisError, match="several values of weights"):
        report(pd.concat([both, twice], ignore_index=True), backbone="resnet18")
    with pytest.raises(AnalysisError, match="no trials with backbone 'x'"):
        report(both, backbone="x")


@pytest.mark.usefixtures("no_figures")
def test_one_category_is_enough_for_a_page() -> None:
    origins = [Origin("first", "1f", "torch==2"), Origin("other", "2f", "torch==3")]
    page = report(make_frame(categories=("c0",)), origins=origins)
    assert "Statements of" not in page  # a verdict needs 8 categories
    assert page.count("From sweep first: run 1f; torch==2.") > 5
    assert "torch==3" not in page
    assert "nan" not in re.sub(r"<(svg|script).*?</(svg|script)>", "", page, flags=re.DOTALL).lower()
