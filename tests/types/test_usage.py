from hypothesis import given
from hypothesis import strategies as st

from sojourn.types.usage import Usage

counts = st.integers(min_value=0, max_value=10**9)
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_input_tokens=counts,
    cache_creation_input_tokens=counts,
)


@given(usages, usages)
def test_sum_adds_every_field(one: Usage, other: Usage) -> None:
    total = (one + other).model_dump()

    assert total == {name: getattr(one, name) + getattr(other, name) for name in Usage.model_fields}


@given(usages)
def test_nothing_adds_nothing(usage: Usage) -> None:
    assert usage + Usage() == usage


def test_total_is_input_and_output() -> None:
    usage = Usage(input_tokens=3, output_tokens=4, cache_read_input_tokens=2, cache_creation_input_tokens=1)

    assert usage.total_tokens == 7
