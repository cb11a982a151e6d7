"""Window sizes find a limit, stay below it, and recover."""

from apps.deposits.windows import CALM, MAX_BLOCKS, TARGET_LOGS, TARGET_SECONDS, Window


def _run(window: Window, *, limit: int, times: int, logs_per_block: float = 0.1) -> tuple[Window, int]:
    """Ask a node that refuses more than `limit` blocks; the window at the end and how often it refused."""
    refused = 0
    for _ in range(times):
        asked = window.blocks
        if asked > limit:
            refused += 1
            window = window.too_much(asked=asked)
        else:
            window = window.answered(asked=asked, logs=int(asked * logs_per_block), seconds=0.01)
    return window, refused


def test_it_grows_to_the_most_while_nothing_refuses() -> None:
    assert _run(Window(1), limit=10**9, times=20) == (Window(MAX_BLOCKS), 0)


def test_it_settles_below_a_limit_and_seldom_asks_for_more() -> None:
    for limit in (1, 2, 3, 7, 10, 100, 500, 1_999):
        window, _ = _run(Window(2_000), limit=limit, times=40)
        assert limit // 2 <= window.blocks <= limit, (limit, window)
        # When it tries what was refused before, it looks for the limit anew: a few questions in a hundred.
        _, refused = _run(window, limit=limit, times=CALM)
        assert refused <= 5, (limit, window, refused)


def test_it_recovers_when_the_limit_is_gone() -> None:
    window, _ = _run(Window(2_000), limit=10, times=40)
    recovered, refused = _run(window, limit=10**9, times=2 * CALM)
    assert (recovered.blocks, refused) == (MAX_BLOCKS, 0)


def test_the_nodes_own_suggestion_is_taken() -> None:
    assert Window(1_000).too_much(asked=1_000, hint=125).blocks == 125
    assert Window(1_000).too_much(asked=1_000, hint=5_000).blocks == 500


def test_heavy_and_slow_answers_make_it_smaller() -> None:
    assert Window(400).answered(asked=400, logs=4 * TARGET_LOGS, seconds=0.1).blocks == 100
    assert Window(400).answered(asked=400, logs=0, seconds=2 * TARGET_SECONDS).blocks == 200
    # And the growth stops where the next answer would be too heavy.
    assert Window(200).answered(asked=200, logs=TARGET_LOGS, seconds=0.1).blocks == 200
    assert Window(200).answered(asked=200, logs=TARGET_LOGS // 2, seconds=0.1).blocks == 400


def test_a_failure_halves_it_and_never_to_nothing() -> None:
    assert Window(200).failed(asked=200).blocks == 100
    assert Window(1).failed(asked=1).blocks == 1
    # At the head there is one block to ask for: a hiccup there says nothing about windows.
    assert Window(200).failed(asked=1).blocks == 200


def test_an_answer_to_less_than_the_window_teaches_nothing() -> None:
    assert Window(200).answered(asked=3, logs=5, seconds=0.1) == Window(200)
