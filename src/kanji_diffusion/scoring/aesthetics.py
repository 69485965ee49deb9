"""The aesthetic score: a head on CLIP features, trained here to rank clean glyphs above degraded ones, or LAION's.

Predictors made for photographs say nothing about ink. The one trained here learns to rank in pairs (RankNet, Burges
et al., 2005) glyphs and their synthetic degradations, and is validated on faces and kinds of degradation held out.
LAION's heads (Schuhmann et al., 2022) belong to the features of ViT-L-14.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.imaging import degradations
from kanji_diffusion.imaging.ink import ink_measures
from kanji_diffusion.imaging.pictures import Images, decode_images, open_images
from kanji_diffusion.scoring.clip import ClipScorer

TRAINED = "trained"
_LITTLE, _HALF, _MUCH = 0.2, 0.5, 0.9
# Glyphs that a head is evaluated on, at most: each is degraded in every kind.
_RANKED = 1000


class AestheticSettings(Settings):
    """Which aesthetic head scores the glyphs, and how one is trained."""

    head: str = Field(TRAINED, description="`trained` here, or the file of a LAION predictor (linear or MLP).")
    pairs: int = Field(400, ge=10, description="Glyphs that are degraded, each once weakly and once strongly.")
    penalty: float = Field(
        1.0, gt=0, description="Weight of the squared weights in the head's loss: a larger one makes a flatter score."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Draws the glyphs, their degradations, and those that check.")


class Ranker(nn.Module):
    """A linear score of standardised features and their absolute values, so that deviations both ways count.

    Args:
        features: Number of features F.
    """

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.weight = nn.Parameter(torch.zeros(2 * features), requires_grad=False)

    def expand(self, features: torch.Tensor) -> torch.Tensor:
        """Standardised features and their absolute values, `[N, 2 F]`."""
        standard = ((features - self.centre) / self.spread).clamp(-8, 8)
        return torch.cat([standard, standard.abs()], dim=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scores `[N, 1]`."""
        return self.expand(features) @ self.weight[:, None]


def laion_linear(width: int) -> nn.Module:
    """LAION's linear predictor (`sa_0_4_vit_l_14_linear.pth`)."""
    return nn.Linear(width, 1)


class LaionMLP(nn.Module):
    """LAION's second predictor (`sac+logos+ava1-l14-linearMSE.pth`), which has no activations.

    Args:
        width: Number of features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Scores `[N, 1]`."""
        return self.layers(features)


class AestheticHead:
    """Scores glyphs by features of a CLIP model.

    A head trained here gives 0 to the average clean training glyph and has a deviation of 1 over them; LAION's heads
    give the marks from 1 to 10 that people gave to photographs.

    Args:
        kind: `ranker`, `linear` or `mlp`.
        module: Maps features `[N, width]` to scores `[N, 1]`.
        width: Number of features.
    """

    def __init__(self, kind: str, module: nn.Module, width: int) -> None:
        self.kind, self.module, self.width = kind, module.eval().requires_grad_(False), width

    def scores(self, scorer: ClipScorer, images: Images) -> np.ndarray:
        """Scores float32 `[N]` of pictures uint8 `[N, H, W]`.

        Raises:
            KanjiDiffusionError: If the CLIP model gives features of another width.
        """
        if self.kind != "ranker":
            return self._rate(scorer.image_features(images))
        return self._rate(glyph_features(scorer, images))

    def scores_of(self, embedding: np.ndarray, statistics: np.ndarray, measures: pd.DataFrame) -> np.ndarray:
        """`scores` of pictures of which `features_and_statistics` and `ink_measures` are known.

        Raises:
            KanjiDiffusionError: If the CLIP model gives features of another width.
        """
        return self._rate(ranker_features(statistics, measures) if self.kind == "ranker" else embedding)

    def _rate(self, features: np.ndarray) -> np.ndarray:
        if features.shape[1] != self.width:
            raise KanjiDiffusionError(_other_width(f"The aesthetic head ({self.kind})", self.width, features.shape[1]))
        return self.module(torch.as_tensor(features))[:, 0].numpy()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the head as safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(self.module.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"kind": self.kind, "width": self.width}))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> AestheticHead:
        """Load what `save_pretrained` wrote.

        Raises:
            KanjiDiffusionError: If the folder is not whole.
        """
        try:
            config = json.loads((Path(folder) / "config.json").read_text())
            module = _MODULES[config["kind"]](config["width"])
            module.load_state_dict(safetensors.torch.load_file(Path(folder) / "model.safetensors"))
        except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise KanjiDiffusionError(
                f"The aesthetic head in {folder} cannot be read ({str(error).splitlines()[0]}): "
                "run `kedro run --pipeline=filter_glyphs` to make a new one."
            ) from error
        return cls(config["kind"], module, config["width"])


