"""From a meaning to the composition of a kanji for it: words, components and plans."""
