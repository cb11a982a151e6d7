"""How many blocks to ask for at once: learned from what the nodes answer and what they refuse."""

from dataclasses import dataclass, replace

MAX_BLOCKS = 2_000
# An answer of this many logs decodes to some tens of megabytes; one that takes longer holds up other networks.
TARGET_LOGS = 20_000
TARGET_SECONDS = 5.0
# Answers without a refusal after which a size that was refused is tried again: limits change, and so do nodes.
CALM = 100


@dataclass(frozen=True, slots=True)
class Window:
    """`blocks` to ask for; `refused` is the smallest number that was too much lately; `calm` counts answers since."""

    blocks: int = 200
    refused: int | None = None
    calm: int = 0

    def answered(self, *, asked: int, logs: int, seconds: float) -> "Window":
        """After an answer to `asked` blocks: larger, unless it was heavy or the limit is near."""
        load = max(logs / TARGET_LOGS, seconds / TARGET_SECONDS)
        if load > 1:
            return replace(self, blocks=max(1, min(self.blocks, int(asked / load))))
        if asked < self.blocks:
            return self  # there was no more to ask for: nothing learned
        # Not beyond what the load would allow, judged by this answer.
        limit = min(MAX_BLOCKS, 2 * self.blocks, int(asked / load) if load > 0 else MAX_BLOCKS)
        if self.refused is None or self.calm >= CALM:
            return Window(max(self.blocks, limit))
        middle = (self.blocks + self.refused) // 2
        near = self.refused - self.blocks <= max(1, self.refused // 8)
        return Window(
            self.blocks if near else max(self.blocks, min(limit, middle)), self.refused, self.calm + 1
        )

    def too_much(self, *, asked: int, hint: int = 0) -> "Window":
        """After a node said that `asked` blocks were too much; `hint` is what it suggests instead."""
        blocks = hint if 0 < hint < asked else asked // 2
        return Window(max(1, blocks), asked if asked > 1 else None)

    def failed(self, *, asked: int) -> "Window":
        """After no answer: less is more likely to come through. One block cannot be less."""
        return replace(self, blocks=min(self.blocks, asked // 2)) if asked > 1 else self
