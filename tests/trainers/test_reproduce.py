"""`immref reproduce`: its commands exist, run one after the other, and are not run again."""

import json

import pytest
from rich.console import Console

from immref_trainers import cli, recipes, reproduce
from immref_trainers.errors import UsageError

QUIET = Console(quiet=True)


def settings(tmp_path):
    return reproduce.Settings(output_dir=tmp_path)


@pytest.mark.parametrize("name", reproduce.ITEMS)
def test_every_command_is_one_of_the_program_s(name, tmp_path, capsys):
    for words in reproduce.commands(name, tmp_path):
        assert words[0] in cli.COMMANDS
        if words[0] == "compare":
            assert words[1] in recipes.RECIPES
            assert cli.main([*words, "--dry-run"]) == 0
    capsys.readouterr()


def test_commands_run_in_order_and_what_was_made_is_not_made_again(tmp_path):
    ran = []

    def run(words):
        ran.append(words)
        folder = tmp_path / "runs" / "digits-ddim"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").touch()
        return 0

    for _ in range(2):
        assert reproduce.reproduce("fig3", settings(tmp_path), run, QUIET) == 0
    assert [words[0] for words in ran] == ["compare", "analyze"]
    assert ran[0][ran[0].index("--output-dir") + 1] == ran[1][1] == f"{tmp_path}/runs/digits-ddim"
    made = json.loads((tmp_path / "fig3" / "made.json").read_text(encoding="utf-8"))
    assert [one["command"] for one in made["commands"]] == ran
    assert reproduce.state(tmp_path / "fig3") == made["date"]


def test_figures_of_the_same_runs_share_them_and_what_was_interrupted_is_not_written_over(tmp_path):
    (tmp_path / "fig2" / "analyze").mkdir(parents=True)
    first, second = (reproduce.commands(name, tmp_path) for name in ("fig2", "fig3"))
    assert first[0] == second[0]
    assert first[1] == ["analyze", f"{tmp_path}/runs/digits-ddim", "--output-dir", f"{tmp_path}/fig2/analyze-2"]
    scaled = reproduce.commands("fig8", tmp_path)[1]
    assert scaled[1] == f"{tmp_path}/runs/digits-ddim-pairings-vanilla-vanilla-scale-2-vanilla-scale-4"


def test_a_command_that_fails_ends_it_and_nothing_counts_as_made(tmp_path):
    ran = []
    assert reproduce.reproduce("fig3", settings(tmp_path), lambda words: ran.append(words) or 2, QUIET) == 2
    assert len(ran) == 1
    assert not (tmp_path / "fig3" / "made.json").exists()


def test_a_comparison_that_was_stopped_does_not_count_as_made(tmp_path):
    """It ends with 0, as what was asked for was done; but it has no results yet."""
    ran = []
    assert reproduce.reproduce("fig3", settings(tmp_path), lambda words: ran.append(words) or 0, QUIET) == reproduce.STOPPED
    assert [words[0] for words in ran] == ["compare"]
    assert not (tmp_path / "fig3" / "made.json").exists()


def test_unknown_names_are_told_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"got 'fig33'; known: fig1, .*; did you mean 'fig3'"):
        reproduce.reproduce("fig33", settings(tmp_path), lambda words: 0, QUIET)


def test_the_list_holds_every_figure_and_table_of_the_paper(tmp_path, capsys):
    assert cli.main(["reproduce", "--output-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for name in [*(f"fig{number}" for number in range(1, 12)), *(f"table{number}" for number in range(1, 6)), "kl"]:
        assert f"\n {name} " in shown or f"\n {name}-" in shown
    assert "immref analyze plane" in shown
