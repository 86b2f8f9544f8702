"""What a training's bits may depend on besides its config: how it was in the study and how it is here. No torch.

Equal bits are promised where arithmetic and code are equal.
"""

from dataclasses import dataclass

from study import machine
from study.reproduce.original import Original

PACKAGES = ("torch", "numpy", "python")  # that a training uses
SHORT = 12  # characters of a hash
CHANGED = "+"  # ends a commit where files were changed since


@dataclass(frozen=True)
class Circumstance:
    """One thing, then and now, in words; None where that is not known."""

    name: str
    then: str | None
    now: str | None

    @property
    def known(self) -> bool:
        """Whether it can be compared."""
        return self.then is not None and self.now is not None

    @property
    def differs(self) -> bool:
        """Whether it is another now; two states of code with changes since their commit may be."""
        return self.known and (self.then != self.now or str(self.now).endswith(CHANGED))


def circumstances(original: Original, *, device: str, threads: int, instructions: str, data: str) -> list[Circumstance]:
    """All that is known of them.

    Args:
        original: the trial that is trained again.
        device: what it is trained on now, in a record's words.
        threads: of this process.
        instructions: that it is trained with now, in a record's words.
        data: the fingerprint of the data now.
    """
    result, then, now = original.result, original.run.versions, machine.versions()
    found = [
        *(Circumstance(name, then.get(name), now[name]) for name in PACKAGES),
        Circumstance("device", result.device, device),
        Circumstance("threads", str(result.threads), str(threads)),
        Circumstance("instruction set", result.instructions, instructions),
        Circumstance("data", _short(result.data), data[:SHORT]),
        Circumstance("code", _short(original.run.commit), _short(machine.commit())),
    ]
    return [one for one in found if one.then or one.now]


def _short(value: str | None) -> str | None:
    """A hash cut short, with the mark of changes since."""
    if value is None:
        return None
    return value[:SHORT] + (CHANGED if value.endswith(CHANGED) else "")
