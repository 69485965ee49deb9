"""Wiring of render_glyphs."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.render_glyphs import nodes

_BUILT = ("compositions", "component_names")


def create_pipeline(*, composed: bool = True) -> Pipeline:
    """Fonts, dictionary and stroke data → characters, compositions, faces, audit, glyphs, captions, planner.

    Args:
        composed: Whether captions tell how characters are built, which a planner then proposes for prompts.
    """
    return Pipeline([*_characters(), *_glyphs(), *_words(composed)], tags="render_glyphs")


def _characters() -> list[Node]:
    return [
        Node(nodes.read_dictionary, "kanjidic2", "dictionary", name="read_dictionary"),
        Node(nodes.read_compositions, ["kanjivg", "dictionary"], list(_BUILT), name="read_compositions"),
        Node(
            nodes.select_characters,
            ["dictionary", "params:characters", "params:captions", "params:text_encoder"],
            "characters",
            name="select_characters",
        ),
        Node(
            nodes.select_structure,
            ["dictionary", "characters", *_BUILT, "params:structure"],
            "structure_characters",
            name="select_structure",
        ),
    ]


def _glyphs() -> list[Node]:
    return [
        Node(
            nodes.list_faces,
            ["font_folder", "characters", "params:fonts", "params:captions"],
            "faces",
            name="list_faces",
        ),
        Node(
            nodes.audit_glyphs,
            ["font_folder", "faces", "characters", "params:fonts", "params:render"],
            ["glyph_audit", "rejected_glyphs"],
            name="audit_glyphs",
        ),
        Node(
            nodes.draw_glyphs,
            ["font_folder", "faces", "characters", "glyph_audit", "params:render", "params:split", "params:cluster"],
            ["glyphs", "glyph_sheet"],
            name="draw_glyphs",
        ),
        Node(
            nodes.draw_structure,
            ["font_folder", "faces", "structure_characters", "params:structure", "params:fonts", "params:render"],
            "structure_glyphs",
            name="draw_structure",
        ),
    ]


def _words(composed: bool) -> list[Node]:
    captions = Node(
        nodes.write_captions,
        ["characters", "glyphs", "structure_glyphs", *_BUILT, "params:captions", "params:text_encoder"],
        ["captions", "structure_captions"],
        name="write_captions",
    )
    planner = Node(nodes.make_planner, [*_BUILT, "dictionary", "edict", "characters"], "planner", name="make_planner")
    return [captions, planner] if composed else [captions]
