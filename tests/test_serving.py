"""The served model answers over HTTP on loopback what `generate` draws, and refuses what it cannot draw."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_SECONDS_TO_START = 180


@pytest.fixture(scope="module")
def server(project, finished):
    """`kedro serve` as `make serve` calls it, from outside the environment and on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kedro", "serve", "--env=test", f"--port={port}"]
    inside = str(Path(sys.executable).parent)
    outside = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != inside]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": os.pathsep.join(outside)}
    log = project / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=project, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait(process, port, log)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(process, port, log):
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"The server did not start:\n{log.read_text()[-3000:]}")


def ask(port, rows):
    """Status and answer."""
    data = rows if isinstance(rows, bytes) else json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["message"]


def picture(prediction):
    data = base64.b64decode(prediction["png"])
    assert data.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(data)))


def test_it_draws_what_generate_draws(server, project, kedro_run_here):
    done = kedro_run_here("--env=test", "--pipelines=generate", "--params=prompt=water,style=brush,seed=41,threads=1")
    assert done.exit_code == 0, done.output
    (path,) = (project / "data/test/07_model_output").rglob("*_41.png")
    status, (one,) = ask(server, [{"prompt": "water", "style": "brush", "seed": 41}])
    assert status == 200
    assert one["prompt"] == "water: whole water (brush kanji)"
    assert (one["ids"], one["plan_source"], one["reason"]) == ("水", "character", "water = whole water (水)")
    assert np.array_equal(picture(one), np.asarray(Image.open(path)))
    assert 0 <= one["read_probability"] <= 1 and -1 <= one["clip_score"] <= 1
    assert len(one["read_as"]) == 1


def test_rows_have_settings_of_their_own(server):
    fire = {"prompt": "fire", "seed": 5}
    rows = [fire | {"steps": 4, "guidance": 4.0}, fire | {"steps": 2, "guidance": 1.5}]
    _, (first, second) = ask(server, rows)
    _, (alone,) = ask(server, rows[1:])
    assert not np.array_equal(picture(first), picture(second))
    assert np.array_equal(picture(second), picture(alone))


def test_it_tells_what_it_planned(server):
    prompts = ["⿰魚雷", "left fish, right thunder", "vampire", "海"]
    status, answers = ask(server, [{"prompt": prompt} for prompt in prompts])
    assert status == 200
    assert [answer["plan_source"] for answer in answers] == ["ids", "parts", "word", "character"]
    assert [answer["ids"] for answer in answers] == ["⿰魚雷", "⿰魚雷", "⿰血鬼", "⿰氵毎"]
    assert answers[2]["reason"].startswith("vampire = blood beside ghost, from 吸血鬼")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"prompt": ""}], "`prompt` cannot be used: it is empty; give a meaning"),
        ([{"prompt": "  \t"}], "it is empty; give a meaning"),
        ([{"prompt": None}], "`prompt`"),
        ([{"prompt": "⿰魚"}], "The description '⿰魚' lacks a part"),
        ([{"prompt": "left fisk, right thunder"}], "no component 'fisk': did you mean"),
        ([{"prompt": "water " * 1000}], "should have at most 500 characters"),
        ([{"prompt": 5}], "prompt"),
        ([{"prompt": ["water"]}], "prompt"),
        ([{"prompt": "water", "style": "graffiti"}], "graffiti.*brush"),
        ([{"prompt": "water", "steps": 0}], "`steps` cannot be used: it should be greater than or equal to 1"),
        ([{"prompt": "water", "guidance": 99.0}], "`guidance` cannot be used"),
        ([{"prompt": "water", "seed": -1}], "`seed` cannot be used"),
        ([{"prompt": "water", "colour": "red"}], "There is no input `colour`: the inputs are prompt, style, seed"),
        ([{"prompt": "fire"}, {"prompt": "water", "step": 4}], "There is no input `step`"),
        ([{"prompt": "water"}] * 65, "65 pictures are asked for at once: ask for 1 to 64"),
        ([{"style": "brush"}], "prompt"),
        ([{"prompt": "water", "styl": "brush"}], "There is no input `styl`: the inputs are prompt, style"),
        (b"water", "JSON"),
    ],
)
def test_what_it_cannot_draw_gets_a_sentence(server, rows, sentence):
    status, message = ask(server, rows)
    assert 400 <= status < 500, message
    assert re.search(sentence, message, re.S), message
    assert "Traceback" not in message


def test_it_listens_on_loopback_only(server):
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line]
    addresses = [address for address, port in (entry.split(":") for entry in listening) if int(port, 16) == server]
    assert addresses == ["0100007F"]
    assert not Path("/proc/net/tcp6").exists() or f":{server:04X} " not in Path("/proc/net/tcp6").read_text()
