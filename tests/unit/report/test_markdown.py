"""Text from outside stays text in Markdown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flywheel.report.kit import markdown

READER = MarkdownIt("commonmark", {"html": True}).enable("table")


def tags_of(tokens):
    for token in tokens:
        yield token.type
        yield from tags_of(token.children or [])


@given(st.text())
def test_any_text_in_a_cell_stays_one_cell_of_plain_text(said):
    page = markdown.table(("a", "b"), [(markdown.plain(said), "end")])
    kinds = list(tags_of(READER.parse(page)))
    assert kinds.count("td_open") == 2
    assert not {"html_inline", "html_block", "link_open", "image", "em_open"} & set(kinds)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), min_size=1))
def test_plain_text_reads_as_it_was_written(said):
    page = markdown.table(("a",), [(markdown.plain(said),)])
    cells = [token for token in READER.parse(page) if token.type == "inline"]
    assert "".join(part.content for part in cells[1].children) == said


@pytest.mark.parametrize("said", ["1. one", "- one", "+ one", "2) two", "# one", "> one", "---"])
def test_plain_text_opens_no_list_and_no_heading(said):
    assert READER.parse(markdown.plain(said))[0].type == "paragraph_open"


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "data:text/html,x", "ftp://x"])
def test_only_a_web_address_becomes_a_link(url):
    assert markdown.link("here", url) == "here"


def test_an_address_cannot_end_its_link_early():
    assert markdown.link("a]b", "http://x/)(<y>") == r"[a\]b](http://x/%29%28%3Cy%3E)"
