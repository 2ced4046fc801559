"""Each deliberately wrong backend, or function around it, is rejected by the law it names, and the right one passes that law."""

import inspect
from functools import cache
from importlib import import_module

import pytest

from immref import reference
from immref_spec import __main__ as table
from immref_spec import subjects
from immref_spec.judging import judge, laws
from immref_spec.mutants import MUTANTS, Mutant
from immref_spec.mutants_around import AROUND

HERE = [name for name, mutant in AROUND.items() if mutant.subject != "torch"]  # tests/torch has the others


@cache
def verdict(law, subject="reference"):
    return judge(law, subjects.load(subject))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_law_named_rejects_the_mutant_and_passes_the_reference(name):
    mutant = MUTANTS[name]
    sentence = judge(mutant.law, subjects.of(mutant.backend()))
    assert sentence is not None, f"{mutant.law} lets pass a backend that: {mutant.story}"
    assert not sentence.startswith("raised"), "a mutant must be wrong, not broken"
    assert verdict(mutant.law) is None


@pytest.mark.parametrize("name", HERE)
def test_the_law_named_rejects_what_is_wrong_around_the_backend(name):
    mutant = AROUND[name]
    with mutant.applied():
        assert judge(mutant.law, subjects.load(mutant.subject)) is not None, f"{mutant.law} lets pass what: {mutant.story}"
    assert verdict(mutant.law, mutant.subject) is None


def test_every_mutant_names_a_law():
    assert {mutant.law for mutant in (*MUTANTS.values(), *AROUND.values())} <= set(laws())


@pytest.mark.parametrize("name", AROUND)
def test_a_mutant_around_the_backend_keeps_the_signature_that_it_replaces(name):
    mutant = AROUND[name]
    module, _, function = mutant.place.rpartition(".")
    original, wrong = inspect.signature(getattr(import_module(module), function)), inspect.signature(mutant.wrong)
    assert len(wrong.parameters) in (len(original.parameters), 2)  # values_unchecked takes whatever comes
    assert mutant.story.endswith(".")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_differs_from_the_reference_in_what_it_says(name):
    mutant = MUTANTS[name]
    assert len(mutant.parts) == 1
    for part, replacement in mutant.parts.items():
        assert replacement is not getattr(reference, part)
        assert list(inspect.signature(replacement).parameters) == list(inspect.signature(getattr(reference, part)).parameters)
    assert mutant.story.endswith(".")
    assert "\n" not in mutant.story


def test_the_table_tells_who_survives(monkeypatch, capsys):
    harmless = Mutant({"normal": reference.normal}, "laws_pair.test_scale_multiplies")
    monkeypatch.setattr(table, "MUTANTS", {"farthest": MUTANTS["farthest"], "harmless": harmless})
    monkeypatch.setattr(table, "AROUND", {"scaled_twice": AROUND["scaled_twice"]})
    assert table.main() == 1
    told = capsys.readouterr().out
    assert told.endswith("3 mutants, 2 rejected: harmless survive\n")
    assert "farthest: Keeps the farthest candidate.\n  laws_nearest.test_the_winner_is_nearest\n  distance of the chosen" in told


def test_every_primitive_has_a_mutant():
    replaced = {part for mutant in MUTANTS.values() for part in mutant.parts}
    assert replaced == {"generator", "normal", "radial", "nearest_candidate", "collapse", "assign_batch"}
