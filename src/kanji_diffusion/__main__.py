"""`python -m kanji_diffusion` is `kedro run`."""

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main() -> None:
    """Run a pipeline of the project with the options of `kedro run`."""
    configure_project("kanji_diffusion")
    find_run_command("kanji_diffusion")()


if __name__ == "__main__":
    main()
