"What a stranger types: verbs in a fresh workspace, empty words, folders for files, names of several machines; paths and examples of `--help`; bars."
import argparse, json, os, re, shlex, shutil

import pytest

from wattnb.cli.command import VERBS, main
from wattnb.cli.verbs import _execute
from wattnb.core.workspace import UserError, Workspace, progress
from wattnb.experiment import RunSettings, plan_run, run_all
from conftest import words_workspace

NO_RUNS = 'no runs yet: `wattnb run --model extractive` makes one'


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "A workspace with the same run on two machines."
    ws = words_workspace(tmp_path_factory.mktemp('two'))
    for env in ('lab', 'home'): run_all(plan_run(RunSettings('extractive', env=env, preset='words', limit=8, name='x'), ws))
    return ws


@pytest.fixture
def said(capsys, monkeypatch):
    "(status, stdout, lines of stderr) of a command in a folder."
    def run(words, folder):
        monkeypatch.chdir(folder.root if isinstance(folder, Workspace) else folder)
        status, shown = main(shlex.split(words)), capsys.readouterr()
        return status, shown.out, shown.err.strip().splitlines()
    return run


@pytest.mark.parametrize('words', ['compare a b', 'diff a b', 'cite a', 'design a b', 'errors', 'errors a', 'matrix', 'thinking', 'estimates', 'recommend', 'audit', 'plots', 'report', 'results', 'verify a',
    'replay a', 'export a --to wattbot', 'submit a', 'bundle a', 'rescore a', 'ensemble --experiments a b --name v', 'board .'])
def test_where_no_run_is_yet_every_verb_says_how_to_make_one(tmp_path, said, words):
    for d in ('data', 'artifacts'): (tmp_path/d).mkdir()
    status, out, err = said(words, tmp_path)
    if words == 'results': assert status == 0 and NO_RUNS in out and not err
    else: assert status == 2 and not out and len(err) == 1 and err[0].endswith(NO_RUNS), err


def test_no_verb_takes_an_empty_word(two, said):
    for name, (_, _, _, options) in VERBS.items():
        words = [o for o in options if not o.names[0].startswith('-') and o.kw.get('nargs') not in ('?', argparse.REMAINDER)]
        if not words: continue
        given = ' '.join("''" if not (o.kw.get('type') or o.kw.get('choices')) else str((o.kw.get('choices') or [1])[0]) for o in words)
        if "''" not in given: continue
        status, out, err = said(f"{name} {given}{' --to wattbot' * (name == 'export')}", two)
        assert status == 2 and len(err) == 1 and 'is an empty text' in err[0] and not out, (name, err)


@pytest.mark.parametrize('words,why', [('bundle --check data', 'no such bundle: data is a folder'), ('check data', 'no such file: data is a folder'), ('check-questions data', 'data: it is a folder, and a file is needed'),
    ('score data data', 'it is a folder'), ('board data/demo_QA.csv', 'is no run folder, workspace or bundle'), ('board A=', 'names no path'), ('results --root data/demo_QA.csv', 'is a file: a workspace is a folder'),
    ('submit none.csv', 'no such file: none.csv'), ('design --disagree 20 --limit 0', '1 to 1,000,000, not 0'), ('design --disagree 20 --per-paper 0', 'at least one question'), ('design --disagree 20 --entries 0', 'at least two entries'),
    ('design --disagree 20 --icc 5', 'between -1 and 1'), ('design --disagree 200', 'not 200'), ('recommend --margin -5', 'not -5'), ('benchmark --model extractive --limit 0', 'at least 1, not 0'),
    ('meter --idle-seconds -1 -- true', 'at least 0'), ('run --model cluade-sonnet', '(hosted)'), ('ask x --model extractive --temperature nan', 'at least 0'), ('run --model extractive --fail-on-error -1', 'at least 0'), ('compare x x --env none', 'there are runs with home, lab'), ('compare lab/x lab/x', 'is named twice'), ('diff home/x home/x', 'is named twice')])
def test_a_mistake_is_one_line_with_status_2(two, said, words, why):
    status, out, err = said(words, two)
    assert status == 2 and len(err) == 1 and why in err[0] and not out, err


