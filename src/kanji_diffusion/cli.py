"""`kedro run`, `kedro serve` and `kedro page`: a user's mistake is answered in one sentence, never with a traceback."""

from __future__ import annotations

import copy
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import kedro.runner
import yaml
from kedro.config import MissingConfigException
from kedro.framework import project as kedro_project
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError, validate_conf_source
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io.core import DatasetError
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from kanji_diffusion import prune, registry
from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.core.settings import sentence
from kanji_diffusion.hooks import ProjectContext, project_root
from kanji_diffusion.tracking import journal
from kanji_diffusion.tracking_hooks import waiting_folder

TEXT_PARAMETERS = (
    "face", "model", "negative_prompt", "parts", "pictures", "prompt", "prompts_file", "replay", "style",
    "score.prompt", "score.table", "typeface.family", "typeface.license", "typeface.meanings", "typeface.meanings_file",
)  # fmt: skip
"""Parameters of `generate`, `build_font`, `score` and `adapt` that are text, or lists of texts."""
_TRUTH = ("true", "false")


class _Stopped(click.ClickException):
    exit_code = 130


class RunCommand(click.Command):
    """Kedro's run command, with errors told in one sentence."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the options."""
        with _plainly(args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the pipelines."""
        # Kedro logs an error of a node in its own words before raising it.
        logging.getLogger("kedro.pipeline.node").addFilter(lambda record: record.levelno < logging.ERROR)
        warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
        # Each line would leave a traceback once nobody reads them any more, as with `kedro run | head`.
        logging.raiseExceptions = False
        with _plainly([ctx.params["pipeline"], *ctx.params["pipelines"]]):
            _refuse_outside()
            if (name := ctx.params["runner"]) and "." not in name and not hasattr(kedro.runner, name):
                ctx.fail(f"There is no runner `{name}`: choose SequentialRunner or ThreadRunner.")
            done = super().invoke(ctx)
        sys.stdout.flush()
        return done


def _refuse_outside() -> None:
    # `kanji-diffusion` can be called anywhere, and Kedro would make a project of the working directory.
    root, package = find_kedro_project(Path.cwd()), str(kedro_project.PACKAGE_NAME)
    if root is None or not (root / "src" / package).is_dir():
        raise KanjiDiffusionError(
            f"{Path.cwd()} does not lie in the project: change to the folder with its `pyproject.toml` and `conf`, and "
            "run the same command again."
        )


@click.group(name="kedro")
def cli() -> None:  # noqa: D103 - a help text here would be shown as that of `kedro`
    pass


def _read_params(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """The parameters of `--params`, nested.

    In place of Kedro's reading: a comma within brackets does not end a parameter, and text stays text ("no" and
    "title: subtitle" are meanings, and YAML would make something else of them).
    """
    if not isinstance(value, str):
        return value
    given: dict[str, Any] = {}
    for item in _split_outside_brackets(value):
        key, equals, text = (part.strip() for part in item.partition("="))
        if not key or not equals:
            context.fail(
                f"`--params` has the part `{item}`: give key=value, and commas between, as in a=1,b=[2,3], and put "
                'quotation marks around a text with a comma, as in prompt="left fish, right thunder".'
            )
        if "${" in text:
            context.fail(f"`--params` has `${{` in `{key}`, which would refer to another parameter: leave it out.")
        try:
            found = _read_value(text, keep_text=key in TEXT_PARAMETERS)
        except YAMLError:
            context.fail(
                f"`--params={value}` cannot be read: close every bracket and quotation mark, and put quotation marks "
                f'around an entry of a list that holds any of , [ ] {{ }} # : as in {key}=["a, b","c"], and around a '
                "text that begins with a bracket."
            )
        group = given
        for name in key.split(".")[:-1]:
            group = group.setdefault(name, {})
            if not isinstance(group, dict):
                context.fail(f"`--params` gives `{key}` and a value for `{name}` itself: give one of them.")
        group[key.split(".")[-1]] = found
    return given


def _read_conf_source(context: click.Context, option: click.Parameter, value: str) -> str | None:
    try:
        return validate_conf_source(context, option, value)
    except click.BadParameter:
        context.fail(
            f"`--conf-source={value}` is not there: name the folder of a configuration, or an archive of it as "
            "`kedro package` makes one."
        )


def _read_value(text: str, *, keep_text: bool) -> Any:
    """What a parameter is set to.

    Args:
        text: What stands after the equals sign.
        keep_text: Whether the parameter is text, or a list of texts, which stay what they are.

    Raises:
        YAMLError: If a bracket or quotation mark is not closed.
    """
    if text[:1] == '"' and (len(text) < 2 or text[-1] != '"'):
        raise YAMLError("a quotation mark is not closed")
    whole = text[:1] in ("[", "{") or (len(text) > 1 and text[0] in "\"'" and text[-1] == text[0])
    if keep_text:
        return yaml.load(text, yaml.BaseLoader) if whole else None if text == "null" else text
    try:
        given = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except YAMLError:
        if whole:
            raise
        return text
    assert isinstance(given, dict)
    found = given["value"]
    # YAML makes a truth value of "no", a mapping of "a: b", and a comment of what follows in "a #1".
    plain = isinstance(found, int | float | None) and not (isinstance(found, bool) and text.lower() not in _TRUTH)
    return found if whole or plain else text


def _split_outside_brackets(text: str) -> list[str]:
    items, start, depth, quote, before = [], 0, 0, "", ""
    for place, letter in enumerate(text):
        if letter == "," and not depth and not quote:
            items.append(text[start:place])
            start, before = place + 1, ""
            continue
        # An apostrophe of a bare word is no quotation mark.
        if letter in "\"'" and (depth or quote or before == "="):
            quote = "" if quote == letter else quote or letter
        elif not quote:
            depth += (letter in "[{") - (letter in "]}" and depth > 0)
        before = before if letter.isspace() else letter
    return [item.strip() for item in (*items, text[start:]) if item.strip()]


def _run_options() -> list[click.Parameter]:
    """Kedro's options; those of its own command stay as they are."""
    options = [copy.copy(option) for option in kedro_run.params]
    for option in options:
        if option.name == "params":
            option.callback = _read_params
        elif option.name == "conf_source":
            option.callback = _read_conf_source
    return options


