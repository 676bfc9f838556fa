"""A software renderer for parts in a bin: thousands of small pictures a second on one core.

It needs neither a display nor OpenGL, and the same scene gives the same bytes.
"""

from flywheel.examples.pose.render.picture import Visibility, render, visibility
from flywheel.examples.pose.render.scene import Scene

__all__ = ["Scene", "Visibility", "render", "visibility"]
