"""The Space of Hugging Face, as far as it runs here: its files agree with the project, its command serves the page."""

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from importlib import metadata

import grimp
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.conftest import PROJECT_ROOT
from tests.page.conftest import SAMPLING, wait_until

from kanji_diffusion.page.server import ModelSettings

SPACE = PROJECT_ROOT / "spaces"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "made"
    subprocess.run([PROJECT_ROOT / "scripts" / "make_space.sh", folder], check=True)
    return folder


def command():
    """What the Dockerfile starts, and where it listens."""
    dockerfile = (SPACE / "Dockerfile").read_text()
    return json.loads(re.search(r"^CMD (.*)$", dockerfile, re.M)[1])


def test_the_header_is_that_of_a_docker_space():
    _, header, text = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    told = yaml.safe_load(header)
    assert (told["sdk"], told["license"]) == ("docker", "apache-2.0")
    assert str(told["app_port"]) == command()[command().index("--port") + 1]
    assert len(told["short_description"]) <= 60 and text.strip()


def test_it_has_the_projects_settings_and_requirements():
    conf = {
        key: value
        for path in (PROJECT_ROOT / "conf" / "base").glob("parameters_*.yml")
        for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items()
    }
    ours = ModelSettings.model_validate_json((SPACE / "settings.json").read_text(encoding="utf-8"))
    theirs = ModelSettings.model_validate({name: conf[name] for name in ModelSettings.model_fields})
    assert ours.captions == theirs.captions
    assert ours.sampling.model_dump(exclude={"preset"}) == theirs.sampling.model_dump(exclude={"preset"})
    trained = [face for face in theirs.fonts.faces if not face.held_out]
    assert all(face in trained for face in ours.fonts.faces)
    assert {face.style for face in ours.fonts.faces} == set(ours.captions.styles)
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["reader"]}
    assert set(requirements()) <= known


def requirements():
    return [line for line in (SPACE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]


def test_it_requires_what_the_page_imports():
    graph = grimp.build_graph(
        "kanji_diffusion", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    imported = {name for name in graph.find_upstream_modules("kanji_diffusion.page.__main__") if "." not in name}
    imported -= {"kanji_diffusion", *sys.stdlib_module_names}
    named = [Requirement(line).name for line in requirements()]
    inner = [Requirement(line).name for name in named for line in metadata.requires(name) or ()]
    brought = {canonicalize_name(name) for name in (*named, *inner)}
    packages = metadata.packages_distributions()
    lacking = [name for name in imported if not brought & {canonicalize_name(each) for each in packages[name]}]
    assert "torch" in imported and not lacking


def test_its_command_serves_the_page(space, tmp_path):
    """On another port, with no fonts, and with nothing but what its requirements bring on the path."""
    given = command()
    assert given[0] == "python"
    given[given.index("--port") + 1] = "0"
    given[given.index("--address") + 1] = "127.0.0.1"
    # Kedro and MLflow are not among the requirements.
    blocked = "import sys; sys.modules.update(dict.fromkeys(['kedro', 'mlflow', 'kedro_mlflow', 'kedro_datasets']))"
    (tmp_path / "sitecustomize.py").write_text(blocked)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:src", "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *given[1:], "--fonts", str(tmp_path), "--threads", "1"],
            cwd=space,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "The page is at" in log.read_text() or process.poll() is not None, 300)
        address = re.search(r"http://\S+", log.read_text())
        assert address, log.read_text()
        request = urllib.request.Request(
            f"{address[0]}/api/draw",
            json.dumps({"prompt": "⿰魚雷", "steps": SAMPLING.steps}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert "frame-ancestors https://huggingface.co" in answer.headers["Content-Security-Policy"]
            assert b'"said"' in answer.read()
    finally:
        process.terminate()
        process.wait(30)
