"""Plays simulations: one seed again, many of them, or the sabotages. See the package's docstring.

Strings hash differently in every interpreter unless it is told not to, and sets are walked in that order, so
all of this runs with ``PYTHONHASHSEED=0``: a seed does the same everywhere.
"""

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.simulation import commands, load, recording, reporting
from tests.simulation.drawing import draw
from tests.simulation.judging import Judged, judge, judge_script, judge_seed
from tests.simulation.sabotages import report
from tests.simulation.shrinking import shrunk
from tests.simulation.stories import LARGE, SMALL, STORIES

_ORDINARY: Final = 10
"""So many ordinary seeds are played for one world under load, and for one of commands."""


def main() -> int:
    """Run, with hashes that are the same everywhere."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    return run(sys.argv[1:])


def run(words: Sequence[str]) -> int:
    """Do as the command's words say; exit status 1 when anything was violated, or a sabotage went
    unnoticed.
    """
    arguments = _parser().parse_args(words)
    # A world is dropped whole. To look for its cycles again and again would take a fifth of the time.
    gc.disable()
    gc.freeze()  # what is imported stays: no later collection looks at any of it
    seeds = range(arguments.begin, arguments.begin + arguments.seeds)
    match arguments.what:
        case "sabotage":
            status = report(arguments.only, seeds)
        case "soak":
            status = _soak([*seeds, *_find_others(seeds)], arguments.jobs)
        case "story":
            names = [*LARGE] if arguments.names == ["large"] else arguments.names or [*SMALL]
            status = _tell(names)
        case "record":
            status = _record(Path(arguments.names[0]), seeds, arguments.jobs)
        case "compare":
            status = _compare(*map(Path, arguments.names))
        case "rows":
            status = _print_rows(int(arguments.names[0]))
        case seed:
            status = _replay(int(seed), shrink=not arguments.whole)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "what",
        help="a seed to play again, `soak` for many, `story` for stories by name, `sabotage`, `record FILE`, "
        "`compare OLD NEW` for two recordings, or `rows SEED`",
    )
    parser.add_argument(
        "names", nargs="*", help="of stories; none: every small one; `large`: every large one"
    )
    parser.add_argument("--whole", action="store_true", help="do not make a failing script shorter")
    parser.add_argument("--seeds", type=int, default=500, help="how many; of a sabotage at most")
    parser.add_argument("--from", dest="begin", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="*", default=[], help="these sabotages")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    return parser


def _replay(seed: int, *, shrink: bool) -> int:
    script = draw(seed)
    world, found = judge(script)
    if not found:
        print(f"seed {seed}: nothing is violated")
        return 0
    rule = found[0].rule
    if shrink:
        script = shrunk(script, lambda shorter: any(each.rule == rule for each in judge(shorter)[1]))
        world, found = judge(script)
    for line in reporting.trace(script, world, sorted(found, key=lambda each: each.rule != rule)):
        print(line)
    print(f"again: {reporting.replay(seed)}")
    return 1


def _tell(names: Sequence[str]) -> int:
    """Play stories, and say of each what came of it."""
    status = 0
    for name in names:
        gc.collect()  # the story before, if any
        began = time.process_time()
        judged = judge_script(STORIES[name]())
        status = 1 if judged.violations else status
        for line in reporting.describe_story(name, judged, time.process_time() - began):
            print(line, flush=True)
    return status


def _soak(seeds: Iterable[int], jobs: int) -> int:
    judged, began = Judged(), time.perf_counter()
    for each in _judged(seeds, jobs):
        judged.add(each)
        for seed, text in each.violations[:1]:
            print(f"\r{reporting.replay(seed)}    # {text[:400]}", flush=True)
        if judged.seeds % 50 == 0:
            seconds = time.perf_counter() - began
            rate = judged.occurrences / seconds
            print(
                f"{judged.seeds} seeds, {judged.occurrences} occurrences, {rate:.0f}/s, "
                f"{len(judged.violations)} violations",
                flush=True,
            )
    for line in reporting.summary(judged, time.perf_counter() - began):
        print(line)
    return 1 if judged.violations else 0


def _record(file: Path, seeds: range, jobs: int) -> int:
    """Record seeds, with their worlds under load and of commands, into a file."""
    with multiprocessing.Pool(jobs, maxtasksperchild=100) as pool:
        number = recording.write(file, pool.imap(recording.record, [*seeds, *_find_others(seeds)]))
    print(f"{number} seeds in {file}")
    return 0


def _compare(old: Path, new: Path) -> int:
    """Print the seeds that differ. The exit status is 1 when there are any."""
    differences = list(recording.compare(old, new))
    print("\n".join(differences) or "the recordings are equal")
    return int(bool(differences))


def _print_rows(seed: int) -> int:
    for part, lines in recording.rows(seed).items():
        for line in lines:
            print(f"{part}: {line}")
    return 0


def _find_others(seeds: range) -> Iterator[int]:
    """Yield the seeds of a world under load and of a world of commands for each ten ordinary seeds."""
    if seeds.start < load.FIRST_SEED:
        for ten in (seed // _ORDINARY for seed in seeds if seed % _ORDINARY == _ORDINARY - 1):
            yield from (load.FIRST_SEED + ten, commands.FIRST_SEED + ten)


def _judged(seeds: Iterable[int], jobs: int) -> Iterator[Judged]:
    if jobs == 1:
        yield from map(_one, seeds)
        return
    with multiprocessing.Pool(jobs, initializer=gc.disable, maxtasksperchild=400) as pool:
        yield from pool.imap_unordered(_one, seeds, chunksize=2)


def _one(seed: int) -> Judged:
    gc.collect()  # the world before, if any
    return judge_seed(seed)


if __name__ == "__main__":
    sys.exit(main())
