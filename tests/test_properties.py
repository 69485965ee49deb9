"""What holds for any input: what is read is what was written, and what cannot be read is refused in a sentence."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.conftest import PROJECT_ROOT

from kanji_diffusion import cli
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import ImageSheetDataset
from kanji_diffusion.glyphs.captions import CaptionSettings, expand_prompt, fill_template
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.dictionary import read_kanjidic2
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition, kanjivg_folder, read_kanjivg
from kanji_diffusion.planning.planner import Planner
from kanji_diffusion.planning.words import read_edict
from kanji_diffusion.sampling.lineage import Lineage, read_picture
from kanji_diffusion.sampling.requests import Prompts, read_prompts
from kanji_diffusion.sampling.sampler import DrawingSettings

settings.register_profile("here", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("here")

TEXT = st.text(st.characters(exclude_categories=["C"]), max_size=30)
SIGNS = st.text(st.sampled_from("left right top,()⿰⿱⿳魚雷水 fish:+'\"=[]{}#\n\x00\u2028😀"), max_size=40)
# torch may have told the processor to flush subnormal numbers to zero.
NUMBERS = st.floats(allow_subnormal=False, allow_nan=False, allow_infinity=False)
WORD = st.text(st.sampled_from("abcdefg水火"), min_size=1, max_size=6)
# What YAML takes for something else than a text.
YAML = [
    "no",
    "On",
    "~",
    "null",
    "12:30",
    "1e3",
    "0x1f",
    "1_000",
    ".inf",
    "2024-01-01",
    "water #1",
    "a: b",
    "it's",
    "- a",
]
YAML += [
    "&a",
    "*b",
    "!tag",
    "!!python/name:os.system",
    "|",
    ">",
    "%",
    "@",
    "`",
    "? a",
    "<<",
    "=",
    "a]",
    "a}",
    "\\",
    "--",
]


def read_params(text: str) -> dict[str, object]:
    return cli._read_params(click.Context(cli.run), cli.run.params[0], text)


def refuses_or(function: Callable[..., object], *arguments: object) -> object:
    """What a function returns; None if it refuses in one sentence."""
    try:
        return function(*arguments)
    except KanjiDiffusionError as refused:
        assert "\n" not in str(refused)
        return None


@given(st.one_of(st.sampled_from(YAML), TEXT.filter(lambda text: not set(text) & set(",[]{}\"'$"))))
def test_text_of_the_command_line_stays_text(text):
    found = read_params(f"prompt={text}")
    assert found == {"prompt": None if text.strip() == "null" else text.strip()}


@given(st.one_of(SIGNS, TEXT, st.sampled_from(YAML)), st.sampled_from(["", "prompt=", "captions.medium=", "a.b=["]))
@example("\x00", "captions.medium=")
@example("..=1,.=2", "")
def test_any_params_are_read_or_refused(text, key):
    try:
        assert isinstance(read_params(key + text), dict)
    except click.UsageError as refused:
        assert "give " in refused.message or "leave it out" in refused.message or "put quotation" in refused.message


VALUES = st.one_of(
    st.integers(-(10**9), 10**9),
    NUMBERS,
    st.booleans(),
    st.none(),
    WORD,
)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}_[a-z]{1,4}", fullmatch=True), VALUES | st.lists(VALUES, max_size=3)))
def test_params_come_back_as_they_were_given(values):
    written = ",".join(f"group.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    assert read_params(written) == ({"group": values} if values else {})


@given(st.lists(TEXT.map(str.strip).filter(bool), min_size=1, max_size=4))
def test_a_list_of_any_prompts_comes_back(prompts):
    assert read_params(f"prompt={json.dumps(prompts, ensure_ascii=False)}".replace("${", "$ {")) == {
        "prompt": [prompt.replace("${", "$ {") for prompt in prompts]
    }


@given(st.binary(max_size=60) | SIGNS.map(str.encode))
def test_any_file_of_prompts_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prompts.txt")
        path.write_bytes(content)
        lines = refuses_or(read_prompts, path)
    if lines is not None:
        assert Prompts(lines).root == tuple(lines)
        assert "".join("".join(lines).split()) == "".join(content.decode("utf-8-sig").split())


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner.from_pretrained(next((PROJECT_ROOT / "data/06_models/released").glob("*/planner")))


@pytest.fixture(scope="module")
def compositions(planner: Planner) -> Compositions:
    return planner.compositions


def trees(parts: Sequence[Composition]) -> st.SearchStrategy[Composition]:
    """Compositions of known parts, nested at most three levels deep."""

    def composed(inner: st.SearchStrategy[Composition]) -> st.SearchStrategy[Composition]:
        return st.sampled_from(list(LAYOUTS)).flatmap(
            lambda layout: st.tuples(*[inner] * len(LAYOUTS[layout])).map(
                lambda placed: Composition(None, None, layout, placed)
            )
        )

    leaves = st.sampled_from(parts)
    return composed(composed(leaves) | leaves | composed(composed(leaves) | leaves))


def slotted(composition: Composition) -> object:
    """Parts by their slots: what words say of a composition."""
    return composition.base or {slot: slotted(part) for slot, part in composition.slots()}


@settings(max_examples=40)
@given(st.data())
def test_a_description_is_read_as_it_was_written(compositions, data):
    # One that is another's form is read as that one.
    common = [each for each, uses in compositions.uses.items() if uses >= 20 and compositions.base(each) == each]
    tree = data.draw(trees([compositions.of(each) for each in common]))
    assert compositions.read_ids(tree.ids).key() == tree.key()
    assert slotted(compositions.read_parts(compositions.describe(tree))) == slotted(tree)


@settings(max_examples=30)
@given(st.one_of(SIGNS, TEXT, st.text(st.sampled_from("⿰⿱⿲⿻魚雷Q "), max_size=30)))
@example("⿰" * 100_000)
@example("⿰" * 100_000 + "魚" * 100_001)
@example("left (" * 100_000)
@example("left fish, " * 20_000)
def test_any_description_is_read_or_refused(compositions, text):
    for read in (compositions.read_ids, compositions.read_parts):
        found = refuses_or(read, text)
        assert found is None or isinstance(found, Composition)


@settings(max_examples=15)
@given(st.one_of(SIGNS, TEXT))
@example("sea: left water, right every: left fish")
@example("whole whole whole")
def test_any_prompt_is_planned_or_refused(planner, text):
    for plan in refuses_or(planner.plan, text, 2) or []:
        assert plan.subject
        assert plan.composition.ids == plan.ids


@given(WORD, *[st.just("") | WORD] * 3, st.permutations(["{style}", "{medium}", "{quality}"]), st.booleans())
def test_a_caption_holds_its_words_and_no_trace_of_empty_ones(subject, style, medium, quality, order, braced):
    rest = ", ".join(order)
    captions = CaptionSettings(
        template=f"{{subject}} ({rest})" if braced else f"{{subject}}, {rest}",
        styles={"brush": style},
        default_style="brush",
        medium=medium,
        quality=quality,
    )
    text = fill_template(subject, style, captions)
    assert re.findall(r"\w+", text) == [
        subject, *filter(None, ({"{style}": style, "{medium}": medium, "{quality}": quality}[each] for each in order))
    ]  # fmt: skip
    assert not re.search(r"\s\s|\s[,)]|\(\s|,\s*,|\(,|,\)|\(\)|^[\s,]|[\s,]$", text)


@given(TEXT)
def test_any_prompt_stands_in_its_caption(text):
    caption = refuses_or(expand_prompt, text, "brush", CaptionSettings(template="{style}: {subject}!"))
    assert caption is None or "".join(text.split()) in "".join(caption.split())


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    TEXT,
    st.integers(0, 2**32 - 1),
    st.dictionaries(WORD, st.none() | TEXT | NUMBERS, max_size=3),
)
def test_a_picture_gives_back_its_lineage(word, prompt, seed, scores):
    lineage = Lineage(
        model_version=None,
        model_fingerprint="0" * 16,
        word=word,
        style="brush",
        prompt=prompt,
        negative_prompt=word,
        seed=seed,
        sampling=DrawingSettings(),
        scores=scores,
        environment={"torch": "2", "threads": 2},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        ImageSheetDataset(filepath=str(path)).save(lineage.embed(np.full((4, 4), 9, np.uint8)))
        pixels, found = read_picture(path)
    assert (found, pixels.tolist()) == (lineage, [[9] * 4] * 4)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 10**6), st.integers(0, 40), st.binary(max_size=4) | st.sampled_from([b"<", b"</", b"&x;", b'"'])
    ),
    min_size=1,
    max_size=6,
)
"""Place, bytes that are taken out there, and bytes that are put there."""


def edited(content: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    for place, taken, put in edits:
        start = place % (len(content) + 1)
        content = content[:start] + put + content[start + taken :]
    return content


def fragment(path: Path, start: bytes, end: bytes, entries: int) -> bytes:
    """The first entries of a dictionary."""
    with gzip.open(path) as file:
        head = file.read()
    first = head.index(start)
    return end.join(head[first:].split(end)[:entries]) + end


@pytest.mark.parametrize(
    ("name", "start", "end", "read", "columns"),
    [
        ("kanjidic2.xml.gz", b"<character>", b"</character>\n", read_kanjidic2, {"character", "meanings", "grade"}),
        ("edict.gz", "\n違反 [".encode("euc_jp"), b"\n", read_edict, {"word", "glosses", "common"}),
    ],
)
def test_a_damaged_dictionary_is_read_or_refused(raw_data, tmp_path, name, start, end, read, columns):
    whole = fragment(raw_data / name, start, end, 40)
    if read is read_kanjidic2:
        whole = b"<kanjidic2>" + whole + b"</kanjidic2>"

    @given(EDITS, st.booleans())
    def check(edits, packed):
        path = tmp_path / "dictionary"
        path.write_bytes(edited(gzip.compress(whole), edits) if packed else edited(whole, edits))
        table = refuses_or(read, path)
        assert table is None or columns <= set(table.columns)

    (tmp_path / "whole").write_bytes(whole)
    assert len(read(tmp_path / "whole")) > 10
    check()


def test_damaged_stroke_data_is_read_or_refused(tmp_path):
    whole = (kanjivg_folder() / "06d77.svg").read_bytes()
    path = tmp_path / "06d77.svg"

    @given(EDITS)
    def check(edits):
        path.write_bytes(edited(whole, edits))
        found = refuses_or(read_kanjivg, tmp_path)
        assert found is None or set(found) == {"海"}

    check()
