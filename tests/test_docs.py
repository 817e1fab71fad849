"The pages: every command that they show exists with its options, and the schema lists what real files hold."
import json, re, shlex, subprocess, sys
from pathlib import Path

import pytest

import wattnb.cli # registers the verbs
from wattnb.command import _parser
from wattnb.schema import FILES, undocumented
from wattnb.workspace import UserError

root = Path(__file__).resolve().parent.parent


def test_readme_is_what_the_notebooks_say():
    "The table of chapters included: a new notebook without `make readme` is told here."
    p = subprocess.run([sys.executable, root / 'tests/readme.py', '--check'], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr


def commands():
    for p in sorted([*(root / 'nbs').glob('*.ipynb'), root / 'README.md']):
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
    from wattnb.cli import VERBS
    for name, (_, _, example, _) in VERBS.items(): _parser().parse_args(shlex.split(example)[1:])


@pytest.mark.parametrize('run', sorted((root / 'artifacts/experiments').glob('nbdev-test/*/*-bench')), ids=lambda p: p.name)
def test_the_schema_lists_every_field(run):
    s = json.loads((run / 'summary.json').read_text())
    if s.get('type') == 'ensemble': return
    assert not undocumented('summary.json', s) and not undocumented('hardware', s['hardware'])
    assert not undocumented('results.json', {k for r in json.loads((run / 'results.json').read_text()) for k in r})
    for f in FILES['summary.json']:
        if f.inherited: assert f.name in s, f.name
    for f in FILES['hardware']:
        if f.inherited: assert f.name in s['hardware'], f.name
