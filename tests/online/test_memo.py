"""What was worked out is remembered, and a flood of other requests makes the memory neither great nor useless."""

from __future__ import annotations

from feature_store.online.reading.memo import LONGEST, MOST_FEATURES, Memo


def held(memo: Memo, keys: range) -> int:
    return sum(memo.get(key) is not None for key in keys)


def test_what_is_asked_for_again_is_remembered():
    memo = Memo()
    memo.put("service", 1, 10)
    assert (memo.get("service"), memo.get("another")) == (1, None)


def test_a_flood_of_distinct_requests_does_not_fill_the_memory():
    memo = Memo()
    most = 0
    for number in range(20_000):
        memo.put(number, number, 10)
        if number % 100 == 0:
            most = max(most, held(memo, range(number + 1)))
        assert memo.get(number) == number, "what was worked out just now is there"
    assert most * 10 <= MOST_FEATURES


def test_one_request_alone_does_not_drive_out_the_others():
    memo = Memo()
    memo.put("small", 1, 1)
    for number in range(100):
        memo.put(number, number, LONGEST + 1)
    assert (memo.get("small"), held(memo, range(100))) == (1, 0)
