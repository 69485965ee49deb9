import gzip

import pandas as pd

from kanji_diffusion.planning.words import WordIndex, concise, kanji_of, read_edict

HEADER = "　？？？ /EDICT, EDICT_SUB(P)/Created: 2021-02-03/\n"


def read(tmp_path, *lines):
    path = tmp_path / "edict.gz"
    path.write_bytes(gzip.compress((HEADER + "\n".join(lines)).encode("euc_jp")))
    return read_edict(path).set_index("word")


def test_the_real_dictionary_has_the_words(words):
    assert len(words) > 100_000
    assert not words.duplicated(["word", "reading"]).any()
    assert words["common"].is_monotonic_decreasing
    found = words.set_index("word")
    assert list(found.loc["潜水艦", "glosses"]) == ["submarine"]
    assert found.loc["宇宙飛行士", "common"]
    assert found.loc["企鵝", "rare"]
    assert not found.loc["袋熊", "common"]


def test_senses_marks_and_notes_are_taken_off(tmp_path):
    found = read(
        tmp_path,
        "火箭 [かせん] /(n) (1) fire arrow/incendiary arrow/(n) (2) rocket/",
        "黄花清白 [きばなすずしろ] /(n) (uk) rocket (Eruca sativa)/ruccola/",
        "自転車 [じてんしゃ] /(n) a bicycle/bike/(P)/",
    )
    assert list(found.loc["火箭", "glosses"]) == ["fire arrow", "incendiary arrow", "rocket"]
    assert found.loc["火箭", "first"] == 2
    assert list(found.loc["黄花清白", "glosses"]) == ["rocket", "ruccola"]
    assert list(found.loc["自転車", "glosses"]) == ["bicycle", "bike"]
    assert found["narrow"].to_dict() == {"自転車": False, "火箭": False, "黄花清白": True}
    assert found["common"].to_dict() == {"自転車": True, "火箭": False, "黄花清白": False}


def test_what_is_no_word_of_kanji_is_left_out(tmp_path):
    found = read(
        tmp_path,
        "水 [みず] /(n) water/(P)/",
        "自転車タクシー [じてんしゃタクシー] /(n) cycle rickshaw/",
        "生ける屍 [いけるしかばね] /(exp,n) living corpse/",
        "薄切り [うすぎり] /(n) thin slice/",
        "自転車 [じでんしゃ] /(ik) (n) bicycle/",
        "珍走団 [ちんそうだん] /(sl) (n) motorcycle gang/",
    )
    assert list(found.index) == ["薄切り"]
    assert kanji_of("薄切り") == ("薄", "切")


def test_words_are_found_by_their_meaning_alone():
    table = pd.DataFrame(
        {
            "word": ["宇宙船", "火箭", "人手"],
            "glosses": [["spaceship"], ["fire arrow", "rocket"], ["worker", "hand"]],
            "first": [1, 1, 2],
            "narrow": [False] * 3,
            "common": [True, False, False],
            "rare": [False] * 3,
        }
    )
    index = WordIndex(concise(table, set("宇宙船火箭人手")))
    assert [word.word for word in index.of("a Space-ship")] == ["宇宙船"]
    assert [word.word for word in index.of("workers")] == ["人手"]
    assert index.of("ship") == []
    assert [(word.rank, word.first) for word in index.of("rocket")] == [(1, False)]
    assert [(word.rank, word.first) for word in index.of("hand")] == [(1, True)]
    assert concise(table, set("宇宙船"))["word"].tolist() == ["宇宙船"]
