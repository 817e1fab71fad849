"The pages: every command that they show exists with its options, and the schema lists what real files hold."
import json, re, shlex, subprocess, sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import wattnb.cli.verbs # noqa: F401 (registers the verbs)
from wattnb.cli.command import _parser
from wattnb.core.records import Attempt, Hardware, Record, Summary, fields_of, undocumented
from wattnb.core.workspace import UserError

root = Path(__file__).resolve().parent.parent


def test_readme_is_what_the_notebooks_say():
    "The table of chapters included: a new notebook without `make readme` fails here."
    p = subprocess.run([sys.executable, root / 'tests/readme.py', '--check'], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr


@pytest.mark.parametrize('name', ['run_experiment', 'report', 'explore', 'gallery'])
def test_templates_are_stored_without_results(name):
    assert not [c['id'] for c in json.loads((root / f'nbs/{name}.ipynb').read_text('utf-8'))['cells'] if c.get('outputs')]


def commands():
    for p in sorted([*(root / 'nbs').rglob('*.ipynb'), root / 'README.md']):
        texts = [''.join(c['source']) for c in json.loads(p.read_text('utf-8'))['cells'] if c['cell_type'] == 'markdown'] if p.suffix == '.ipynb' else [p.read_text('utf-8')]
        for t in texts:
            for block in re.findall(r'```(?:sh|bash)\n(.*?)```', t, re.S):
                block = block.replace('\\\n', ' ')
                for line in block.splitlines():
                    for part in line.split('#')[0].split('&&'):
                        words = shlex.split(part)
                        if words and words[0].rpartition('/')[2] == 'wattnb': yield f'{p.name}: {part.strip()}', words[1:]


@pytest.mark.parametrize('shown, words', [pytest.param(*c, id=c[0]) for c in commands()])
def test_shown_commands_parse(shown, words):
    try: _parser().parse_args(words)
    except UserError as e: pytest.fail(f'{shown}: {e}')


def test_no_verb_or_option_vanishes():
    "`options.json` lists them; a new one is added there."
    verbs = next(a for a in _parser()._actions if a.dest == 'verb').choices
    have = {v: sorted({s for a in p._actions for s in a.option_strings or [a.dest]} - {'-h', '--help'}) for v, p in verbs.items()}
    assert have == json.loads((root / 'tests/options.json').read_text())


def test_examples_of_the_help_parse():
    from wattnb.cli.command import VERBS
    for _, _, example, _ in VERBS.values(): _parser().parse_args(shlex.split(example)[1:])


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    "The files of a small run with refusals and retries."
    from conftest import words_workspace
    from wattnb.experiment.settings import RunSettings
    from wattnb.experiment.plan import plan_run
    from wattnb.experiment.execute import run_all
    ws = words_workspace(tmp_path_factory.mktemp('schema'))
    plan = plan_run(RunSettings('extractive', env='t', preset='words', limit=8), ws)
    run_all(plan)
    return [json.loads((plan.run_dir / name).read_text('utf-8')) for name in ('summary.json', 'results.json')]


def test_the_schema_lists_every_field_in_the_order_of_the_files(written):
    s, records = written
    declared = lambda cls, d: [k for k in cls.__dataclass_fields__ if k in d]
    for cls, objects in ((Summary, [s]), (Record, records), (Attempt, [a for r in records for a in r['attempts']])):
        for d in objects: assert list(d) == declared(cls, d)
    assert not undocumented('hardware', s['hardware'])
    for name, d in (('summary.json', s), ('hardware', s['hardware']), ('results.json', records[0])):
        assert not [f['field'] for f in fields_of(name) if f['inherited'] and f['field'] not in d]


def test_records_of_files_round_trip(written):
    s, records = written
    same = lambda cls, d: json.dumps(cls.from_json(d).to_json()) == json.dumps(d)
    assert same(Summary, s) and all(same(Record, r) for r in records)
    assert isinstance(Summary.from_json(s).hardware, Hardware) and isinstance(Record.from_json(records[0]).attempts[0], Attempt)


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3), max_leaves=8)


@settings(max_examples=200)
@given(st.data(), st.sampled_from([Summary, Record, Hardware, Attempt]))
def test_unknown_and_missing_fields_survive_a_round_trip(data, cls):
    "Of any object, with known and unknown names in any order and values of any type: what was read is written."
    names = st.sampled_from(list(cls.__dataclass_fields__)) | st.text(max_size=12) | st.sampled_from(['others', '_order', 'to_json', 'from_wattbot'])
    d = data.draw(st.dictionaries(names, values, max_size=12))
    again = cls.from_json(json.loads(json.dumps(d))).to_json()
    assert list(again.items()) == list(d.items())
