"""How many answers an engine gets at once: enough to keep it full, few enough that requests wait here, in fair order.

An engine queues without bound and first come, first served; whatever waits inside it is beyond fairness. The limit
therefore follows the engine's own queue, as TCP Vegas follows the router's (Brakmo and Peterson 1995): it grows while
the engine has nothing waiting and every slot is taken, and falls to what the engine really runs, and a little more,
when more waits. Growth is exponential, so no limit that is too low lasts, and starts as slow start does, ended by the
first sign of a queue or of delay (Ha and Rhee, "Taming the elephants", 2011).

Engines that do not tell what waits are judged by the time to the first token instead, by the gradient of the least
one in a window (as Netflix' concurrency-limits does by the mean): a long prompt slows its own answer, never the
window's quickest, so outliers cannot shrink the limit. The time between tokens is no sign of a queue: it grows with
every answer in the batch, by design.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

# Of what runs, this share (and at least one) may wait inside the engine, so that a slot never stays empty.
_SPARE = 1 / 16
# More than this share waiting is a queue, when it is seen twice: a burst of new prompts looks the same once.
_QUEUE = 1 / 8
_QUEUE_AT_LEAST = 2
_GROWTH = 1 / 8
_NEWEST = 0.3
_DECAY = 1 / 32
# What an engine was seen to run at the most counts a little less with every reading that finds nothing waiting.
_CEILING_GROWTH = 1.0025
# The largest number seen running counts on, fading, while prompts that wait for their prefill make few run.
_PEAK_KEPT = 0.9
_WINDOW_SAMPLES = 16
# A least time to first token of this many times the usual one is taken for a queue.
_TOLERANCE = 2.0
_JITTER_S = 0.01
_SMOOTHING = 0.2


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a limit starts and how far it may go; `headroom` is the share of it that is kept for some tenants."""

    start: int
    least: int
    most: int
    adaptive: bool
    headroom: float = 0.0

    def divided(self, by: int) -> Bounds:
        """One worker process's part."""
        start, least, most = (max(1, -(-value // by)) for value in (self.start, self.least, self.most))
        return replace(self, start=start, least=least, most=most)


class ConcurrencyLimit:
    """One engine's limit. `on_growth` is called whenever it has become larger."""

    def __init__(self, bounds: Bounds, on_growth: Callable[[], None]) -> None:
        self.limit = bounds.start
        self._bounds = bounds
        self._on_growth = on_growth
        self._starting = True
        self._was_full = False
        self._tells_waiting = False
        self._had_queue = False
        self._peak_running = 0.0
        self._mean_waiting = 0.0
        self._ceiling = math.inf
        self._usual_s = 0.0
        self._least_s = math.inf
        self._num_samples = 0
        self._delayed_at: tuple[int, float] | None = None

    def apply(self, bounds: Bounds) -> None:
        """Take new bounds; an adaptive limit goes on from where it is, within them."""
        if bounds.adaptive and not self._bounds.adaptive:
            self._starting = True
        self._bounds = bounds
        self._set(self.limit if bounds.adaptive else bounds.start)

    def observe_load(self, running: int, waiting: int, own: int) -> None:
        """The engine's own counts, of everyone's requests; `own`: those of this process at that time."""
        if not self._bounds.adaptive:
            return
        self._tells_waiting = True
        self._peak_running = max(running, self._peak_running * _PEAK_KEPT)
        spare = max(1.0, self._peak_running * _SPARE)
        # Between two steps of the engine something always waits: what matters is what waits in the mean.
        self._mean_waiting += _NEWEST * (min(waiting, 4 * spare) - self._mean_waiting)
        self._note_full(own)
        is_queue = waiting > max(_QUEUE_AT_LEAST, running * _QUEUE)
        if is_queue or self._mean_waiting > spare:
            self._starting = False
            share = own / max(own, running + waiting) if own else 1.0
            self._ceiling = (self._peak_running + spare) * share
            self._shrink(at_once=is_queue and self._had_queue)
        else:
            self._ceiling *= _CEILING_GROWTH
            if self._mean_waiting < spare / 2:
                self._grow(own)
        self._had_queue = is_queue
        self._was_full = False

    def observe_first_token(self, ttft_s: float, in_flight: int) -> None:
        """An answer's first token came `ttft_s` seconds after its question was sent."""
        if not self._bounds.adaptive:
            return
        self._note_full(in_flight)
        self._least_s = min(self._least_s, ttft_s)
        self._num_samples += 1
        if self._starting and self._was_full:
            self._set(self.limit + 1)
        if self._num_samples >= _WINDOW_SAMPLES:
            self._close_window()

    def observe_answer(self, in_flight: int) -> None:
        """An answer that came in one piece is complete; its time says nothing, that it came does."""
        if self._bounds.adaptive:
            self._note_full(in_flight)
            if self._starting and self._was_full:
                self._set(self.limit + 1)

    def _note_full(self, in_flight: int) -> None:
        # Below the limit nothing is learned about what lies above it.
        if in_flight >= self.limit:
            self._was_full = True

    def _close_window(self) -> None:
        least, usual = self._least_s, self._usual_s
        self._least_s, self._num_samples = math.inf, 0
        self._usual_s = usual = min(usual or least, least)
        delayed = least > _TOLERANCE * usual + _JITTER_S
        self._starting = self._starting and not delayed
        if self._tells_waiting or self._starting:
            return
        gradient = max(0.5, min(1.0, (_TOLERANCE * usual + _JITTER_S) / least))
        wanted = self.limit * gradient + (math.sqrt(self.limit) if self._was_full else 0.0)
        self._was_full = False
        step = _SMOOTHING * (wanted - self.limit)
        self._set(self.limit + (math.ceil(step) if step > 0 else math.floor(step)))
        self._doubt_usual(least, delayed)

    def _doubt_usual(self, least: float, delayed: bool) -> None:
        """A delay that half the limit does not lessen is not of our making: prompts have become longer, say."""
        if not delayed:
            self._delayed_at = None
        elif self._delayed_at is None:
            self._delayed_at = (self.limit, least)
        elif self.limit <= self._delayed_at[0] / 2:
            if least > 0.75 * self._delayed_at[1]:
                self._usual_s = least
            self._delayed_at = (self.limit, least)

    def _grow(self, own: int) -> None:
        """Nothing waits: let more in, if the limit was reached.

        Up to the headroom is as far as one tenant comes alone. From there it grows no further than to what the engine
        was seen to run, or the headroom would be nothing but room in the engine's queue.
        """
        step = max(1, int(self.limit * _GROWTH))
        if self._was_full:
            self._set(self.limit + step)
        elif own + 1 >= self.limit * (1 - self._bounds.headroom) and self.limit < self._ceiling:
            self._set(int(min(self.limit + step, math.ceil(self._ceiling))))

    def _shrink(self, at_once: bool) -> None:
        """Something waits: towards what keeps the engine full; `at_once`, but by three quarters at the most."""
        wanted = math.ceil(self._ceiling)
        step = self.limit * 3 // 4 if at_once else max(1, int(self.limit * _DECAY))
        if wanted < self.limit:
            self._set(max(wanted, self.limit - step))

    def _set(self, limit: int) -> None:
        before = self.limit
        if self._bounds.adaptive:
            limit = max(self._bounds.least, min(self._bounds.most, limit))
        self.limit = limit
        if limit > before:
            self._on_growth()
