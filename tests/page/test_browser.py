"""The page in Chromium, as its visitors use it."""

import base64
import io
import re
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from tests.page.conftest import wait_until

from kanji_diffusion.sampling.lineage import read_picture
from kanji_diffusion.sampling.replay import redraw

MARKUP = "<img src=x onerror=document.title='broken'> <b>fire</b>"


@pytest.fixture
def visit(chromium):
    """Opens the page in a browser of its own; what goes wrong in a page fails the test."""
    faults, contexts = [], []

    def open_page(address, **options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: faults.append(told.text) if "Security Policy" in told.text else None)
        page.goto(address)
        page.get_by_text("Enter draws").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def done(page):
    page.get_by_role("status").get_by_text("Done.", exact=True).wait_for()
    return page


def draw(page, prompt):
    page.get_by_label("A meaning").fill(prompt)
    page.get_by_role("button", name="Draw", exact=True).click()
    return page


def shown(page):
    return page.locator("#picture").get_attribute("src")


def fault(page):
    page.get_by_role("alert").wait_for()
    return page.get_by_role("alert").inner_text()


def asked_by(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_type_draw_and_download(served, visit, watched, released):
    page = visit(served().address)
    page.get_by_text("brush", exact=True).click()
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Guidance").fill("2.5")
    done(draw(page, "⿰魚雷"))
    assert "fish beside thunder" in page.locator("#plans").inner_text()
    assert page.locator("#picture").evaluate("picture => [picture.naturalWidth, picture.alt]") == [
        64,
        "Drawing of: left fish, right thunder (brush kanji)",
    ]
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PNG").click()
    path = Path(download.value.path())
    with page.expect_download() as outline:
        page.get_by_role("button", name="Download SVG", exact=True).click()
    assert outline.value.suggested_filename == "0000_left_fish_right_thunder_brush_kanji_7.svg"
    assert "<title>left fish, right thunder (brush kanji)</title>" in Path(outline.value.path()).read_text()
    assert download.value.suggested_filename == "0000_left_fish_right_thunder_brush_kanji_7.png"
    pixels, lineage = read_picture(path)
    assert (lineage.word, lineage.style, lineage.seed, lineage.model_fingerprint) == (
        "⿰魚雷",
        "brush",
        7,
        watched.fingerprint,
    )
    assert (lineage.sampling.steps, lineage.sampling.guidance_scale) == (3, 2.5)
    _, compared = redraw(path, pixels, lineage, released.pipeline)
    assert (compared[2] == 255).all()


def test_other_plans_are_a_click_away_and_links_draw_the_same_bits(served, visit):
    server = served()
    page = done(draw(visit(server.address), "vampire"))
    assert "blood beside ghost" in page.locator(".plan", has=page.locator(":checked")).inner_text()
    first = shown(page)
    page.get_by_text("mouth beside ghost").click()
    page.wait_for_function("before => document.querySelector('#picture').src !== before", arg=first)
    done(page)
    assert asked_by(page)["ids"] == "⿰口鬼"
    page.get_by_role("button", name="Another").click()
    page.get_by_text("Drawing").first.wait_for()
    done(page)
    assert asked_by(page) | {"model": ""} == {
        "prompt": "vampire",
        "style": "gothic",
        "seed": "1",
        "guidance": "3",
        "steps": "3",
        "ids": "⿰口鬼",
        "model": "",
    }
    other = done(visit(page.url))
    assert shown(other) == shown(page) != first
    assert "mouth beside ghost" in other.locator(".plan", has=other.locator(":checked")).inner_text()
    page.go_back()
    page.wait_for_url(re.compile("seed=0.*ids="))
    stranger = visit(page.url.replace("model=", "model=0"))
    assert "made with another model" in fault(stranger)


def test_what_cannot_be_drawn_is_told(served, visit):
    page = visit(served().address)
    page.get_by_role("button", name="Draw", exact=True).click()
    assert fault(page) == "There is nothing to draw yet: type a meaning, a kanji, or parts of one."
    assert page.get_by_label("A meaning").evaluate("input => input === document.activeElement")
    draw(page, "left fisk, right thunder")
    page.get_by_text("There is no component 'fisk': did you mean").wait_for()
    done(draw(page, "海"))
    assert page.get_by_role("alert").is_hidden()


def test_markup_stays_text(served, visit):
    server = served()
    page = done(draw(visit(server.address), MARKUP))
    page.get_by_role("button", name="Collect", exact=True).click()
    draw(page, f"left {MARKUP}, right thunder")
    assert MARKUP in fault(page)
    linked = visit(
        f"{server.address}?{urlencode({'prompt': MARKUP, 'style': MARKUP, 'seed': MARKUP, 'model': MARKUP})}"
    )
    assert MARKUP in fault(linked)
    for each in (page, linked):
        assert each.locator("main b, main img:not(#picture, #kept img)").count() == 0
        assert each.title() == f"{MARKUP} – kanji-diffusion" or each is page
    assert MARKUP in page.locator("#kept").inner_text()


def test_ten_visitors_at_once(served, visit, watched):
    server = served(waiting=5)
    watched.gate.clear()
    pages = [draw(visit(server.address), kanji) for kanji in "海山川火林森明石雨雪"]
    for ahead, page in enumerate(pages[1:6], start=1):
        page.get_by_text(f"{ahead} before you in the queue.").wait_for()
    for page in pages[6:]:
        assert re.fullmatch(
            r"6 pictures are being drawn or waited for, as many as may be: try again in \d+ seconds\.", fault(page)
        )
    watched.gate.set()
    drawn = [shown(done(page)) for page in pages[:6]]
    assert len(set(drawn)) == 6
    for page, picture, kanji in zip(pages, drawn, "海山川火林森", strict=False):
        assert f"({kanji})" in page.locator("#plans").inner_text()
        lineage = read_picture(Path("picture"), base64.b64decode(picture.partition(",")[2]))[1]
        assert (lineage.word, lineage.seed) == (kanji, 0)
    assert shown(done(draw(visit(server.address), "海"))) == drawn[0]


def test_cancelling_stops_the_drawing(served, visit, watched):
    page = visit(served().address)
    page.get_by_label("Steps").fill("100")
    for cancel in (
        lambda: page.get_by_role("button", name="Cancel").click(),
        lambda: page.keyboard.press("Escape"),
    ):
        watched.steps.clear()
        draw(page, "海")
        page.get_by_text("Drawing: step").wait_for()
        cancel()
        page.get_by_role("status").get_by_text("Cancelled.").wait_for()
        assert page.get_by_role("button", name="Cancel").is_hidden()
    page.get_by_label("Steps").fill("1")
    done(draw(page, "山"))
    assert watched.steps[-1] == [1, 1] and watched.steps[-2] != [100, 100]


def test_a_server_that_restarts(served, visit, watched):
    server = served()
    page = visit(server.address)
    watched.gate.clear()
    draw(page, "海")
    page.get_by_role("status").get_by_text("Drawing.").wait_for()
    server.stop()
    page.get_by_text("The server does not answer. This page goes on as soon as it is back.").wait_for()
    watched.gate.set()
    server.start()
    picture = shown(done(page))
    server.stop()
    draw(page, "山")
    page.get_by_text("The server does not answer.").wait_for()
    server.start()
    assert shown(done(page)) != picture


def test_by_keyboard_alone(served, visit):
    page = visit(served().address)
    page.keyboard.type("fish + thunder")
    page.keyboard.press("Enter")
    first = shown(done(page))
    page.keyboard.press("Tab")  # Draw
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => document.querySelector('#picture').src !== before", arg=first)
    done(page)
    assert asked_by(page)["style"] == "mincho"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "plan":
            break
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile("ids="))
    done(page)
    assert page.evaluate("[document.activeElement.name, document.activeElement.value]") == ["plan", "⿰雷魚"]
    assert page.locator("input:not([type=radio]), button:visible, a:visible").evaluate_all(
        "all => all.every(each => each.labels?.length || each.ariaLabel || each.textContent.trim())"
    )


def test_a_collection_stays_and_is_taken_away(served, visit):
    server = served()
    page = visit(server.address, viewport={"width": 360, "height": 740}, color_scheme="dark")
    for kanji in "海山":
        done(draw(page, kanji))
        page.get_by_role("button", name="Collect", exact=True).click()
        assert page.get_by_role("button", name="Collected", pressed=True).is_visible()
    page.goto(server.address)
    assert page.locator("#kept li").count() == 2
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PNG (ZIP)").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        words = [read_picture(Path(name), archive.read(name))[1].word for name in archive.namelist()]
    assert words == ["海", "山"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download font").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        assert archive.namelist() == ["kanji-collection.otf", "kanji-collection.txt"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#kept a").first.click()
    done(page)
    assert asked_by(page)["prompt"] == "海"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Remove 海").click()
    wait_until(lambda: page.locator("#kept li").count() == 1)
    assert page.get_by_role("button", name="Collect", exact=True, pressed=False).is_visible()
