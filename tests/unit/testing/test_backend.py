"""The in-memory labeling backend keeps the laws that Label Studio's adapter keeps."""

import pytest
from backend_laws import CONFIG, LAWS, RESULT

from flywheel.testing import MemoryBackend


@pytest.mark.parametrize("law", LAWS)
def test_the_backend_in_memory_keeps(law):
    backend = MemoryBackend()
    project = backend.ensure("laws", CONFIG, None).id
    law(backend, project, lambda external_id: backend.answer(external_id, *RESULT))
