"""What the chosen config's networks said of the images that score a trial, as the stage store keeps it.

Nothing is trained or computed by a network, and what is not right where the record is right is not shown. Loads torch.
"""

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from moe.config import CLASS_NAMES, CLASSES, NATURAL, SUPERCLASSES
from moe.kept import kept_probabilities
from moe.stages import plan
from moe.store.location import place_at
from moe.training.numerics import Numerics
from study.analyze.classes import Scored
from study.analyze.markup import shaded
from study.study import Record, Run, Study

Probabilities = dict[str, NDArray[np.float32]]  # by stage, (N, outputs)
EACH = 4  # images of a kind


def said(study: Study, chosen: Sequence[Record], scored: Scored, stores: Sequence[Path], runs: Sequence[Run]) -> str:
    """Confusion and sample images in HTML; empty where no store keeps what a trial's networks predicted."""
    kept = {each.trial: found for each in chosen if (found := _kept(each, scored, stores, runs))}
    if not kept:
        return ""
    names, (trial, first) = CLASS_NAMES[study.dataset], next(iter(kept.items()))
    matrices = (_confusion(arm, names, list(kept.values()), scored.labels) for arm in ("baseline", "mixture"))
    head = f"<h2>What gate, experts and mixture say of an image, trial {trial}</h2>"
    confusion = f'<h2>Which class is taken for which</h2><div class="pair">{"".join(matrices)}</div>'
    return f"{confusion}{head}{''.join(_samples(names, first, scored))}"


def _kept(record: Record, scored: Scored, stores: Sequence[Path], runs: Sequence[Run]) -> Probabilities | None:
    """What the networks of a trial said of the scored images; None where no store keeps it."""
    result, labels = record.done, torch.from_numpy(scored.labels)
    device = "cpu" if result.device == "cpu" else "cuda"
    versions = dict.fromkeys([*(run.versions.get("torch", "") for run in reversed(runs)), torch.__version__])
    for version in dict.fromkeys(".".join(version.split(".")[:2]) for version in versions):
        numerics = Numerics(
            device=device, precision=record.config.precision, torch=version, instructions=result.instructions
        )
        requests = plan(record.config, result.data, numerics)
        for store in stores:
            found = kept_probabilities(place_at(str(store)), requests, labels)
            if found and found[1] == result.right:
                return {stage: values.numpy() for stage, values in found[0].items()}
    return None


def _confusion(arm: str, names: Sequence[str], said: Sequence[Probabilities], labels: NDArray[np.int64]) -> str:
    """Which class a stage takes for which, in % of the images of a class, over all seeds."""
    counts = np.zeros((CLASSES, CLASSES))
    for each in said:
        np.add.at(counts, (labels, each[arm].argmax(1)), 1)
    shares = counts / counts.sum(1, keepdims=True)
    signs = np.where(np.eye(CLASSES, dtype=bool), 1, -1)
    rows = [
        (name, [(f"{100 * share:.0f}", float(share * sign)) for share, sign in zip(*row, strict=True)])
        for name, *row in zip(names, shares, signs, strict=True)
    ]
    return shaded(f"{arm}: what the images of a class, a row, are taken for, in %", names, rows)


def _samples(names: Sequence[str], said: Probabilities, scored: Scored) -> Iterator[str]:
    """The first images of each kind, and what gate, experts and mixture said of them."""
    truth = np.isin(scored.labels, NATURAL).astype(int)
    baseline, mixture = (said[arm].argmax(1) == scored.labels for arm in ("baseline", "mixture"))
    kinds = {
        "The mixture is right, its baseline wrong": mixture & ~baseline,
        "The baseline is right, the mixture wrong": baseline & ~mixture,
        "The gate picks the wrong expert": said["gate"].argmax(1) != truth,
    }
    for words, rows in kinds.items():
        cards = [_card(names, said, scored, int(row)) for row in np.flatnonzero(rows)[:EACH]]
        yield f"<h3>{words}: {rows.sum():,} of {len(rows):,} images, the first {len(cards)}</h3>"
        yield f'<div class="samples">{"".join(cards)}</div>'


def _card(names: Sequence[str], said: Probabilities, scored: Scored, row: int) -> str:
    label = int(scored.labels[row])
    picked = SUPERCLASSES[int(said["gate"][row].argmax())]
    lines = []
    for stage in ("gate", "baseline", *SUPERCLASSES, "mixture"):
        best = int(said[stage][row].argmax())
        right = best == (int(label in NATURAL) if stage == "gate" else label)
        words = (SUPERCLASSES if stage == "gate" else names)[best]
        mark = "unasked" if stage in SUPERCLASSES and stage != picked else "right" if right else "wrong"
        lines.append(f'<dt>{stage}</dt><dd class="{mark}">{escape(words)} {said[stage][row, best]:.0%}</dd>')
    picture = f'<img alt="" src="{_png(scored.images[row])}"><b>{escape(names[label])}</b>'
    return f"<figure>{picture}<dl>{''.join(lines)}</dl></figure>"


def _png(image: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"
