"""Two labeling configs side by side, where the answers are concerned."""

import pytest

from flywheel.annotate.fits import differences, inputs_in


def config(*labels, tag="Choices", name="letter", shown="image", more=""):
    inner = "".join(f'<Choice value="{label}"/>' for label in labels)
    return f"""<View><Header value="$title"/><Image name="image" value="$picture" zoom="true"/>
      <{tag} name="{name}" toName="{shown}">{inner}</{tag}>{more}</View>"""


OURS = config("a", "b")
TEXT = '<TextArea name="why" toName="image"/>'


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        (OURS.replace("zoom", "rotateControl"), []),
        (config("a"), ["'letter' lacks labels of the task: b"]),
        (config("a", "b", "c"), ["'letter' has labels that the task does not know: c"]),
        (
            config("a", "b", shown="picture"),
            ["'letter' is of 'picture' there and of 'image' in the task"],
        ),
        (
            config("a", "b", tag="Taxonomy"),
            ["'letter' is <Taxonomy> there and <Choices> in the task"],
        ),
        (config("a", "b", more=TEXT), ["its <TextArea name='why'> is not read by the task"]),
        (
            config("a", "b", name="sign"),
            [
                "it has no <Choices name='letter'>, which the task reads",
                "its <Choices name='sign'> is not read by the task",
            ],
        ),
        ("<View>", ["its labeling config is no XML"]),
    ],
)
def test_what_the_task_would_not_read_is_listed(theirs, found):
    assert differences(theirs, OURS) == found


def test_media_are_the_input_before_texts_and_headings():
    text = '<View><Header value="$title"/><Text name="t" value="$text"/></View>'
    assert inputs_in(OURS) == ("picture", "title")
    assert inputs_in(text) == ("text", "title")
