"""Which nodes train a study: those of one kind of arithmetic, because with another one a stage has other bits."""

from collections.abc import Sequence
from dataclasses import dataclass

from moe.config import Precision

Kind = tuple[Precision, str]  # a precision, and in it a CPU's instruction set or a GPU's model


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A node with room for trials."""

    id: str  # Ray's
    name: str
    places: int  # trials that it has room for
    kind: Kind


@dataclass(frozen=True)
class Choice:
    """What was chosen of the nodes."""

    ok: bool
    sentence: str
    kind: Kind | None = None
    idle: tuple[str, ...] = ()  # ids of nodes that get no trial


def choose(nodes: Sequence[Candidate], before: str | None, mixed: bool) -> Choice:
    """The kind with room for most trials, or that of the trials that there are already.

    Args:
        nodes: those with room for at least one trial.
        before: the instruction set or GPU of the study's finished trials; None where there are none.
        mixed: use nodes of every kind.
    """
    places: dict[Kind, int] = {}
    for node in nodes:
        places[node.kind] = places.get(node.kind, 0) + node.places
    if not places:
        return Choice(True, "no node has room for a trial")
    kind = max(places, key=lambda kind: (kind[1] == before, places[kind]))
    if before not in (None, kind[1]) and not mixed:
        there = ", ".join(sorted({found for _, found in places}))
        return Choice(False, f"{there}; expected {before}, which trained the trials before, or --mixed")
    others = [node for node in nodes if node.kind != kind]
    named = "".join(f"; {node.name} has {node.kind[1]}" for node in others)
    if mixed:
        return Choice(True, f"{kind[1]}{named}: stages differ between them" if others else kind[1], kind)
    idle = f"{named} and gets no trial: --mixed would use {'it' if len(others) == 1 else 'them'} too"
    return Choice(True, f"{kind[1]}{idle if others else ''}", kind, tuple(node.id for node in others))
