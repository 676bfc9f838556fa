"""What annotators see of a sample: a picture, text, a table of fields, a recording or a page.

Each is the first argument of what is asked about it, such as `choice(text(), ...)`. Whether
annotators may say that a sample is unusable belongs here: pictures and recordings are blurred or
silent now and then, a text seldom is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from flywheel.errors import PayloadError
from flywheel.pictures import ORIENTATION, open_picture
from flywheel.records import Json, Media, Sample, is_number

_UPRIGHT = (0, 1)
_MOST_CHARACTERS = 100_000
"""of a text; Label Studio's editor becomes slow before"""
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What annotators see of a sample, and by which tag of Label Studio."""

    kind: str
    """image, text, table, audio or html; the tag and its value have this name, too"""
    tag: str
    """XML"""
    value: Callable[[Sample], Json | Media]
    """raises PayloadError for a sample that cannot be shown"""
    can_be_unusable: bool
    accepts: Callable[[Sample], None] | None = None
    """see `accepts` of a task"""

    def data(self, sample: Sample) -> dict[str, Json | Media]:
        """The values of the config's $names."""
        return {self.kind: self.value(sample)}


def image(
    *,
    picture: Callable[[Sample], bytes] | None = None,
    width_pixels: int = 750,
    unusable: bool = True,
) -> Shown:
    """Show a PNG or JPEG, turned upright.

    Args:
        picture: sample -> PNG to show in its place: the whole of it, larger or clearer.
        width_pixels: the most that it is wide on the annotator's screen.
        unusable: whether annotators may say that nothing can be seen in it.

    ```python
    from flywheel.labeling import choice, image

    labeling = choice(image(width_pixels=320), ["cat", "dog"])
    ```
    """
    tag = (
        f'<Image name="image" value="$image" maxWidth="{width_pixels}px" zoom="true" '
        'zoomControl="true" rotateControl="false"/>'
    )
    value = partial(_drawn, picture) if picture is not None else _picture
    return Shown(kind="image", tag=tag, value=value, can_be_unusable=unusable)


def text(*, unusable: bool = False, most_characters: int = _MOST_CHARACTERS) -> Shown:
    """Show text, UTF-8; several spaces look like one in Label Studio, and count.

    Args:
        unusable: whether annotators may say that it is no text of the task.
        most_characters: longer samples are kept out of labeling.

    ```python
    from flywheel.labeling import choice, text
    from flywheel.records import Sample

    labeling = choice(text(), ["praise", "blame"])
    assert labeling.data(Sample.of("Grüße 😀".encode(), "text/plain")) == {"text": "Grüße 😀"}
    ```
    """
    return Shown(
        kind="text",
        tag='<Text name="text" value="$text"/>',
        value=partial(text_of, most_characters=most_characters),
        can_be_unusable=unusable,
    )


def table(
    fields: Sequence[str] | None = None,
    *,
    required: Sequence[str] | None = None,
    numbers: Sequence[str] = (),
    unusable: bool = False,
) -> Shown:
    """Show the fields of a JSON object, one a line; every value as text.

    The model server refuses a row whose fields are not these: a model would answer all the same. What
    has further fields is answered. null is a value that is not known.

    Args:
        fields: those to show, in this order; None shows all, by name.
        required: those that a request must have; None: all of `fields`.
        numbers: those that must hold a number or null where they are there.
        unusable: whether annotators may say that the row cannot be judged.

    ```python
    from flywheel.labeling import choice, table
    from flywheel.records import Sample

    labeling = choice(table(fields=["age", "smokes"]), ["low", "high"], question="Which risk?")
    row = Sample.of(b'{"smokes": true, "age": 51, "id": 7}', "application/json")
    assert labeling.data(row) == {
        "table": [{"Name": "age", "Value": "51"}, {"Name": "smokes", "Value": "true"}]
    }
    ```
    """
    needed = tuple((fields or ()) if required is None else required)
    return Shown(
        kind="table",
        tag='<Table name="table" value="$table"/>',
        value=partial(_rows, None if fields is None else tuple(fields)),
        can_be_unusable=unusable,
        accepts=partial(_accept_row, needed, tuple(numbers)) if needed or numbers else None,
    )


def audio(*, unusable: bool = True) -> Shown:
    """Play a recording, whose media type says what it is: audio/wav, audio/mpeg.

    Args:
        unusable: whether annotators may say that nothing can be heard in it.

    ```python
    from flywheel.labeling import audio, free_text

    labeling = free_text(audio(), question="What is said?")
    ```
    """
    tag = '<Audio name="audio" value="$audio"/>'
    return Shown(kind="audio", tag=tag, value=_recording, can_be_unusable=unusable)


