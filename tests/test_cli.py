import socket
from pathlib import Path

import click
import click.testing
import pytest
from kedro.validation.type_extractor import TypeExtractor
from pydantic import RootModel

from kanji_diffusion import cli
from kanji_diffusion.core.settings import model_of
from kanji_diffusion.pipelines import generate


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--params=stages.small.training.steps=abc",
         "Parameter `stages.small.training.steps` is 'abc': it must be a whole number."),
        ("--params=stages.small.training.steps=0",
         "Parameter `stages.small.training.steps` is 0: it should be greater than or equal to 1."),
        ("--params=stages.small.training.trouble=much",
         "Parameter `stages.small.training.trouble` is 'much': "
         "it should be 'none', 'mistake', 'stop', 'interrupt' or 'bug'."),
        ("--params=stages.small.training.optimizer.learning_rte=1",
         "There is no parameter `stages.small.training.optimizer.learning_rte`: did you mean `learning_rate`?"),
        ("--params=stages.small.training=7",
         "Parameter `stages.small.training` is 7: it must be a mapping."),
        ("--params=stages.small.training.rates=[0.5]",
         "Parameter `stages.small.training.rates.0` is 0.5: it should be greater than or equal to 1."),
        ("--params=stages.small.training.rates=[]",
         "Parameter `stages.small.training.rates` is []: "
         "Tuple should have at least 1 item after validation, not 0."),
        ("--params=foo=1", "There is no parameter `foo`: there are threads, count, stages."),
        ("--params=cuont=1", "There is no parameter `cuont`: did you mean `count`?"),
        ("--params=stages.smal.training.steps=1",
         "There is no parameter `stages.smal`: did you mean `stages.small`?"),
        ("--params=stages=5", "Parameter `stages` is '5': it must map the name of each stage to its settings."),
        ("--params=threads=many",
         "Parameter `threads` is 'many': it must be a whole number from 1, or null for all cores."),
        ("--pipeline=trainig", "There is no pipeline `trainig`: choose among __default__, drawing, training."),
        ("--nodes=dream", "Pipeline does not contain nodes named ['dream']."),
        ("--pipeline=training", "`glyphs` is missing: run `kedro run --pipeline=drawing` first."),
        ("--load-versions=glyph:2020-01-01T00.00.00.000Z",
         "'load_versions' keys [glyph] are not found in the catalog."),
        ("--load-versions=glyphs",
         "Expected the form of 'load_versions' to be 'dataset_name:YYYY-MM-DDThh.mm.ss.sssZ',found glyphs instead"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_in_one_sentence(kedro_run, options, sentence):
    result = kedro_run(options)
    assert result.stderr.splitlines()[-1] == f"Error: {sentence}"
    assert result.exit_code > 0
    assert "Traceback" not in result.output


def test_an_unknown_environment_is_answered_with_those_that_exist(kedro_run, toy_project):
    result = kedro_run("--env=gpuu")
    expected = f"There is no environment `gpuu` in {toy_project}/conf: choose among base, local, test."
    assert result.stderr == f"Error: {expected}\n"
    assert not (toy_project / "mlruns").exists()


def test_without_a_champion_nothing_is_served(toy_project):
    result = click.testing.CliRunner().invoke(cli.cli, ["serve"])
    registry = f"MLflow's registry at sqlite:///{toy_project}/mlflow.db"
    assert result.stderr == f"Error: `kanji-diffusion` has no champion in {registry}: run `kedro run` first.\n"
    assert result.exit_code == 1


def test_a_port_that_is_taken_is_told(toy_project):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = click.testing.CliRunner().invoke(cli.cli, ["serve", f"--port={port}"])
    assert result.stderr == (
        f"Error: Nothing can be served on port {port} of 127.0.0.1 (address already in use): end the program that uses "
        "it, or give another port with `--port`.\n"
    )
    assert result.exit_code == 1


def test_missing_raw_data_is_answered_with_its_remedy(kedro_run, toy_project):
    ink = toy_project / "data/01_raw/ink.txt"
    ink.unlink()
    assert kedro_run().stderr == f"Error: `ink` is missing at {ink}: put some ink there.\n"


def test_a_version_that_does_not_exist_is_answered_with_the_newest(kedro_run, toy_project):
    assert kedro_run("--pipeline=drawing").exit_code == 0
    (version,) = [path.name for path in (toy_project / "data/03_primary/glyphs.parquet").iterdir()]
    result = kedro_run("--pipeline=training", "--load-versions=glyphs:2020-01-01T00.00.00.000Z")
    expected = f"`glyphs` has no version 2020-01-01T00.00.00.000Z: the newest are {version}."
    assert result.stderr == f"Error: {expected}\n"


def test_a_broken_configuration_file_is_named(kedro_run, toy_project):
    (toy_project / "conf/local/parameters.yml").write_text("count: [1")
    result = kedro_run()
    assert "Invalid YAML or JSON file" in result.stderr
    assert "conf/local/parameters.yml" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_damaged_artifact_is_named(kedro_run, toy_project):
    assert kedro_run("--pipeline=drawing").exit_code == 0
    (table,) = (toy_project / "data/03_primary/glyphs.parquet").glob("*/glyphs.parquet")
    table.write_bytes(b"not a table")
    result = kedro_run("--pipeline=training")
    assert result.stderr.startswith("Error: `glyphs` failed in loading: ")
    assert "Parquet magic bytes not found" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("pipeline", "given", "sentence"),
    [
        (
            "drawing",
            "count=2,stages.small.training.steps=3",
            "Parameter `stages.small.training.steps` is not read by drawing: leave it out, or choose a pipeline that "
            "reads it (training).",
        ),
        (
            "training",
            "threads=1,count=2",
            "Parameter `count` is not read by training: leave it out, or choose a pipeline that reads it (drawing).",
        ),
    ],
)
def test_a_parameter_that_is_not_read_is_refused(kedro_run, mlflow_store, pipeline, given, sentence):
    result = kedro_run(f"--pipeline={pipeline}", f"--params={given}")
    assert result.stderr.splitlines()[-1] == f"Error: {sentence}"
    experiment = mlflow_store.get_experiment_by_name("kanji-diffusion").experiment_id
    assert mlflow_store.search_runs([experiment]) == []


