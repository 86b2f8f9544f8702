"""What came of `chaos`: the events in the logs of its processes, counted."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from moe.store.manifest import epochs_of
from tests.benchmarks.chaos_scene import Event

SET_ASIDE = re.compile(r"(?P<folder>\S+/\S+)/(?P<name>[^/ ]+) in the store [^:]*: (?P<why>.*); it is made again")


@dataclass
class Tally:
    """What came of it."""

    kills: int = 0
    pauses: int = 0
    damaged: int = 0
    evicted: int = 0
    failed: int = 0  # workers that ended by themselves, wrongly
    reads: int = 0
    wrong: int = 0
    set_aside: int = 0
    unreadable: int = 0  # warnings that the store cannot be read or written
    begun: int = 0
    trained: int = 0
    needed: int = 0

    @property
    def ratio(self) -> float:
        return self.trained / max(self.needed, 1)

    def table(self) -> str:
        """One line for each figure."""
        rows = {
            "workers killed": self.kills,
            "workers paused beyond their lease": self.pauses,
            "workers that failed by themselves": self.failed,
            "files damaged or deleted": self.damaged,
            "chains evicted": self.evicted,
            "reads": self.reads,
            "wrong reads": self.wrong,
            "set aside": self.set_aside,
            "warnings that the store fails": self.unreadable,
            "epochs trained": self.trained,
            "epochs needed": self.needed,
            "trained / needed": f"{self.ratio:.4f}",
            "cut short": self.begun - self.trained,
            "not needed, a kill or pause": f"{(self.trained - self.needed) / max(self.kills + self.pauses, 1):.2f}",
        }
        return "\n".join(f"{name:<36}{value:>10}" for name, value in rows.items())


def tally(events: list[Event]) -> Tally:
    """Count, and decide which epochs were needed."""
    count = Tally()
    damaged: set[str] = set()  # paths
    trained: set[tuple[str, int]] = set()  # folder, epoch
    lost: dict[str, set[int]] = {}  # committed epochs by folder, until they are trained or committed again
    for event in sorted(events, key=lambda event: event["at"]):
        match event:
            case {"kind": "killed"}:
                count.kills += 1
            case {"kind": "paused"}:
                count.pauses += 1
            case {"kind": "evicted"}:
                count.evicted += 1
            case {"kind": "failed"}:
                count.failed += 1
            case {"kind": "damaged", "path": path}:
                count.damaged += 1
                damaged.add(path)
            case {"kind": "lost", "folder": folder, "epochs": epochs}:
                lost.setdefault(folder, set()).update(range(1, epochs + 1))
            case {"kind": "warned", "sentence": sentence} if found := SET_ASIDE.match(sentence):
                count.set_aside += 1
                epochs = epochs_of(found["name"])
                if epochs and f"{found['folder']}/{found['why'].split()[0]}" in damaged:
                    lost.setdefault(found["folder"], set()).update(range(1, epochs + 1))
            case {"kind": "warned"}:
                count.unreadable += 1
            case {"kind": "committed", "folder": folder, "epochs": epochs}:
                lost.get(folder, set()).difference_update(range(1, epochs + 1))
            case {"kind": "begun"}:
                count.begun += 1
            case {"kind": "trained", "folder": folder, "epoch": epoch}:
                count.trained += 1
                again = (folder, epoch) in trained
                count.needed += not again or epoch in lost.get(folder, ())
                trained.add((folder, epoch))
                lost.get(folder, set()).discard(epoch)
            case {"kind": "read", "right": right}:
                count.reads += 1
                count.wrong += not right
    return count


def events_in(folder: Path) -> list[Event]:
    """All that was logged; a kill may have cut a line short."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found
