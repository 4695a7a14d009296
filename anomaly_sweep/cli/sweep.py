"""``anomaly-sweep``: Hydra's entry point."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from anomaly_sweep import __version__, terminal
from anomaly_sweep.cli.interrupt import exit_code, terminable
from anomaly_sweep.cli.overrides import COMPLETION_FLAGS, check_overrides
from anomaly_sweep.config import for_hydra, register
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import AnomalySweepError, ConfigError
from anomaly_sweep.unwritable import is_unwritable

_FULL_ERROR = "HYDRA_FULL_ERROR"


def task(cfg: DictConfig) -> float | tuple[float, ...]:
    """One configuration (Hydra's task function): its mean AUC, or what ``runtime.objectives`` asks."""
    from anomaly_sweep.launch.jobs import run_job

    return run_job(cfg)


def main() -> None:
    """Console script. Errors of the user's making are one message, without a stack trace; exit code 1.

    An interrupt (Ctrl-C, SIGTERM) is one line too; exit codes 130 and 143. ``HYDRA_FULL_ERROR=1`` shows the
    trace of all of these.
    """
    if "--version" in sys.argv[1:]:
        print(f"anomaly-sweep {__version__} (Hydra {hydra.__version__})")
        return
    terminal.prepare()
    if os.environ.get(_FULL_ERROR) == "1":
        with terminable():
            _run()
        return
    try:
        with terminable(), _full_errors():
            _run()
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        print("interrupted; launch again to go on", file=sys.stderr)
        gc.freeze()  # collecting all that torch and MLflow hold takes Python seconds at its end
        sys.exit(exit_code(interrupt))
    except (AnomalySweepError, CompactHydraException, OmegaConfBaseException) as error:
        message = terminal.visible(_message(error), lines=True)
        sys.exit(message if message.startswith("error: ") else f"error: {message}")
    except BrokenPipeError:
        sys.exit(terminal.let_output_go())
    except OSError as error:  # Hydra makes the folder of a single run before anything of ours runs
        if not is_unwritable(error, Path()) or error.filename is None:
            raise
        where = terminal.visible(str(error.filename))
        sys.exit(f"error: {where}: {error.strerror}; choose a folder for hydra.run.dir that can be written")


def _run() -> None:
    """Hydra's command line."""
    sys.argv[1:] = [a if a.startswith("-") else for_hydra(a) for a in sys.argv[1:]]
    check_overrides(sys.argv[1:], config_folder())
    register()
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(task)()
    except ValueError as error:
        if not COMPLETION_FLAGS & set(sys.argv[1:]):
            raise
        raise ConfigError(f"{error} (anomaly-sweep -sc install=bash)") from error


@contextmanager
def _full_errors() -> Iterator[None]:
    """Let Hydra hand exceptions on instead of printing them its way."""
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = before


def _message(error: Exception) -> str:
    """The message of an error; OmegaConf's, which say where in further lines, on one."""
    message = str(error).strip()
    if isinstance(error, OmegaConfBaseException):
        return message.splitlines()[0]
    if isinstance(error.__cause__, OmegaConfBaseException):
        cause = str(error.__cause__).splitlines()[0]
        return f"{message.removeprefix('Error merging override ')}: {cause}".replace("\n", " ")
    return message


if __name__ == "__main__":
    main()
