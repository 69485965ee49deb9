"""A web page on which kanji are asked for, seen and taken away."""
