from launcher.display.progress import LARGE_BYTES, Transfers


def test_elsewhere_than_on_a_terminal_a_line_at_each_end() -> None:
    said: list[str] = []
    moving = Transfers(said.append)
    moving.begin("sending run-1 to s3://bucket/runs", 2 * LARGE_BYTES)
    moving.moved(LARGE_BYTES)
    moving.end()
    first, last = said
    assert first == "sending run-1 to s3://bucket/runs: 34 MB"
    assert last.startswith("17 of 34 MB in ")


def test_what_is_small_is_not_said() -> None:
    said: list[str] = []
    moving = Transfers(said.append)
    moving.moved(100)
    moving.begin("sending run-1 to s3://bucket/runs", LARGE_BYTES - 1)
    moving.moved(LARGE_BYTES - 1)
    moving.end()
    assert said == []
