"""The console in a real browser: Debian's Chromium, driven by Playwright."""

import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    CustomTool,
    PermissionPolicy,
    SessionStatus,
    UserCustomToolResult,
    UserToolConfirmation,
    text_of,
)

if TYPE_CHECKING:
    from tests.client.gateway.console.conftest import Desk

ASK = PermissionPolicy(default="ask")
LOOK = CustomTool(name="look", description="Looks.", input_schema={"type": "object"})


def pay(amount: int) -> str:
    return f"paid {amount}"


async def test_a_wrong_key_is_told_in_words_and_a_right_one_opens_the_list(desk: "Desk") -> None:
    await desk.page.goto(desk.url)

    await desk.knock("nonsense")

    await expect(desk.page.get_by_role("alert")).to_contain_text("This key is not valid")
    await desk.knock("ada")
    await expect(desk.page.get_by_role("heading", name="sojourn")).to_be_hidden()
    await expect(desk.page.get_by_text("No sessions yet")).to_be_visible()
    assert "ada" not in desk.page.url


async def test_a_key_is_remembered_only_if_that_is_wanted(desk: "Desk") -> None:
    await desk.sign_in()
    kept = "[sessionStorage.length, localStorage.length]"
    assert await desk.page.evaluate(kept) == [1, 0]
    await desk.page.get_by_role("button", name="Sign out").click()
    assert await desk.page.evaluate(kept) == [0, 0]

    await desk.page.get_by_label("Remember on this device").check()
    await desk.knock("ada")
    await expect(desk.page.get_by_text("No sessions yet")).to_be_visible()

    assert await desk.page.evaluate(kept) == [0, 1]
    await desk.page.reload()
    await expect(desk.page.get_by_text("No sessions yet")).to_be_visible()


async def test_the_list_keeps_itself_fresh_filters_and_searches(desk: "Desk") -> None:
    await desk.sign_in()
    waiting = await desk.stage.session(
        ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 5})]), tools=[pay], policy=ASK, title="Pay the rent"
    )
    await waiting.session.send("go")
    agent = await desk.stage.agent(model="scripted:echo")
    quiet = await desk.stage.open(agent, title="Water the plants")

    rows = desk.page.get_by_role("list", name="Sessions").get_by_role("link")
    await expect(rows).to_have_count(2)
    await expect(rows.filter(has_text="Pay the rent")).to_contain_text("Waits for you")
    await desk.filter("Waits for you")
    await expect(rows).to_have_text([re.compile("Pay the rent")])
    await desk.filter("Ended")
    await expect(desk.page.get_by_text("No session has ended.")).to_be_visible()
    await desk.filter("All")
    await desk.page.get_by_label("Search titles").fill("plants")
    await expect(rows).to_have_text([re.compile("Water the plants")])
    await desk.page.get_by_label("Search titles").fill("")
    await quiet.session.archive()
    await desk.filter("Ended")
    await expect(rows).to_have_text([re.compile("Water the plants.*Archived")])


async def test_a_message_is_answered_in_text_that_streams_until_it_is_interrupted(desk: "Desk") -> None:
    probe = await desk.stage.session(ScriptedTurn(text="Once upon a time", stall=True), title="Tale")
    await desk.enter(probe)

    await desk.say("Tell me a tale")

    await expect(desk.page.get_by_label("You", exact=True)).to_contain_text("Tell me a tale")
    await expect(desk.page.locator(".agent.live")).to_contain_text("Once upon a time")
    await expect(desk.activity).to_contain_text("Writing")
    await expect(desk.state).to_have_text("Running")
    await desk.page.get_by_role("button", name="Interrupt").click()
    await expect(desk.page.get_by_label("Agent", exact=True)).to_contain_text("Cut short")
    await expect(desk.page.locator(".agent.live")).to_have_count(0)
    await expect(desk.state).to_have_text("Idle")
    await expect(desk.page.locator(".note", has_text="Interrupted")).to_be_visible()


