"""What the server of the page answers to anybody who asks, browser or not."""

import base64
import io
import json
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import ots
import pytest
from fontTools.ttLib import TTFont
from PIL import Image
from tests.page.conftest import wait_until

from kanji_diffusion.imaging.ink import stroke_overlap
from kanji_diffusion.imaging.png import encode_png
from kanji_diffusion.outlines.specimen import draw_characters
from kanji_diffusion.pipelines.generate.nodes import trace_pictures
from kanji_diffusion.sampling.lineage import read_picture
from kanji_diffusion.sampling.replay import redraw


def ask(server, path="", content=None, **headers):
    """Status, headers and body."""
    data = content if isinstance(content, bytes | None) else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(server.address + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def draw(server, **request):
    status, _, body = ask(server, "api/draw", request)
    assert status == 200, body
    return [json.loads(line) for line in body.splitlines()]


def test_a_picture_is_that_of_its_lineage(served, watched, released):
    server = served()
    asked = {"prompt": " ⿰魚雷 ", "style": "brush", "seed": 7, "steps": 2, "guidance": 2.5}
    *_, plans, _, _, drawn, judged = draw(server, **asked)
    assert plans["prompt"] == "left fish, right thunder (brush kanji)"
    assert plans["plans"][0]["tree"]["parts"][0] == {"slot": "left", "form": "魚", "name": "fish"}
    pixels, lineage = read_picture(Path("picture"), base64.b64decode(drawn["picture"]["png"]))
    assert (lineage.word, lineage.style, lineage.seed, lineage.plan["ids"]) == ("⿰魚雷", "brush", 7, "⿰魚雷")
    assert (lineage.sampling.steps, lineage.sampling.guidance_scale) == (2, 2.5)
    assert lineage.model_fingerprint == watched.fingerprint
    _, compared = redraw(Path("picture"), pixels, lineage, released.pipeline)
    assert (compared[2] == 255).all()
    assert judged["said"].keys() <= {"ocr"}  # the neighbours are gothic


def test_a_real_kanji_is_its_own_neighbour(served):
    _, planned, *_, judged = draw(served(), prompt="海", style="gothic", steps=8)
    plan = planned["plans"][0]
    assert (plan["ids"], plan["built"], plan["origin"]) == ("⿰氵毎", "left water, right every", " (海)")
    character, similarity, meanings = judged["said"]["nearest"][0]
    assert (character, meanings[0]) == ("海", "sea") and similarity > 0.7


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "`prompt` is missing"),
        ({"prompt": " "}, "`prompt` cannot be used: it is empty"),
        ({"prompt": ["water"]}, "`prompt` cannot be used"),
        ({"prompt": "water", "steps": 101}, "`steps` cannot be used: it should be less than or equal to 100"),
        ({"prompt": "water", "seed": -1}, "`seed` cannot be used"),
        ({"prompt": "water", "guidance": 0}, "`guidance` cannot be used"),
        ({"prompt": "water", "ids": 5}, "`ids` cannot be used"),
        ({"prompt": "water", "negative": "x"}, "There is no input `negative`"),
        ([1], "The request is no JSON object"),
        (b"\xff{", "The request is no JSON ("),
        (b"[" * 9000, "The request is no JSON ("),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(served, content, sentence):
    status, _, body = ask(served(), "api/draw", content)
    assert status == 400
    assert json.loads(body)["error"].startswith(sentence)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"prompt": "left fisk, right thunder"}, "There is no component 'fisk': did you mean"),
        ({"prompt": "⿰魚"}, "The description '⿰魚' lacks a part"),
        ({"prompt": "..."}, "What you typed holds no letter: type a meaning"),
        ({"prompt": "a\u0000b"}, "What you typed holds the control character U+0000"),
        ({"prompt": "⿰魚雷", "ids": "⿰雷魚"}, "The plan ⿰雷魚 is none of those for '⿰魚雷'"),
        ({"prompt": "water", "style": "graffiti"}, "Unknown style 'graffiti'"),
    ],
)
def test_what_cannot_be_drawn_ends_with_a_sentence(served, watched, request_, sentence):
    *_, last = draw(served(), **request_)
    assert last["error"].startswith(sentence)
    assert not watched.steps


def test_other_sites_cannot_use_it(served):
    server = served()
    assert ask(server, "api/draw", {"prompt": "water"}, Content_Type="text/plain")[0] == 415
    assert ask(server, "", None, Host="evil.example")[0] == 400
    _, headers, body = ask(server)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in body
    assert ask(server, "api/draw", b" " * 20_000)[0] == 413
    for path in ("docs", "openapi.json", "api/nothing"):
        status, _, body = ask(server, path)
        assert (status, json.loads(body)["error"]) == (404, "Not Found: there is nothing here.")


