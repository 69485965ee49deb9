"""Wiring of render_glyphs."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.render_glyphs import nodes


def create_pipeline(*, composed: bool = True) -> Pipeline:
    """Fonts, dictionary and stroke data → characters, compositions, faces, audit, glyphs, captions, planner.

    Args:
        composed: Whether captions tell how characters are built, which a planner then proposes for prompts.
    """
    planner = Node(
        nodes.make_planner,
        ["compositions", "component_names", "dictionary", "edict", "characters"],
        "planner",
        name="make_planner",
    )
    return Pipeline(
        [
            Node(nodes.read_dictionary, "kanjidic2", "dictionary", name="read_dictionary"),
            Node(
                nodes.read_compositions,
                ["kanjivg", "dictionary"],
                ["compositions", "component_names"],
                name="read_compositions",
            ),
            Node(
                nodes.select_characters,
                ["dictionary", "params:characters", "params:captions", "params:text_encoder"],
                "characters",
                name="select_characters",
            ),
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
                [
                    "font_folder",
                    "faces",
                    "characters",
                    "glyph_audit",
                    "params:render",
                    "params:split",
                    "params:cluster",
                ],
                ["glyphs", "glyph_sheet"],
                name="draw_glyphs",
            ),
            Node(
                nodes.select_structure,
                ["dictionary", "characters", "compositions", "component_names", "params:structure"],
                "structure_characters",
                name="select_structure",
            ),
            Node(
                nodes.draw_structure,
                [
                    "font_folder",
                    "faces",
                    "structure_characters",
                    "params:structure",
                    "params:fonts",
                    "params:render",
                ],
                "structure_glyphs",
                name="draw_structure",
            ),
            Node(
                nodes.write_captions,
                [
                    "characters",
                    "glyphs",
                    "structure_glyphs",
                    "compositions",
                    "component_names",
                    "params:captions",
                    "params:text_encoder",
                ],
                ["captions", "structure_captions"],
                name="write_captions",
            ),
            *([planner] if composed else []),
        ],
        tags="render_glyphs",
    )
