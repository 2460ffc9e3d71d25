"""Every page of docs/, and what the README shows without a Trainer, runs from top to bottom."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import matplotlib.figure
import pytest
import torch

from lightning_landscape import LossLandscapeCallback

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def code(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What the pages write is drawn elsewhere; drawing it again would take most of this test's time.
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, file, **options: None)
    with torch.random.fork_rng():
        exec(compile(code(page), str(page), "exec"), {"__name__": "page"})  # the pages are ours
    assert list(tmp_path.iterdir()) or not code(page)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_the_page_of_settings_has_each_with_its_default() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", page, re.M))
    known = inspect.signature(LossLandscapeCallback.__init__).parameters
    defaults = {name: parameter.default for name, parameter in known.items() if name != "self"}
    assert {name: ast.literal_eval(text) for name, text in rows.items()} == defaults
