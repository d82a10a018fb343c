from sojourn.activities import tool
from sojourn.activities.conversation import AssistantTurn, Conversation, ToolResult, ToolResults, UserTurn
from sojourn.activities.estimate import load, tokens_of, total
from sojourn.activities.model import ToolSpec
from sojourn.types.agent import AgentDefinition, FunctionTool
from sojourn.types.content import Base64Source, DocumentBlock, ImageBlock, TextBlock
from sojourn.types.id import EventId
from sojourn.types.record import TextPart

PLAIN = AgentDefinition(name="a", model="scripted:s")


@tool
async def search(query: str) -> str:
    """Search for something on the shelves of the library."""
    return query


def user(text: str) -> UserTurn:
    return UserTurn((TextBlock(text=text),))


def said(text: str) -> AssistantTurn:
    return AssistantTurn((TextPart(id=EventId("p"), text=text),))


def test_four_bytes_are_a_token() -> None:
    assert tokens_of(user("x" * 400)) == 101
    assert tokens_of(user("語" * 400)) == 301
    assert tokens_of(ToolResults((ToolResult("c", "t", (TextBlock(text="x" * 400),), False),))) == 101


def test_files_weigh_as_models_see_them_and_not_as_they_are_encoded() -> None:
    picture = Base64Source(media_type="image/png", data="A" * 1_000_000)

    assert tokens_of(UserTurn((ImageBlock(source=picture),))) == 1601
    assert tokens_of(UserTurn((DocumentBlock(source=picture),))) == 31_251


def test_the_providers_count_is_shared_out_and_later_messages_are_guessed() -> None:
    conversation = Conversation([user("x" * 396), said("x" * 396), user("x" * 36)], used_tokens=600, measured=2)

    found = load(conversation, PLAIN, ())

    assert found.messages == (300, 300, 10)
    assert found.total == total(conversation) == 610


def test_a_count_far_beyond_the_guess_is_not_put_down_to_the_messages() -> None:
    conversation = Conversation([user("x" * 396), said("x" * 396)], used_tokens=90_000, measured=2)

    found = load(conversation, PLAIN, ())

    assert (found.messages, found.total) == ((400, 400), 90_000)


def test_a_count_below_the_guess_makes_nothing_smaller() -> None:
    conversation = Conversation([user("x" * 396), said("x" * 396)], used_tokens=50, measured=2)

    assert load(conversation, PLAIN, ()).messages == (100, 100)


def test_prompt_and_tools_weigh_too() -> None:
    full = AgentDefinition(name="a", model="scripted:s", system="x" * 400, tools=[FunctionTool(name="search")])
    conversation = Conversation([user("x" * 396)])
    spec = ToolSpec(search.name, search.description, search.input_schema)

    assert load(conversation, PLAIN, ()).total == 100
    assert load(conversation, full, ()).total == 200
    assert load(conversation, full, (spec,)).total > 220
