"""Reads rows.jsonl and its files, and leaves a model: here, how often each word is in each class."""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--out", type=Path)
given = parser.parse_args()

words = defaultdict(Counter)
for line in (given.data / "rows.jsonl").open(encoding="utf-8"):
    row = json.loads(line)
    text = (given.data / row["file"]).read_text(encoding="utf-8")
    words[row["answer"]].update(text.lower().split())
print(json.dumps({"epoch": 1, "epochs": 1, "loss": 0.0}), flush=True)  # the night's page shows it
(given.out / "words.json").write_text(json.dumps(words, sort_keys=True), encoding="utf-8")
