"The journal under damage: whatever happens to the bytes, no traceback, no damaged line counted, none of the whole ones lost."
import pickle, random

import pytest
from hypothesis import given, settings, strategies as st

from wattnb.experiment.journal import Journal, JournalContent, read_journal
from wattnb.core.workspace import UserError

slow = settings(max_examples=150)
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
    return path.read_bytes(), list(read_journal(path).entries)


def test_four_thousand_damaged_journals(tmp_path):
    raw, whole = sample(tmp_path / 'j.jsonl')
    rng, path = random.Random(7), tmp_path / 'd.jsonl'
    for _ in range(4_000):
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


def test_a_journal_that_grows_is_followed_to_the_same_content(tmp_path):
    "By pieces of any length, torn ones among them, a follower ends with what a reader of the whole file has."
    raw, _ = sample(tmp_path / 'j.jsonl')
    lines = raw.splitlines(keepends=True)
    raw = b'\xef\xbb\xbf' + b''.join([*lines[:3], b'{"seq":9,"damag\n', lines[4], lines[3], lines[3].replace(b'\n', b'\r\n'), *lines[5:]])[:-1] # damaged, late, twice, not ended
    rng = random.Random(3)
    for n in range(150):
        path, at = tmp_path / f'grows{n}.jsonl', 0
        got = JournalContent(path, 'run').read_on()
        while at < len(raw):
            at = min(len(raw), at + rng.randrange(1, 200))
            path.write_bytes(b'') if not path.exists() else None
            with open(path, 'ab') as f: f.write(raw[path.stat().st_size:at])
            got = got.read_on()
        whole = read_journal(path, 'run')
        assert got.entries == list(whole.entries) and got.quarantined == whole.quarantined and got.torn == whole.torn is True
        assert got.attempts == whole.attempts and list(got.attempts) == [f'q{i}' for i in range(8)]


def test_another_file_in_the_same_place_is_read_from_its_start(tmp_path):
    path = tmp_path / 'j.jsonl'
    sample(path)
    got = read_journal(path, 'run')
    path.rename(tmp_path / 'aside.jsonl') # --force
    with Journal(path, 'run') as j: j.append('attempt', {'id': 'new'})
    assert [a['id'] for a in got.of('attempt')][:2] == ['q0', 'q1'], 'what was read stays readable where it was moved to'
    assert [a['id'] for a in got.read_on().of('attempt')] == ['new']


def test_only_the_numbers_of_an_attempt_stay_in_memory(tmp_path):
    with Journal(tmp_path / 'j.jsonl', 'run') as j:
        for i in range(300): j.append('attempt', {'id': f'q{i}', 'status': 'answered', 'raw': f'{i}' * 20_000, 'answer': {'value': '1', 'refs': ['a2024']}})
        held = pickle.dumps(j.content.attempts)
        assert len(held) < 100_000 < (tmp_path / 'j.jsonl').stat().st_size / 50
        assert j.content.data(7)['raw'] == '7' * 20_000 and j.content.attempts['q7'][0].refs == ('a2024',)


def test_lines_of_before_are_read(tmp_path):
    "Until 2026-11-26 the checksum was over sorted keys."
    import hashlib, json
    data = {'b': 1, 'a': {'z': .5, 'y': 'ü'}}
    canon = json.dumps([0, 'run', 'note', data], sort_keys=True, separators=(',', ':'))
    line = json.dumps(dict(seq=0, run='run', kind='note', data=data, sum=hashlib.sha256(canon.encode()).hexdigest()[:16]), separators=(',', ':'))
    (tmp_path / 'j.jsonl').write_text(line + '\n')
    assert list(read_journal(tmp_path / 'j.jsonl', 'run').of('note')) == [data]


ODD = [None, True, 0, -1, 1.5, 1e308, 10**30, '', 'x', '\x00', [], ['x'], [1, None], {}, {'x': 1}, [[]], {'a': {'b': []}}]


def test_lines_that_are_whole_but_odd_are_set_aside(tmp_path):
    """Any field of any line lost, or replaced by a value of another kind, under a right checksum: it is quarantined where the run's files are
    made from it, and planning, going on, replaying and verifying end well or in one line."""
    import json, shutil
    from wattnb.experiment.settings import RunSettings
    from wattnb.experiment.plan import plan_run
    from wattnb.experiment.stored import replay, stored_run, verify
    from wattnb.experiment.execute import run_all
    from wattnb.experiment.journal import _line, _text
    from wattnb.core.workspace import WorkError, Workspace
    (tmp_path / 'data').mkdir(); (tmp_path / 'artifacts').mkdir()
    rows = ''.join(f'q{i},Which number has question {i}?,,{i},W,"[\'orrin2024\']",,,\n' for i in range(4))
    (tmp_path / 'data/demo_QA.csv').write_text('id,question,answer,answer_value,answer_unit,ref_id,ref_url,supporting_materials,explanation\n' + rows)
    ws, asked = Workspace.find(tmp_path), RunSettings('extractive', mode='closed-book', max_retries=1, name='b')
    whole = plan_run(asked, ws); run_all(whole)
    entries, rng = list(read_journal(whole.run_dir / 'journal.jsonl').entries), random.Random(5)
    def places(x, at=()):
        for k, v in x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ():
            yield (*at, k)
            yield from places(v, (*at, k))
    aside = 0
    for _ in range(60):
        kind = rng.choice(sorted({e.kind for e in entries}))
        j = rng.choice([i for i, e in enumerate(entries) if e.kind == kind])
        data = json.loads(json.dumps(entries[j].data))
        *above, last = rng.choice(list(places(data)))
        x = data
        for k in above: x = x[k]
        if rng.random() < .25: del x[last]
        else: x[last] = rng.choice(ODD)
        shutil.rmtree(whole.run_dir); whole.run_dir.mkdir()
        path = whole.run_dir / 'journal.jsonl'
        path.write_bytes(b''.join(_line(e.seq, whole.run, e.kind, _text(data if i == j else e.data)) for i, e in enumerate(entries)))
        aside += len(read_journal(path).quarantined)
        for work in (lambda: plan_run(asked, ws), lambda: replay(whole.run_dir), lambda: verify(whole.run_dir), lambda: run_all(plan_run(asked, ws)), lambda: stored_run(whole.run_dir).to_text()):
            try: work()
            except (UserError, WorkError): pass
    assert aside > 10
