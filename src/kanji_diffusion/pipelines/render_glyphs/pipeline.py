"""Wiring of render_glyphs."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from kanji_diffusion.pipelines.render_glyphs import nodes


def create_pipeline() -> Pipeline:
    """Fonts and dictionary → characters, faces, audit, glyphs, captions."""
    return Pipeline(
        [
            Node(nodes.read_dictionary, "kanjidic2", "dictionary", name="read_dictionary"),
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
                nodes.write_captions,
                ["characters", "glyphs", "params:captions", "params:text_encoder"],
                "captions",
                name="write_captions",
            ),
            Node(
                nodes.make_planner,
                ["compositions", "component_names", "dictionary", "edict", "characters"],
                "planner",
                name="make_planner",
            ),
        ],
        tags="render_glyphs",
    )
