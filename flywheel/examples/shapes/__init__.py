"""Shapes: the small example of boxes, whose pictures are drawn."""
