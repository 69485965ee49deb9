"""A model adapted to a new face from a few of its glyphs."""
