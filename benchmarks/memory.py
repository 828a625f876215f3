"""Peak memory of a vocabulary head and of a whole training step.

    python -m benchmarks.memory --output results

The benchmark has two parts. The head is loss and gradients of the hidden states
of two passes, a kernel and a bias, with the arms of `benchmarks.vocabulary`.
The step is a training step of the translation model with a large vocabulary,
with the arms of `benchmarks.step`.

Each measurement runs in a fresh process, which first loads libraries, inputs,
weights and optimizer and runs a tiny step. It measures the peak of resident
memory above that level during two steps, of which the first traces and
compiles. The arms take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

from benchmarks import arms
from benchmarks import head
from benchmarks.harness import JIT
from benchmarks.harness import in_fresh_process
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.head import Head
from benchmarks.models import cnn
from benchmarks.models import transformer
from benchmarks.peak import peak_above
from benchmarks.report import Report
from benchmarks.vocabulary import SMALL
from benchmarks.vocabulary import add_head
from benchmarks.vocabulary import head_of
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.models.sizes import TranslationSizes

LENGTH = 32
# `torch.compile` runs the step before the measurement starts.
AVAILABLE = [arm for arm in arms.ARMS if arm != arms.TORCH_COMPILED]
AUTHORS = "TensorFlow, authors"
STEPS = (arms.DOUBLED, arms.PLAIN, arms.NAIVE, "calls", arms.CHUNKS, arms.TORCH)
QUICK = {
    **SMALL,
    "repeats": 1,
    "jit": "off",
    "step_tokens": 64,
    "step_vocabulary": 90,
    "configurations": ["tiny"],
    "head_arms": [AUTHORS, head.CHUNKED],
    "step_arms": [arms.DOUBLED, arms.CHUNKS],
}


def head_peak(settings: Head, arm: str, jit_compile: bool) -> int:
    """Returns the peak of two computations of loss and gradients, in bytes."""
    # A tiny step loads libraries, threads and code before the measurement.
    head.step_of(Head(4, 16, settings.width), arm, jit_compile)()
    return _peak_of_two(head.step_of(settings, arm, jit_compile))


def step_peak(
    configuration: TranslationSizes,
    vocabulary: int,
    tokens: int,
    arm: str,
    jit_compile: bool,
) -> int:
    """Returns the peak of two training steps, in bytes."""
    any_arm = arm if arm == arms.TORCH else arms.PLAIN
    arms.step_of(cnn((4,), 4), any_arm, jit_compile)()
    case = transformer(
        vocabulary,
        configuration,
        max(tokens // LENGTH, 1),
        LENGTH,
        label_smoothing=0.1,
    )
    return _peak_of_two(arms.step_of(case, arm, jit_compile))


def _peak_of_two(step: Callable[[], float]) -> int:
    return peak_above(lambda: (step(), step()))


def measure(
    function: Callable[..., int],
    settings: tuple,
    names: Sequence[str],
    jit_compile: bool,
    repeats: int,
) -> dict[str, list[float]]:
    """Returns the peaks of each arm, in turns, with a process per peak."""
    found: dict[str, list[float]] = {arm: [] for arm in names}
    for _ in range(repeats):
        for arm in names:
            peak = in_fresh_process(function, *settings, arm, jit_compile)
            found[arm].append(peak)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=3)
    add = parser.add_argument
    parts = ["head", "step"]
    add("--parts", nargs="+", choices=parts, default=parts)
    add("--head-arms", nargs="+", choices=head.ARMS, default=list(head.ARMS))
    add("--step-arms", nargs="+", choices=AVAILABLE, default=list(STEPS))
    add(
        "--configurations",
        nargs="+",
        choices=list(TRANSLATION_SIZES),
        default=["tiny", "iwslt"],
        help="of the translation example",
    )
    add("--step-tokens", type=int, default=2048, help="of a side of a batch")
    add("--step-vocabulary", type=int, default=32_000, help="words")
    add_head(parser)
    flags = parse(parser, arguments, QUICK)
    report = Report("memory", "peak memory", "bytes", flags)
    for jit_compile in JIT[flags.jit]:
        if "head" in flags.parts:
            settings = head_of(flags)
            available = head.available_arms(jit_compile)
            names = [arm for arm in available if arm in flags.head_arms]
            base = AUTHORS
            peaks = measure(
                head_peak,
                (settings,),
                names if base in names else [base, *names],
                jit_compile,
                flags.repeats,
            )
            report.add(f"head: {settings}", jit_compile, base, peaks)
        for name in flags.configurations if "step" in flags.parts else ():
            base = arms.DOUBLED
            names = flags.step_arms
            peaks = measure(
                step_peak,
                (
                    TRANSLATION_SIZES[name],
                    flags.step_vocabulary,
                    flags.step_tokens,
                ),
                names if base in names else [base, *names],
                jit_compile,
                flags.repeats,
            )
            case = (
                f"step: translation, {name}, {flags.step_tokens:,} tokens, "
                f"{flags.step_vocabulary:,} words"
            )
            report.add(case, jit_compile, base, peaks)
    report.finish()


if __name__ == "__main__":
    main()
