"""What can be wrong with configurations before any data is looked at."""

from __future__ import annotations

from collections.abc import Iterable

from anomaly_sweep.config import AnyConfiguration, Configuration, LocalizationConfiguration, RuntimeConf
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.estimators.create import check_each
from anomaly_sweep.fingerprint import fingerprint


def check_settings(configurations: Iterable[AnyConfiguration]) -> None:
    """Build each distinct estimator and localizer once and throw it away.

    Raises
    ------
    ConfigError
        For a wrong key or value of one of them, or a level that the backbone lacks.
    """
    configurations = list(configurations)
    check_each(c.estimator for c in configurations if isinstance(c, Configuration))
    localized = [c for c in configurations if isinstance(c, LocalizationConfiguration)]
    if localized:
        from anomaly_sweep.localization.create import levels_of  # imports torch

        for c in {fingerprint(dict(c.localizer), c.backbone): c for c in localized}.values():
            levels_of(c.localizer, c.backbone)


def check_objectives(configurations: Iterable[AnyConfiguration], runtime: RuntimeConf) -> None:
    """Raise ConfigError if ``runtime.objectives`` asks for what a configuration does not give."""
    pixel = [name for name in runtime.objectives if name in ("pixel_auroc", "aupro", "aupro_mvtec")]
    if pixel and any(isinstance(c, Configuration) for c in configurations):
        raise ConfigError(f"runtime.objectives={pixel[0]} needs task=localization")