_MODULES: dict[str, Callable[[int], nn.Module]] = {"ranker": Ranker, "linear": laion_linear, "mlp": LaionMLP}


def glyph_features(scorer: ClipScorer, images: Images) -> np.ndarray:
    """Features of a head trained here, float32 `[N, F]`: CLIP features of every depth, and ink measures.

    A vision tower without stages gives its embedding alone.
    """
    seen = scorer.stage_statistics(images) if scorer.has_stages else scorer.image_features(images)
    return ranker_features(seen, ink_measures(images))


def ranker_features(seen: np.ndarray, measures: pd.DataFrame) -> np.ndarray:
    """`glyph_features` of pictures whose features of the CLIP model, `[N, F]`, and `ink_measures` are known."""
    measures = measures.assign(components=np.log1p(measures["components"]))
    return np.concatenate([seen, measures.to_numpy(np.float32)], axis=1)


def require_head(settings: AestheticSettings) -> None:
    """Refuse a head whose file is not there.

    Raises:
        KanjiDiffusionError: Naming it.
    """
    if settings.head != TRAINED:
        _require_file(Path(settings.head))


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise KanjiDiffusionError(
            f"The aesthetic head {path} is not there: put the file there, or set `aesthetics.head` to trained."
        )


def load_laion_head(path: Path, scorer: ClipScorer) -> AestheticHead:
    """Load one of LAION's predictors, which come as pickled state dicts; no code in them is run.

    Raises:
        KanjiDiffusionError: If the file is missing, is no state dict of tensors, is not one of the two predictors,
            or was made for features of another width than the CLIP model's.
    """
    _require_file(path)
    state = _read_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    first = shapes.get("weight") or shapes.get("layers.0.weight") or ()
    width = first[-1] if len(first) == 2 else 0
    kind = "linear" if "weight" in shapes else "mlp"
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in _MODULES[kind](width or 1).state_dict().items()}
    if shapes != expected:
        found = ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())[:4]) or "nothing"
        raise KanjiDiffusionError(
            f"The aesthetic head {path} is neither LAION's linear predictor nor its MLP (it holds {found}): "
            "set `aesthetics.head` to sa_0_4_vit_l_14_linear.pth, sac+logos+ava1-l14-linearMSE.pth, or trained."
        )
    embedding = scorer.image_features(np.full((1, 64, 64), 255, np.uint8)).shape[1]
    if width != embedding:
        raise KanjiDiffusionError(_other_width(f"The aesthetic head {path}", width, embedding))
    module = _MODULES[kind](width)
    module.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return AestheticHead(kind, module, width)


