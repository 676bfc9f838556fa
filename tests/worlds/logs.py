"""Rows of the log of a server that is not ours."""

import json


def prediction(number, **changes):
    row = {"id": f"r{number}", "time": 1769940000 + number, "input": f"text {number}"}
    return {**row, "answer": "left", "confidence": 0.9, "model": "v3", **changes}


def outcome(number, value=False, **changes):
    row = {"id": f"r{number}", "time": 1769950000, "kind": "outcome", "value": value}
    return {**row, **changes}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
