"""The `immref` command. Only this file knows tyro; nothing heavy is imported before the settings are read."""

import dataclasses
import itertools
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import tyro

from immref import BackendError, Pairing, dispatch
from immref._checks import nearest_name
from immref_trainers import config, recipes, strict_json
from immref_trainers.config import Options, Run
from immref_trainers.data.settings import require
from immref_trainers.errors import TrainingError, UsageError
from immref_trainers.networks.settings import PolicyUNet, UNet

USAGE = """\
usage: immref COMMAND [RECIPE] [settings]

commands
  compare   the same recipe under several pairings: tables, curves, samples, report   (--seeds 3 for error bars)
  train     one run of a recipe                                                       (--pairing.method knn --pairing.k 8)
  sample    new images of a finished run                              (immref sample RUN --num-samples 64 --prior moment)
  edit      in- and out-painting with finished runs: Table 1, Figure 9     (immref edit RUN [RUN …] --task inpaint, or a comparison)
  verify    are a run's checkpoints whole, and does it repeat its steps bit for bit?    (immref verify RUN)
  bench     what pairing costs on this machine, beside the paper's Table 5; or in a recipe's training step   (immref bench RECIPE)
  advise    what pairing would do to your data, and which k    (digits, photos, a folder of images or an array file: --data PATH)
  analyze   why a pairing helps, or not: the figures of finished runs       (immref analyze RUN [RUN …], or a comparison; kl, dose, plane)
  reproduce every figure and table of the paper in small, by one command each                                  (immref reproduce fig3)
  recipes   what can be trained
  doctor    what is usable here, and why not; a self-test

immref COMMAND RECIPE --help lists every setting. --dry-run prints the settings and stops.
IMMREF_BACKEND (auto, reference, torch, cupy, …) and IMMREF_DEVICE choose where pairing runs; --backend and --device win over them.
"""


LOG_WIDTH = 150  # columns where no terminal tells its own


@dataclass(frozen=True)
class TrainSettings:
    """One run."""

    run: Annotated[Run, tyro.conf.arg(name="")]
    options: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)


@dataclass(frozen=True)
class CompareSettings:
    """The same run under several pairings."""

    run: Annotated[Run, tyro.conf.arg(name="")]
    options: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)
    seeds: int = 1
    """How many seeds, counted up from --seed."""
    pairings: tuple[str, ...] = ()
    """METHOD[,key=value…]: vanilla knn,k=8 linear_assignment,within=label vanilla,scale=2. The recipe's where left out."""


@dataclass(frozen=True)
class StepSettings:
    """What a training step of a recipe costs under each pairing, beside a bare PyTorch loop over the same network."""

    run: Annotated[Run, tyro.conf.arg(name="")]
    seconds: float = 10.0
    """About how long each way is timed, in 3 to 40 steps; a step that takes longer than a second is timed once."""
    output_dir: Path | None = None
    """A new or empty folder for steps.json; where left out the table is only printed."""

    def __post_init__(self) -> None:
        require(0 < self.seconds < math.inf, "seconds", "be finite and > 0", self.seconds)


def main(argv: list[str]) -> int:
    """Run one command; return the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if argv else 2
    try:
        if argv[0] not in COMMANDS:
            raise UsageError(f"unknown command {argv[0]!r}; known: {', '.join(COMMANDS)}{nearest_name(argv[0], COMMANDS)}")
        if argv[0] in WITHOUT_SETTINGS and argv[1:] in (["-h"], ["--help"]):
            print(f"usage: immref {argv[0]}\n\n{COMMANDS[argv[0]].__doc__}")
            return 0
        return COMMANDS[argv[0]](argv[1:])
    except (UsageError, BackendError, FileExistsError) as error:
        print(f"immref: {error}", file=sys.stderr)
        return 2
    except (TrainingError, OSError) as error:  # the latter names its file: a full disk, a read-only folder
        print(f"immref: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("immref: interrupted; what was finished is in the output folder", file=sys.stderr)
        return 130


def run_compare(argv: list[str]) -> int:
    """Plan every run before anything starts, then carry them out."""
    recipe, name, rest = _recipe(argv)
    settings = _settings(CompareSettings(recipe.run()), rest, f"immref compare {name}")
    run = _checked(settings.run, name)
    if run.pairing != Pairing():
        raise UsageError("compare takes --pairings, a list; --pairing.* is for immref train")
    with _usage():
        pairings = tuple(config.parse_pairing(text) for text in settings.pairings) or recipe.pairings
        runs = recipes.plan(run, pairings, settings.seeds)
    if settings.options.dry_run:
        print("".join(strict_json.to_json(one) for one in runs), end="")
        return 0
    images, place, folder = _prepare(settings.options, run, f"{name}-compare")
    from immref_trainers.compare import How, compare

    if isinstance(run.network, PolicyUNet):
        from immref_trainers.pusht.command import compare  # type: ignore[assignment]

    command = shlex.join(["immref", "compare", *argv])
    done = compare(runs, images, folder, *place, How(settings.options, command))
    return 0 if done else _stopped(command, folder, settings.options)


def run_train(argv: list[str]) -> int:
    """One run."""
    recipe, name, rest = _recipe(argv)
    settings = _settings(TrainSettings(recipe.run()), rest, f"immref train {name}")
    run = _checked(settings.run, name)
    if settings.options.dry_run:
        print(strict_json.to_json(run), end="")
        return 0
    images, place, folder = _prepare(settings.options, run, f"{name}-{config.run_name(run)}")
    from immref_trainers.train import train

    if isinstance(run.network, PolicyUNet):
        from immref_trainers.pusht.command import train  # type: ignore[assignment]

    done = train(run, images, folder, *place, settings.options)
    return 0 if done else _stopped(shlex.join(["immref", "train", *argv]), folder, settings.options)


def _stopped(command: str, folder: Path, options: Options) -> int:
    """Tell how to go on after a signal."""
    more = "" if options.output_dir else f" --output-dir {folder}"
    more += "" if options.resume_from_checkpoint else " --resume-from-checkpoint latest"
    print(f"stopped as asked, and saved; go on with: {command}{more}")
    return 0


def run_verify(argv: list[str]) -> int:
    """Are a run's files what they were, and does it repeat its own steps?"""
    if not argv or argv[0].startswith("-"):
        raise UsageError("verify needs the folder of a run: immref verify RUN")
    from rich.console import Console

    from immref_trainers import verify

    return 0 if verify.verify(Path(argv[0]), _settings(verify.Settings(), argv[1:], "immref verify RUN"), Console()) else 1


