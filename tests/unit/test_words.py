"""The field's words stand in what readers and users see; the words that they replaced do not come back."""

import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("flywheel", "flows", "deployments", "docker")

# word -> what to write in its place
INSTEAD = {
    "told": "logged, reported, raised, said",
    "tell": "log, report, notify, raise, format",
    "tells": "logs, reports, notifies, raises, formats",
    "telling": "reporting",
    "untold": "unreported",
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "mending": "fix, repair",
    "surely": "significantly",
    "wheel": "loop, overview",
    "somebody": "an annotator, a user",
    "whoever": "the annotator, the user, the caller",
    "refuses to": "a law in a test, or nothing",
}
IN_NAMES = {**INSTEAD, "people": "annotators"}
STORED = {"people_slices"}
"""keys of stored records"""

FILES = sorted(
    path
    for folder in FOLDERS
    for suffix in ("*.py", "*.html", "*.toml", "*.yaml")
    for path in (ROOT / folder).rglob(suffix)
    if "__pycache__" not in path.parts
)
IN_TEXT = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)


@cache
def words_of(name: str) -> set[str]:
    """The words of an identifier, split at _ and where the case changes."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def old_names(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if not any(words_of(name) & IN_NAMES.keys() for name in set(re.findall(r"\w+", text))):
        return []  # as in most files: tokens take a hundred times longer
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        f"{path.relative_to(ROOT)}:{token.start[0]} {token.string}: write {IN_NAMES[word]}"
        for token in tokens
        if token.type == tokenize.NAME and token.string not in STORED
        for word in sorted(words_of(token.string) & IN_NAMES.keys())
    ]


def test_texts_use_the_fields_words():
    found = [
        f"{path.relative_to(ROOT)}:{number} {hit}: write {INSTEAD[hit.lower()]}"
        for path in FILES
        for number, line in enumerate(lines_of(path), start=1)
        for hit in IN_TEXT.findall(line)
    ]
    assert not found, "\n".join(found)


def test_names_use_the_fields_words():
    found = [hit for path in FILES if path.suffix == ".py" for hit in old_names(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tell_fault", {"tell", "fault"}),
        ("OldWheelPage", {"old", "wheel", "page"}),
        ("MOST_PEOPLE", {"most", "people"}),
        ("flywheel", {"flywheel"}),
    ],
)
def test_a_name_is_split_into_its_words(name, words):
    assert words_of(name) == words
