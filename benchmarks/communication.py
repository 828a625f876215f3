"""What data-parallel training sends per step, by its arithmetic.

    python -m benchmarks.communication

This is arithmetic rather than a measurement: the parameters of the paper's
models are counted, and so are the matrix products of a step. Each device sends
and receives `2 (n - 1) / n` times the gradients in a ring of n devices. R-Drop
computes two passes forward and backward for each exchange of gradients, and
plain training one. The last columns are the time of the exchange by that of the
step's arithmetic, without overlap, at the speeds of the flags.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import keras

from benchmarks.gpu.models import CASES
from benchmarks.gpu.models import model_of

# Gradients are exchanged in float32, in which Keras keeps the weights.
BYTES = 4
# The backward pass takes twice the arithmetic of the forward pass.
FORWARD_AND_BACKWARD = 3


class Cost(NamedTuple):
    """The cost of a step of plain training on one device.

    Attributes:
        parameters: The number of parameters.
        flops: The floating-point operations of a forward and a backward pass.
    """

    parameters: int
    flops: float

    def sent(self, devices: int) -> float:
        """Returns the bytes that each device sends per step."""
        return 2 * (devices - 1) / devices * BYTES * self.parameters

    def ratio(
        self, devices: int, passes: int, bandwidth: float, speed: float
    ) -> float:
        """Returns the time of the exchange by the time of the arithmetic.

        Args:
            devices: The number of devices.
            passes: The number of passes of a step.
            bandwidth: The bytes per second that a device sends.
            speed: The operations per second of a device.
        """
        computing = passes * self.flops / speed
        return self.sent(devices) / bandwidth / computing


def cost_of(name: str, tiny: bool = False) -> Cost:
    """Counts the parameters and the arithmetic of a model.

    Args:
        name: A key of `benchmarks.gpu.models.CASES`.
        tiny: Whether to count the tiny model of that name.
    """
    keras.utils.clear_session()
    measured = model_of(name, tiny)
    model = measured.case.plain()
    model(measured.case.x)
    flops = FORWARD_AND_BACKWARD * measured.flops
    return Cost(model.count_params(), flops)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--devices", type=int, nargs="+", default=[8, 64])
    add(
        "--bandwidths",
        type=float,
        nargs="+",
        default=[300e9, 40e9],
        help="bytes a second that a device sends, for each number of devices",
    )
    add("--speed", type=float, default=4e14, help="operations a second")
    add("--tiny", action="store_true", help="tiny models, as a test")
    flags = parser.parse_args(arguments)
    if len(flags.devices) != len(flags.bandwidths):
        parser.error("expected a value of --bandwidths for each of --devices")
    links = list(zip(flags.devices, flags.bandwidths))
    columns = ["model", "parameters", "TFLOP of a plain step"]
    columns += [f"GB sent by each of {n}" for n in flags.devices]
    columns += [
        f"exchange by arithmetic, {n} devices, {arm}"
        for n in flags.devices
        for arm in ("plain", "R-Drop")
    ]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name in CASES:
        cost = cost_of(name, flags.tiny)
        row = [name, f"{cost.parameters:,}", f"{cost.flops / 1e12:.2f}"]
        row += [f"{cost.sent(n) / 1e9:.2f}" for n in flags.devices]
        row += [
            f"{cost.ratio(n, passes, bandwidth, flags.speed):.2f}"
            for n, bandwidth in links
            for passes in (1, 2)
        ]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
