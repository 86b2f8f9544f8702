"""The networks as tables: layers, output shapes and parameters, and which stage trains them."""

from torch import nn
from torchinfo import summary

from moe.config import Config
from moe.console import table
from moe.networks import IMAGE, Mixture, Subgates, parameters
from moe.stages import STAGES


def whole_mixture(config: Config) -> Mixture:
    """The mixture of a config, untrained."""
    frozen = {
        name: STAGES[name].network(STAGES[name].size(config), precision=config.precision)
        for name in STAGES["mixture"].needs
    }
    return Mixture(frozen, Subgates(config.precision))


def describe(config: Config) -> str:
    """A table of the stages, then every network layer by layer, then the mixture as its own stage sees it."""
    mixture = whole_mixture(config)
    parts = [_stages(config, mixture)]
    for name, network in mixture.frozen.items():
        network.requires_grad_(True)
        parts.append(f"{name}, as stage {name} trains it\n{_layers(network)}")
        network.requires_grad_(False)
    parts.append(f"mixture, as stage mixture trains it: the subgates, on four frozen networks\n{_layers(mixture)}")
    return "\n\n".join(parts)


def _stages(config: Config, mixture: Mixture) -> str:
    rows = []
    for stage in STAGES.values():
        last = stage.name == "mixture"
        trained = parameters(mixture.subgates if last else mixture.frozen[stage.name])
        frozen = parameters(mixture.frozen) if last else 0
        network = "two subgates" if last else f"{stage.size(config)} VGG"
        rows.append((stage.name, network, f"{trained:,}", f"{frozen:,}"))
    rows.append(("in all", "", f"{parameters(mixture):,}", ""))
    return table(("stage", "network", "trains", "frozen"), rows, left=2)


def _layers(network: nn.Module) -> str:
    shown = summary(
        network,
        input_size=(1, *IMAGE),
        depth=4,
        col_names=("output_size", "num_params", "trainable"),
        row_settings=("var_names",),
        mode="eval",
        device="cpu",
        verbose=0,
    )
    return str(shown).replace("Units.MEGABYTES", "M")  # torchinfo 1.8 prints its enum's name since Python 3.11
