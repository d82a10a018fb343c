import pytest

from sojourn.types import Budget, ModelRef, SessionAccount, Usage
from sojourn.types.account import MICROCENTS_PER_CENT
from sojourn.types.price import has_price, list_cost

MILLION = 1_000_000


def test_tokens_cost_what_their_model_is_listed_at() -> None:
    model = ModelRef.of("anthropic:claude-sonnet-4-5")
    usage = Usage(input_tokens=1000, output_tokens=1000, cache_read_input_tokens=500)

    # 3 and 15 dollars a million, and 0.30 for what was cached.
    assert list_cost(model, usage) == (500 * 300 + 500 * 30 + 1000 * 1500)
    assert list_cost(model, Usage()) == 0


@pytest.mark.parametrize("model", ["ollama:llama3", "anthropic:claude-nobody-knows"])
def test_a_model_that_nobody_lists_has_no_price(model: str) -> None:
    assert list_cost(ModelRef.of(model), Usage(input_tokens=1)) is None
    assert has_price(ModelRef.of(model)) is False


def test_only_the_worker_knows_the_price_of_a_scripted_model() -> None:
    assert has_price(ModelRef.of("scripted:echo")) is None
    assert has_price(ModelRef.of("openai:gpt-4o")) is True


@pytest.mark.parametrize(
    ("cost", "cents", "exhausted"),
    [
        (0, None, False),
        (None, None, False),
        (0, 1, False),
        (MICROCENTS_PER_CENT - 1, 1, False),
        (MICROCENTS_PER_CENT, 1, True),
        (MICROCENTS_PER_CENT + 1, 1, True),
        (None, 1, True),
    ],
)
def test_an_account_is_exhausted_at_its_budget_or_when_nobody_knows(
    cost: int | None, cents: int | None, exhausted: bool
) -> None:
    budget = Budget(max_list_cost_cents=cents) if cents is not None else None

    assert SessionAccount(cost_microcents=cost, budget=budget).is_exhausted is exhausted