def _other_width(head: str, width: int, given: int) -> str:
    return (
        f"{head} takes features of width {width}, but those of the CLIP model have {given}: "
        "set `clip.model.source` to the model it was made for (ViT-L-14 for LAION's), or `aesthetics.head` to trained."
    )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise KanjiDiffusionError(
            f"The aesthetic head {path} cannot be read, or would run code when read: "
            "get the original file anew, or set `aesthetics.head` to trained."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise KanjiDiffusionError(
            f"The aesthetic head {path} holds something else than a state dict of tensors: "
            "get the original file anew, or set `aesthetics.head` to trained."
        )
    return state


def make_aesthetic_head(
    scorer: ClipScorer, glyphs: pd.DataFrame, settings: AestheticSettings
) -> tuple[AestheticHead, dict[str, Any]]:
    """The aesthetic head that the settings name, and its ranking of glyphs of faces held out.

    Args:
        scorer: Gives the features.
        glyphs: Rows with `split`, `held_out`, `view`, `style` and `image`. Without faces held out, first views are
            ranked.
        settings: Which head.

    Returns:
        The head, and what `ranking_report` returned.
    """
    if settings.head == TRAINED:
        head = train_aesthetic_head(scorer, open_images(glyphs[glyphs["split"] == "train"]), settings)
    else:
        head = load_laion_head(Path(settings.head), scorer)
    held = glyphs[glyphs["held_out"]] if glyphs["held_out"].any() else glyphs[glyphs["view"] == 0]
    held = held.iloc[evenly(len(held), _RANKED)]
    return head, ranking_report(scorer, head, decode_images(held), held["style"].tolist(), settings.seed + 1)


def train_aesthetic_head(scorer: ClipScorer, images: Images, settings: AestheticSettings) -> AestheticHead:
    """Learn to rank each picture above a weakly degraded one, and that above a strongly degraded one.

    Args:
        scorer: Gives the features.
        images: Clean training glyphs, uint8 `[N, H, W]`.
        settings: How to train.
    """
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(settings.seed))
    clean = images[chosen[: settings.pairs].numpy()]
    kinds = np.arange(len(clean)) % len(degradations.TRAINING)
    little, much = np.empty_like(clean), np.empty_like(clean)
    for number, kind in enumerate(degradations.TRAINING):
        rows = kinds == number
        little[rows] = degradations.corrupt(clean[rows], kind, _LITTLE, settings.seed)
        much[rows] = degradations.corrupt(clean[rows], kind, _MUCH, settings.seed)
    features = [torch.as_tensor(glyph_features(scorer, part)) for part in (clean, little, much)]
    ranker = Ranker(features[0].shape[1])
    ranker.centre, ranker.spread = features[0].mean(dim=0), features[0].std(dim=0).clamp(min=1e-4)
    ranked = [ranker.expand(part) for part in features]
    weight = _rank(torch.cat([ranked[0] - ranked[1], ranked[1] - ranked[2]]), settings.penalty)
    scores = ranked[0] @ weight
    ranker.weight.copy_(weight / scores.std().clamp(min=1e-6))
    return AestheticHead("ranker", ranker, features[0].shape[1])


def _rank(better: torch.Tensor, penalty: float) -> torch.Tensor:
    """Weights `[F]` that make `better @ weight` positive: RankNet's loss, which is convex for a linear score."""
    weight = torch.zeros(better.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.softplus(-(better @ weight)).mean() + penalty * weight.square().mean()
        loss.backward()
        return loss

    solver.step(closure)
    return weight.detach()


def ranking_report(
    scorer: ClipScorer, head: AestheticHead, images: np.ndarray, styles: Sequence[str], seed: int
) -> dict[str, Any]:
    """How often pictures score above their degraded versions.

    Args:
        scorer: Gives the features.
        head: The head.
        images: Clean pictures that the head was not trained on, uint8 `[N, H, W]`.
        styles: Their styles.
        seed: Of the degradations.

    Returns:
        Shares of pairs in the correct order: `trained_kinds` and `held_out_kinds` (means over kinds), `kind` and, for
        the kinds held out, `style`; and the number of `glyphs`.
    """
    clean = head.scores(scorer, images)
    right = pd.DataFrame(
        {
            kind: clean > head.scores(scorer, degradations.corrupt(images, kind, _HALF, seed))
            for kind in degradations.TRAINING | degradations.HELD_OUT
        }
    )
    by_kind = right.mean()
    held_out = right[list(degradations.HELD_OUT)]
    return {
        "glyphs": len(images),
        "trained_kinds": by_kind[list(degradations.TRAINING)].mean(),
        "held_out_kinds": by_kind[list(degradations.HELD_OUT)].mean(),
        "kind": by_kind.to_dict(),
        "style": held_out.mean(axis=1).groupby(np.asarray(styles)).mean().to_dict(),
    }
