"""Bundled example projects, written only against the API that any user's task can import.

Nothing is re-exported: a project names its task, and importing it does not import the others.
"""

__all__: list[str] = []
