"Property tests of the files layer: what is written is read back, whatever it holds; damage is reported in one line."
import json, os, pickle, string

import pytest
from hypothesis import given, settings, strategies as st

from wattnb.core.questions import Refs, is_blank, parse_refs, read_questions
from wattnb.core import redaction
from wattnb.core.workspace import (UserError, WorkError, atomic_write, canonical_json, digest, environment, folder_lock, is_running, read_csv, write_csv)
from wattnb.core.redaction import keep_secret, redact, redact_url

slow = settings(max_examples=200)
cell = st.text(st.characters(blacklist_categories=('Cs',), blacklist_characters='\x00'), max_size=40)
value = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
                     lambda c: st.lists(c, max_size=4) | st.dictionaries(st.text(max_size=5), c, max_size=4), max_leaves=15)


@slow
@given(st.lists(st.tuples(cell, cell), max_size=8))
def test_csv_round_trip(tmp_path, rows):
    rows = [{'id': f'r{i}', 'x': a, 'y': b} for i, (a, b) in enumerate(rows)]
    write_csv(tmp_path / 'a.csv', ['id', 'x', 'y'], rows)
    assert read_csv(tmp_path / 'a.csv').rows == rows


@slow
@given(st.binary(max_size=300))
def test_any_bytes_read_or_one_line(tmp_path, raw):
    (tmp_path / 'a.csv').write_bytes(raw)
    try: read_questions(tmp_path / 'a.csv')
    except UserError as e: assert len(str(e).splitlines()) == 1


@slow
@given(value)
def test_canonical_json_is_strict_json(x):
    assert canonical_json(json.loads(canonical_json(x))) == canonical_json(x)
    assert len(digest(x)) == 64


@slow
@given(st.text(max_size=200))
def test_refs_total_and_clean(text):
    refs, kept = parse_refs(text), pickle.loads(pickle.dumps(Refs(text)))
    assert kept == tuple(refs) and str(kept) == text
    assert len(set(refs)) == len(refs) and not any(is_blank(r) for r in refs)


@given(st.lists(st.text(string.ascii_letters + string.digits, min_size=1), unique=True, max_size=5))
def test_refs_of_both_styles_agree(ids):
    ids = [i for i in ids if not is_blank(i)]
    assert parse_refs(json.dumps(ids)) == parse_refs(repr(ids)) == ids


def test_atomic_write_keeps_modes_follows_links_of_folders_and_refuses_those_of_files(tmp_path):
    (tmp_path / 'disk').mkdir(); (tmp_path / 'folder').symlink_to(tmp_path / 'disk')
    (tmp_path / 'disk/real').write_text('old'); (tmp_path / 'disk/real').chmod(0o640)
    atomic_write(tmp_path / 'folder/real', 'new')
    assert (tmp_path / 'disk/real').read_text() == 'new' and (tmp_path / 'disk/real').stat().st_mode & 0o777 == 0o640
    (tmp_path / 'link').symlink_to(tmp_path / 'disk/real'); (tmp_path / 'dead').symlink_to(tmp_path / 'autostart'); os.mkfifo(tmp_path / 'pipe')
    for name in ('link', 'dead', 'pipe'):
        with pytest.raises(WorkError, match=f'{name}: it is a link, a pipe or a device: remove it'): atomic_write(tmp_path / name, 'other')
    assert (tmp_path / 'disk/real').read_text() == 'new' and not (tmp_path / 'autostart').exists()


def test_redact_blanks_every_secret(monkeypatch):
    monkeypatch.setenv('SOME_API_KEY', 'canary-abcdefgh'); monkeypatch.setenv('MAX_TOKENS', '123456789')
    assert redact('x canary-abcdefgh 123456789') == 'x [redacted] 123456789'


KEY = st.text(string.ascii_letters + string.digits, min_size=20, max_size=40).map('sk-'.__add__)
WORD = st.text(string.ascii_lowercase, max_size=8)


@slow
@given(KEY, WORD, st.sampled_from(('http', 'https', 'HTTPS', 'grpc+tls')), st.sampled_from((
    '{s}://{k}@h.example/v1', '{s}://{w}:{k}@h.example/v1', '{s}://{w}:a/{k}@h.example/v1', '{s}://h.example/v1?{w}={k}', '{s}://h.example/v1#{k}', '{s}://h.example/{k}/v1',
    '{s}://h.example/v1;{k}', '{s}://h.example/a-{k}', '{w}:{k}@h.example', ' {s}://{k}@h.example', '{s}:\\\\{k}@h.example\\v1')))
def test_no_part_of_an_address_shows_a_key(key, word, scheme, form):
    "Wherever a key is in an address, `redact_url` leaves it out and keeps the host."
    shown = redact_url(form.format(k=key, w=word, s=scheme))
    assert key not in shown and 'h.example' in shown


