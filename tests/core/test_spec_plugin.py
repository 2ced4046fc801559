"""The pytest plugin, in runs of its own: which subjects are judged, and what a missing one does."""

import pytest

pytest_plugins = ["pytester"]

ONE_LAW = ("--pyargs", "immref_spec.laws_pair", "-k", "test_scale_multiplies", "-p", "no:cacheprovider", "-rs")


@pytest.fixture
def judge(pytester, monkeypatch):
    """Run one law from an empty folder with the given options."""
    for variable in ("IMMREF_BACKEND", "IMMREF_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    return lambda *options: pytester.runpytest_subprocess(*ONE_LAW, *options)


def test_a_subject_asked_for_is_judged(judge):
    result = judge("--immref-backend", "reference,strict", "-v")
    result.assert_outcomes(passed=2, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*test_scale_multiplies*reference*PASSED*", "*test_scale_multiplies*strict*PASSED*"])


def test_the_environment_variable_asks_too(judge, monkeypatch):
    monkeypatch.setenv("IMMREF_BACKEND", "reference")
    assert judge("--immref-require").parseoutcomes()["passed"] == 1


def test_the_option_wins_over_the_variable(judge, monkeypatch):
    monkeypatch.setenv("IMMREF_BACKEND", "cupy")
    assert judge("--immref-backend", "reference").parseoutcomes()["passed"] == 1


def test_an_unknown_backend_fails_with_the_known_names(judge):
    result = judge("--immref-backend", "troch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown backend 'troch'*known: reference, strict, *torch*"])


def test_a_backend_asked_for_and_missing_fails_with_its_reason(judge):
    result = judge("--immref-backend", "cupy")
    result.assert_outcomes(errors=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*backend 'cupy' cannot*"])


def test_not_asked_for_skips_with_its_reason_unless_required(judge, monkeypatch):
    monkeypatch.setenv("IMMREF_BACKEND", "auto")  # asks for nothing
    found = judge()
    assert found.ret == 0
    assert found.parseoutcomes()["passed"] >= 2
    found.stdout.fnmatch_lines(["SKIPPED*backend 'cupy' cannot*"])
    required = judge("--immref-require")
    assert required.ret == pytest.ExitCode.TESTS_FAILED
    assert required.parseoutcomes()["errors"] >= 1


def test_a_module_of_laws_can_be_named_alone(pytester):
    result = pytester.runpytest_subprocess("--pyargs", "immref_spec.laws_pair", "--immref-backend", "reference", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=4)


def test_other_suites_are_left_alone(pytester):
    """Files called laws_*.py, a fixture called subject and tests without laws work as they would without the plugin."""
    pytester.makepyfile(
        laws_mine="def test_never_collected(): raise AssertionError",
        test_mine="""
        import pytest

        @pytest.fixture
        def subject():
            return "mine"

        def test_subject(subject):
            assert subject == "mine"
        """,
    )
    pytester.runpytest_subprocess("--immref-backend", "troch").assert_outcomes(passed=1)


def test_the_plugin_loads_no_array_library(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other packages' plugins load what they like
    pytester.makepyfile("import sys\n\ndef test_light():\n    assert not {'numpy', 'immref', 'hypothesis', 'scipy'} & set(sys.modules)")
    pytester.runpytest_subprocess("-p", "immref_spec.plugin").assert_outcomes(passed=1)


def test_a_broken_law_names_its_replay(pytester):
    """The line printed runs the law again, for the subject that broke it."""
    pytester.makepyfile(
        broken="""
        import numpy as np
        from immref.reference import *
        from immref import reference

        name, library = "broken", np

        def nearest_candidate(x_BD, noise_BKD, score):
            index_B, before_B, after_B = reference.nearest_candidate(x_BD, noise_BKD, score)
            return index_B, before_B, after_B * 1.001
        """
    )
    announced = pytester.mkdir("broken-1.0.dist-info")
    announced.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", encoding="utf-8")
    announced.joinpath("entry_points.txt").write_text("[immref.backends]\nbroken = broken\n", encoding="utf-8")
    result = pytester.runpytest_subprocess("--pyargs", "immref_spec.laws_nearest", "--immref-backend", "broken", "-p", "no:cacheprovider")
    line = "replay: pytest --pyargs immref_spec.laws_nearest -k test_the_winner_is_nearest --immref-backend broken"
    result.stdout.fnmatch_lines([f"*after, Case* differs by *allowed*band: *{line}*"])
    assert result.parseoutcomes() == {"failed": 2, "passed": 4}
