from pathlib import Path

from tests.chaos.journal import Done, Journal, Sent, read


def test_a_line_that_was_cut_off_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.write(Done(move=1))
    journal.write(Sent(id="a", state="intent"))
    with path.open("a") as file:
        file.write('{"move": 2')

    assert read(path, Done) == [Done(move=1)]
    assert read(path, Sent) == [Sent(id="a", state="intent")]
