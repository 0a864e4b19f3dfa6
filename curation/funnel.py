"""The summary of a selection: how many inputs each rule saw, rejected and left, and why; people per image."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, UInt8

from curation.rules import DECODE, SUBSET, RuleSet
from curation.verdicts import PASSES, details
from shards.errors import ShardError

KEPT = "kept"


class Tally:
    """Counts verdicts batch by batch. `statuses`: what `detail` means at the step `decode`."""

    def __init__(self, rules: RuleSet, statuses: tuple[str, ...]) -> None:
        named = {rule.reason: details(rule) for rule in rules.rules}
        self.steps = rules.steps
        self.texts = [
            statuses if step == DECODE else (SUBSET,) if step == SUBSET else named[step]
            for step in self.steps
        ]
        self.counts = np.zeros((256, 256), np.int64)
        self.pool, self.kept = Counter[int](), Counter[int]()

    def add(
        self,
        step: UInt8[np.ndarray, " rows"],
        detail: UInt8[np.ndarray, " rows"],
        people: Int32[np.ndarray, " rows"],
    ) -> None:
        """Count some rows."""
        place = step.astype(np.int64) * 256 + np.where(step == PASSES, 0, detail)
        self.counts += np.bincount(place, minlength=1 << 16).reshape(256, 256)
        for counter, chosen in ((self.pool, people), (self.kept, people[step == PASSES])):
            number, count = np.unique(chosen, return_counts=True)
            counter.update(dict(zip(number.tolist(), count.tolist(), strict=True)))

    def reasons(self, step: UInt8[np.ndarray, " rows"], detail: UInt8[np.ndarray, " rows"]) -> pa.Array:
        """The reason of each row as text, null when it is kept; a duplicate's without the key."""
        flat, start = list[str](), np.zeros(256, np.int64)
        for number, texts in enumerate(self.texts):
            start[number] = len(flat)
            flat += texts
        place = pa.array(start[step] + detail, mask=step == PASSES)
        return pa.array(flat, pa.string()).take(place)

    def to_json(self) -> dict[str, Any]:
        """{"inputs", "kept", "stages": [...], "people": {...}, "people_of_pool": {...}}.

        A stage: {"stage", "entered", "rejected", "left", "reasons": {reason: count}}, in order of precedence;
        `duplicate:<key>` counts as `duplicate`. "people": number of people (as text) -> number of kept images
        (paper, Fig. 2). Raises ShardError when the counts do not add up.
        """
        inputs, kept = int(self.counts.sum()), int(self.counts[PASSES].sum())
        stages, left = [], inputs
        for number, step in enumerate(self.steps):
            counted = zip(self.texts[number], self.counts[number].tolist(), strict=False)
            reasons = {reason: count for reason, count in sorted(counted) if count}
            rejected = sum(reasons.values())
            stage = {"stage": step, "entered": left, "rejected": rejected, "left": left - rejected}
            stages.append({**stage, "reasons": reasons})
            left -= rejected
        if left != kept or sum(self.pool.values()) != inputs:
            raise ShardError(f"the funnel does not add up: {left} inputs left after all rules, {kept} kept")
        people = {
            name: {str(number): counter[number] for number in sorted(counter)}
            for name, counter in (("people", self.kept), ("people_of_pool", self.pool))
        }
        return {"inputs": inputs, "kept": kept, "stages": stages, **people}