def test_a_parameter_that_the_catalog_refers_to_is_read(kedro_run, toy_project):
    catalog = toy_project / "conf/base/catalog.yml"
    catalog.write_text(
        catalog.read_text().replace("data/01_raw/ink.txt", "data/01_raw/${runtime_params:count, ink.txt}")
    )
    result = kedro_run("--pipeline=training", "--params=count=4")
    assert "`glyphs` is missing" in result.stderr


def test_an_unknown_group_of_the_configuration_is_refused(kedro_run, toy_project):
    (toy_project / "conf/local/parameters.yml").write_text("cuont: 4\n")
    assert kedro_run().stderr.splitlines()[-1] == "Error: There is no parameter `cuont`: did you mean `count`?"


def test_a_mistake_in_the_settings_of_tracking_is_told(kedro_run, toy_project):
    (toy_project / "conf/local/mlflow.yml").write_text("tracking: {run: {nestd: true}}\n")
    assert "There is no parameter `KedroMlflowConfig.tracking.run.nestd`." in kedro_run().stderr


def test_what_a_node_tells_is_told(kedro_run):
    result = kedro_run("--params=stages.small.training.trouble=mistake")
    assert result.stderr.splitlines()[-1] == "Error: The ink is dry: buy some."
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("stop", "Training was stopped at step 2."),
        ("interrupt", "Stopped on request: what was finished is kept."),
    ],
)
def test_a_stop_on_request_has_the_exit_code_of_an_interrupt(kedro_run, trouble, sentence):
    result = kedro_run(f"--params=stages.small.training.trouble={trouble}")
    assert result.stderr.splitlines()[-1] == f"Error: {sentence}"
    assert result.exit_code == 130


def test_the_traceback_of_a_bug_is_kept_in_a_file_that_is_named(kedro_run, toy_project):
    result = kedro_run("--params=stages.small.training.trouble=bug")
    log = toy_project / "logs/errors.log"
    expected = f"ZeroDivisionError in node `train_small`: by nothing (the traceback is in {log})."
    assert result.stderr.splitlines()[-1] == f"Error: {expected}"
    assert 'raise ZeroDivisionError("by nothing")' in log.read_text()