async def test_a_message_during_a_turn_is_shown_as_queued(desk: "Desk") -> None:
    probe = await desk.stage.session(ScriptedTurn(text="one", stall=True), ScriptedTurn(text="two"), title="Queue")
    await desk.enter(probe)
    await desk.say("first")
    await expect(desk.page.locator(".agent.live")).to_contain_text("one")

    await desk.say("second")

    queue = desk.page.get_by_role("list", name="Queued messages")
    await expect(queue).to_contain_text("second")
    await desk.page.get_by_role("button", name="Interrupt").click()
    await expect(queue.get_by_role("listitem")).to_have_count(0)
    await expect(desk.page.get_by_label("Agent", exact=True).last).to_contain_text("two")
    await expect(desk.page.get_by_label("You", exact=True)).to_have_text([re.compile("first"), re.compile("second")])


async def test_calls_are_allowed_and_denied_with_a_reason(desk: "Desk") -> None:
    calls = [ScriptedCall("pay", {"amount": 5}), ScriptedCall("pay", {"amount": 7})]
    probe = await desk.stage.session(
        ScriptedTurn(text="I pay.", calls=calls), ScriptedTurn(text="All done."), tools=[pay], policy=ASK, title="Pay"
    )
    await probe.session.send("go")
    await probe.parked()
    await desk.enter(probe)

    await expect(desk.activity).to_contain_text("Waits for you: pay")
    small, large = desk.call("pay").nth(0), desk.call("pay").nth(1)
    await small.get_by_role("button", name="Allow").click()
    await expect(small).to_have_accessible_name("Tool call pay: Allowed")
    await large.get_by_role("button", name="Deny…").click()
    await large.get_by_label("Reason (optional)").fill("too much")
    await large.get_by_role("button", name="Deny the call").click()

    await expect(small).to_have_accessible_name("Tool call pay: Done")
    await expect(large).to_have_accessible_name("Tool call pay: Denied")
    await expect(desk.page.get_by_label("Agent", exact=True).last).to_contain_text("All done.")
    await large.locator("summary").click()
    await expect(large).to_contain_text("Denied: too much")
    await small.locator("summary").click()
    await expect(small).to_contain_text("paid 5")
    await probe.saw(UserToolConfirmation, 2)
    answers = {answer.result: answer.deny_message for answer in probe.of(UserToolConfirmation)}
    assert answers == {"allow": None, "deny": "too much"}


async def test_a_custom_tool_is_answered_with_json(desk: "Desk") -> None:
    turns = (ScriptedTurn(calls=[ScriptedCall("look", {"where": "up"})]), ScriptedTurn(text="I see."))
    probe = await desk.stage.session(*turns, custom=[LOOK], title="Look")
    await desk.enter(probe)
    await desk.say("look up")
    call = desk.call("look")

    result = call.get_by_label("Result of look")
    await result.fill('{"sky": ')
    await expect(call).to_contain_text("Not valid JSON")
    await result.fill('{"sky": "blue"}')
    await expect(call).to_contain_text("Valid JSON")
    await call.get_by_role("button", name="Send result").click()

    await expect(desk.page.get_by_label("Agent", exact=True).last).to_contain_text("I see.")
    await expect(call).to_have_accessible_name("Tool call look: Answered")
    answer = await probe.saw(UserCustomToolResult)
    assert text_of(answer.content) == '{"sky": "blue"}'


async def test_a_session_is_paused_resumed_archived_and_deleted(desk: "Desk") -> None:
    probe = await desk.stage.session(ScriptedTurn(text="hello"), title="Short life")
    await desk.enter(probe)
    await desk.say("hi")
    await expect(desk.state).to_have_text("Idle")
    await desk.page.get_by_role("button", name="Pause").click()
    await expect(desk.state).to_have_text("Paused")
    await desk.page.get_by_role("button", name="Resume").click()
    await expect(desk.state).to_have_text("Idle")

    await desk.more("Archive…")
    dialog = desk.page.get_by_role("dialog", name="Archive this session?")
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    await dialog.get_by_role("button", name="Archive").click()

    await expect(desk.state).to_have_text("Archived")
    await expect(desk.page.get_by_text("this session takes no more messages")).to_be_visible()
    assert (await probe.session.info()).status is SessionStatus.ARCHIVED
    probe.forget()
    await desk.more("Delete…")
    await desk.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(desk.page.get_by_text("Choose a session")).to_be_visible()
    await expect(desk.page.get_by_role("link", name="Short life")).to_have_count(0)


