"""Templates fail on names that nobody gave them."""

import pytest
from jinja2 import UndefinedError

from flywheel.report.kit.pages import put, render


def test_a_name_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError):
        render("dossier.html", charts={})


def test_a_page_comes_into_a_folder_that_is_made_for_it(tmp_path):
    path = put(tmp_path / "new" / "page.html", "<p>é</p>")
    assert path.read_text(encoding="utf-8") == "<p>é</p>"
    assert list(path.parent.iterdir()) == [path]
