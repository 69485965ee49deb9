"""`python -m kanji_diffusion` is `kedro run`."""

import logging


def main() -> None:
    """Run a pipeline of the project with the options of `kedro run`."""
    # Kedro tells at its import where it found the configuration of the log. It would reset a level.
    logging.getLogger("kedro.framework.project").addFilter(lambda record: record.levelno > logging.INFO)
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    configure_project("kanji_diffusion")
    find_run_command("kanji_diffusion")()


if __name__ == "__main__":
    main()
