"""``anomaly-sweep``: Hydra's entry point."""

from __future__ import annotations

import os
import sys

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from anomaly_sweep import terminal
from anomaly_sweep.cli.overrides import check_overrides
from anomaly_sweep.config import register
from anomaly_sweep.config.labels import config_folder
from anomaly_sweep.errors import AnomalySweepError

_FULL_ERROR = "HYDRA_FULL_ERROR"


def task(cfg: DictConfig) -> float | tuple[float, ...]:
    """One configuration (Hydra's task function): its mean AUC, or what ``runtime.objectives`` asks."""
    from anomaly_sweep.launch.jobs import run_job

    return run_job(cfg)


def main() -> None:
    """Console script. Errors of the user's making are one message, without a stack trace; exit code 1.

    ``HYDRA_FULL_ERROR=1`` shows the trace of those too.
    """
    terminal.prepare()
    if os.environ.get(_FULL_ERROR) == "1":
        _run()
        return
    os.environ[_FULL_ERROR] = "1"  # Hydra hands exceptions on instead of printing them its way
    try:
        _run()
    except (AnomalySweepError, CompactHydraException, OmegaConfBaseException) as error:
        message = terminal.visible(_message(error), lines=True)
        sys.exit(message if message.startswith("error: ") else f"error: {message}")


def _run() -> None:
    check_overrides(sys.argv[1:], config_folder())
    register()
    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(task)()


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
