from kedro.pipeline import Node, Pipeline

from kanji_diffusion.hooks import configured_stages
from toy.nodes import draw, train


def register_pipelines() -> dict[str, Pipeline]:
    drawing = Pipeline([Node(draw, ["ink", "params:count"], "glyphs", name="draw")])
    training = Pipeline(
        [
            Node(
                train,
                ["glyphs", f"params:stages.{stage}.training", f"{stage}.tracker"],
                f"{stage}.report",
                name=f"train_{stage}",
            )
            for stage in configured_stages()
        ]
    )
    return {"drawing": drawing, "training": training, "__default__": drawing + training}
