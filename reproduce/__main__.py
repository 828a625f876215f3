"""The command-line program.

python -m reproduce VERB TASK [flags]
python -m reproduce train translation --help
"""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated
from typing import Any

import tyro

from reproduce.common.errors import InputError
from reproduce.flags import Arms
from reproduce.flags import Seeds
from reproduce.flags import check_values

# The module of each task, imported only when the task is used.
TASKS = {
    name: f"reproduce.tasks.{name}"
    for name in (
        "translation",
        "language_modeling",
        "summarization",
        "text_classification",
        "image_classification",
    )
}
SERVE = "serve"
VERBS = {
    "train": "train, measure, save and export one arm on one seed",
    "compare": "train several arms on the same seeds and print a table",
    "generate": "write text with a finished run",
    "score": "score what a finished run generates",
    "evaluate": "measure a finished run on other data",
    SERVE: "use an exported SavedModel, without rdrop_keras and KerasHub",
}
CONFIG = (tyro.conf.HelptextFromCommentsOff,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {_reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted. {_how_to_go_on(arguments)}", file=sys.stderr)
        return 130


def task_of(name: str) -> Any:
    """Returns the task with this name on the command line."""
    return importlib.import_module(TASKS[name]).TASK


def parse(verb: str, name: str, arguments: Sequence[str]) -> Any:
    """Parses the flags of one verb of a task.

    A recipe changes the defaults of the settings that it states. The settings
    of `compare` also have the fields `arms`, `seeds` and `demo`.
    """
    task = task_of(name)
    program = f"python -m reproduce {verb} {name}"
    kind = task.verbs.get(verb)
    if verb in ("train", "compare"):
        kind = task.settings if verb == "train" else _comparison(task)
    if kind is None:
        raise InputError(f"{name} has no {verb}.")

    def read(default: Any = tyro.MISSING_NONPROP) -> Any:
        return tyro.cli(
            kind, prog=program, args=arguments, default=default, config=CONFIG
        )

    settings = read()
    if verb not in ("train", "compare"):
        check_values(settings)
        return settings
    if settings.recipe is not None:
        settings = read(kind(**task.recipe_settings(settings.recipe)))
    check_values(settings)
    task.check(settings)
    return settings


def _comparison(task: Any) -> type:
    """Returns a dataclass of the task's and the comparison's settings."""
    # The comparison itself sets these fields.
    hidden = tyro.conf.Suppress[tyro.conf.Fixed[Any]]
    helps = (
        "The arms; the first is what the others are compared with.",
        "Each arm is trained on each of them.",
        "One seed, then use the exported model in another process.",
    )
    arms, seeds, demo = (tyro.conf.arg(help=text) for text in helps)
    fields = [
        ("arms", Annotated[Arms, arms], ("plain", "rdrop")),
        ("seeds", Annotated[Seeds, seeds], task.seeds),
        ("demo", Annotated[bool, demo], False),
        ("arm", hidden, "rdrop"),
        ("seed", hidden, 1),
    ]
    return dataclasses.make_dataclass(
        "Comparison", fields, bases=(task.settings,), frozen=True, kw_only=True
    )


def _run(arguments: list[str]) -> int:
    wanted = bool({"-h", "--help"} & set(arguments[:2]))
    if wanted or len(arguments) < 2 or arguments[0] not in VERBS:
        print(_usage(), file=sys.stdout if wanted else sys.stderr)
        return 0 if wanted else 2
    verb, name, *rest = arguments
    if verb == SERVE:
        # Serving must not import the tasks, which import KerasHub and R-Drop.
        from reproduce import serving

        return serving.main(name, rest)
    if name not in TASKS:
        raise InputError(f"{name}: expected a task: {', '.join(TASKS)}.")
    given = parse(verb, name, rest)
    if verb == "train":
        _train(task_of(name), given)
    elif verb == "compare":
        _compare(task_of(name), given)
    else:
        given.run()
    return 0


def _train(task: Any, settings: Any) -> None:
    from reproduce import runner
    from reproduce.common.strategies import strategy_of

    # First, because TensorFlow forms a cluster before anything else.
    strategy = strategy_of(settings)
    data = task.load(settings)
    if strategy.is_chief:
        print(task.describe(data))
    metrics = runner.train(task, data, settings)
    if strategy.is_chief:
        print(task.report(metrics))
        print(f"written to {settings.output}")


def _compare(task: Any, given: Any) -> None:
    from reproduce import comparison
    from reproduce.common import runs
    from reproduce.common.strategies import strategy_of

    if given.strategy == "multi_worker" or strategy_of(given).processes > 1:
        raise InputError(
            f"--strategy {given.strategy}: compare runs in one process. Train "
            "each arm and seed by the verb train."
        )
    data = task.load(given)
    print(task.describe(data))
    names = [field.name for field in dataclasses.fields(task.settings)]
    settings = task.settings(**{name: getattr(given, name) for name in names})
    # The demo shows the workflow, for which one seed is enough.
    seeds = given.seeds[:1] if given.demo else given.seeds
    comparison.compare(task, data, settings, given.arms, seeds)
    print(f"written to {settings.output}")
    if not given.demo:
        return
    shown = comparison.run_directory(settings.output, given.arms[-1], seeds[0])
    served, references = task.samples(data, settings.output)
    saved_model = str(shown / runs.SAVED_MODEL)
    print(f"{saved_model}, in a process of its own:", flush=True)
    command = [sys.executable, "-m", "reproduce", SERVE, task.name]
    subprocess.run([*command, saved_model, *served], check=True)
    if references:
        print("\n  ".join(["references:", *references]))


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<9} {text}" for verb, text in VERBS.items())
    return (
        "usage: python -m reproduce VERB TASK [flags]\n\n"
        f"verbs:\n{verbs}\n\ntasks:\n  {', '.join(TASKS)}\n\n"
        "python -m reproduce train translation --help lists the flags of one."
    )


def _reason(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    reason = f"{place}{error.strerror or error}"
    # h5py sets no errno: the reason is only in its message.
    if "No space left" in str(error):
        reason += ". Free some space, then give the same command --resume."
    return reason


def _how_to_go_on(arguments: list[str]) -> str:
    if not arguments or arguments[0] not in ("train", "compare"):
        return "Nothing was changed."
    command = " ".join(a for a in arguments if a != "--overwrite")
    if "--resume" not in arguments:
        command += " --resume"
    return f"Go on after the last full epoch: python -m reproduce {command}"


if __name__ == "__main__":
    sys.exit(main())
