"""From a picture to outlines: cubic curves, SVG, a font."""
