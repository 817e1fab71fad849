"Property tests of the files layer: what is written is read back, whatever it holds; damage is told in one line."
import json, string

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from wattnb.questions import is_blank, parse_refs, read_questions
from wattnb.workspace import UserError, atomic_write, canonical_json, digest, jsonable, read_csv, redact, write_csv

slow = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    refs = parse_refs(text)
    assert len(set(refs)) == len(refs) and not any(is_blank(r) for r in refs)


@given(st.lists(st.text(string.ascii_letters + string.digits, min_size=1), unique=True, max_size=5))
def test_refs_of_both_styles_agree(ids):
    ids = [i for i in ids if not is_blank(i)]
    assert parse_refs(json.dumps(ids)) == parse_refs(repr(ids)) == ids


def test_atomic_write_keeps_links_and_modes(tmp_path):
    (tmp_path / 'real').write_text('old'); (tmp_path / 'real').chmod(0o640)
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    atomic_write(tmp_path / 'link', 'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'real').read_text() == 'new'
    assert (tmp_path / 'real').stat().st_mode & 0o777 == 0o640


def test_redact_blanks_every_secret(monkeypatch):
    monkeypatch.setenv('SOME_API_KEY', 'canary-abcdefgh'); monkeypatch.setenv('MAX_TOKENS', '123456789')
    assert redact('x canary-abcdefgh 123456789') == 'x [redacted] 123456789'


def test_a_header_of_a_hundred_thousand_columns_is_one_line(tmp_path):
    "Each row is filled up to the header, so that a short file of many columns would fill the memory."
    (tmp_path/'wide.csv').write_text('id,' + ','.join(f'c{i}' for i in range(100_000)) + '\n' + '1\n' * 1000)
    with pytest.raises(UserError, match='100,001 columns'): read_csv(tmp_path/'wide.csv')
