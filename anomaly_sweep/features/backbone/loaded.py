"""The network of the shards at hand: made once, kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from anomaly_sweep.config import PRETRAINED, BackboneConf
from anomaly_sweep.errors import WeightsError
from anomaly_sweep.features.backbone.weights import weights_identity
from anomaly_sweep.fingerprint import fingerprint

if TYPE_CHECKING:
    from anomaly_sweep.features.backbone.network import Network

loaded: dict[str, Network] = {}


def network_of(backbone: BackboneConf, device: str, identity: dict[str, str]) -> Network:
    """The network with the weights of that identity; one at a time stays in memory.

    Raises
    ------
    ConfigError, WeightsError
        If there is no such network, or its weights cannot be had or are not those any more.
    """
    from anomaly_sweep.features.backbone.device import resolve_device
    from anomaly_sweep.features.backbone.network import Network

    key = fingerprint(backbone, device, identity)
    if key not in loaded:
        loaded.clear()
        network = Network(backbone, resolve_device(device))
        if weights_identity(backbone) != identity:  # features would be kept under another file's name
            raise WeightsError(
                f"{backbone.weights}: the file has changed since the work was planned; start again"
            )
        loaded[key] = network
    return loaded[key]


def fetch_weights(backbones: Iterable[BackboneConf]) -> None:
    """Download pretrained weights that are not on this machine yet: what is planned is named by content."""
    wanted = {one.model: one for one in backbones if one.weights == PRETRAINED}
    if wanted:
        from anomaly_sweep.features.backbone.create import fetch

        for backbone in wanted.values():
            fetch(backbone)


def check_network(backbone: BackboneConf, levels: Sequence[str], side: int, device: str) -> dict[str, str]:
    """Make the network once, before long work starts; returns the levels that it cannot give -> why.

    Raises
    ------
    ConfigError, WeightsError
        If there is no such network or its weights cannot be had.
    """
    return network_of(backbone, device, weights_identity(backbone)).unusable(levels, side)