def run_sample(argv: list[str]) -> int:
    """New images of a finished run."""
    if not argv or argv[0].startswith("-"):
        raise UsageError("sample needs the folder of a run: immref sample RUN")
    from rich.console import Console

    from immref_trainers import environment, sample

    settings = _settings(sample.Settings(), argv[1:], "immref sample RUN")
    with _usage():
        device = environment.accelerator().device
    sample.sample(Path(argv[0]), settings, device, Console())
    return 0


def run_edit(argv: list[str]) -> int:
    """In- and out-painting with finished runs."""
    folders = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    if not folders:
        raise UsageError("edit needs the folders of finished runs: immref edit RUN [RUN …]")
    from rich.console import Console

    from immref_trainers import environment
    from immref_trainers.edit import command
    from immref_trainers.edit.settings import Settings

    settings = _settings(Settings(), argv[len(folders) :], "immref edit RUN [RUN …]")
    with _usage():
        device = environment.accelerator().device
    console = Console()
    command.edit([Path(folder) for folder in folders], settings, device, console if console.is_terminal else Console(width=LOG_WIDTH))
    return 0


def run_recipes(argv: list[str]) -> int:
    """List the recipes."""
    _no_more(argv, "recipes")
    for name, recipe in recipes.RECIPES.items():
        print(f"{name:20} {recipe.summary}\n{'':20} compared: {', '.join(map(str, recipe.pairings))}")
    return 0


def run_doctor(argv: list[str]) -> int:
    """What is usable here."""
    _no_more(argv, "doctor")
    from immref_trainers.doctor import examine

    return examine()


def run_bench(argv: list[str]) -> int:
    """What pairing costs here: by itself, or in a recipe's training step."""
    if argv and not argv[0].startswith("-"):
        return _bench_step(argv)
    from immref_trainers.bench.settings import Settings

    settings = _settings(Settings(), argv, "immref bench")
    from rich.console import Console

    from immref_trainers import environment
    from immref_trainers.bench.run import bench

    with _usage():
        accelerator = environment.accelerator()
    where, console = environment.describe(accelerator), Console()
    bench(settings, str(accelerator.device), where, console if console.is_terminal else Console(width=LOG_WIDTH))
    return 0


def _bench_step(argv: list[str]) -> int:
    """Every pairing of a recipe, a step of each in turn."""
    recipe, name, rest = _recipe(argv)
    settings = _settings(StepSettings(recipe.run()), rest, f"immref bench {name}")
    run = _checked(settings.run, name)
    if run.objective.method == "consistency":
        raise UsageError("objective.method must be flow or ddpm to be timed beside a bare loop, got consistency")
    if not isinstance(run.network, UNet):
        raise UsageError(f"network.architecture must be UNet2DModel to be timed beside a bare loop, got {run.network.architecture}")
    if run.mixed_precision == "fp16":
        raise UsageError("mixed_precision must be no or bf16 to be timed beside a bare loop, which scales no gradients, got fp16")
    images, (accelerator, _, console), folder = _prepare(Options(output_dir=settings.output_dir), run, f"{name}-bench")
    from immref_trainers.bench import training_step

    pairings = recipe.pairings if run.pairing == Pairing() else (Pairing(), run.pairing)
    training_step.bench(run, pairings, images, accelerator, settings.seconds, folder if settings.output_dir else None, console)
    return 0


def run_advise(argv: list[str]) -> int:
    """What pairing would do to given data."""
    from immref_trainers import advise

    settings = _settings(advise.Settings(), argv, "immref advise")
    with _usage():
        images = advise.load(settings)
    advise.advise(images, settings)
    return 0


