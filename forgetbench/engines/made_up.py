"""Made-up distributions for the scripted engine: what a Read gets where there is no model.

They follow from a hash of checkpoint, prompt and the tokens before a position, and are whole: the same question has
the same answer, everything that is told of a position fits together, and another checkpoint has other ones.

At each position `LIKELY` of the printable ASCII characters (a scripted engine's tokens are characters) share all but
a thousandth of the mass, each a fixed ratio of the one before it; every other id has the same share of the rest.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

from forgetbench.engines.reading import Position, reading_of, wanted_of
from forgetbench.types import Read, Reading

VOCABULARY = 1 << 21
"""More than there are characters."""
LIKELY = 16
_PRINTABLE = range(32, 127)
_REST = 0.001


@dataclass(frozen=True, slots=True)
class MadeUp:
    """One position's distribution."""

    ids: tuple[int, ...]
    """The likely ids, the most likely first."""
    masses: tuple[float, ...]
    """Of the likely ids."""

    @property
    def other(self) -> float:
        """The mass of each id that is not likely."""
        return _REST / (VOCABULARY - LIKELY)

    def logprob(self, token: int) -> float:
        return math.log(self.masses[self.ids.index(token)] if token in self.ids else self.other)

    def entropy(self) -> float:
        """Nats."""
        return -math.fsum(p * math.log(p) for p in self.masses) - _REST * math.log(self.other)

    def nucleus_size(self, nucleus: float) -> int:
        mass = 0.0
        for size, p in enumerate(self.masses, 1):
            mass += p
            if mass >= nucleus:
                return size
        return min(LIKELY + max(1, math.ceil((nucleus - mass) / self.other)), VOCABULARY)

    def first(self, m: int) -> tuple[int, ...]:
        """The m most likely ids; of equally likely ones the smallest first."""
        others = (i for i in count() if i not in self.ids)
        return (*self.ids[:m], *islice(others, max(0, min(m, VOCABULARY) - LIKELY)))


def made_up(seed: bytes) -> MadeUp:
    """The distribution of a hash."""
    draw = random.Random(seed)
    ratio = draw.uniform(0.35, 0.85)
    shares = [ratio**i for i in range(LIKELY)]
    whole = math.fsum(shares)
    return MadeUp(tuple(draw.sample(_PRINTABLE, LIKELY)), tuple((1 - _REST) * s / whole for s in shares))


def made_up_reading(checkpoint: str, prompt: str, body: Read) -> Reading:
    """A reading of those tokens after that prompt."""
    context = hashlib.sha256(f"{checkpoint}\n{prompt}\n".encode("utf-8", "surrogatepass"))
    positions: list[Position] = []
    for wanted in wanted_of(body):
        here = made_up(context.digest())
        top = here.first(wanted.top_m)
        logprobs = [here.logprob(i) for i in top]
        positions.append(
            Position(
                logprob=here.logprob(wanted.token),
                entropy=here.entropy(),
                nucleus_size=here.nucleus_size(wanted.nucleus),
                argmax=here.ids[0],
                top_ids=top,
                top_logprobs=logprobs,
                tail_mass=max(0.0, 1.0 - math.fsum(map(math.exp, logprobs))),
                at=[here.logprob(i) for i in wanted.at],
            )
        )
        context.update(wanted.token.to_bytes(8, "little"))
    return _whole(body, positions)


def _whole(body: Read, positions: Sequence[Position]) -> Reading:
    reading = reading_of(body, positions)
    assert isinstance(reading, Reading)  # every number in it is finite
    return reading
