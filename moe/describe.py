"""The networks as tables: layers, output shapes and parameters, and which stage trains them."""

from torch import Tensor, nn
from torchinfo import summary

from moe.config import Config
from moe.console import table
from moe.networks import IMAGE, parameters, run_frozen
from moe.stages import STAGES, networks


class Mixture(nn.Module):
    """The whole mixture of a config, untrained: four frozen networks and the subgates over them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.frozen = networks(config).requires_grad_(False)
        self.subgates = self.frozen.pop("mixture").requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 10) log of the mixture's output, up to a constant per image."""
        return self.subgates(images, None, run_frozen(dict(self.frozen.items()), images))  # type: ignore[no-any-return]


def describe(config: Config) -> str:
    """A table of the stages, then every network layer by layer, then the mixture as its own stage sees it."""
    mixture = Mixture(config)
    trained, frozen = parameters(mixture.subgates), parameters(mixture.frozen)
    rows = [
        (name, f"{STAGES[name].size(config)} VGG", f"{parameters(network):,}", "0")
        for name, network in mixture.frozen.items()
    ]
    rows += [("mixture", "two subgates", f"{trained:,}", f"{frozen:,}"), ("in all", "", f"{trained + frozen:,}", "")]
    parts = [table(("stage", "network", "trains", "frozen"), rows, left=2)]
    for name, network in mixture.frozen.items():
        network.requires_grad_(True)
        parts.append(f"{name}, as stage {name} trains it\n{_layers(network)}")
        network.requires_grad_(False)
    parts.append(f"mixture, as stage mixture trains it: the subgates, on four frozen networks\n{_layers(mixture)}")
    return "\n\n".join(parts)


def _layers(network: nn.Module) -> str:
    columns, rows, size = ("output_size", "num_params", "trainable"), ("var_names",), (1, *IMAGE)
    shown = summary(network, size, depth=4, col_names=columns, row_settings=rows, mode="eval", device="cpu", verbose=0)
    return str(shown).replace("Units.MEGABYTES", "M")  # torchinfo 1.8 prints its enum's name since Python 3.11
