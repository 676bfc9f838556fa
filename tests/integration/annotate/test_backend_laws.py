"""Label Studio's adapter keeps the laws that the in-memory labeling backend keeps."""

import uuid

import pytest
from backend_laws import CONFIG, LAWS, RESULT

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("law", LAWS)
def test_label_studio_keeps(law, studio, annotators):
    project = studio.ensure(f"laws {uuid.uuid4().hex[:8]}", CONFIG, None).id
    law(studio, project, lambda external_id: annotators.annotate(external_id, RESULT))
