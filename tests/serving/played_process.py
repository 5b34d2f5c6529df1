"""The engine's process with a played engine in it: `python played_process.py SOCKET --model X [--name NAME]`.

A prompt "die" ends the engine as a broken device would; "full" finds the queue full; "wait" is never answered; all
others that fit into the context are, with "Hi".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from adapters.local.inference.errors import EngineDead, PromptTooLong, QueueFull
from adapters.local.inference.request import Job
from adapters.local.inference.stream import JobStream
from adapters.local.own import OwnOptions
from adapters.local.serving import main
from adapters.local.serving.loading import Loaded, Tell
from tests.serving.played import CONTEXT, PlayedEngine, chatting, steps


class Engine(PlayedEngine):
    def submit_all(self, jobs: Sequence[Job]) -> list[JobStream]:
        prompt = bytes(jobs[0].prompt_ids)
        if prompt == b"die":
            self.refusal = EngineDead("the engine failed: OutOfMemoryError")
        elif prompt == b"full":
            raise QueueFull(7.0)
        elif len(prompt) >= CONTEXT:
            raise PromptTooLong(len(prompt), CONTEXT)
        elif prompt != b"wait":
            self._answers.append(steps("Hi"))
        streams = super().submit_all(jobs)
        main.tell("submitted")
        return streams


def load(options: OwnOptions, tell: Tell) -> Loaded:
    tell("loading weights 50% of 1.0 GB")
    return Loaded(chatting(Engine()), lambda: main.tell("started"), lambda: main.tell("closed"))


if __name__ == "__main__":
    vars(main).update(load=load, _GRACE=1)
    sys.exit(main.main(sys.argv[1:]))
