import shutil
import socket
from pathlib import Path

import click
import click.testing
import pytest
from kedro.validation.type_extractor import TypeExtractor
from pydantic import RootModel

from kanji_diffusion import cli
from kanji_diffusion.core.settings import model_of
from kanji_diffusion.pipelines import adapt, generate, score


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "`--conf-source=nowhere` is not there: name the folder of a configuration, or an archive"),
        ("note.txt", "is a file, but no archive: give a folder"),
        ("broken.tar.gz", "broken.tar.gz cannot be read (Not a gzipped file (b'no')): give a folder, or an archive"),
        ("broken.zip", "broken.zip cannot be read (File is not a zip file): give a folder, or an archive"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_told(kedro_run, toy_project, source, sentence):
    for name in ("note.txt", "broken.tar.gz", "broken.zip"):
        (toy_project / name).write_text("none")
    result = kedro_run(f"--conf-source={source}")
    assert result.exit_code != 0
    assert sentence in result.stderr.splitlines()[-1]


def test_an_archive_of_the_configuration_serves(kedro_run, toy_project):
    shutil.make_archive(str(toy_project / "dist"), "gztar", toy_project, "conf")
    result = kedro_run("--conf-source=dist.tar.gz", "--pipeline=drawing", "--params=count=2")
    assert result.exit_code == 0, result.output


def test_outside_of_the_project_its_folder_is_asked_for(kedro_run, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    monkeypatch.chdir(other)
    result = kedro_run()
    assert result.stderr == (
        f"Error: {other} does not lie in the project: change to the folder with its `pyproject.toml` and `conf`, and "
        "run the same command again.\n"
    )
    assert list(other.iterdir()) == []


def test_without_a_champion_nothing_is_served(toy_project):
    result = click.testing.CliRunner().invoke(cli.cli, ["serve"])
    registry = f"MLflow's registry at sqlite:///{toy_project}/mlflow.db"
    assert result.stderr == f"Error: `kanji-diffusion` has no champion in {registry}: run `kedro run` first.\n"
    assert result.exit_code == 1


@pytest.mark.parametrize("command", ["serve", "page"])
def test_a_port_that_is_taken_is_told(toy_project, command):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = click.testing.CliRunner().invoke(cli.cli, [command, f"--port={port}"])
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


def test_the_texts_are_all_parameters_that_are_text():
    variants = [generate.create_pipeline(named=True), generate.create_pipeline(replay=True)]
    variants += [adapt.create_pipeline(), score.create_pipeline(pictures=True)]
    hints = TypeExtractor(dict(enumerate(variants))).extract_types_from_pipelines()
    texts = set()
    for path, hint in hints.items():
        model = model_of(hint)
        if model is not None and issubclass(model, RootModel):
            root = model.model_fields["root"].annotation
            texts |= {path} if root in (str, Path, tuple[str, ...]) else set()
    # Those of a group are fields of its model.
    assert texts == {name for name in cli.TEXT_PARAMETERS if "." not in name}
