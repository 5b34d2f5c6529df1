"""Which replicas take no new work, by the operator's word: it is given once, and every worker process follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from adapters.errors import Fault, RelayError
from adapters.local.spec import EngineSpec
from adapters.local.status import Place, PlaceStatus, Sighting

_FROM_GOOD_TO_BAD = ("unknown", "up", "busy", "resting", "draining", "down")


class Watcher(Protocol):
    """A worker process."""

    def drained(self, places: Sequence[Place]) -> None:
        """These take no new work, all others do. Returns at once; `survey` asks behind it."""

    async def survey(self) -> Sequence[Sighting]:
        """How the process sees its replicas. Nothing once it is gone."""


class Draining:
    """What is drained of the engines of `specs`, and what the worker processes see of them."""

    def __init__(self, specs: Iterable[EngineSpec], survey_timeout: float) -> None:
        self._addresses = _places(specs)
        self._survey_timeout = survey_timeout
        self._drained: set[Place] = set()
        self._watchers: set[Watcher] = set()

    def find(self, name: str, replica: str = "") -> list[Place]:
        """The replicas that are meant, `replica` by its place in the settings, its URL or its name.

        Raises RelayError.
        """
        places = [place for place in self._addresses if place.engine == name]
        places = places or [place for place in self._addresses if place.replica == name]  # one device of several
        if not places:
            raise RelayError(Fault.UPSTREAM_MISCONFIGURED, f"The relay that runs has no engine {name!r}.")
        if not replica:
            return places
        for number, place in enumerate(places, 1):
            if replica in (str(number), place.replica, self._addresses[place]):
                return [place]
        known = ", ".join(
            f"{number} ({self._addresses[place] or place})" for number, place in enumerate(places, start=1)
        )
        raise RelayError(
            Fault.UPSTREAM_MISCONFIGURED, f"The engine {name!r} has no replica {replica!r}; it has {known}."
        )

    def drain(self, places: Iterable[Place]) -> None:
        self._set(self._drained.union(places))

    def resume(self, places: Iterable[Place]) -> None:
        self._set(self._drained.difference(places))

    def add(self, watcher: Watcher) -> None:
        """A process that is told now, and of every change, until it is removed."""
        self._watchers.add(watcher)
        watcher.drained(sorted(self._drained))

    def remove(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    async def look(self) -> list[PlaceStatus]:
        """All replicas, as the processes that answer in time see them."""
        seen, all_heard = await self._ask()
        by_place = {place: [one for one in seen if one.place == place] for place in self._addresses}
        return [self._status(place, there, all_heard) for place, there in by_place.items()]

    def _set(self, drained: set[Place]) -> None:
        self._drained = drained
        for watcher in self._watchers:
            watcher.drained(sorted(drained))

    async def _ask(self) -> tuple[list[Sighting], bool]:
        """What was seen, and whether every process has answered."""
        if not self._watchers:
            return [], True
        async with asyncio.TaskGroup() as group:
            questions = [group.create_task(watcher.survey()) for watcher in self._watchers]
            done, late = await asyncio.wait(questions, timeout=self._survey_timeout)
            for question in late:
                question.cancel()
        return [sighting for question in done for sighting in question.result()], not late

    def _status(self, place: Place, seen: Sequence[Sighting], all_heard: bool) -> PlaceStatus:
        opened = sum(one.open for one in seen)
        worst = max(seen, key=lambda one: _FROM_GOOD_TO_BAD.index(one.state), default=None)
        state: str = "unknown" if worst is None else worst.state
        reason = "" if worst is None else worst.reason
        if place in self._drained:
            state = "drained" if all_heard and not opened else "draining"
            reason = "" if all_heard else "a worker process does not answer"
        return PlaceStatus(
            place=place,
            address=self._addresses[place],
            state=state,
            open=opened,
            waiting=max((one.waiting for one in seen), default=0),
            reason=reason,
        )


def _places(specs: Iterable[EngineSpec]) -> Mapping[Place, str | None]:
    """Every replica, in the order of the settings, with its URL if it has one there."""
    places: dict[Place, str | None] = {}
    for spec in specs:
        if spec.is_local:
            places[Place(spec.upstream, spec.name if spec.group else "")] = None
        for number, url in enumerate(spec.urls, 1):
            places[Place(spec.name, str(number))] = url
    return places
