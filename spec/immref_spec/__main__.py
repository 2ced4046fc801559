"""``python -m immref_spec``: the mutant table, judged on the spot. Each wrong backend, what is wrong, and how its law rejects it."""

import sys
import textwrap
from collections.abc import Iterator

from immref import BackendError
from immref_spec import subjects
from immref_spec.judging import judge
from immref_spec.mutants import MUTANTS
from immref_spec.mutants_around import AROUND

WIDTH = 100  # columns


def verdicts() -> Iterator[tuple[str, str, str, str | None]]:
    """Name, story, law and the sentence of rejection (None: it survives) of every mutant that can be judged here."""
    for name, mutant in MUTANTS.items():
        yield name, mutant.story, mutant.law, judge(mutant.law, subjects.of(mutant.backend()))
    for name, around in AROUND.items():
        try:
            subject = subjects.load(around.subject)
        except BackendError as error:
            print(f"{name}: not judged here, {error}\n")
            continue
        with around.applied():
            yield name, around.story, around.law, judge(around.law, subject)


def main() -> int:
    """Print the table; 1 if a mutant survives."""
    survivors, count = [], 0
    for name, story, law, sentence in verdicts():
        count += 1
        survivors += [] if sentence else [name]
        print(f"{name}: {story}\n  {law}\n  {textwrap.shorten(sentence or 'SURVIVES', WIDTH - 2, placeholder=' …')}\n")
    print(f"{count} mutants, {count - len(survivors)} rejected{': ' + ', '.join(survivors) + ' survive' if survivors else ''}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