async def test_a_new_session_starts_with_its_first_message(desk: "Desk") -> None:
    await desk.stage.work()
    agent = await desk.stage.agent(model="scripted:echo", name="parrot")
    await desk.environment()
    await desk.sign_in()

    await desk.page.get_by_role("button", name="New session").click()
    form = desk.page.get_by_role("dialog", name="New session")
    await form.get_by_label("Agent").select_option(str(agent.id))
    await form.get_by_label("Title").fill("Fresh")
    await form.get_by_label("First message").fill("hi")
    await form.get_by_role("button", name="Start").click()

    await expect(desk.page.get_by_role("heading", name="Fresh")).to_be_visible()
    await expect(desk.page.get_by_label("Agent", exact=True)).to_contain_text("You said: hi")
    await expect(desk.page.get_by_role("list", name="Sessions").get_by_role("link")).to_contain_text("Fresh")


async def test_everything_works_by_keyboard_alone(desk: "Desk") -> None:
    turns = (ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 5})]), ScriptedTurn(text="paid", stall=True))
    probe = await desk.stage.session(*turns, tools=[pay], policy=ASK, title="Keys")
    await probe.session.send("go")
    await probe.parked()
    await desk.page.goto(desk.url)
    keys = desk.page.keyboard
    await expect(desk.page.get_by_label("API key")).to_be_focused()
    await keys.type("ada")
    await keys.press("Enter")
    await expect(desk.page.get_by_role("link", name="Keys")).to_be_visible()

    await keys.press("j")
    await expect(desk.page.get_by_role("link", name="Keys")).to_be_focused()
    assert await desk.outline() != "none"
    await keys.press("Enter")
    await expect(desk.page.get_by_role("button", name="Allow")).to_be_visible()
    await keys.press("a")
    await expect(desk.page.get_by_role("button", name="Allow")).to_be_focused()
    assert await desk.outline() != "none"
    await keys.press("Enter")
    await expect(desk.page.locator(".agent.live")).to_contain_text("paid")
    await keys.press("Shift+X")
    await expect(desk.state).to_have_text("Idle")
    await keys.press("m")
    await expect(desk.page.get_by_label("Message to the agent")).to_be_focused()
    await keys.type("mind x and ?")
    await keys.press("Escape")
    await keys.press("?")
    await expect(desk.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    await keys.press("Escape")
    await expect(desk.page.get_by_role("dialog")).to_have_count(0)
    await keys.press("Escape")
    await expect(desk.page.get_by_text("Choose a session")).to_be_visible()
    await keys.press("/")
    await expect(desk.page.get_by_label("Search titles")).to_be_focused()


async def test_a_phone_shows_everything_without_scrolling_sideways(desk: "Desk") -> None:
    wide = "x" * 400 + " " + "\n".join(f"{line:04} " + "y" * 300 for line in range(60))
    calls = [ScriptedCall("pay", {"amount": 5, "note": "z" * 500}), ScriptedCall("look", {"at": "w" * 300})]
    probe = await desk.stage.session(
        ScriptedTurn(text=f"```\n{wide}\n```\n{wide}", calls=calls),
        tools=[pay],
        custom=[LOOK],
        policy=ASK,
        title="A title that is far too long for any phone that anybody has ever carried in a pocket " + "v" * 150,
    )
    await probe.session.send("u" * 400)
    await probe.parked()
    await desk.page.set_viewport_size({"width": 360, "height": 740})

    await desk.sign_in()
    row = desk.page.get_by_role("link", name="A title that is far")
    await expect(row).to_be_visible()
    await desk.fits()
    await row.click()
    await expect(row).to_be_hidden()
    await expect(desk.call("look")).to_be_visible()
    await desk.fits()
    await desk.call("pay").get_by_role("button", name="Deny…").click()
    await desk.fits()
    await desk.page.get_by_text("More", exact=True).click()
    await expect(desk.page.get_by_role("button", name="Archive…")).to_be_in_viewport()
    await desk.fits()
    await desk.page.keyboard.press("Escape")
    await desk.page.get_by_role("button", name="Events").click()
    await desk.fits()
    await desk.page.get_by_role("link", name="Back to the list").click()
    await expect(row).to_be_visible()


async def test_a_cut_stream_is_told_and_goes_on_without_loss_or_double(desk: "Desk") -> None:
    probe = await desk.stage.session(title="Cut")
    await desk.enter(probe)
    await desk.say("one")
    await expect(desk.page.get_by_label("Agent", exact=True)).to_have_text([re.compile("You said: one")])

    desk.line.cut()
    await expect(desk.activity).to_contain_text("reconnecting")
    await probe.session.send_and_wait("two")
    desk.line.mend()

    said = [re.compile("You said: one"), re.compile("You said: two")]
    await expect(desk.page.get_by_label("Agent", exact=True)).to_have_text(said)
    await expect(desk.activity).not_to_contain_text("reconnecting")
    await desk.say("three")
    await expect(desk.page.get_by_label("Agent", exact=True)).to_have_text([*said, re.compile("You said: three")])


async def test_what_others_wrote_stays_text(desk: "Desk") -> None:
    evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>[x](javascript:window.hit=1)'

    def fetch(url: str) -> str:
        return f"{evil}\n```html\n{evil}\n```"

    turns = (
        ScriptedTurn(calls=[ScriptedCall("fetch", {"url": evil})]),
        ScriptedTurn(text=f"# {evil}\n\n**{evil}**\n\n{evil}"),
    )
    probe = await desk.stage.session(*turns, tools=[fetch], title=evil, metadata={"evil": evil})
    await probe.session.send_and_wait(evil)
    await desk.enter(probe, title="window.hit")

    await expect(desk.page.get_by_label("You", exact=True)).to_contain_text(evil)
    await expect(desk.page.get_by_label("Agent", exact=True)).to_contain_text(evil)
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text(evil)
    await desk.call("fetch").locator("summary").click()
    await expect(desk.call("fetch")).to_contain_text("onerror")
    await desk.page.get_by_text("More", exact=True).click()
    await desk.page.get_by_role("button", name="Events").click()
    await desk.page.get_by_role("log").locator("details").first.locator("summary").click()
    active = desk.page.locator("img[src='x'], #app script, #app a[href^='javascript'], #app iframe")
    await expect(active).to_have_count(0)
    assert await desk.page.evaluate("window.hit === undefined")


async def test_a_long_session_is_paged_back_and_never_whole_in_the_page(desk: "Desk") -> None:
    def count(number: int) -> int:
        return number

    calls = [ScriptedCall("count", {"number": number}) for number in range(50)]
    turns = [ScriptedTurn(calls=calls) for _ in range(6)]
    probe = await desk.stage.session(*turns, ScriptedTurn(text="that was all"), tools=[count], title="Long")
    await probe.session.send_and_wait("count a lot")
    await desk.enter(probe)
    await expect(desk.page.get_by_label("Agent", exact=True)).to_contain_text("that was all")
    first = desk.page.get_by_label("You", exact=True)
    await expect(first).to_have_count(0)

    earlier = desk.page.locator(".earlier").first
    for _ in range(20):
        if await first.count() or not await earlier.is_visible():
            break
        await earlier.click()
        await expect(earlier).to_be_enabled()

    await expect(first).to_contain_text("count a lot")
    await expect(earlier).to_be_hidden()
    assert await desk.page.locator(".item").count() <= 200
    await desk.page.get_by_role("button", name="↓ Latest").click()
    await expect(desk.page.get_by_label("Agent", exact=True)).to_be_in_viewport()


async def test_a_key_that_may_only_read_gets_no_controls(desk: "Desk") -> None:
    probe = await desk.stage.session(ScriptedTurn(calls=[ScriptedCall("pay", {"amount": 5})]), tools=[pay], policy=ASK)
    await probe.session.send("go")
    await probe.parked()
    await desk.page.goto(desk.url)
    await desk.knock("reader")
    await desk.page.get_by_role("link", name="actor").click()

    await expect(desk.call("pay")).to_be_visible()
    await expect(desk.page.get_by_text("This key may only read.")).to_be_visible()
    for name in ("Allow", "Interrupt", "Pause", "New session", "Send"):
        await expect(desk.page.get_by_role("button", name=name)).to_have_count(0)


async def test_the_session_links_to_itself_in_the_web_ui(desk: "Desk") -> None:
    probe = await desk.stage.session(title="Linked")
    await desk.enter(probe)

    link = desk.page.get_by_role("link", name="Temporal ↗").first

    path = f"/namespaces/{desk.stage.client.namespace}/workflows/{desk.stage.owner.workspace}%2F{probe.session.id}"
    await expect(link).to_have_attribute("href", f"http://ui.example:8233{path}")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