def html(*, unusable: bool = False, most_characters: int = _MOST_CHARACTERS) -> Shown:
    """Show a page; Label Studio removes its scripts.

    Args:
        unusable: whether annotators may say that it is no page of the task.
        most_characters: longer samples are kept out of labeling.

    ```python
    from flywheel.labeling import choices, html

    labeling = choices(html(), ["news", "shop", "forum"], question="What is on this page?")
    ```
    """
    return Shown(
        kind="html",
        tag='<HyperText name="html" value="$html"/>',
        value=partial(text_of, most_characters=most_characters),
        can_be_unusable=unusable,
    )


def text_of(sample: Sample, most_characters: int = _MOST_CHARACTERS) -> str:
    """The text of a sample, character by character as it was sent.

    Raises:
        PayloadError: it is not UTF-8, blank, too long, or has a NUL, which no browser shows.

    >>> from flywheel.labeling import text_of
    >>> from flywheel.records import Sample
    >>> text_of(Sample.of("Grüße 😀".encode(), "text/plain"))
    'Grüße 😀'
    """
    try:
        found = sample.payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PayloadError(
            f"sample {sample.id[:12]}: {len(sample.payload)} bytes are no text ({error.reason} at "
            f"{error.start}). Send UTF-8."
        ) from error
    if not found.strip() or "\0" in found or len(found) > most_characters:
        raise PayloadError(
            f"sample {sample.id[:12]}: {found[:20]!r} with {len(found):,} characters cannot be shown. "
            f"Send 1 to {most_characters:,} characters without NUL, not only spaces."
        )
    return found


def row_of(sample: Sample) -> dict[str, Json]:
    """The row that a sample is, its fields by name.

    Raises:
        PayloadError: it is no JSON object, or holds what JSON cannot say.

    >>> from flywheel.labeling import row_of
    >>> from flywheel.records import Sample
    >>> row_of(Sample.of(b'{"age": 51}', "application/json"))
    {'age': 51}
    """
    try:
        row = json.loads(sample.payload.decode("utf-8"), parse_constant=_refuse_constant)
        json.dumps(row, ensure_ascii=False).encode()  # half a character can be written as \ud800
    except (ValueError, RecursionError) as error:
        raise PayloadError(
            f"sample {sample.id[:12]}: {len(sample.payload)} bytes are no JSON ({error}). Send one "
            "object, its fields by name, as UTF-8."
        ) from error
    if not isinstance(row, dict):
        raise PayloadError(
            f"sample {sample.id[:12]}: its JSON is a {type(row).__name__}. Send one object, its "
            "fields by name."
        )
    return row


def _picture(sample: Sample) -> Media:
    upright = open_picture(sample)
    with Image.open(io.BytesIO(sample.payload)) as sent:
        if sent.getexif().get(ORIENTATION, 1) in _UPRIGHT:
            kind = "png" if sent.format == "PNG" else "jpeg"  # or MPO, as phones write JPEGs
            return Media(sample.payload, f"image/{kind}")
    buffer = io.BytesIO()
    upright.save(buffer, "PNG")
    return Media(buffer.getvalue(), "image/png")


def _drawn(picture: Callable[[Sample], bytes], sample: Sample) -> Media:
    return Media(picture(sample), "image/png")


def _recording(sample: Sample) -> Media:
    if not sample.media_type.lower().startswith("audio/"):
        raise PayloadError(
            f"sample {sample.id[:12]}: {sample.media_type!r} is no recording. Send its media type, "
            "such as audio/wav."
        )
    return Media(sample.payload, sample.media_type)


def _rows(fields: Sequence[str] | None, sample: Sample) -> list[Mapping[str, str]]:
    row = row_of(sample)
    names = sorted(row) if fields is None else fields  # samples of other senders look alike
    if not row.keys() & set(names):
        raise PayloadError(
            f"sample {sample.id[:12]}: its fields are {', '.join(row)[:80] or 'none'}, of which "
            f"nothing is shown. Send {', '.join(names)[:80] or 'fields'}."
        )
    # A cell of true or null would stay empty in Label Studio, and a list breaks its page.
    cells = {name: _cell(row.get(name)) for name in names}
    number = sum(map(len, cells.values()))
    if number > _MOST_CHARACTERS or any("\0" in cell for cell in cells.values()):
        raise PayloadError(
            f"sample {sample.id[:12]}: a table of {number:,} characters cannot be shown. Send at most "
            f"{_MOST_CHARACTERS:,}, without NUL."
        )
    return [{"Name": name, "Value": cell} for name, cell in cells.items()]


def _accept_row(required: Sequence[str], numbers: Sequence[str], sample: Sample) -> None:
    row = row_of(sample)
    missing = [name for name in required if name not in row]
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise PayloadError(
            f"sample {sample.id[:12]}: the row has no {', '.join(map(repr, missing[:_MOST_NAMED]))}"
            f"{more}. Send every field, null where its value is not known."
        )
    for name in numbers:
        value = row.get(name)
        if value is not None and not is_number(value):
            raise PayloadError(
                f"sample {sample.id[:12]}: {name!r} is {json.dumps(value)[:60]}, which is no number. "
                "Send a number, or null where it is not known."
            )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
