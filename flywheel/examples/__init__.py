"""Bundled example projects, written only against the API that any user's task can import.

Digits are scans of ten classes, messages a shop's support mail by intent, details what such a mail names
(spans, scikit-learn), pose a part's position and rotation for a robot, shapes boxes in pictures, and
tumours rows of a table for scikit-learn. Each has two
simulated productions: in the *long tail* the first model is right on nine of ten samples (of pose, grasps;
of shapes, two of three pictures) and on far fewer of a few rare kinds; where *everything moved* it is right
on 84 % (digits), 75 % (details), 76 % (messages), 28 % (pose), 50 % (shapes) or 94 % (tumours), and on less with the nights.

Nothing is re-exported: a project names its task, and importing it does not import the others.
"""

__all__: list[str] = []
