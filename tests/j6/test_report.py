from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from j6 import SoftPromptConfig
from j6.report.page import report_html
from j6.report.plot import plot_history
from j6.report.summary import findings, phases
from j6.report.text import losses_table, report_text
from j6.tuner.history import History, StepRecord
from tests.j6.test_tuner import CONFIG, fit


def history(steps: int = 5) -> History:
    cosines = [[1.0, 0, -0.5, 0], [0, 1.0, 0, 0.4], [-0.5, 0, 1.0, 0], [0, 0.4, 0, 1.0]]
    records = [
        StepRecord(i, 0.1, [2.0 / i, 1.0], [1.0, 1.0], [[0.9, 0.1], [0.45, 0.55]], cosines, [])
        for i in range(1, steps + 1)
    ]
    return History(["factuality", "confidence"], ["h", "w"], steps=records)


def test_findings_say_who_drives_what_and_where_the_conflict_is() -> None:
    assert findings(history()) == [
        "h drives factuality: 90% of its squared gradient.",
        "w contributes most to confidence: 55% of its squared gradient.",
        "In h, factuality and confidence conflict: mean cosine -0.50, negative on 100% of the "
        "steps.",
        "In w, factuality and confidence pull together: mean cosine +0.40, negative on 0% of the "
        "steps.",
    ]


def test_kept_gradients_tell_nothing_of_agreement() -> None:
    run = history(6)
    unlike = [[0.0] * 4] * 4
    for i in (1, 2, 4, 5):
        run.steps[i] = replace(run.steps[i], cosines=unlike, refreshed=False)
    assert findings(run) == findings(history(6))
    first, second, third = phases(run)  # steps 1-2, 3-4 and 5-6; refreshed: 1 and 4
    assert first.agreement == second.agreement == [-0.5, 0.4]
    assert third.agreement == [0.0, 0.0]


def test_charts_show_agreement_where_all_gradients_were_computed() -> None:
    run = history(6)
    unlike = [[0.0] * 4] * 4
    for i in (1, 2, 4, 5):
        run.steps[i] = replace(run.steps[i], cosines=unlike, refreshed=False)
    shares, agreement, losses = report_html(run).split("<h2>")[1:]
    for chart, points in ((shares, 6), (agreement, 2), (losses, 6)):
        drawn = re.findall('<polyline points="([^"]*)"', chart)
        assert {len(line.split()) for line in drawn} == {points}
    assert all(">step 1<" in chart and ">6<" in chart for chart in (shares, agreement, losses))

    pytest.importorskip("matplotlib")
    (image,) = plot_history(run).axes[1].collections
    assert image.get_array().tolist() == [[-0.5, -0.5], [0.4, 0.4]]
    assert image.get_coordinates()[0, :, 0].tolist() == [0.5, 3.5, 6.5]  # steps 1-3 and 4-6


@pytest.mark.parametrize(("steps", "spans"), [(1, [(1, 1)]), (5, [(1, 2), (3, 4), (5, 5)])])
def test_phases_cover_the_run(steps: int, spans: list[tuple[int, int]]) -> None:
    found = phases(history(steps))
    assert [(p.first_step, p.last_step) for p in found] == spans


def test_a_constant_objective_is_said_to_be_one() -> None:
    run = history()
    run.steps = [replace(step, shares=[[0.9, 0.1], [0.0, 0.0]]) for step in run.steps]
    assert "confidence had no gradient: it was constant." in findings(run)


def test_no_steps_cannot_be_explained() -> None:
    with pytest.raises(ValueError, match="nothing to explain"):
        report_text(history(0))


def test_reports_of_real_runs() -> None:
    several = replace(
        CONFIG,
        objectives=("factuality", "confidence", "brier"),
        prompt=SoftPromptConfig(n_tokens=2, layers=(0, 1)),
    )
    for config in (CONFIG, several, replace(CONFIG, objectives=("factuality",))):
        run = fit(config).history
        text, page = report_text(run), report_html(run)
        assert "factuality, from w" in text
        assert "untuned" in text
        assert page.count("<svg") == (2 if len(run.objectives) == 1 else 3)


def test_results_print_short() -> None:
    result = fit()
    what, why, head, *figures = str(result).splitlines()
    assert what.startswith("SoftPrompt(n_tokens=")
    assert why == result.message
    assert head.split() == ["untuned", "tuned"]
    assert len(figures) == 6
    blind = fit(replace(CONFIG, max_steps=3), validation=None)
    lines = [line.split() for line in str(blind).splitlines()[2:]]
    assert lines[0] == ["mean", "loss", "steps", "1-1", "steps", "3-3"]
    assert lines[1] == ["factuality", *(f"{blind.history.steps[i].losses[0]:.3f}" for i in (0, 2))]
    assert losses_table(history(100))[0].split()[2:] == ["steps", "1-10", "steps", "91-100"]
    assert losses_table(history(0)) == []


def test_the_page_is_escaped_and_closed() -> None:
    run = replace(history(), objectives=["<b>fact</b>", "x & y"])
    page = report_html(run)
    assert "<b>" not in page
    assert "x &amp; y" in page

    class Balance(HTMLParser):
        open: list[str]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "line", "polyline"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("line", "polyline"):
                assert self.open.pop() == tag

    parser = Balance()
    parser.open = []
    parser.feed(page)
    assert parser.open == []
