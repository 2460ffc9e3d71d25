"""Recording: its stride against a list that is thinned step by step, and its sizes against sums by hand."""

import pytest

from lightning_landscape import Recording


@pytest.mark.parametrize("every, keep", [(1, 8), (1, 9), (3, 8), (2, 64)])
def test_the_stride_is_that_of_a_list_that_is_thinned(every: int, keep: int) -> None:
    form = Recording(every, keep).form(10)
    kept, stride = [], every
    for count in range(3000):
        while count > (keep - 2) * stride:
            stride *= 2
        if count % stride == 0:
            kept = [then for then in kept if then % stride == 0] + [count]
            assert kept == [*range(0, count + 1, stride)]
        assert form.stride(count) == stride
        assert len({*kept, count}) <= keep


def test_half_of_the_records_stay_when_the_stride_doubles() -> None:
    counts = [len(range(0, n + 1, Recording(keep=64).form(10).stride(n))) for n in range(64, 5000)]
    assert min(counts) >= 32


def test_a_large_module_has_fewer_records_in_float16() -> None:
    # 1000 numbers: 4,000 bytes the first, 2,000 each of the others.
    assert Recording(max_bytes=64 * 4000).form(1000) == Recording(max_bytes=10**9).form(1000)
    small = Recording(max_bytes=64 * 4000 - 1).form(1000)
    assert (small.is_half, small.keep, small.nbytes) == (True, 64, 4000 + 63 * 2000)
    middle = Recording(max_bytes=4000 + 20 * 2000 + 1999).form(1000)
    assert (middle.is_half, middle.keep, middle.nbytes) == (True, 21, 4000 + 20 * 2000)
    least = Recording(max_bytes=1).form(1000, 10)
    assert (least.is_half, least.keep, least.nbytes) == (True, 8, 4040 + 7 * 2040)
    assert Recording(max_bytes=64 * 4000).form(1000, 0, 8).is_half  # the first record of a module in float64


@pytest.mark.parametrize("numbers, every", [(1, 1), (2**19, 1), (2**19 + 1, 2), (11_000_000, 32), (25_200_000, 64)])
def test_large_modules_are_recorded_less_often_at_the_start(numbers: int, every: int) -> None:
    assert Recording().form(numbers).every == every
    assert Recording(every_n_steps=3).form(numbers).every == 3  # as it was asked for


@pytest.mark.parametrize(
    "size, expected",
    [
        (17, 17),
        ("17", 17),
        ("256MiB", 256 * 2**20),
        ("1 GB", 10**9),
        ("1.5kB", 1500),
        ("2GiB", 2**31),
        ("3T", 3 * 10**12),
    ],
)
def test_sizes_in_words(size: object, expected: int) -> None:
    assert Recording(max_bytes=size).size_limit == expected


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"keep": 7}, r"keep=7: give a whole number of at least 8"),
        ({"every_n_steps": 0}, r"every_n_steps=0: give a whole number of at least 1"),
        ({"keep": True}, r"keep=True"),
        ({"max_bytes": "much"}, r'max_bytes=\'much\': give a number of bytes, or a text such as "256MiB"'),
        ({"max_bytes": -5}, r"max_bytes=-5"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recording(**wrong)