def test_a_full_queue_says_when_to_come_again(served, watched):
    server = served(waiting=0)
    watched.gate.clear()
    first = urllib.request.Request(
        server.address + "api/draw", b'{"prompt": "water"}', {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(first, timeout=60) as held:
        held.readline()
        status, headers, body = ask(server, "api/draw", {"prompt": "fire"})
        assert status == 503 and int(headers["Retry-After"]) >= 1
        assert json.loads(body)["error"].startswith("1 pictures are being drawn")
    watched.gate.set()
    wait_until(lambda: ask(server, "api/draw", {"prompt": "fire"})[0] == 200)


def test_a_visitor_who_is_gone_stops_the_drawing_between_two_steps(served, watched):
    server = served()
    request = urllib.request.Request(
        server.address + "api/draw", b'{"prompt": "water", "steps": 100}', {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        while b"step" not in answer.readline():
            pass
    *_, last = draw(server, prompt="water", steps=1)
    assert "said" in last
    assert watched.steps[-1] == [1, 1] and watched.steps[-2] != [100, 100]


def test_a_collection_is_taken_away_as_it_is(served):
    server = served(collected=2)
    pictures = [draw(server, prompt="海", seed=seed, steps=1)[-2]["picture"]["png"] for seed in (1, 2)]
    status, headers, body = ask(server, "api/export/png", {"pictures": pictures})
    assert status == 200 and headers["Content-Disposition"] == 'attachment; filename="kanji-png.zip"'
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() == [f"{n:03d}_sea_left_water_right_every_gothic_kanji_{n}.png" for n in (1, 2)]
        assert [base64.b64encode(archive.read(name)).decode() for name in archive.namelist()] == pictures
    blank = base64.b64encode(encode_png(Image.fromarray(np.zeros((8, 8), np.uint8)))).decode()
    huge = base64.b64encode(encode_png(Image.new("L", (1025, 1)))).decode()
    for sent, sentence in [
        ([], "The collection must be a list of 1 to 2 pictures"),
        (pictures * 2, "The collection must be a list of 1 to 2 pictures"),
        (["no base64"], "Picture 1 is no PNG in base64"),
        ([5], "Picture 1 is no PNG in base64"),
        ([pictures[0], "AAAA"], "Picture 2 cannot be read (it is no PNG"),
        ([blank], "Picture 1 carries no lineage"),
        ([huge], "Picture 1 has more than 1024 pixels a side"),
    ]:
        status, _, body = ask(server, "api/export/png", {"pictures": sent})
        assert status == 400 and json.loads(body)["error"].startswith(sentence)
    status, _, body = ask(server, "api/export/gif", {"pictures": pictures})
    assert json.loads(body)["error"] == "There is no export 'gif': choose among svg, png, svgs, font."


def exported(server, name, pictures):
    status, _, body = ask(server, f"api/export/{name}", {"pictures": pictures})
    assert status == 200, body
    return body


def unpacked(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_outlines_are_those_that_generate_writes(served):
    server = served()
    pictures = [draw(server, prompt=word, seed=2, steps=8)[-2]["picture"]["png"] for word in ("海", "⿰魚雷")]
    png = base64.b64decode(pictures[1])
    with Image.open(io.BytesIO(png)) as picture:
        picture.load()
        wanted = trace_pictures({"picture": picture})["picture"].encode()
    assert exported(server, "svg", pictures[1:]) == wanted
    found = unpacked(exported(server, "svgs", pictures))
    assert list(found) == [
        "001_sea_left_water_right_every_gothic_kanji_2.svg",
        "002_left_fish_right_thunder_gothic_kanji_2.svg",
    ]
    assert found["002_left_fish_right_thunder_gothic_kanji_2.svg"] == wanted


def test_a_collection_becomes_a_font(served, tmp_path):
    server = served()
    asked = [("海", 1), ("海", 2), ("⿰魚雷", 1)]
    pictures = [draw(server, prompt=word, seed=seed, steps=8)[-2]["picture"]["png"] for word, seed in asked]
    files = unpacked(exported(server, "font", pictures))
    table = [line.split("\t") for line in files["kanji-collection.txt"].decode().splitlines()]
    assert table[1:] == [
        ["U+6D77", "海", "海", "⿰氵毎", "gothic", "1"],
        ["U+E000", "\ue000", "海", "⿰氵毎", "gothic", "2"],
        ["U+E001", "\ue001", "⿰魚雷", "⿰魚雷", "gothic", "1"],
    ]
    path = tmp_path / "collection.otf"
    path.write_bytes(files["kanji-collection.otf"])
    assert ots.sanitize(str(path), capture_output=True).returncode == 0
    names = TTFont(path).getBestCmap()
    assert [names[code] for code in (0x6D77, 0xE000, 0xE001)] == [
        "uni6D77",
        "uniE000.left_water_right_every",
        "uniE001.fish_beside_thunder",
    ]
    drawn = draw_characters(path.read_bytes(), "海\ue000\ue001", 64)
    originals = [read_picture(Path("picture"), base64.b64decode(each))[0] for each in pictures]
    assert stroke_overlap(drawn, np.stack(originals)).min() > 0.8