def _analyze_noise(name: str, argv: list[str]) -> int:
    """An analysis that needs no run."""
    module = import_module(f"immref_trainers.analysis.{name}")
    settings = _settings(module.Settings(), argv, f"immref analyze {name}")
    from rich.console import Console

    console = Console()
    module.analyze(settings, console if console.is_terminal else Console(width=LOG_WIDTH))
    return 0


def run_reproduce(argv: list[str]) -> int:
    """Every figure and table of the paper in small."""
    from rich.console import Console

    from immref_trainers import reproduce

    names, console = list(itertools.takewhile(lambda word: not word.startswith("-"), argv)), Console()
    settings = _settings(reproduce.Settings(), argv[len(names) :], "immref reproduce [NAME]")
    if not names:
        reproduce.show(settings, console if console.is_terminal else Console(width=LOG_WIDTH))
    for name in names:
        if code := reproduce.reproduce(name, settings, main, console):
            return code
    return 0


def run_analyze(argv: list[str]) -> int:
    """The paper's analyses: one of the noise by its name, or all that finished runs allow."""
    folders = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    if len(folders) == 1 and folders[0] in ANALYSES:
        return _analyze_noise(folders[0], argv[1:])
    if not folders or not all(Path(folder).is_dir() for folder in folders):
        name = next((folder for folder in folders if not Path(folder).is_dir()), "")
        known = f"known: {', '.join(ANALYSES)}{nearest_name(name, ANALYSES)}"
        raise UsageError(f"analyze needs the folders of finished runs or the name of an analysis, got {name!r}; {known}")
    from rich.console import Console

    from immref_trainers import environment
    from immref_trainers.analysis.settings import Settings

    settings = _settings(Settings(), argv[len(folders) :], "immref analyze RUN [RUN …]")
    from immref_trainers.analysis import command

    with _usage():
        device = environment.accelerator().device
    console = Console()
    command.analyze([Path(folder) for folder in folders], settings, device, console if console.is_terminal else Console(width=LOG_WIDTH))
    return 0


ANALYSES = ("kl", "dose", "plane")
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "compare": run_compare,
    "train": run_train,
    "sample": run_sample,
    "edit": run_edit,
    "verify": run_verify,
    "bench": run_bench,
    "advise": run_advise,
    "analyze": run_analyze,
    "reproduce": run_reproduce,
    "recipes": run_recipes,
    "doctor": run_doctor,
}


WITHOUT_SETTINGS = ("recipes", "doctor")


def _recipe(argv: list[str]) -> tuple[recipes.Recipe, str, list[str]]:
    """The recipe named first (digits-flow where none is), and the settings after it, --network.pipeline perhaps by its short name."""
    name, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("digits-flow", argv)
    rest = [word.replace("--pipeline", "--network.pipeline") if word.partition("=")[0] == "--pipeline" else word for word in rest]
    with _usage():
        return recipes.find(name), name, rest


def _settings(default: Any, argv: list[str], program: str) -> Any:
    """Read `argv` over the recipe's settings; tyro exits with code 2 and the nearest names where one is unknown."""
    with _usage():
        return tyro.cli(type(default), default=default, args=argv, prog=program, config=(tyro.conf.AvoidSubcommands,))


def _checked(run: Run, name: str) -> Run:
    """The recipe's name is where it was given, at the front."""
    if run.recipe != name:
        raise UsageError(f"the recipe is named first: immref COMMAND {run.recipe}, not --recipe {run.recipe}")
    return run


def _prepare(options: Options, run: Run, name: str) -> tuple[Any, tuple[Any, Any, Any], Path]:
    """Settle device, backend, output folder and data before any work is done: images, (accelerator, environment, console), folder."""
    from rich.console import Console

    from immref_trainers import environment, trackers
    from immref_trainers.data import training

    trackers.check(options.report_to)
    folder = options.output_dir or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if options.device is not None:
        os.environ[dispatch.DEVICE_VARIABLE] = options.device
    with _usage():
        accelerator = environment.accelerator(run.mixed_precision)
        where = environment.describe(accelerator, options.backend)
    folder = environment.agreed(folder, accelerator)
    if options.resume_from_checkpoint is None and accelerator.is_main_process:
        environment.check_new(folder)
    if options.backend is not None:
        os.environ[dispatch.VARIABLE] = options.backend
    console = Console(quiet=not accelerator.is_main_process)
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH, quiet=console.quiet)
    with _usage(), console.status("reading the images"), accelerator.local_main_process_first():
        images = training.open_images(run.data, run.seed, options.workers)
        training.check(images, run)
    return images, (accelerator, where, console), folder


def _no_more(argv: list[str], command: str) -> None:
    if argv:
        raise UsageError(f"{command} takes no arguments, got {' '.join(argv)}")


@contextmanager
def _usage() -> Iterator[None]:
    """A wrong value while settings are read is the user's: a sentence, not a traceback."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
