"""The benchmark measures what it says: right values, costs out of made-up clocks, and a table of made-up timings."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import rounds
from benchmarks.__main__ import main, told_load
from benchmarks.contenders import Careful, OnThePlane, Ours, Tolerant, naive, ours, square
from benchmarks.limits import Limit, faster, limits
from benchmarks.peers import PEERS, installed
from benchmarks.rounds import Result, Row, compete, relative_error
from benchmarks.stopwatch import Clock, Cost, Enough, Stopwatch, Timing, now
from benchmarks.table import TOLERANCE, figure, landscape_table, markdown, summary
from benchmarks.workloads import WORKLOADS, make
from lightning_landscape.accelerations.choose import fastest
from lightning_landscape.accelerations.trial import TrialSettings
from lightning_landscape.evaluators.affine.closed_form import ClosedForm
from lightning_landscape.survey import survey

from ._formula import rounds_products

SMALL = {"W1": 300, "W2": 20, "W3": 3, "W4": 6, "W5": 3}


def silent(done: int) -> None:
    """A tick that nobody hears."""


# values


def test_every_workload_is_small_here() -> None:
    assert SMALL.keys() == WORKLOADS.keys()


@pytest.mark.parametrize("name", WORKLOADS)
def test_all_values_are_those_of_the_naive_loop(name: str) -> None:
    workload = make(name, SMALL[name])
    right = naive(workload, workload.plane, square(2).points).reshape(2, 2)
    assert np.ptp(right) > 0
    for contender in [*ours(), Careful()]:
        contender.prepare(workload)
        ticks: list[int] = []
        values = contender(workload, 2, ticks.append)
        assert relative_error(values, right) < TOLERANCE
        assert ticks[-1] == 4


def test_the_naive_loop_is_the_formula() -> None:
    workload = make("W1", 50)
    weight, bias = (parameter.detach() for parameter in workload.module.net[1].parameters())
    first, second = (direction["net.1.weight"].double() for direction in workload.plane.directions)
    for value, (a, b) in zip(naive(workload, workload.plane, square(3).points), square(3).points, strict=True):
        logits = workload.inputs.flatten(1).double() @ (weight.double() + a * first + b * second).T + bias.double()
        chosen = logits[torch.arange(50), workload.labels]
        assert value == pytest.approx(float((logits.logsumexp(1) - chosen).mean()), rel=1e-12)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_the_same_twice(name: str) -> None:
    one, two = (make(name, 3) for _ in range(2))
    assert torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.labels, two.labels)
    for a, b in zip(one.module.state_dict().values(), two.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_workloads_are_those_of_the_documentation() -> None:
    parameters = {name: sum(p.numel() for p in make(name, 2).module.parameters()) for name in ("W1", "W2", "W3")}
    assert parameters == {"W1": 7850, "W2": 19466, "W3": 855770}
    assert make("W1", 4).flops == 4 * 2 * 784 * 10
    assert set(make("W5", 2).plane.origin) == {"net.head.weight", "net.head.bias"}


def test_an_option_that_gets_lost_on_its_way_is_told() -> None:
    with pytest.raises(RuntimeError, match="strict does not reach the measuring"):
        Ours("ours, strict", {"strict": True})(make("W1", 20), 2, silent)


def test_ours_tells_what_it_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "fastest", partial(fastest, settings=TrialSettings(affine_seconds=0.0)))
    fast, plain = ours()
    fast(make("W1", 300), 51, silent)
    plain(make("W1", 300), 3, silent)
    assert fast.note == "Used: W1: affine, closed form"
    assert plain.note == ""


def test_a_run_that_is_stopped_leaves_the_workload_as_it_was() -> None:
    workload = make("W2", 20)
    before = [tensor.clone() for tensor in workload.module.state_dict().values()]
    for contender in [*ours(), Careful(), *installed()[0]]:
        watch = Stopwatch(budget=0.0, least=2)
        with pytest.raises(Enough):
            contender(workload, 5, watch)
        assert watch.timing(25).points < 25
    assert all(torch.equal(a, b) for a, b in zip(before, workload.module.state_dict().values(), strict=True))


@pytest.mark.parametrize("package", PEERS)
def test_an_installed_peer_runs(package: str) -> None:
    contender, module = PEERS[package]
    pytest.importorskip(module)
    workload, peer = make("W1", 30), contender()
    right = naive(workload, peer.plane(workload), square(3).points).reshape(3, 3)
    # one batch, so that losscape's mean is right; the notes say what is wrong elsewhere
    places = {"losscape": np.s_[:, :], "loss-landscapes": np.s_[1, :], "landscaper": np.s_[1, 1]}[package]
    assert relative_error(peer(workload, 3, silent)[places], right[places]) < TOLERANCE


def test_a_missing_peer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "no-such-tool", (Careful, "no_such_tool"))
    found, versions = installed()
    assert versions["no-such-tool"] == "not installed"
    assert len(found) < len(PEERS)


# the stopwatch


class Script:
    """A clock that shows one time after the other; the CPU's goes twice as fast."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)

    def __call__(self) -> Clock:
        time = self.times.pop(0)
        return Clock(time, 2 * time)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no evaluator starts a process")
