"""`kedro page`: which model it shows, with which evaluators, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request

import click.testing
import pytest
from kedro.framework.session import KedroSession
from tests.page.conftest import free_port, wait_until

from kanji_diffusion import cli, hosting
from kanji_diffusion.page.evaluators import Evaluators
from kanji_diffusion.page.model import PageModel
from kanji_diffusion.page.settings import PageRequest


@pytest.fixture
def find(project, kedro_run_here):
    """`find_host` of the project in an environment."""
    return lambda env=None, source=None: hosting.find_host(KedroSession.create(project, env=env).load_context(), source)


def test_the_champion_comes_with_its_settings_and_evaluators(find, finished):
    host = find("test")
    assert host.name == "models:/kanji-diffusion-test@champion"
    assert (host.settings.sampling.sampler, host.settings.sampling.steps) == ("ddim", 4)
    evaluators, told = Evaluators(host.recogniser, host.components), []
    model = PageModel(host.model, host.name, host.settings.captions, host.settings.sampling, evaluators, plans=3)
    model.answer(PageRequest(prompt="water", style="brush", seed=41), told.append)
    said = told[-1]["said"]
    assert said["recogniser"][0] in host.recogniser.config.label2id
    assert said["components"].keys() == {"found", "probability", "seen"}
    assert told[-1]["missing"] == ["The nearest real characters are not shown: this model has no list of characters."]


def test_without_a_champion_the_released_model_is_shown(find):
    host = find()
    assert (host.name, host.recogniser, host.components) == ("The released model", None, None)
    assert host.settings.sampling.sampler == "ddim"


def test_a_wrong_model_is_refused(project, kedro_run_here):
    result = click.testing.CliRunner().invoke(cli.cli, ["page", "--model=nothing", f"--port={free_port()}"])
    assert result.exit_code == 1
    assert "Parameter `model` is 'nothing', but there is no model in nothing: give a version" in result.output


def test_it_is_served_until_it_is_stopped(project):
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", "page", "--model=released", f"--port={free_port()}"],
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))
    reader.start()
    try:
        wait_until(lambda: "The page is at" in "".join(lines) or process.poll() is not None, 300)
        address = re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))
        assert address, "".join(lines)
        with urllib.request.urlopen(f"{address[0]}/api/about", timeout=60) as answer:
            assert b"The released model" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        reader.join()
    assert "Stopped on request" in "".join(lines)
