"""The pose of a part in a picture, for a robot that grasps it: position and rotation from one image.

Knows one part at a time, described by a part.toml and a mesh. Refuses to know the robot, its
calibration, and how pictures come in.
"""