def test_the_clock_counts_the_processes_that_were_started_alive_and_ended() -> None:
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    before, own = now().cpu, time.process_time()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        alive = now().cpu - before
        process.communicate(b"\n")
    ended = now().cpu - before
    own = time.process_time() - own
    assert 0.4 < alive < 0.8 + own
    assert alive - 0.05 < ended < 1.0 + own


def test_the_clock_takes_less_than_a_point() -> None:
    """A landscape of closed form has thousands in a second, each of which reads it."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1000):
            now()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02  # 20 µs each; the system takes 100 to tell of other processes


def test_preparation_is_what_a_first_point_takes_longer() -> None:
    watch = Stopwatch(clock=Script(10.0, 13.5, 14.0, 14.5))
    for done in (1, 2, 3):
        watch(done)
    assert watch.timing(101) == Timing(Cost(3.0, 0.5, 53.5), Cost(6.0, 1.0, 107.0), 3, False)


def test_a_complete_run_is_not_extrapolated() -> None:
    watch = Stopwatch(clock=Script(0.0, 3.0, 4.0))
    watch(1)
    watch(3)
    assert watch.timing(3).wall == Cost(2.5, 0.5, 4.0)
    assert watch.timing(3).complete


def test_all_points_at_once_are_preparation() -> None:
    watch = Stopwatch(clock=Script(0.0, 4.0))
    watch(9)
    assert watch.timing(9).wall == Cost(4.0, 0.0, 4.0)


def test_zero_points_start_the_clock_anew() -> None:
    watch = Stopwatch(clock=Script(0.0, 100.0, 101.0, 102.0))
    watch(0)
    watch(1)
    watch(0)
    watch(2)
    assert watch.timing(10).wall == Cost(0.0, 1.0, 10.0)


def test_a_spent_budget_ends_a_run_that_has_enough_points() -> None:
    watch = Stopwatch(budget=5.0, least=3, clock=Script(0.0, 50.0, 56.0, 62.0))
    watch(1)
    watch(2)
    with pytest.raises(Enough):
        watch(3)


def test_a_stopwatch_without_a_point_refuses() -> None:
    with pytest.raises(ValueError, match="No point was measured"):
        Stopwatch().timing(9)


# rounds


class Liar(OnThePlane):
    """Right but for one value."""

    name = "liar"

    def __call__(self, workload: Any, n: int, tick: Any) -> np.ndarray:
        values = naive(workload, workload.plane, square(n).points).reshape(n, n)
        values[0, 0] *= 1.01
        tick(n * n)
        return values


class Broken(OnThePlane):
    """Raises."""

    name = "broken"

    def __call__(self, workload: Any, n: int, tick: Any) -> np.ndarray:
        raise RuntimeError("does not know this layer")


def test_a_wrong_value_is_shown_and_a_failure_ends_nothing() -> None:
    result = compete(make("W1", 20), [Liar(), Broken(), Careful()], rounds=2, budget=None, n=3, check=3)
    liar, broken, careful = result.rows
    assert liar.error == pytest.approx(0.01)
    assert broken.failure == "RuntimeError: does not know this layer"
    assert not broken.rounds
    assert [timing.complete for timing in careful.rounds] == [True, True]
    table = landscape_table(result)
    assert "**wrong, 1e-02**" in table
    assert "failed: RuntimeError: does not know this layer" in table


@pytest.mark.parametrize("wrong", [False, True])
def test_what_was_timed_is_checked_where_only_that_is_accelerated(wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "fastest", partial(fastest, settings=TrialSettings(affine_seconds=0.0)))
    compute = ClosedForm.__call__

    def spoilt(self: Any, points: Any) -> Any:
        return {name: (v * 1.01, e) for name, (v, e) in compute(self, points).items()}

    if wrong:
        monkeypatch.setattr(ClosedForm, "__call__", spoilt)
        monkeypatch.setattr("lightning_landscape.evaluators.affine.affine._proved", lambda *_: {})
    contender = Ours("ours", {"accelerate": True})
    (row,) = compete(make("W1", 300), [contender], rounds=1, budget=None, n=51).rows
    assert contender.note == "Used: W1: affine, closed form"
    assert row.error is not None
    assert row.error == pytest.approx(0.01, rel=1e-3) if wrong else row.error < TOLERANCE


def test_with_a_tolerance_the_check_is_between_the_evaluated_points(monkeypatch: pytest.MonkeyPatch) -> None:
    workload, said = make("W1", 20), []
    never = TrialSettings(affine_seconds=np.inf)  # it would be worth it on a slow machine
    monkeypatch.setattr(survey, "fastest", partial(fastest, settings=never))
    monkeypatch.setattr(rounds, "BETWEEN", 33 * 33)
    first = compete(workload, [Tolerant(1e-2), Careful()], rounds=1, budget=None, n=33, check=2, say=said.append)
    row = first.rows[0]
    whole = naive(workload, workload.plane, square(33).points)
    assert row.points is not None
    assert 100 < row.points < 33 * 33
    assert row.error is not None
    contender = Tolerant(1e-2)
    values = contender(workload, 33, silent)
    true = np.abs(values.flat - whole) / np.ptp(whole)
    assert 1e-5 < true.max() < 1e-2
    assert row.error == pytest.approx(true.max(), rel=1e-2)
    assert contender.landscape is not None
    evaluated = contender.landscape.evaluated
    assert true[evaluated.reshape(-1)].max() < 1e-6
    assert evaluated.sum() == row.points == row.rounds[0].points
    assert row.rounds[0].complete
    assert said[-1] == "W1: round 1 of 1, careful"
    cells = landscape_table(first).splitlines()[2].split(" | ")
    assert cells[0] == "| ours, tolerance 0.01"
    assert cells[5] == f"{row.points:,}"
    assert cells[-1].startswith("right, ")
    assert cells[-1].endswith(" of the range |")
    monkeypatch.setattr(rounds, "BETWEEN", 16)
    monkeypatch.setattr(rounds, "naive", lambda workload, plane, points: np.full(16, whole.max() + 1))
    (liar,) = compete(workload, [Tolerant(1e-2)], rounds=0, budget=None, n=33).rows
    assert liar.error > 1e-2
    (all_of_it,) = compete(workload, [Tolerant(1e-2)], rounds=0, budget=None, n=5).rows
    assert (all_of_it.points, all_of_it.error, all_of_it.failure) == (25, None, "")  # nothing is interpolated


def test_a_value_that_is_not_finite_is_wrong() -> None:
    assert relative_error(np.array([1.0, np.nan]), np.ones(2)) == np.inf


# the table


def timing(preparation: float, point: float, total: float, complete: bool = False) -> Timing:
    return Timing(Cost(preparation, point, total), Cost(2 * preparation, 2 * point, 4 * total), 5, complete)


def made_up() -> Result:
    careful = [timing(0, 0.1, 260), timing(0, 0.2, 520), timing(0, 0.1, 260)]
    quick = [timing(20, 0.01, 26), timing(1, 0.04, 104), timing(2, 0.01, 13, True)]
    rows = [
        Row("ours", error=3e-7, rounds=quick),
        Row("careful", error=1e-8, rounds=careful),
        Row("ours, tolerance 0.001", 1e-3, 456, 8e-4, rounds=[timing(1, 0.02, 13)] * 3),
        Row("tool", error=2e-2, rounds=[timing(0, 0.2, 520), timing(0, 0.4, 1040), timing(0, 0.2, 520)]),
        Row("broken", error=2e-2, rounds=[timing(0, 1, 1)], failure="stopped in the second round"),
        Row("new"),
        Row("ours, plain", error=1e-8, rounds=careful),
    ]
    return Result("W2", "a net", 100, 2601, 10**9, rows)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_the_table_of_made_up_timings() -> None:
    lines = cells(landscape_table(made_up(), 1e11))
    assert lines[0][4:6] == ["2,601 points, s", "evaluated"]
    # medians of each column; ratios 10, 5, 20 in the rounds; 2,601 · 10⁹ operations in 26 s at 10¹¹ a second
    assert lines[2] == ["ours", "10", "20", "2 (20)", "≈ 26", "2,601", "10", "10", "100 %", "right, 3e-07"]
    assert lines[3] == ["careful", "100", "200", "0 (0)", "≈ 260", "2,601", "1", "1", "10 %", "right, 1e-08"]
    assert lines[4][5:] == ["456", "20", "20", "200 %", "right, 8e-04 of the range"]
    assert lines[5][5:] == ["2,601", "0.5", "0.5", "5 %", "**wrong, 2e-02**"]
    assert len({len(line) for line in lines}) == 1


def test_the_summary_has_a_row_a_workload() -> None:
    result = made_up()
    other = Result("W9", "another", 7, 100, 10, [Row("ours", rounds=[timing(0, 0, 3)]), result.rows[1]])
    lines = cells(summary([result, other], 1e11))
    assert lines[0] == [
        "× careful", "ours", "ours, tolerance 0.001", "tool", "broken", "ms a point, ours", "of the float32 limit"
    ]  # fmt: skip
    # 26 s for 2,601 points
    assert lines[2] == ["W2: a net; 100 samples", "10", "20", "0.5, wrong", "failed", "10", "100 %"]
    assert lines[3] == ["W9: another; 7 samples", "86.7", "–", "–", "–", "30", "0 %"]
    assert cells(summary([Result("W2", "a net", 100, 9, 1, [Row("ours", failure="no")])]))[2][1:] == [
        "failed",
        "–",
        "–",
    ]


def test_the_report_says_what_it_holds_for() -> None:
    rates = limits(64, 0.01)
    assert all(limit.rate > 0 for limit in rates)
    exact = [limit for limit in rates if "float32" in limit.name and limit.error is not None]
    assert rounds_products() or all(limit.error < 1e-5 for limit in exact)  # some CPUs make them in bfloat16
    report = markdown({"date": "today"}, rates, [], {"careful": "batches of 16", "ours": ""})
    assert "| date | today |" in report
    assert "- **careful** batches of 16." in report
    assert "**ours**" not in report


def test_figures_have_three_digits() -> None:
    shown = [figure(value) for value in (0, 0.012345, 9.876, 123.4, 56789.0, 1e-7)]
    assert shown == ["0", "0.0123", "9.88", "123", "56,789", "1.0e-07"]


def test_of_two_measurements_of_a_limit_the_faster_counts() -> None:
    calm, busy = Limit("exp", 2.0, "numbers"), Limit("exp", 1.0, "numbers")
    assert faster([calm, busy], [busy, calm]) == [calm, calm]


# the command


@pytest.mark.parametrize("before, after, busy", [(0.1, 2.2, False), (1.5, 2.2, True), (0.1, 7.8, True)])
def test_a_busy_machine_is_told(before: float, after: float, busy: bool) -> None:
    assert ("not reliable" in told_load(before, after, 2)) == busy


def test_the_command_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import __main__ as command

    monkeypatch.setitem(WORKLOADS, "W1", WORKLOADS["W1"]._replace(quick=40, tolerance=1e-2))
    monkeypatch.setattr(command, "limits", lambda *_: limits(64, 0.01))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "as it was")
    file = tmp_path / "report.md"
    main(["--quick", "--workloads", "W1", "--rounds", "1", "--threads", "1", "--out", str(file)])
    report = file.read_text(encoding="utf-8")
    printed, progress = capsys.readouterr()
    assert report in printed
    lines = [line.split(" s  ") for line in progress.splitlines() if " s  " in line]
    assert [what for _, what in lines][:2] == ["the limits of this machine", "W1: checking ours"]
    assert all(seconds.strip().isdecimal() for seconds, _ in lines)
    assert "## W1: linear classifier, 784 → 10; 40 samples" in report
    assert "| careful |" in report
    assert report.index("## In short") < report.index("| × careful | ours |") < report.index("## The limits")
    assert "tolerance" not in report  # nothing is interpolated in a first look
    assert "**quick**" in report
    assert all(package in report for package in PEERS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--workloads", "W9"], "'W9' is unknown; the choices are W1, W2, W3, W4, W5"),
        (["--rounds", "0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_wrong_options_are_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_help_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--workloads" in capsys.readouterr().out