run = RunCommand("run", params=_run_options(), callback=kedro_run.callback, help=kedro_run.help)
cli.add_command(run)


@cli.command()
@click.option("--env", "-e", help="Environment whose champion is served.")
@click.option("--port", default=5001, show_default=True, type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
def serve(env: str | None, port: int) -> None:
    """Serve the champion of MLflow's registry by HTTP, on this machine alone."""
    with _plainly([]):
        context = KedroSession.create(project_root(), env=env).load_context()
        assert isinstance(context, ProjectContext)
        registry.serve(context.mlflow.tracking.experiment.name, port)


@cli.command()
@click.option("--env", "-e", help="Environment whose models are shown.")
@click.option("--model", help="As the parameter of generate; by default the champion, or the released model.")
@click.option("--port", default=5002, show_default=True, type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
def page(env: str | None, model: str | None, port: int) -> None:
    """Show a page on which kanji are asked for, on this machine alone."""
    from kanji_diffusion import hosting  # the web server takes a fifth of a second, and other commands have none

    with _plainly([]):
        context = KedroSession.create(project_root(), env=env).load_context()
        assert isinstance(context, ProjectContext)
        hosting.serve_page(context, model, port)


@cli.command("mlflow-replay")
@click.option("--env", "-e", help="Environment whose runs have left something.")
def mlflow_replay(env: str | None) -> None:
    """Send MLflow what runs could not report while it was away."""
    with _plainly([]):
        folder = waiting_folder(KedroSession.create(project_root(), env=env).load_context())
        left = 0
        for run_id, sent, waiting in journal.replay(folder):
            rest = "goes on and sends its own" if waiting is None else f"{sent} reports were sent, {waiting} wait"
            click.echo(f"Run {run_id}: {rest}.")
            left += waiting or 0
        if left:
            raise KanjiDiffusionError(
                f"{left} reports still wait in {folder}: the log says why; give the command again."
            )


@cli.command("prune")
@click.option(
    "--keep",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Versions of each dataset, and finished trainings of each model, that stay at least.",
)
@click.option("--env", "-e", help="Environment whose data is looked at.")
@click.option("--yes", is_flag=True, help="Remove; without it, only show what would go.")
def prune_data(keep: int, env: str | None, yes: bool) -> None:
    """Show, or remove, old versions and checkpoints of finished trainings that nothing needs any more."""
    with _plainly([]):
        context = KedroSession.create(project_root(), env=env).load_context()
        assert isinstance(context, ProjectContext)
        found = prune.survey(context, keep)
        click.echo("\n".join(prune.describe(found)))
        if all(each.why for each in found):
            return
        if yes:
            prune.remove(found)
        click.echo("What goes was removed." if yes else "Nothing was removed: add `--yes` (with make, `YES=1`).")


@contextmanager
def _plainly(requested: list[str]) -> Iterator[None]:
    try:
        yield
    except KedroCliError as error:
        raise click.UsageError(error.message) from error
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt:
        journal.end_run("KILLED")
        raise _Stopped("Stopped on request: what was finished is kept.") from None
    except TrainingInterrupted as error:
        raise _Stopped(str(error)) from error
    except Exception as error:
        raise click.ClickException(_sentence(error, requested)) from error


def _sentence(error: Exception, requested: list[str]) -> str:
    causes = list(_causes(error))
    told = next((cause for cause in causes if isinstance(cause, KanjiDiffusionError)), None)
    if told is not None:
        return str(told)
    if isinstance(error, ValidationError):
        return sentence(error, error.title)
    if isinstance(error, MissingConfigException):
        return f"{' '.join(str(error).split())}: check `--env` and `--conf-source`."
    if isinstance(error, OmegaConfBaseException | YAMLError):
        return " ".join(str(error).split())
    if isinstance(error, DatasetError) and isinstance(causes[-1], DatasetError | OSError | ValueError):
        return _dataset_sentence(str(error))
    if isinstance(error, ValueError) and _raised_by_kedro(error):
        names = sorted(pipelines)
        for name in requested:
            if name and name not in names:
                return f"There is no pipeline `{name}`: choose among {', '.join(names)}."
        return str(error)
    return _unexpected(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _raised_by_kedro(error: Exception) -> bool:
    last_frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return str(last_frame.f_globals.get("__name__")).startswith("kedro.")


def _dataset_sentence(message: str) -> str:
    pattern = r"(\S+): Failed while (loading|saving) data (?:from|to) dataset [^\n]*\n(.*)"
    if wrapped := re.match(pattern, message, re.S):
        message = f"`{wrapped[1]}` failed in {wrapped[2]}: {wrapped[3]}"
    return " ".join(message.split())


def _unexpected(error: Exception) -> str:
    name = " ".join([type(error).__name__, *getattr(error, "__notes__", [])])
    reason = " ".join(str(error).split()) or "no reason given"
    log = Path(project_root()) / "logs" / "errors.log"
    try:
        log.parent.mkdir(exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n")
            traceback.print_exception(error, file=file)
    except OSError as unwritable:
        return f"{name}: {reason} (the traceback could not be kept: {unwritable})."
    return f"{name}: {reason} (the traceback is in {log})."