def test_the_command_has_the_options_of_kedro():
    assert [parameter.name for parameter in cli.run.params] == [parameter.name for parameter in cli.kedro_run.params]


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ('prompt=["fire","mountain"],count=4', {"prompt": ["fire", "mountain"], "count": 4}),
        (
            'prompt=["fire, and ] smoke",ash],style=[brush]',
            {"prompt": ["fire, and ] smoke", "ash"], "style": ["brush"]},
        ),
        ("prompt=dragon's fire, style=brush", {"prompt": "dragon's fire", "style": "brush"}),
        ("a.b={x: [1,2]},c=", {"a": {"b": {"x": [1, 2]}}, "c": None}),
        ("replay=x=y.png", {"replay": "x=y.png"}),
        ("", {}),
    ],
)
def test_lists_may_be_given_on_the_command_line(given, parameters):
    with click.Context(cli.run) as context:
        (option,) = (option for option in cli.run.params if option.name == "params")
        assert option.callback(context, option, given) == parameters


@pytest.mark.parametrize("given", ["water", "a=1,water", "=3"])
def test_params_that_are_no_pairs_are_refused(kedro_run, given):
    done = kedro_run(f"--params={given}")
    assert done.exit_code != 0
    assert "give key=value, and commas between" in done.stderr


def test_an_open_bracket_is_told(kedro_run):
    done = kedro_run("--params=count=1,prompt=[fire")
    assert done.exit_code != 0
    assert "`--params=count=1,prompt=[fire` cannot be read: close every bracket" in done.stderr


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("prompt=no", {"prompt": "no"}),
        ("prompt=10", {"prompt": "10"}),
        ("prompt=null and void", {"prompt": "null and void"}),
        ("prompt=title: subtitle", {"prompt": "title: subtitle"}),
        ("prompt=water #1", {"prompt": "water #1"}),
        ("prompt=*star", {"prompt": "*star"}),
        ("prompt='a, b',count=2", {"prompt": "a, b", "count": 2}),
        ("prompt=it's,count=2", {"prompt": "it's", "count": 2}),
        ('prompt=["a, b","#1",no,10]', {"prompt": ["a, b", "#1", "no", "10"]}),
        ("style=[brush,gothic],count=2", {"style": ["brush", "gothic"], "count": 2}),
        ("model=null", {"model": None}),
        ("negative_prompt=", {"negative_prompt": ""}),
        ("captions.medium=on #2", {"captions": {"medium": "on #2"}}),
        ("training.compile=on", {"training": {"compile": "on"}}),
        ("a.b=1e-4,a.c=true,threads=null", {"a": {"b": 1e-4, "c": True}, "threads": None}),
        ("render.scale=[0.9,1.1]", {"render": {"scale": [0.9, 1.1]}}),
    ],
)
def test_text_of_the_command_line_stays_text(given, read):
    assert cli._read_params(click.Context(cli.run), cli.run.params[0], given) == read


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ('prompt="', "close every bracket and quotation mark"),
        ('prompt="left fish', "close every bracket and quotation mark"),
        ("prompt=[water #1]", "put quotation marks around an entry of a list"),
        ("prompt=${secret}", "would refer to another parameter: leave it out"),
        ("a=1,a.b=2", "`a.b` and a value for `a` itself: give one of them"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_remedy(given, sentence):
    with pytest.raises(click.UsageError) as told:
        cli._read_params(click.Context(cli.run), cli.run.params[0], given)
    assert sentence in told.value.message


def test_the_texts_are_all_parameters_of_generate_that_are_text():
    variants = [generate.create_pipeline(named=True), generate.create_pipeline(replay=True)]
    hints = TypeExtractor(dict(enumerate(variants))).extract_types_from_pipelines()
    texts = set()
    for path, hint in hints.items():
        model = model_of(hint)
        if model is not None and issubclass(model, RootModel):
            root = model.model_fields["root"].annotation
            texts |= {path} if root in (str, Path, tuple[str, ...]) else set()
    assert texts == set(cli.TEXT_PARAMETERS)
