"""``anomaly-sweep``: Hydra's entry point."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

import anomaly_sweep
from anomaly_sweep.config import register


def config_folder() -> Path:
    """The ``conf`` folder: inside the package in a wheel, beside it in a checkout or editable install."""
    package = Path(anomaly_sweep.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def task(cfg: DictConfig) -> float:
    """One configuration (Hydra's task function); returns its mean AUC."""
    from anomaly_sweep.sweep.launch import run_job

    return run_job(cfg)


def main() -> None:
    """Console script."""
    register()
    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(task)()


if __name__ == "__main__":
    main()