def test_a_name_of_two_machines_is_refused_with_what_to_write(two, said):
    for verb in ('cite', 'bundle', 'submit', 'verify', 'errors', 'rescore --dry-run'):
        status, _, err = said(f'{verb} x', two)
        assert status == 2 and err == ['wattnb: x is ambiguous: home/demo_QA/x, lab/demo_QA/x: write one of these'], err
        assert said(f'{verb} lab/x', two)[0] == said(f'{verb} home/demo_QA/x', two)[0] == 0


def test_the_paths_of_the_help_are_those_that_are_written(two, said):
    helps = {name: ' '.join(o.kw.get('help') or '' for o in VERBS[name][3]) for name in VERBS}
    made = {'submit lab/x': 'csv', 'bundle lab/x': 'zip', 'export lab/x --peer': '', 'retrieval --preset words': 'json', 'export lab/x --to every-eval-ever': '', 'matrix --env lab': 'csv'}
    values = {'<env>': 'lab', '<questions>': 'demo_QA', '<run>': 'x', '<format>': 'every-eval-ever'}
    checked = set()
    for words in made:
        assert said(words, two)[0] == 0, words
        for path in re.findall(r'artifacts/[\w/<>.-]*\w>?[\w.]*', helps[words.split()[0]]):
            there = re.sub(r'<\w+>', lambda m: values[m[0]], path)
            if (two.root/there).exists(): checked.add(path)
    named = {p for name, h in helps.items() for p in re.findall(r'artifacts/[\w/<>.-]*\w>?[\w.]*', h)}
    assert named - checked == {'artifacts/plots', 'artifacts/reports/report-<env>.ipynb'}, named - checked # drawn and executed elsewhere


def test_the_example_of_ask_is_answered(two, said):
    status, out, _ = said(f'{VERBS["ask"][2].removeprefix("wattnb ")} --preset words', two)
    assert status == 0 and out.startswith('3184 MWh\n') and 'halvorsen2029' in out


def test_a_submission_that_passes_is_said_in_a_line(two, said):
    _, out, _ = said('submit lab/x', two)
    assert out.splitlines()[0] .startswith('x.csv: 87 rows, passes by the rules of') and 'questions are not answered in the run' in out and '---' not in out


def test_a_damaged_run_stops_no_table(two, said):
    shutil.copytree(two.experiments/'lab/demo_QA/x', bad := two.experiments/'lab/demo_QA/cut')
    (bad/'summary.json').write_text('{')
    try:
        for words in ('errors --env lab', 'thinking', 'estimates', 'matrix', 'recommend', 'results', 'board . --output b'):
            status, out, err = said(words, two)
            assert status == 0 and any('cut/summary.json:1: not valid JSON' in l for l in err), (words, err)
    finally: shutil.rmtree(bad)


@pytest.mark.parametrize('raised,status', [('UserError("no such run")', UserError), ('KeyError("x")', Exception)])
def test_a_mistake_in_an_executed_notebook_is_one_line(tmp_path, raised, status):
    nb = dict(cells=[dict(cell_type='code', id='a', metadata={}, outputs=[], execution_count=None, source=f'from wattnb.core.workspace import UserError\nraise {raised}')],
              metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')), nbformat=4, nbformat_minor=5)
    (tmp_path/'a.ipynb').write_text(json.dumps(nb))
    with pytest.raises(status) as e: _execute(tmp_path/'a.ipynb', out := tmp_path/'b.ipynb', {}, tmp_path)
    assert str(e.value) == ('no such run' if status is UserError else f"KeyError: 'x' (executed notebook: {out})")


def test_a_kernel_draws_its_bar_on_the_terminal_behind_it(monkeypatch):
    "As under papermill: the stream of the kernel is no terminal, and its file is."
    ours, theirs = os.openpty()
    monkeypatch.delenv('WATTNB_PROGRESS', raising=False)
    class Stream:
        def fileno(self): return theirs
        def isatty(self): return False
        def write(self, s): raise AssertionError('nothing goes into the notebook')
    monkeypatch.setattr('sys.stderr', Stream())
    with progress(total=2, desc='a' * 40) as bar: bar.set_postfix_str('score 0.5', refresh=False); bar.update(2)
    text = ''
    while not re.search(r'100%.* \[', text): text += os.read(ours, 9999).decode()
    assert 'aaa…: 100%' in text and '2/2, score 0.5 [' in text
    for f in (ours, theirs): os.close(f)
