"""Each deliberately wrong backend is rejected by the law it names, and the reference passes that law."""

import inspect
from functools import cache

import pytest

from immref import reference
from immref_spec import subjects
from immref_spec.judging import judge, laws
from immref_spec.mutants import MUTANTS


@cache
def verdict_on_reference(law: str) -> str | None:
    return judge(law, subjects.of(reference))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_law_named_rejects_the_mutant_and_passes_the_reference(name):
    mutant = MUTANTS[name]
    assert judge(mutant.law, subjects.of(mutant.backend())) is not None, f"{mutant.law} lets pass a backend that: {mutant.story}"
    assert verdict_on_reference(mutant.law) is None


def test_every_mutant_names_a_law():
    assert {mutant.law for mutant in MUTANTS.values()} <= set(laws())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_differs_from_the_reference_in_what_it_says(name):
    mutant = MUTANTS[name]
    assert len(mutant.parts) == 1
    for part, replacement in mutant.parts.items():
        assert replacement is not getattr(reference, part)
        assert list(inspect.signature(replacement).parameters) == list(inspect.signature(getattr(reference, part)).parameters)
    assert mutant.story.endswith(".")
    assert "\n" not in mutant.story


def test_every_primitive_has_a_mutant():
    replaced = {part for mutant in MUTANTS.values() for part in mutant.parts}
    assert replaced == {"generator", "normal", "radial", "nearest_candidate", "collapse", "assign_batch"}
