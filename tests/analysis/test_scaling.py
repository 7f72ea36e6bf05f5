"""Laws and slopes over sizes, against planted ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncn.analysis.scaling import in_words, read_size, scaling
from ncn.common.errors import InputError
from ncn.common.files import write_json
from ncn.common.paths import COMPARISON, training_metrics

SIZES = {"s": 300_000, "m": 1_000_000, "l": 3_000_000, "xl": 9_000_000}
LAW = (1.2, 90.0, 0.4)
AT_TARGET = LAW[0] + LAW[1] * 18e6 ** -LAW[2]


def planted(
    height: float = 0.0, slope: float = 0.0, *, seeds: int = 5, sd: float = 0.01, draw: int = 0
) -> list[dict[str, Any]]:
    """Sizes on LAW; `ncn` differs by height + slope ln(N / 1 M), and seeds by sd, mostly shared."""
    noise = np.random.default_rng(draw)
    sizes = []
    for name, n in SIZES.items():
        loss = LAW[0] + LAW[1] * n ** -LAW[2]
        apart = height + slope * np.log(n / 1e6)
        shared = noise.normal(0, sd, seeds)
        figures = {"parameters": n, "non_embedding_parameters": n // 2}
        figures |= {"flops_per_token": 2 * n, "tokens": 10_000_000}
        arms = {
            arm: figures
            | {
                "loss_by_seed": {
                    str(seed + 1): float(loss + more + shared[seed] + noise.normal(0, sd / 4))
                    for seed in range(seeds)
                }
            }
            for arm, more in (("baseline", 0.0), ("ncn", apart))
        }
        sizes.append({"size": name, "arms": arms})
    return sizes


def test_a_planted_law_is_recovered_and_extrapolated() -> None:
    law = scaling(planted(sd=1e-5), 1)["arms"]["baseline"]["law"]
    for name, truth in zip("abc", LAW, strict=True):
        value, low, high = law[name]
        assert value == pytest.approx(truth, rel=0.1)
        assert low <= value <= high
    assert law["at_target"][0] == pytest.approx(AT_TARGET, abs=0.005)


def test_three_sizes_identify_no_law_however_quiet_and_four_noisy_ones_none_either() -> None:
    quiet, noisy = planted(sd=1e-5), planted(sd=0.1)
    for sizes, why in ((quiet[:3], "nothing tests its form"), (noisy, "factor of")):
        found = scaling(sizes, 1)
        law = found["arms"]["baseline"]["law"]
        assert any(why in reason for reason in law["unidentified"])
        [said] = [words for words in in_words(found) if words.startswith("baseline: its loss")]
        assert "is not identified" in said
        assert f"{law['at_target'][1]:.3f} to {law['at_target'][2]:.3f} at 18 M" in said
        assert f"N^-{law['c'][0]:.3f}" not in said  # no exponent stands alone
    found = scaling(quiet, 1)
    assert found["arms"]["baseline"]["law"]["unidentified"] == []
    assert any("its loss falls as N^-" in words for words in in_words(found))


def test_an_offset_that_may_be_none_is_said_to_be_open() -> None:
    sizes = planted()
    for size in sizes:
        arm = size["arms"]["baseline"]
        power = 3.0 * (arm["parameters"] / 1e6) ** -0.05
        arm["loss_by_seed"] = {str(seed): power + 0.01 * seed for seed in range(-2, 3)}
    law = scaling(sizes, 1)["arms"]["baseline"]["law"]
    assert "its offset may be none at all" in law["unidentified"]


def test_what_is_beyond_the_sizes_is_said_to_be_taken_for_granted() -> None:
    last = in_words(scaling(planted(), 1, resamples=20))[-1]
    assert last.startswith("18 M parameters are 2.0 times the largest size here")
    assert "no more than 10,000,000 tokens" in last


def test_intervals_hold_a_planted_law_and_slope_about_as_often_as_they_say() -> None:
    held = np.zeros(3)
    trials = 50
    for draw in range(trials):
        some = planted(-0.02, -0.004, seeds=3, draw=draw)[: 4 - draw % 2]
        found = scaling(some, 1, resamples=100)
        law, pair = found["arms"]["baseline"]["law"], found["differences"]["ncn"]
        ends = (law["at_target"] if law else [0, -9, 9], pair["slope"], pair["at_target"])
        truths = (AT_TARGET, -0.004, -0.02 - 0.004 * np.log(18))
        held += [low <= truth <= high for (_, low, high), truth in zip(ends, truths, strict=True)]
    assert (held / trials > 0.85).all()


@pytest.mark.parametrize(
    ("height", "slope", "trend"),
    [
        (-0.05, -0.02, "widens"),
        (0.05, 0.02, "widens"),
        (-0.05, 0.02, "narrows"),
        (0.05, -0.02, "narrows"),
        (0.0, 0.03, "cannot be told"),  # the difference changes its side
        (-0.05, 0.0, "cannot be told"),
    ],
)
def test_a_difference_is_said_to_widen_or_narrow(height: float, slope: float, trend: str) -> None:
    found = scaling(planted(height, slope), 1, resamples=20)
    assert found["differences"]["ncn"]["trend"] == trend
    assert any(trend in sentence for sentence in in_words(found))


def test_seeds_are_paired_where_they_are_equal_which_takes_out_what_they_share() -> None:
    sizes = planted(-0.05)
    paired = scaling(sizes, 1, resamples=20)["differences"]["ncn"]
    for size in sizes:
        ncn = size["arms"]["ncn"]
        ncn["loss_by_seed"] = {f"9{s}": loss for s, loss in ncn["loss_by_seed"].items()}
    apart = scaling(sizes, 1, resamples=20)["differences"]["ncn"]
    widths = [each["slope"][2] - each["slope"][1] for each in (paired, apart)]
    assert [each["points"][0]["paired"] for each in (paired, apart)] == [True, False]
    assert paired["slope"][0] == pytest.approx(apart["slope"][0])
    assert widths[0] < 0.7 * widths[1]


def test_nothing_is_claimed_from_too_few_sizes_or_seeds() -> None:
    two = scaling(planted(-0.05, -0.02)[:2], 1)
    assert two["arms"]["ncn"]["law"] is None
    assert two["differences"]["ncn"]["trend"] == "widens"
    one = scaling(planted(-0.05, -0.02)[:1], 1)
    few = scaling(planted(-0.05, -0.02, seeds=2), 1)
    for found in (one, few):
        pair = found["differences"]["ncn"]
        assert (pair["slope"], pair["at_target"], pair["trend"]) == (None, None, "cannot be told")
        assert found["arms"]["ncn"]["law"] is None
        assert "2 sizes with 3 seeds" in pair["no_slope"]
    assert {point["low"] for point in few["differences"]["ncn"]["points"]} == {None}
    assert any("is not known" in sentence for sentence in in_words(one))


def test_losses_that_rise_with_size_are_no_law() -> None:
    sizes = planted()
    values = [size["arms"]["baseline"]["loss_by_seed"] for size in sizes]
    for size, losses in zip(sizes, values[::-1], strict=True):
        size["arms"]["baseline"]["loss_by_seed"] = losses
    found = scaling(sizes, 1, resamples=20)["arms"]["baseline"]
    assert found["law"] is None
    assert "bound" in found["no_law"]


def test_frozen_sizes_are_read_and_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    sizes = planted(-0.05, -0.02)
    for size in sizes:
        folder, arms = tmp_path / size["size"], {}
        for arm, entry in size["arms"].items():
            arms[arm] = {"val_loss": {"by_seed": entry["loss_by_seed"]}}
            for seed in entry["loss_by_seed"]:
                write_json(folder / training_metrics(f"{arm}-{seed}"), entry)
        write_json(folder / COMPARISON, {"arms": arms})
    read = [read_size(tmp_path / name) for name in SIZES]
    assert json.dumps(scaling(read, 1)) == json.dumps(scaling(sizes, 1))
    with pytest.raises(InputError, match="same name, s"):
        scaling([*read, read[0]], 1)
    other = sizes[0]["arms"]["ncn"] | {"tokens": 7}
    write_json(tmp_path / "s" / training_metrics("ncn-3"), other)
    with pytest.raises(InputError, match=r"ncn-3\.json is of another size than ncn-1\.json"):
        read_size(tmp_path / "s")
    write_json(tmp_path / "s" / COMPARISON, {"arms": {}})
    with pytest.raises(InputError, match="no arm baseline"):
        read_size(tmp_path / "s")
