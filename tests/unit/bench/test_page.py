"""The page that is in the project is the one that its figures make, and they are complete."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from bench import page, results
from bench.cases import everything


@pytest.fixture(scope="module")
def found() -> results.Results:
    kept = results.load(page.RESULTS)
    if kept is None:
        pytest.skip("bench/results.json is not there: make bench writes it")
    return kept


def test_page_and_chart_are_made_of_the_figures(found: results.Results) -> None:
    for path, text in page.render(found, page.TEMPLATE.read_text()).items():
        assert path.read_text() == text, f"python -m bench.page writes another {path.name}"


def test_the_readme_quotes_the_same_figures(found: results.Results) -> None:
    text = page.README.read_text()
    assert text.count(page.START) == text.count(page.END) == 1
    assert page.quote(found, text) == text, "python -m bench.page writes other figures"


def test_every_case_was_measured_often_enough(found: results.Results) -> None:
    assert not found["quick"]
    for case in everything():
        kept = found["cases"].get(case.name)
        if kept is None:  # what no target is set for may be left for another day
            assert not case.targets, case.name
            continue
        assert kept["targets"] == [asdict(target) for target in case.targets], case.name
        assert kept["size"] == case.size, case.name
        if case.targets:
            assert "left_out" not in kept, f"{case.name}: {kept.get('left_out')}"
            for run in kept["runs"].values():
                assert len(run["seconds"]) >= case.rounds, case.name


def test_no_case_is_kept_that_is_measured_no_more(found: results.Results) -> None:
    assert set(found["cases"]) <= {case.name for case in everything()}
