"""Scores of a glyph: is it recognised, does it match its caption, is it clean."""
