"""Bundled tasks, one a module, written only against what a stranger could import.

Nothing is re-exported: a project names the task it means, and pays for no other one's imports.
"""

__all__: list[str] = []