@slow
@given(KEY, st.recursive(st.just('x'), lambda inner: st.one_of(
    st.lists(inner, min_size=1, max_size=2), st.dictionaries(WORD, inner, min_size=1, max_size=2)), max_leaves=4), st.sampled_from((
    lambda k: {'api_key': k}, lambda k: {'headers': {'Authorization': f'Bearer {k}'}}, lambda k: ['x-api-key', k], lambda k: {'name': 'X-Api-Key', 'value': k}, lambda k: {'auth': {'any': [k]}},
    lambda k: f'http://u:{k}@h/v1', lambda k: f'https://h/v1?a={k}', lambda k: f'Bearer {k}', lambda k: '{"password": "%s"}' % k, lambda k: f'--token={k}', lambda k: k)))
def test_options_show_no_key_at_any_depth(key, shape, form):
    "Keys in the options of a models.toml: by their key or by their form, however deep."
    def put(x): return form(key) if x == 'x' else [put(v) for v in x] if isinstance(x, list) else {k: put(v) for k, v in x.items()}
    redaction._KEPT.clear()
    options = {'any': put(shape)}
    assert key in str(options) and key not in str(redact(options))
    keep_secret(options)
    assert key not in redact(f'the server said: {key} is unknown')


@slow
@given(value, st.text(max_size=60))
def test_redaction_takes_anything(x, text):
    redact(x); redact(text); redact_url(text); redact([text, {text: text}])


def test_plain_options_and_addresses_stay_as_they_are():
    plain = dict(base_url='http://127.0.0.1:8000/v1', body=dict(max_tokens=40, stop_token_ids=[1, 2], top_p=.9, chat_template_kwargs=dict(enable_thinking=False)), logprobs=True, region='us-east-1', tries=3, profile='lab')
    assert redact(plain) == plain
    answer = 'See https://h.example/paper?id=2024&token_budget=3#page=2.'
    assert redact(answer) == answer, "a model's words are not options"


def test_a_folder_is_running_while_a_live_process_owns_it(tmp_path):
    "Asked from another process; asking takes no lock, makes no file, and a killed owner owns nothing."
    import signal, subprocess, sys
    held = tmp_path / 'run'
    code = f'import sys, time; from wattnb.core.workspace import folder_lock\nwith folder_lock({str(held)!r}, "x"): print("in", flush=True); time.sleep(60)'
    assert not is_running(held) and not held.exists()
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().strip() == 'in'
    before = sorted(f.name for f in held.iterdir())
    assert is_running(held) and is_running(str(held)) and sorted(f.name for f in held.iterdir()) == before
    p.send_signal(signal.SIGKILL); p.wait()
    assert not is_running(held) and (held / '.lock.json').exists(), 'the note of a dead owner is ignored'
    with folder_lock(held, 'y'): assert is_running(held)
    held.chmod(0o555)
    try: assert not is_running(held)
    finally: held.chmod(0o755)
def test_a_header_of_a_hundred_thousand_columns_is_one_line(tmp_path):
    "Each row is filled up to the header, so that a short file of many columns would fill the memory."
    (tmp_path/'wide.csv').write_text('id,' + ','.join(f'c{i}' for i in range(100_000)) + '\n' + '1\n' * 1000)
    with pytest.raises(UserError, match='100,001 columns'): read_csv(tmp_path/'wide.csv')


@pytest.mark.skipif(getattr(os, 'geteuid', lambda: 0)() == 0, reason='root reads every folder')
def test_runs_in_a_folder_that_cannot_be_read_are_named(tmp_path, capsys):
    "They are no missing runs. And a home without a cache is one that `doctor` describes."
    from wattnb.cli.command import main
    (tmp_path/'data').mkdir(); (tmp_path/'artifacts/experiments/demo_QA').mkdir(parents=True)
    (tmp_path/'artifacts/experiments').chmod(0)
    try: assert main(['results', '--root', str(tmp_path)]) == 0 and 'experiments: Permission denied' in capsys.readouterr().err
    finally: (tmp_path/'artifacts/experiments').chmod(0o700)
    with environment(WATTNB_CACHE='/proc/none'): assert main(['doctor']) == 0 and 'models in the cache' in capsys.readouterr().out


@pytest.mark.parametrize('text, line', [('a,b\n1,"2\n3,4\n5,6\n', 2), ('a,b\n1,2\n"3,4\n', 3), ('"a,b\n1,2\n', 1)])
def test_a_quotation_mark_that_is_not_closed_swallows_no_rows(tmp_path, text, line):
    "The rest of the file would be one cell: 87 questions, of which 20 are asked."
    (tmp_path/'x.csv').write_text(text)
    with pytest.raises(UserError, match=f'x.csv:{line}: a quotation mark opens a cell'): read_csv(tmp_path/'x.csv')
    (tmp_path/'x.csv').write_text('a,b\n1,5" pipe\n"2"x,"3"')
    assert read_csv(tmp_path/'x.csv').rows == [dict(a='1', b='5" pipe'), dict(a='2x', b='3')]
