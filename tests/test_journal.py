"The journal under damage: whatever happens to the bytes, no traceback, no damaged line counted, none of the whole ones lost."
import random

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from wattnb.journal import Journal, read_journal
from wattnb.workspace import UserError

slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
payload = st.dictionaries(st.text(max_size=6), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30), max_size=4)


@slow
@given(st.lists(payload, min_size=1, max_size=6))
def test_round_trip(tmp_path, items):
    path = tmp_path / 'j.jsonl'; path.unlink(missing_ok=True)
    with Journal(path, 'run') as j:
        for d in items: j.append('note', d)
        held = list(j.content.entries)
    assert read_journal(path, 'run').entries == held and not read_journal(path, 'run').quarantined


def sample(path, n=8):
    with Journal(path, 'run') as j:
        for i in range(n): j.append('attempt', {'id': f'q{i}', 'text': 'x' * (i * 7), 'score': i / 3})
    return path.read_bytes(), read_journal(path).entries


def test_ten_thousand_damaged_journals(tmp_path):
    raw, whole = sample(tmp_path / 'j.jsonl')
    rng, path = random.Random(7), tmp_path / 'd.jsonl'
    for _ in range(10_000):
        b = bytearray(raw)
        kind = rng.randrange(6)
        if kind == 0: b[rng.randrange(len(b))] ^= 1 << rng.randrange(8)
        elif kind == 1: del b[rng.randrange(len(b)):]
        elif kind == 2: lines = bytes(b).splitlines(keepends=True); rng.shuffle(lines); b = b''.join(lines)
        elif kind == 3: lines = bytes(b).splitlines(keepends=True); b = b''.join(lines + [rng.choice(lines)])
        elif kind == 4: b = b'\xef\xbb\xbf' + bytes(b).replace(b'\n', b'\r\n')
        else: i = rng.randrange(len(b)); b[i:i] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 30)))
        path.write_bytes(bytes(b))
        try: got = read_journal(path, 'run')
        except UserError: continue
        assert all(e in whole for e in got.entries), 'a damaged line was counted'
        # a flipped line end joins two lines; anything else costs one
        assert len(got) >= {0: 6, 2: 8, 3: 8, 4: 8, 5: 6}.get(kind, 0)


def test_another_runs_lines_are_not_counted(tmp_path):
    sample(tmp_path / 'a.jsonl')
    with pytest.raises(UserError, match='another run'): read_journal(tmp_path / 'a.jsonl', 'other')
    (tmp_path / 'empty.jsonl').write_bytes(b'')
    assert len(read_journal(tmp_path / 'empty.jsonl', 'run')) == 0
