"""Asking a person the questions of an agent."""

from sojourn.cli.output import Output
from sojourn.cli.prompt import Prompt
from sojourn.cli.render import printable
from sojourn.types.question import Choice, Question


async def ask_person(question: Question, *, out: Output, prompt: Prompt) -> Choice:
    """Show one question and take its answer: numbers of options, or words of one's own.

    Raises:
        EOFError: There are no more lines.
        KeyboardInterrupt: Ctrl-C instead of an answer.
    """
    out.line(f"  {printable(question.header)}: {printable(question.question)}")
    for number, option in enumerate(question.options, 1):
        meaning = f": {printable(option.description)}" if option.description else ""
        out.line(f"    {number}  {printable(option.label)}{meaning}")
    some = "numbers with commas" if question.multi_select else "a number"
    while True:
        said = (await prompt.ask(f"  answer [{some}, or your own words] ")).strip()
        if said and (choice := chosen(question, said)) is not None:
            return choice
        out.note(f"choose {some} from 1 to {len(question.options)}, or write an answer")


def chosen(question: Question, said: str) -> Choice | None:
    """What a line answers; ``None`` if it names an option that is not there."""
    pieces = [piece.strip() for piece in said.split(",")] if question.multi_select else [said]
    labels = [option.label for option in question.options]
    if not all(piece.isdecimal() for piece in pieces):
        named = {label.lower(): label for label in labels}
        if all(piece.lower() in named for piece in pieces):
            return _once([named[piece.lower()] for piece in pieces])
        return said
    if not all(1 <= int(piece) <= len(labels) for piece in pieces):
        return None
    return _once([labels[int(piece) - 1] for piece in pieces])


def _once(labels: list[str]) -> list[str]:
    return list(dict.fromkeys(labels))
