"""Random draws that do not depend on the order of tasks.

Each draw is a function of the seed and of a key: the target, the endpoint, the automation, the number of
earlier requests of that kind, and the purpose. A sequential generator would give every later request another
fate when two requests swap their places. Then a change of the task order in the daemon would look like a
change of its behaviour.
"""

import asyncio
import random
from collections import Counter

ANONYMOUS = "Task-"
"""Begin of the name of a task without a name of its own. asyncio numbers such tasks in the order of tasks."""


class Draws:
    """The draws of one world, or of one of its targets."""

    def __init__(self, *key: object) -> None:
        self._key = key
        self._counts: Counter[tuple[object, ...]] = Counter()

    def make(self, *key: object) -> random.Random:
        """Return the generator for this key. The same key gives the same draws."""
        return random.Random("/".join(map(str, (*self._key, *key))))

    def make_next(self, *kind: object) -> random.Random:
        """Return the generator for the next draw of this kind."""
        self._counts[kind] += 1
        return self.make(*kind, self._counts[kind])

    def draw_back_off(self) -> float:
        """Draw a number from 0 to 1 for a back-off that begins now in the current task."""
        task = asyncio.current_task()
        name = "" if task is None or task.get_name().startswith(ANONYMOUS) else task.get_name()
        return self.make("back-off", name, f"{asyncio.get_running_loop().time():.6f}").random()
