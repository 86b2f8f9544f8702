"""The chains of a study as a tree: what is trained once, and how many trials read it. No torch.

stage -> network, and what else of a config the stage sees -> seed
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from operator import attrgetter

from moe.config import NOT_SEEN, SIZE_FLAGS
from moe.console import duration
from study.analyze.analysis import Analysis
from study.study import Record

MOST_CHAINS = 12  # of a network, that are listed
HEADS = ("stage", "chains", "times read", "epochs needed", "epochs once", "time needed", "time once", "")


@dataclass(slots=True)
class Chain:
    """A stage as the trials of a study used it."""

    stage: str
    network: tuple[str, ...]  # its size, and what is searched and it sees
    seed: int
    inputs: tuple[str, ...]  # of a mixture: networks, and the epochs they are read at
    trials: int = 0
    epochs: int = 0  # that they needed in all
    once: int = 0  # that the longest of them needed
    seconds: float = 0.0  # of `epochs`
    seconds_once: float = 0.0

    def read(self, epochs: int, seconds: float) -> None:
        """Count one more trial."""
        self.trials += 1
        self.epochs, self.seconds = self.epochs + epochs, self.seconds + seconds
        self.once, self.seconds_once = max(self.once, epochs), max(self.seconds_once, seconds)


def chains(analysis: Analysis) -> list[Chain]:
    """Those that the complete trials read."""
    names = [name for name in analysis.study.space.grids if name not in NOT_SEEN]
    found: dict[tuple[object, ...], Chain] = {}
    for record in analysis.complete:
        for chain, epochs, seconds in _uses(record, names):
            key = (chain.stage, chain.network, chain.seed, chain.inputs)
            found.setdefault(key, chain).read(epochs, seconds)
    return list(found.values())


def _uses(record: Record, names: list[str]) -> Iterator[tuple[Chain, int, float]]:
    config, inputs = record.config, list[str]()
    seen = tuple(f"{name} {getattr(config, name)}" for name in names)
    for name, stage in record.done.stages.items():
        flag = SIZE_FLAGS.get(name)
        size = () if flag is None else ("large" if getattr(config, flag) else "small",)
        chain = Chain(name, (*size, *seen), config.seed, tuple(inputs) if flag is None else ())
        yield chain, len(stage.epochs), stage.seconds + stage.seconds_reused
        inputs.append(" ".join((*size, name, f"at epoch {stage.best_epoch}")))


def tree(analysis: Analysis) -> str:
    """The chains as nested lists in HTML, with a bar of what is trained once within what is needed; empty without."""
    stages: dict[str, dict[tuple[str, ...], list[Chain]]] = defaultdict(lambda: defaultdict(list))
    for chain in (found := chains(analysis)):
        stages[chain.stage][chain.network].append(chain)
    if not found:
        return ""
    of_stage = {stage: [chain for each in networks.values() for chain in each] for stage, networks in stages.items()}
    widest = max(sum(chain.epochs for chain in each) for each in of_stage.values())
    lines = [f"<p>{''.join(f'<b>{head}</b>' for head in HEADS)}</p>"]
    lines.append(f"<p>{_row('all stages', found, sum(chain.epochs for chain in found))}</p>")
    for stage, networks in stages.items():
        shown = " open" if len(networks) <= MOST_CHAINS else ""
        lines.append(f"<details{shown}><summary>{_row(stage, of_stage[stage], widest)}</summary>")
        for network in sorted(networks, key=lambda words: [(len(word), word) for word in words]):
            row = _row(", ".join(network) or "one network", networks[network], widest)
            lines.append(f"<details><summary>{row}</summary><ul>{''.join(_list(networks[network]))}</ul></details>")
        lines.append("</details>")
    return f'<div class="scroll"><div class="tree">{"".join(lines)}</div></div>'


def _row(name: str, found: Sequence[Chain], widest: int) -> str:
    trials, epochs, once = (sum(map(attrgetter(number), found)) for number in ("trials", "epochs", "once"))
    times = (duration(sum(map(attrgetter(time), found))) for time in ("seconds", "seconds_once"))
    cells = [*(f"{number:,}" for number in (len(found), trials, epochs, once)), *times]
    shares = f"--once:{100 * once / widest:.1f}%;--all:{100 * epochs / widest:.1f}%"
    return f'<b>{escape(name)}</b>{"".join(f"<span>{cell}</span>" for cell in cells)}<i style="{shares}"></i>'


def _list(found: Sequence[Chain]) -> Iterator[str]:
    """The chains of a network, the most read first."""
    for chain in heapq.nlargest(MOST_CHAINS, found, attrgetter("trials")):
        times = "once" if chain.trials == 1 else f"by {chain.trials} trials"
        of = f" of {', '.join(chain.inputs)}" if chain.inputs else ""
        yield f"<li>seed {chain.seed}: {chain.once} epochs, read {times}{of}</li>"
    if len(found) > MOST_CHAINS:
        yield f"<li>and {len(found) - MOST_CHAINS} more</li>"
