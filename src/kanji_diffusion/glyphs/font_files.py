"""The font files of a folder, and the rules that name them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Self
from unicodedata import normalize

from pydantic import Field, field_validator, model_validator

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings

_LOGGER = logging.getLogger(__name__)
_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc", ".woff", ".woff2")
_FORMATS = "TTF, OTF, TTC, OTC, WOFF or WOFF2"


class FaceRule(Settings):
    """Which face of which file is used, as what."""

    pattern: str = Field(
        min_length=1,
        description="End of the file's path, such as 'NotoSansJP[wght].ttf', or a glob on it where no path ends so. "
        "Several rules may take faces of one file; a glob without `face`, `weight` and `axes` takes files that no rule "
        "before it names.",
    )
    style: str = Field(min_length=1, description="Style class, a key of the captions' style words.")
    held_out: bool = Field(default=False, description="Never trained on: kept to check that models read unseen faces.")
    family: str | None = Field(default=None, description="Name to show; null for the font's own.")
    face: str | None = Field(
        default=None,
        description="Glob on the family or full name of a face of a collection; null for the Japanese one.",
    )
    weight: int | None = Field(
        default=None, ge=1, le=1000, description="Weight of a variable font, such as 700; null for its default."
    )
    axes: dict[str, float] = Field(
        default={}, description="Values on axes of a variable font, such as {wdth: 75}; its default on the others."
    )

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        path = PurePosixPath(pattern)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"the face pattern {pattern!r} must name files inside the font folder")
        return pattern

    @model_validator(mode="after")
    def _check_weight(self) -> Self:
        if self.weight is not None and "wght" in self.axes:
            raise ValueError("`weight` and `axes.wght` are the same: leave one out")
        return self

    @property
    def instance(self) -> dict[str, float]:
        """Axis -> value, of the axes of a variable font that the rule sets."""
        return self.axes | ({} if self.weight is None else {"wght": float(self.weight)})

    @property
    def chooses(self) -> bool:
        """Whether the rule asks for another face than the one that is taken without being asked for."""
        return bool(self.face or self.instance)


def find_files(folder: Path, rules: Sequence[FaceRule], unlisted: bool) -> list[tuple[str, FaceRule | None]]:
    """List which files are to be opened, and why.

    Args:
        folder: Searched recursively; what is hidden or behind a link to a folder is left out.
        rules: The first that names a face of a file wins.
        unlisted: Whether to list files that no rule names.

    Returns:
        Path relative to `folder` and rule (None: unlisted), sorted by path, then by rule; unlisted ones last.

    Raises:
        KanjiDiffusionError: The folder is missing.
    """
    if not folder.is_dir():
        raise KanjiDiffusionError(
            f"The font folder {folder} does not exist: run `make data`, or put Japanese fonts there."
        )
    paths = _scan(folder)
    listed: list[tuple[str, FaceRule | None]] = []
    taken: set[str] = set()
    for rule in rules:
        fitting = matching(paths, rule.pattern)
        if not any(_ends_with(path, rule.pattern) for path in fitting) and not rule.chooses:
            fitting = [path for path in fitting if path not in taken]
        if not fitting:
            _warn_of(rule, folder, paths, taken)
        listed += [(path, rule) for path in fitting]
        taken.update(fitting)
    listed.sort(key=lambda one: one[0])
    rest = [path for path in paths if path not in taken]
    if rest and not unlisted:
        _LOGGER.info("%d font files that no rule names are ignored.", len(rest))
    return listed + [(path, None) for path in rest if unlisted]


def matching(paths: Iterable[str], pattern: str) -> list[str]:
    """The paths that end with the pattern literally, else those whose end fits it as a glob."""
    paths = list(paths)
    return [path for path in paths if _ends_with(path, pattern)] or [path for path in paths if _fits(path, pattern)]


def refusal(folder: Path, path: str, max_mib: int) -> str:
    """Why a file is not opened at all, as the end of a sentence about it; "" if it is."""
    file = folder / path
    if not file.is_file():
        return "is a link to nothing"
    if not file.resolve().is_relative_to(folder.resolve()):
        return "is a link that leads out of the font folder (copy the file itself there)"
    size = file.stat().st_size
    if size == 0:
        return "is empty"
    return f"is larger than {max_mib} MiB (`fonts.max_file_mib`)" if size > max_mib * 2**20 else ""


def _scan(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        name = relative.as_posix()
        if any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_symlink() and path.is_dir():
            if not path.resolve().is_relative_to(folder.resolve()):
                _LOGGER.warning(
                    "Folder %s is a link that leads out of the font folder, and what it holds is skipped: copy its "
                    "files themselves to %s.",
                    name,
                    folder,
                )
        elif path.suffix.lower() in _SUFFIXES and (path.is_file() or path.is_symlink()):
            if any("\ud800" <= letter <= "\udfff" for letter in name):  # no UTF-8, as from old archives
                _LOGGER.warning("Font %s is skipped: its name is not UTF-8 (rename it).", ascii(name))
            else:
                found.append(name)
    return found


def _warn_of(rule: FaceRule, folder: Path, paths: Sequence[str], taken: set[str]) -> None:
    if any(_fits(path, rule.pattern) for path in taken):
        _LOGGER.warning("Rule %r adds no face: rules before it name all files that it fits.", rule.pattern)
        return
    names = {PurePosixPath(path).name.casefold(): PurePosixPath(path).name for path in paths}
    close = get_close_matches(PurePosixPath(rule.pattern).name.casefold(), names, 1, 0.8)
    hint = f" (did you mean {names[close[0]]!r}?)" if close else ""
    _LOGGER.warning("No %s file in %s matches %r%s: that face is left out.", _FORMATS, folder, rule.pattern, hint)


def _ends_with(path: str, pattern: str) -> bool:
    return f"/{_plain(path)}".endswith(f"/{_plain(pattern)}")


def _fits(path: str, pattern: str) -> bool:
    # Brackets are part of the names of variable fonts: 'Noto*[wght].ttf' names them too.
    globs = (_plain(pattern), _plain(pattern).replace("[", "[[]"))
    return any(PurePosixPath(_plain(path)).match(glob) for glob in globs)


def _plain(path: str) -> str:
    """The path as on other systems: macOS writes the marks of a letter as characters of their own (NFD)."""
    return normalize("NFC", PurePosixPath(path).as_posix())
