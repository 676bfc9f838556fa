"""A server that knows nothing of flywheel's code: it answers, keeps a log of its own, and takes releases.

python their_server.py FOLDER PORT
"""

import hashlib
import hmac
import io
import json
import os
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import safetensors.numpy
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from PIL import Image

HOUSE = "house-1"


def house(pixels):
    """The model of the house: it takes every lamp for the upper corner."""
    return (
        "upper"
        if pixels[3:5, 6:].mean() > 0.5 or pixels[:3].mean() > pixels[5:].mean()
        else "lower"
    )


def network(folder):
    """The model of a release, whose files are what its manifest says."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in manifest["files"]:
        data = (folder / file["name"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != file["sha256"]:
            raise HTTPException(409, f"{file['name']} is another file")
    weights = safetensors.numpy.load_file(folder / "network.safetensors")

    def answer(pixels):
        logits = weights["last.weight"] @ pixels.reshape(-1) + weights["last.bias"]
        return ["upper", "lower"][int(logits.argmax())]

    return answer


def create_app(folder):
    app = FastAPI()
    state = {"name": HOUSE, "model": house}
    (folder / "pictures").mkdir(parents=True, exist_ok=True)

    def write(name, row):
        with (folder / name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def now():
        return time.strftime("%Y-%m-%d %H:%M:%S")  # local time without a zone, as logs have it

    @app.post("/corner")
    async def corner(request: Request):
        body = await request.body()
        pixels = np.asarray(Image.open(io.BytesIO(body)).convert("L"), dtype=np.float32) / 255
        key, label = str(uuid.uuid4()), state["model"](pixels)
        (folder / "pictures" / f"{key}.png").write_bytes(body)
        row = {"request_id": key, "at": now(), "file": f"pictures/{key}.png", "label": label}
        write("log.jsonl", row | {"version": state["name"], "host": "cell-2"})
        return {"request_id": key, "label": label}

    @app.post("/outcome/{key}")
    def outcome(key: str, worked: bool):
        row = {"request_id": key, "at": now(), "type": "outcome", "worked": worked}
        write("outcomes.jsonl", row)

    @app.get("/health")
    def health():
        return {"status": "ok", "digest": state["name"]}

    @app.post("/hooks/release")
    async def release(request: Request):
        body, headers = await request.body(), request.headers
        signed = headers["x-flywheel-timestamp"].encode() + b"." + body
        key = os.environ["FLYWHEEL_RELEASE_SECRET"].encode()
        wanted = "sha256=" + hmac.new(key, signed, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, headers["x-flywheel-signature"]):
            raise HTTPException(401, "who are you?")
        given = json.loads(body)
        if given["model"] == HOUSE:
            state.update(name=HOUSE, model=house)
        else:
            state.update(name=given["digest"], model=network(Path(given["artifact"])))

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="warning")
