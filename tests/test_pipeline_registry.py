"""The pipelines as a user names them."""

from kedro.framework import project as kedro_project
from kedro.framework.session import KedroSession

PIPELINES = [
    "render_glyphs",
    "filter_glyphs",
    "train_vae",
    "train_unet",
    "evaluate",
    "generate",
    "build_font",
    "compare_recipes",
    "score",
    "adapt",
    "distill",
]


def test_each_pipeline_is_a_namespace_of_its_nodes_and_of_nothing_else(project, kedro_run_here):
    KedroSession.create(project, env="test").load_context()
    pipelines = kedro_project.pipelines
    assert sorted(pipelines) == sorted(["__default__", *PIPELINES])
    for name in PIPELINES:
        assert all(node.name.startswith(f"{name}.") for node in pipelines[name].nodes)
    names = {name.removeprefix("params:") for name in pipelines["__default__"].datasets()}
    assert {"glyphs", "small.latents", "stages.small", "text_to_kanji"} <= names
    assert not {name for name in names if name.split(".")[0] in PIPELINES}


def test_a_node_without_its_pipeline_is_answered_with_its_whole_name(kedro_run_here):
    done = kedro_run_here("--env=test", "--from-nodes=initialise_unet")
    expected = "Pipeline does not contain nodes named ['initialise_unet']. Did you mean: "
    assert done.stderr.splitlines()[-1] == f"Error: {expected}['train_unet.initialise_unet']?"
