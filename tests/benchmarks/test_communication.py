"""What data-parallel training sends, by arithmetic."""

import pytest

from benchmarks import communication
from benchmarks.communication import Cost


def test_ratio_of_a_step():
    cost = Cost(parameters=1000, flops=6e6)
    # In a ring of four, each sends 2 * 3 quarters of the gradients.
    assert cost.sent(4) == 6000
    # 6000 bytes at 1e4 a second, and 6e6 operations at 2e6 a second.
    plain = cost.ratio(4, passes=1, bandwidth=1e4, speed=2e6)
    assert plain == pytest.approx(0.6 / 3)
    rdrop = cost.ratio(4, passes=2, bandwidth=1e4, speed=2e6)
    assert rdrop == pytest.approx(plain / 2)


def test_table(capsys):
    communication.main(["--tiny", "--devices", "2", "--bandwidths", "1e9"])
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert "2 devices, R-Drop" in header
    rows = [row.strip("| ").split(" | ") for row in rows]
    assert [row[0] for row in rows] == list(communication.CASES)
    # A patch embedding (192 + 1) * 16; class token and 17 positions; a layer
    # with attention 4 * 17 * 16, feed-forward 33 * 32 + 16 and norms 64; the
    # last norm; ten classes.
    vit = 49 * 16 + 18 * 16 + 4 * 17 * 16 + 17 * 32 + 33 * 16 + 64 + 32 + 170
    assert rows[1][1] == f"{vit:,}"
