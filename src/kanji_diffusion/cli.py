"""`kedro run` and `kedro serve`: a user's mistake is answered in one sentence, never with a traceback."""

from __future__ import annotations

import copy
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io.core import DatasetError
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from kanji_diffusion import registry, tracking
from kanji_diffusion.core.errors import KanjiDiffusionError, TrainingInterrupted
from kanji_diffusion.core.settings import sentence
from kanji_diffusion.hooks import ProjectContext, project_root


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
        with _plainly([ctx.params["pipeline"], *ctx.params["pipelines"]]):
            return super().invoke(ctx)


@click.group(name="kedro")
def cli() -> None:  # noqa: D103 - a help text here would be shown as that of `kedro`
    pass


def _split_params(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """What Kedro makes of `--params`, but a comma within brackets does not end a parameter."""
    if not isinstance(value, str):
        return value
    items = _split_outside_brackets(value)
    for item in items:
        if not item.partition("=")[0].strip() or "=" not in item:
            context.fail(f"`--params` has the part `{item}`: give key=value, and commas between, as in a=1,b=[2,3].")
    keys_and_values = (item.partition("=")[::2] for item in items)
    try:
        given = OmegaConf.from_dotlist([f"{key.strip()}={given}" for key, given in keys_and_values])
    except YAMLError:
        context.fail(f"`--params={value}` cannot be read: close every bracket and quotation mark.")
    return OmegaConf.to_container(given)


def _split_outside_brackets(text: str) -> list[str]:
    items, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth:
            items.append("")
            continue
        items[-1] += letter
        # An apostrophe of a bare word is no quotation mark.
        if depth and letter in "\"'":
            quote = "" if quote == letter else quote or letter
        elif not quote:
            depth += (letter in "[{") - (letter in "]}" and depth > 0)
    return [item.strip() for item in items if item.strip()]


def _run_options() -> list[click.Parameter]:
    """Kedro's options; those of its own command stay as they are."""
    options = [copy.copy(option) for option in kedro_run.params]
    for option in options:
        if option.name == "params":
            option.callback = _split_params
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


@contextmanager
def _plainly(requested: list[str]) -> Iterator[None]:
    try:
        yield
    except KedroCliError as error:
        raise click.UsageError(error.message) from error
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt:
        tracking.end_run("KILLED")
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
    if isinstance(error, MissingConfigException | OmegaConfBaseException | YAMLError):
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
