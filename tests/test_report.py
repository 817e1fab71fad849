"""The report that is sent around, and the numbers and claims of a paper: five sentences in every situation, each carried by a test or a measurement; a page
that reads on a phone, in the dark and offline; planted false claims that are found and true ones that pass."""
import json, math, random, re, shutil
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from test_one_number import Tables, change, check_rows, tree
from wattnb.cli.command import main
from wattnb.compare.paired import compare
from wattnb.core.workspace import UserError, Workspace, read_csv, read_json, write_csv, write_json
from wattnb.plots.citing import cite_latex, cite_markdown, cited_runs, oriented, pair_quantities, run_quantities
from wattnb.plots.manuscripts import sentences_of, tables_of
from wattnb.plots.typed import RIGHT
from wattnb.plots.paper_check import _comment_faults, _macro_faults, check_paper, declared_runs, judged, judged_text
from wattnb.plots.findings import (MAX_WORDS, audit_findings, energy_findings, money_findings, refusal_findings, report_title, summary_sentences,
                                   systems_table, takes_less)
from wattnb.plots.report_page import BODY, page_of, report_tables, report_top
from wattnb.plots.reports import SOFTWARE_TITLE, Report, bibtex, runs_table
from wattnb.scoring.run_folders import find_runs
from wattnb.testing.scratch import toy_runs

root = Path(__file__).resolve().parent.parent
runs_of = lambda ws: Path(ws) / 'artifacts/experiments/lab/toy_QA'


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('WATTNB_CACHE', str(tmp_path_factory.mktemp('cache')))


# ---- five sentences -----------------------------------------------------------------------------------------------------

def holds(r:Report):
    "What must be true of the five sentences of any report."
    five, x, c = summary_sentences(r), r.numbers, r.comparison
    assert len(five) == 5
    for s in five: assert s.endswith('.') and len(s.split()) <= MAX_WORDS, (len(s.split()), s)
    which, sure, cost, cannot, doubt = five
    text, first = ' '.join(five), x[next(iter(x))]
    if not r.labelled:
        assert 'cannot be said' in which and not re.search(r'highest|significantly|score of', text)
    else:
        assert f'{first.score:.3f} of 1' in which and f'{first.score_low:.3f} to {first.score_high:.3f}' in which and 'best' not in which
        assert first.score == max(n.score for n in x.values())
        if any(d.severity != 'info' for d in first.about('score')): assert '(doubted)' in which
    if c:
        worse = lambda k: next(p for p in c.pairs if {p['a'], p['b']} == {k, next(iter(x))})['different']
        ahead = all(worse(k) for k in list(x)[1:])
        assert ('significantly better' in sure) == ahead and ('do not decide' in sure) == (not any(worse(k) for k in list(x)[1:]))
        assert c.mde_overall is None or f'{c.mde_overall:.3f}' in cannot
    elif r.labelled: assert 'significantly' not in text and 'cannot be said' in cannot
    if 'instead of' in cost: # one that is not significantly different takes less
        assert any(takes_less(x[k], first) and f'{x[k].wh_per_question:.3g}' in cost for k in r.tied)
    elif r.labelled and first.wh is not None:
        assert f'{first.wh_per_question:.3g} watt-hours (Wh) a question' in cost
        assert ('at least' in cost) == (first.energy.kind == 'at least') and ('about' in cost) == (first.energy.kind != 'at least' and first.energy.factor != 1)
    elif r.labelled: assert 'not known' in cost and 'Wh' not in cost
    found = audit_findings(r)
    assert ('found no error and no warning' in doubt) == (not found)
    if not found: assert 'no error' in doubt
    return five


@pytest.mark.parametrize('name', ['older', 'own'])
def test_five_sentences_of_trees_of_all_kinds(name):
    "Two machines, resumed runs, one GPU of two, unreadable replies, hosted models, ensembles, several precisions."
    ws, numbers = tree(name)
    r = Report(ws.root, datafile=next(iter(numbers.values())).datafile)
    holds(r)
    for env in {x.env for x in numbers.values()}: holds(Report(ws.root, env=env, datafile=r.runs[0].datafile))
    for s in [*energy_findings(r), *money_findings(r), *refusal_findings(r)]: assert len(s.split()) <= MAX_WORDS, s


def only(ws, *names):
    for p in runs_of(ws).iterdir():
        if p.name not in names: shutil.rmtree(p)
    return Report(ws)


def test_named_runs():
    "A report of some runs has these alone, in every table, and says so with the same sentences as a tree of them."
    ws = toy_runs()
    change(runs_of(ws) / 'big', model_id='Qwen/Qwen2.5-72B-Instruct')
    shutil.copytree(runs_of(ws) / 'big', runs_of(ws) / 'big-smoke-4bit') # a smoke test is in no figure, so its label is not meant
    r = Report(ws, only=('Qwen2.5 72B', 'lab/toy_QA/guess'))
    ids = ['lab/toy_QA/big', 'lab/toy_QA/guess']
    assert [x.run for x in r.numbers.values()] == ids and [x['run'] for x in r.audit.to_json()['runs']] == ids and sorted(r.recommendation.runs.labels) == ['big', 'guess']
    assert [(x['system'], x['run'], x['to see how its questions ended']) for x in runs_table(r)] == [(n, i, f'wattnb errors {i}') for n, i in zip(('Qwen2.5 72B', 'guess'), ids)]
    tables = {k: t.to_json() for k, t in report_tables(r).items()}
    assert 'small' not in json.dumps(tables) and [k for k, rows in tables.items() if 'run' in rows[0]] == ['runs'] # one table has both
    assert holds(r) == holds(only(ws, 'big', 'guess'))
    with pytest.raises(UserError, match='no run .nothing'): report_title(Report(ws, only=('nothing',)))


def test_one_run(): assert 'the only system here' in holds(only(toy_runs(), 'big'))[0]


def test_ties():
    "Two runs with the same answers: neither is called better, and their energies are still compared."
    ws = toy_runs()
    for f in ('submission.csv', 'results.json'): shutil.copyfile(runs_of(ws) / 'big' / f, runs_of(ws) / 'small' / f)
    change(runs_of(ws) / 'small', model_id='other/small')
    five = holds(only(ws, 'big', 'small'))
    assert 'these questions do not decide' in five[1] and 'never differed' in five[3] and 'instead of' in five[2]


def test_no_energy():
    ws = toy_runs()
    for p in runs_of(ws).iterdir(): change(p, hardware=dict(gpu_energy_wh=0., gpu_energy_method='none'))
    assert 'The energy of **big** is not known' in holds(Report(ws))[2]
    assert energy_findings(Report(ws)) == ['No run measured its energy, so it is not compared.']


def test_hosted_only_with_and_without_a_price():
    "No energy is claimed of a provider's machine; a price is, where there is one."
    ws = toy_runs()
    for p in runs_of(ws).iterdir(): change(p, llm_provider='openai', quantization='api', hardware=dict(gpu_energy_wh=0., gpu_energy_method='none'))
    assert 'because the provider does not report it' in holds(Report(ws))[2]
    for p in runs_of(ws).iterdir(): change(p, estimated_cost_usd=.6, input_tokens=900, output_tokens=9)
    assert holds(Report(ws))[2] == 'A question to **big** costs 0.01 USD; its energy is not known.'
    assert 'costs the least: 0.01 USD a question' in money_findings(Report(ws))[0]


def test_no_labels():
    ws = toy_runs()
    (ws / 'data/toy_QA.csv').unlink()
    r = Report(ws)
    holds(r)
    assert [x['score'] for x in systems_table(r)] == ['–'] * 3 and 'against the best' not in systems_table(r).columns
    assert {'systems', 'provenance'} <= report_tables(r).keys() and 'pairs' not in report_tables(r)
    for p in runs_of(ws).iterdir(): change(p, hardware=dict(gpu_energy_wh=0., gpu_energy_method='none'))
    assert 'No system measured its energy whole' in holds(Report(ws))[2]


def test_what_the_audit_doubts_stands_beside_the_number():
    "One GPU of two, a resumed run, unreadable replies: at the number in the table, in words in the sentences, and in the list of doubts."
    ws, numbers = tree('older')
    r = Report(ws.root, datafile='hall_QA')
    rows, notes = {x['system']: x for x in systems_table(r)}, ' '.join(systems_table(r).notes)
    for label, x in r.numbers.items():
        cell, letters = rows[r.names[label]]['Wh/question'], [d.rule for d in x.about('energy') if d.severity != 'info']
        if x.wh is not None: assert bool(letters) == ('[' in cell) and cell.startswith('≥') == (x.energy.kind == 'at least'), (label, cell)
        for rule in letters:
            if x.wh is not None: assert f'{rule}: ' in notes
        assert ('[' in rows[r.names[label]]['score']) == bool([d for d in x.about('score') if d.severity != 'info'])
    assert {'ONE_GPU', 'RESUMED'} <= audit_findings(r).keys()
    assert next(iter(audit_findings(r).values()))[0] == 'error' or 'stored score' not in summary_sentences(r)[4]


NAMES = st.text(st.characters(blacklist_categories=('Cs', 'Cc'), blacklist_characters='/\\.'), min_size=1, max_size=60).map(lambda s: ' '.join(s.split())).filter(
    lambda s: s and not s.startswith('.') and not s.endswith('-smoke') and s not in ('rescored', 'random_weights'))


@settings(max_examples=25)
@given(st.lists(st.tuples(NAMES, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e5)), min_size=1, max_size=4, unique_by=lambda x: x[0].casefold()), st.integers(1, 12), st.sampled_from(['', 'hosted', 'two gpus', 'resumed']), st.booleans())
def test_five_sentences_whatever_was_run(runs, n, kind, labelled):
    "Any names (long ones, with blanks and asterisks), shares of right answers and energies: at most 25 words, no claim without its test."
    ws = toy_runs(n, runs={name[:40]: rest for name, *rest in runs})
    try:
        for p in runs_of(ws).iterdir():
            if kind == 'hosted': change(p, llm_provider='bedrock', quantization='api', hardware=dict(gpu_energy_wh=0., gpu_energy_method='none'))
            if kind == 'two gpus': change(p, hardware=dict(gpu_count=2, gpu_device_id=0))
            if kind == 'resumed': change(p, total_time_seconds=n / 3)
        if not labelled: (ws / 'data/toy_QA.csv').unlink()
        r = Report(ws)
        holds(r)
        assert systems_table(r).to_text() and systems_table(r).to_latex() and report_top(r).text.count('<li>') == 5
    finally: shutil.rmtree(ws, ignore_errors=True)


# ---- the page -----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def page(tmp_path_factory):
    "The HTML report of the runs of WattBot, and its folder."
    pytest.importorskip('papermill'); pytest.importorskip('nbconvert')
    folder = tmp_path_factory.mktemp('page')
    assert main(['report', '--html', '--root', str(tree('older')[0].root), '--output', str(folder / 'r.html')]) == 0
    return (folder / 'r.html').read_text('utf-8'), folder


def test_the_order_of_the_page(page):
    "Title, five sentences, contents, sections, methods last; a contents entry per section."
    text, _ = page
    r = Report(tree('older')[0].root)
    assert f'<title>{report_title(r)}</title>' in text and 'hall_QA' in report_title(r) and 'GB10 and PowerEdge' in report_title(r)
    text = text[text.index('<main>'):]
    places = [text.index(p) for p in ('wattnb-title', 'wattnb-five">', 'wattnb-facts', '<nav ', '<h2', 'id="Methods"')]
    assert places == sorted(places) and 'Report over many runs' not in text
    nav = text[text.index('<nav '):text.index('</nav>')]
    heads = re.findall(r'<h2[^>]*id="([^"]+)"', text)
    assert re.findall(r'href="#([^"]+)"', nav) == heads and heads[-1] == 'Methods' and len(heads) == len(set(heads)) >= 8
    assert not re.search(r'<script[^>]+src|https?://(?!huggingface|github)[^"\s]*\.(?:js|css)', text)


def test_at_most_eight_figures_before_a_fold(page):
    text, _ = page
    body = re.sub(r'<details class="wattnb-more".*?</details>(?!.*?</details>.*?<summary>\d+ further)', '', text, flags=re.S)
    shown = [m.start() for m in re.finditer('<figure class="wattnb-figure"', text)]
    fold = text.index(next(s for s in re.findall(r'<summary>\d+ further figures', text)))
    assert 3 <= sum(p < fold for p in shown) <= 8 < 3 + len(shown) and len(BODY) <= 8 and body
    assert all('alt="' in f and len(re.search(r'alt="([^"]*)"', f)[1]) > 20 for f in re.findall(r'<img [^>]*>', text) if 'wattnb' not in f)


def test_the_page_has_rules_for_phones_the_dark_and_paper(page):
    text, _ = page
    assert all(w in text for w in ('width=device-width', 'prefers-color-scheme:dark', '@media print', 'max-width:44rem'))
    assert text.count('<table') == len(re.findall(r'<div class="scroll">(?:<style>[^<]*</style><details class="wattnb-fold">.*?</details>)?<table', text, re.S))


def test_tables_of_the_page_have_the_numbers_of_the_runs(page):
    "Every table of the HTML report that names runs, over WattBot's runs."
    ws, numbers = tree('older')
    r, compared = Report(ws.root), {}
    ids, tables = {r.names[k]: x.run for k, x in r.numbers.items()}, Tables(page[0]).tables
    for t in tables:
        if len(t) < 2 or not (key := next((k for k in ('run', 'model', 'system') if k in t[0]), None)) or {'questions that flip', 'class'} & set(t[0]): continue
        rows = [dict(zip(t[0], x)) for x in t[1:] if len(x) == len(t[0])]
        rows = [x | {key: ids.get(x[key], x[key])} for x in rows]
        if 'env' in t[0]: rows = [r | {key: f"{r['env']}/{r[key]}"} for r in rows]
        n = check_rows(f'HTML table {t[0][:4]}', rows, numbers, key, 3)
        if n: compared[tuple(t[0][:6])] = n
    assert len(compared) >= 4, compared


def test_numbers_of_the_page_are_those_of_one_record(page):
    "Score, energy and latency of a run are the same in each table of the page that has them."
    r, seen = Report(tree('older')[0].root), 0
    by_name = {r.names[k]: x for k, x in r.numbers.items()}
    number = lambda cell: float(re.sub(r'^[≥≈] |\s\[.*', '', cell).replace(',', ''))
    for t in Tables(page[0]).tables:
        if len(t) < 2 or t[0][0] not in ('run', 'system'): continue
        for cells in t[1:]:
            row, name = dict(zip(t[0], cells)), cells[0]
            if name not in by_name: continue
            x = by_name[name]
            for column, want in (('score', x.score), ('overall', x.score), ('Wh/question', x.wh_per_question), ('latency s', x.latency_s), ('Wh', x.wh)):
                if column in row and row[column] != '–': seen += 1; assert math.isclose(number(row[column]), want, rel_tol=6e-3, abs_tol=6e-4), (name, column, row[column], want)
    assert seen > 5 * len(by_name) and not any(re.search(rf'(?<![\w/.]){re.escape(k)}(?![\w-])', page[0]) for k in set(r.numbers) - set(r.names.values()) if '/' not in k)


def test_tables_to_copy_lie_beside_the_page(page):
    "LaTeX with booktabs, text with a cell per column, one HTML page without scripts, numbers as macros; the page links to them."
    _, folder = page
    files = {p.name: p.read_text('utf-8') for p in (folder / 'r-tables').iterdir()}
    assert {'systems.tex', 'systems.tsv', 'pairs.tex', 'footprint.tsv', 'tables.html', 'numbers.tex'} <= files.keys() and 'r-tables/numbers.tex">' in page[0]
    for name, text in files.items():
        if name == 'numbers.tex': assert '\\wattnbset{' in text and '% run ' in text
        elif name.endswith('.tex'):
            assert r'\toprule' in text and r'\bottomrule' in text and text.count(r'\begin') == text.count(r'\end') and not re.search(r'(?<!\\)[_#&](?!\s)|(?<!\\)%', text.replace(' & ', ' '))
            assert text.count('{') - text.count(r'\{') == text.count('}') - text.count(r'\}') and not re.search('[≥≤≈−→…]', text)
        if name.endswith('.tsv'): assert len({l.count('\t') for l in text.splitlines()}) == 1, name
    assert '<script' not in files['tables.html'] and 'onclick' not in files['tables.html'] and '<details' not in files['tables.html']


def test_a_report_that_fails_leaves_the_older_one(tmp_path, capsys):
    "Notebook, page and tables are replaced together when all is made; the notebook with the error stays beside them."
    import nbformat
    pytest.importorskip('papermill')
    ws, out = Workspace(toy_runs()), tmp_path / 'r.ipynb'
    older = {out: 'older', out.with_suffix('.html'): 'older page', tmp_path / 'r-tables/systems.tex': 'older table'}
    (tmp_path / 'r-tables').mkdir()
    for p, text in older.items(): p.write_text(text)
    parameters = nbformat.v4.new_code_cell("root = env = datafile = ground_truth = tables = ''", metadata=dict(tags=['parameters']))
    made = nbformat.v4.new_code_cell("import pathlib; p = pathlib.Path(tables); p.mkdir(); (p/'systems.tex').write_text('new'); 1 / 0")
    ws.notebooks.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, made], metadata=dict(kernelspec=dict(name='python3', display_name='p', language='python'))), ws.notebooks / 'report.ipynb')
    assert main(['report', '--html', '--own', '--root', str(ws.root), '--output', str(out)]) == 1
    assert {p: p.read_text() for p in older} == older and sorted(p.name for p in tmp_path.iterdir()) == ['r-failed.ipynb', 'r-tables', 'r.html', 'r.ipynb']
    assert 'ZeroDivisionError' in (tmp_path / 'r-failed.ipynb').read_text() and 'r-failed.ipynb' in capsys.readouterr().err


def test_names_of_somebody_else_are_text():
    "No name of a run becomes HTML, in the page or in its title."
    evil = '<img src=x onerror=alert(1)>'
    ws = toy_runs(runs={evil: (.9, .9, 3.), 'b': (.5, .5, 1.)})
    text = page_of(report_top(Report(ws)).text + systems_table(Report(ws))._repr_html_())
    assert '<img' not in text and '&lt;img' in text


def test_one_title_of_the_software():
    "BibTeX, the guide and CITATION.cff name the software alike."
    assert f'title: "{SOFTWARE_TITLE}"' in (root / 'CITATION.cff').read_text('utf-8') and SOFTWARE_TITLE in (root / 'nbs/guides/16_publish.ipynb').read_text('utf-8')
    assert f'title = {{{{{SOFTWARE_TITLE}}}}}' in bibtex(Report(toy_runs()))


# ---- numbers of a paper -------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def study():
    "A workspace with three runs, and the runs cited together."
    ws = Workspace(toy_runs())
    return ws, cited_runs(ws, ['big', 'small', 'guess'])


def paper(folder, body, cited, name='paper.tex'):
    (folder / 'numbers.tex').write_text(cite_latex(cited), 'utf-8')
    (folder / name).write_text('\\documentclass{article}\n\\input{numbers}\n\\begin{document}\n' + body + '\n\\end{document}\n', 'utf-8')
    return folder / name


FALSE = [ # sentence, what the finding says
    (r'We find that big is better than small.', 'p = '), (r'big \emph{significantly outperforms} small.', 'p = '), ('small beats big by a wide margin.', 'p = '),
    (r'The score of \wattnb{model}{guess} is higher than expected, and guess outperforms big.', 'p < 0.001'), ('big and small are equivalent.', 'margin'),
    ('There is no difference between big and small.', 'margin'), ('small is not worse than big.', 'margin'), ('guess is not significantly different from big.', 'p < 0.001'),
    ('guess is as good as small.', 'margin'), ('big is surpassed by guess.', 'p < 0.001'), ('small differs significantly from big.', 'p = '), ('big is on par\nwith small.', 'margin'),
    (r'With \wattnb{score}{big} against \wattnb{score}{small}, the former is significantly better.', 'p = '), ('big takes less energy than small.', 'ratio of energy'),
    ('big is faster than small.', 'ratio of latency'), ('big outperforms all other systems.', 'p = '), ('small is better than every other run.', 'p = '), ('small is cheaper than big.', 'no ratio of usd'), ('guess is no worse than big.', 'p < 0.001'),
    ('small is better than guess, but small is also better than big.', 'p = ')]
TRUE = ['big is significantly better than guess.', 'guess is worse than small.', 'big and small are not significantly different.', 'small does not outperform big.',
        'guess is outperformed by small.', 'small takes less energy than big.', 'We ask whether small is better than big.', 'Is big better than small?', 'big may beat small on other questions.',
        'big outperforms guess, but it is not significantly better than small.', 'big has more parameters than small.', 'No significant difference between big and small was found.',
        'It is better to ask than to guess.', r'% big is better than small.', 'big is better than small. % wattnb: ignore', 'In energy, small is better than big.', 'guess is not better than big.', 'guess is worse than all others.', 'big is good.']


@pytest.mark.parametrize('sentence, why', FALSE, ids=[s for s, _ in FALSE])
def test_a_false_claim_is_found(sentence, why, study, tmp_path):
    ws, cited = study
    got = check_paper(ws, paper(tmp_path, sentence, cited))
    assert [f for f in got.faults if f['kind'].startswith('claim') and why in f['finding'] and f['instead'] and f['line'] == 4], got.to_text()


@pytest.mark.parametrize('sentence', TRUE)
def test_a_true_sentence_passes(sentence, study, tmp_path):
    ws, cited = study
    assert check_paper(ws, paper(tmp_path, sentence, cited)).faults == ()


RECORDED = root.parent.parent / 'shared/wattbot'
SENTENCES = [l.replace('\\|', '¦').split('|', 3) for l in (root / 'tests/claim_sentences.txt').read_text('utf-8').splitlines() if l and l[0] != '#']

def claim_runs():
    "The toy runs, which take 5, 2 and half a second for a question."
    ws, rng = Workspace(toy_runs()), random.Random(0)
    for name, s in (('big', 5.), ('small', 2.), ('guess', .5)):
        path = runs_of(ws.root) / name / 'results.json'
        write_json(path, [dict(r, latency_seconds=s * rng.uniform(.9, 1.1)) for r in read_json(path)])
    return cited_runs(ws, ['big', 'small', 'guess'])

def two_precisions(ws):
    "The run qwen7b-4bit has the answers of qwen7b, but for one."
    of = lambda run, f: runs_of(ws.root) / run / f
    for f in ('submission.csv', 'results.json'): shutil.copy(of('qwen7b', f), of('qwen7b-4bit', f))
    t = read_csv(of('qwen7b-4bit', 'submission.csv'))
    write_csv(of('qwen7b-4bit', 'submission.csv'), t.columns, [dict(r, answer_value='999') if i == 1 else r for i, r in enumerate(t.rows)])

def mixed_runs():
    "A large model and three small ones of three families, one in two precisions."
    seconds = {'qwen72b': 12., 'qwen7b': 2., 'qwen7b-4bit': 2.6, 'llama8b': 2.2, 'mistral7b': 2.1}
    ids = dict(zip(seconds, ['Qwen/Qwen2.5-72B-Instruct', *['Qwen/Qwen2.5-7B-Instruct'] * 2, 'meta-llama/Llama-3.1-8B-Instruct', 'mistralai/Mistral-7B-Instruct-v0.3']))
    ws, rng = Workspace(toy_runs(300, 3, {'qwen72b': (.9, .9, 360.), 'qwen7b': (.72, .8, 45.), 'llama8b': (.7, .7, 54.), 'mistral7b': (.45, .5, 48.), 'qwen7b-4bit': (.5, .5, 27.)})), random.Random(0)
    two_precisions(ws)
    for n, s in seconds.items():
        path, precision = runs_of(ws.root) / n, '4bit' if '4bit' in n else 'bf16'
        write_json(path / 'results.json', [dict(r, latency_seconds=s * rng.uniform(.95, 1.05)) for r in read_json(path / 'results.json')])
        write_json(path / 'summary.json', dict(read_json(path / 'summary.json'), model_id=ids[n], precision=precision, quantization=precision))
    return cited_runs(ws, list(ids))

def twin_runs():
    "One model in two precisions over 600 questions, enough to show that neither is worse by two points."
    two_precisions(ws := Workspace(toy_runs(600, 3, {'qwen7b': (.72, .8, 90.), 'qwen7b-4bit': (.5, .5, 54.)})))
    return cited_runs(ws, ['qwen7b', 'qwen7b-4bit'])

def recorded_runs(folder):
    "The runs of the training questions, if available."
    if not (RECORDED / 'recorded').is_dir(): pytest.skip('no recorded runs here')
    shutil.copytree(RECORDED / 'data', folder / 'data', ignore=lambda *_: ['corpus'])
    shutil.copytree(RECORDED / 'recorded', folder / 'artifacts/experiments')
    return Workspace(folder)

@pytest.mark.parametrize('name, least', [('toy', 200), ('mixed', 200), ('twins', 5), ('recorded', 20)])
def test_what_is_said_of_planted_sentences(name, least, tmp_path):
    "False claims are found, true ones pass, and what has no run or no test is listed. A number that is right today may be said to be typed."
    make = dict(toy=claim_runs, mixed=mixed_runs, twins=twin_runs)
    cited, wrong, seen = make[name]() if name in make else cited_runs(w := recorded_runs(tmp_path), find_runs(w)), [], 0
    for of, label, form, text in SENTENCES:
        if of != name: continue
        found = list(judged_text(Path(f'p.{form}'), text.replace('//', '\n').replace('¦', '|'), cited))
        faults = [f for _, _, fs, _ in found for f in fs if f[0] != RIGHT]
        got, seen = 'fault' if faults else 'unchecked' if any(u for *_, u in found) else 'ok', seen + 1
        if got != label and (label != 'none' or got == 'fault'): wrong.append((label, got, text, faults))
    assert wrong == [] and seen >= least


def test_a_board_of_the_recorded_runs(tmp_path, capsys):
    "It renders, and every score is derived again and is the recorded one; a summary of an older scorer is said to differ."
    ws, want = recorded_runs(tmp_path / 'ws'), RECORDED / 'recorded/expected_scores.json'
    at = [str(ws.root), '--json', '--output', str(tmp_path / 'board')]
    assert main(['board', *at, '--scores', str(want)]) == 0
    [part] = json.loads(capsys.readouterr().out)['parts']
    scores = {r['run'].rpartition('/')[2]: r['score'] for r in part['runs']}
    assert {r['system'] for r in part['runs']} == set(Report(ws.root).names.values()) and 'Qwen2.5 7B' in {r['system'] for r in part['runs']} # as the report has them
    assert scores == {k: pytest.approx(v['overall'], abs=1e-9) for k, v in read_json(want).items()} and [r['rank'] for r in part['runs']] == list(range(1, 12))
    assert {(r['checked'], r['verified'], r['verified_why']) for r in part['runs']} == {('score', False, 'no journal')}
    assert (tmp_path / 'board/index.html').read_text('utf-8').count('✓ score derived again') == len(scores)
    assert main(['board', *at]) == 0
    for r in (r for p in json.loads(capsys.readouterr().out)['parts'] for r in p['runs']):
        was = read_json(ws.experiments / r['run'] / 'summary.json')['overall_score']
        assert (r['checked'] == 'score') == (abs(was - r['score']) < 1e-6) and (r['checked'] == 'score' or f'{was:.3f}' in r['verified_why'])


def test_what_is_not_checked_is_listed(study, tmp_path, capsys):
    ws, cited = study
    p = paper(tmp_path, 'big needs less memory than small.\nLarger models use more energy.\nbig is better than GPT-4.', cited)
    got = check_paper(ws, p)
    assert got.faults == () and [(u['line'], u['word'], u['why']) for u in got.unchecked] == [
        (4, 'less', 'there is no test of it'), (5, 'more', 'the sentence names no cited run'), (6, 'better', 'it compares with what is no cited run')]
    assert main(['check', str(p), '--root', str(ws.root)]) == 0
    out = capsys.readouterr().out
    assert 'not checked "less"' in out and '3 claims not checked (1 of them: the sentence names no cited run)' in out and 'Larger models' not in out


PIECES = 'big small guess 2.3x half a fifth of the energy than less more not best by 12 points and , score twice as fast all systems 20 % (p=0.03) ⟦0⟧ it is order magnitude'.split()

@given(st.text(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=25).map(' '.join))
@settings(max_examples=200)
def test_any_text_is_read(text):
    "A wild file raises nothing, and what it says of runs is looked for."
    ws, cited = Workspace(WILD[0]), WILD[1]
    for suffix in ('.tex', '.md'):
        for s in sentences_of(Path('p' + suffix), text + ' big is better than small.', ('big', 'small')):
            judged(s, cited)
    assert ws


WILD = (w := toy_runs(20), cited_runs(Workspace(w), ['big', 'small', 'guess']))


def test_macros_are_legal_tex_and_lose_no_sign(tmp_path):
    "Names of runs with all signs of a keyboard; lower bounds keep theirs."
    ws = toy_runs(runs={'a_b%c#d$e&f{g}~h^i': (.9, .9, 3.), 'ä ö': (.5, .5, 1.), 'a-b': (.4, .4, 1.), 'faster than': (.3, .3, 1.), 'a b': (.3, .3, 1.)})
    for p in runs_of(ws).iterdir(): change(p, hardware=dict(gpu_count=2, gpu_device_id=0))
    cited = cited_runs(Workspace(ws), find_runs(ws))
    (tmp_path / 'n.md').write_text(cite_markdown(cited), 'utf-8')
    assert check_paper(Workspace(ws), tmp_path / 'n.md').faults == (), 'not even where a name is a word of a claim'
    assert len(cited.runs) == 5 and all(re.fullmatch(r'[A-Za-z0-9./+-]+', k) for k in cited.runs)
    for line in cite_latex(cited).splitlines():
        if not line.startswith('\\wattnbset'): assert line.startswith(('%', '\\providecommand', '  \\Package')), line; continue
        name, text = re.fullmatch(r'\\wattnbset\{([A-Za-z0-9./:+-]+)\}\{(.*)\} % .*', line).groups()
        assert text.count('{') == text.count('}') and not re.search(r'(?<!\\)[#%&_~^]|≥|≈|−', re.sub(r'\\textasciicircum|\\textasciitilde', '', text)), line
        if name.endswith(':wh'): assert text.startswith(r'$\ge$ ')
    assert 'energy-ratio' not in cite_latex(cited), 'no ratio of a lower bound'
    assert all(run_quantities(x.numbers)['score'] == f'{x.numbers.score:.3f}' for x in cited.runs.values())


def test_pairs_do_not_depend_on_their_order(study):
    c = study[1].comparison('big', 'small')
    x, y = oriented(c, 'big', 'small'), oriented(c, 'small', 'big')
    assert (x['diff'], x['low'], x['high'], x['p']) == (-y['diff'], -y['high'], -y['low'], y['p']) and x['energy'][0] == pytest.approx(1 / y['energy'][0])
    assert pair_quantities(c, 'big', 'small')['p'] == pair_quantities(c, 'small', 'big')['p']


def test_stale_numbers_and_runs(tmp_path):
    "An answer, an energy, a truth that changed; a run that is gone; a macro that does not exist; a number typed by hand."
    ws = Workspace(toy_runs())
    cited = cited_runs(ws, ['big', 'small', 'guess'])
    p = paper(tmp_path, r'big scores \wattnb{score}{big}~(\wattnbpair{p}{big}{guess}), small 0.1.', cited)
    assert check_paper(ws, p).faults == () and check_paper(ws, p).numbers == 2
    (tmp_path / 'other.tex').write_text(p.read_text().replace('{score}{big}', '{score}{bug}').replace('\\input{numbers}', '\\input{numbers.tex}'))
    assert [f['kind'] for f in check_paper(ws, tmp_path / 'other.tex').faults] == ['no such number']
    change(runs_of(ws.root) / 'big', hardware=dict(gpu_energy_wh=31.))
    found = {f['kind']: f['finding'] for f in check_paper(ws, p).faults if 'ratio' not in f['finding']}
    assert found.keys() == {'run changed', 'number changed'} and found['number changed'] == 'big:wh is 0.517, the paper has 0.500'
    change(runs_of(ws.root) / 'big', hardware=dict(gpu_energy_wh=30.))
    truth = read_csv(ws.data / 'toy_QA.csv')
    write_csv(ws.data / 'toy_QA.csv', truth.columns, [dict(r, answer_value='5') if r['id'] == 'q01' else r for r in truth.rows])
    assert {'truth changed', 'number changed'} == {f['kind'] for f in check_paper(ws, p).faults}
    shutil.rmtree(runs_of(ws.root) / 'big')
    assert [f['kind'] for f in check_paper(ws, p).faults if f['kind'] != 'number changed' and f['kind'] != 'truth changed'] == ['run missing']


@pytest.mark.parametrize('text, wrong', [('big scores 0.86.', 'is a number of big'), ('The score of small is 0.91.', 'no score of small'), ('small took 0.1 Wh a question.', 'is a number of small'),
                                         ('small needed 7.3 Wh in all.', 'no wh of small'), ('big answers within 1.0 seconds.', 'is a number of big'), ('big has 14 layers and 0.5 of all.', ''), ('A score of 0.91 is high.', '')])
def test_numbers_typed_by_hand(text, wrong, study, tmp_path):
    ws, cited = study
    got = check_paper(ws, paper(tmp_path, text, cited))
    found = [f['finding'] for f in (*got.faults, *got.typed)]
    assert len(got.typed) == ('is a number' in wrong) and len(found) == bool(wrong) and all(wrong in f for f in found), found


def test_a_paper_of_several_files(study, tmp_path, capsys):
    "Names by macros of the paper, tables in included files, what a bibliography says; the place of a fault is that of its file and line."
    ws, cited = study
    (tmp_path / 'parts').mkdir()
    table = ('\\begin{table}\n\\caption{Score and energy. \\us{} is best among all.}\n\\begin{tabular}{lrr}\n\\toprule\nSystem & Score & Energy [J/question] \\\\\n\\midrule\n'
             '\\us & \\textbf{0.856} & 1800 \\\\\n\\texttt{small} & 0.806 & 360 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n')
    (tmp_path / 'parts/results.tex').write_text('We follow \\cite{x}.\n\\us{} is significantly better than guess.\n\n' + table.replace(' \\us{} is best among all.', ''))
    (tmp_path / 'refs.bib').write_text('@article{x, title = {guess is better than big}}')
    p = paper(tmp_path, '\\newcommand{\\us}{\\texttt{big}\\xspace}\n\\input{parts/results}\n\\bibliography{refs}', cited)
    got = check_paper(ws, p)
    assert (got.faults, got.unchecked, len(got.typed)) == ((), (), 4) and main(['check', str(p), '--root', str(ws.root)]) == 0
    assert '4 numbers typed by hand, right today' in capsys.readouterr().out
    for at in [m.start() for m in re.finditer(r'(?<=[\d.}{ ])\d', table) if table[m.start() - 2:m.start()] not in ('{l', ' }')]: # each digit of its cells
        (tmp_path / 'parts/results.tex').write_text(wrong := 'A line.\n' + one_digit_off(table, at))
        assert [(f['line'], Path(f['file']).name) for f in check_paper(ws, p).faults if f['kind'] == 'typed number'] == [(wrong.count('\n', 0, at + len('A line.\n')) + 1, 'results.tex')]
    assert [f['line'] for f in check_paper(ws, p).faults if f['kind'].startswith('claim')] == [3], 'the caption: big is not significantly better than small'
    for name in ('paper.docx', 'paper.typ'): assert main(['check', str(tmp_path / name), '--root', str(ws.root)]) == 2 and 'pandoc' in capsys.readouterr().err


def test_long_texts_are_read_in_linear_time():
    "Megabytes of what no paper has: one word, one sentence, brackets that do not close, a table without end."
    cited = WILD[1]
    for text in ('a' * 100_000, 'big is better than small and ' * 3_000, '{' * 40_000, '[@' * 20_000, '|a' * 10_000, '\\begin{tabular}' * 500, 'more ' * 10_000):
        assert len(list(judged_text(Path('p.tex'), text, cited)) + list(judged_text(Path('p.md'), text, cited))) < 100
    assert [len(r) for r in tables_of('| a | b |\n|---|---|\n| c | 1 |\n\n| d | 2 |\n', False)] == [3, 1]


def test_markdown(study, tmp_path):
    "Numbers are in the text with a comment behind them; a number that was changed by hand is found, with its line."
    ws, cited = study
    lines = cite_markdown(cited).splitlines()
    of = lambda what: next(l for l in lines if l.startswith(f'- {what}:')).partition(': ')[2]
    (p := tmp_path / 'paper.md').write_text('\n'.join([next(l for l in lines if 'wattnb:runs' in l), '', f'big reaches {of("big score")} {of("big score-interval")}.', '',
                                                       f'It leads guess ({of("big against guess p")}).']), 'utf-8')
    assert declared_runs({p: p.read_text()}).keys() == {x.run.id for x in cited.runs.values()}
    got = check_paper(ws, p)
    assert got.faults == () and got.numbers == 3
    p.write_text(p.read_text().replace('0.856<', '0.866<'))
    assert [(f['kind'], f['line']) for f in check_paper(ws, p).faults] == [('number changed', 3)] and 'score of lab/toy_QA/big is 0.856, the paper has 0.866' in check_paper(ws, p).to_text()


DIGIT = re.compile(r'\d')

def one_digit_off(text, at):
    "The text with its digit at a place changed."
    return text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1:]


@pytest.mark.parametrize('names', [['big'], ['big', 'small'], ['big', 'small', 'guess']])
@pytest.mark.parametrize('form, suffix', [(cite_markdown, 'md'), (cite_latex, 'tex')])
def test_what_cite_writes_passes_check_and_a_changed_digit_does_not(names, form, suffix, study, tmp_path):
    "Every file of numbers, of one run, two or three, in both forms, untouched; and with one digit of any number changed."
    ws, _ = study
    text = form(cited_runs(ws, names))
    (p := tmp_path / f'numbers.{suffix}').write_text(text, 'utf-8')
    got = check_paper(ws, p)
    number = re.compile(r'\\wattnbset\{[^}]*\}\{(.*)\} % ') if suffix == 'tex' else re.compile(r': (.*)<!-- wattnb:')
    lines, numbers = text.splitlines(), 0
    cited = cited_runs(ws, names, keys=[f'lab/toy_QA/{n}' for n in names] if suffix == 'md' else None) # the keys of each form
    faults = lambda changed: [*_macro_faults({p: changed}, cited, True)[2], *_comment_faults({p: changed}, cited, True)[1]]
    for i, line in enumerate(lines):
        if not (m := number.search(line)): continue
        numbers += 1
        for at in [m.start(1) + d.start() for d in DIGIT.finditer(m[1])]:
            changed = '\n'.join([*lines[:i], one_digit_off(line, at), *lines[i + 1:]])
            assert [(f['kind'], f['line']) for f in faults(changed)] == [('number changed', i + 1)], (line, at)
    assert got.faults == () and numbers == (got.definitions if suffix == 'tex' else got.numbers) > 10, got.to_text()
    p.write_text(text.replace('0.856', '0.857'), 'utf-8') # and as the command finds it
    assert [f['kind'] for f in check_paper(ws, p).faults] == ['number changed']


def test_lists_code_and_comments_of_a_paper(study, tmp_path):
    "Items are sentences of their own; code and comments are no text; a number in front of its comment is not typed by hand."
    ws, cited = study
    head = next(l for l in cite_markdown(cited).splitlines() if 'wattnb:runs' in l)
    (p := tmp_path / 'p.md').write_text(f'{head}\n\n- big is better than small\n- small is a run\n* guess scores 0.91\n\n```\nbig is better than small.\n```\n<!-- small scores 0.1,\nor better than big. -->\n', 'utf-8')
    assert [(f['kind'], f['line'], f['sentence']) for f in check_paper(ws, p).faults] == [('claim "better"', 3, 'big is better than small'), ('typed number', 5, 'guess scores 0.91')]
    q = paper(tmp_path, '\\begin{itemize}\n\\item big is better than small\n\\item guess is a run\n\\end{itemize}', cited)
    assert [(f['kind'], f['line'], f['sentence']) for f in check_paper(ws, q).faults] == [('claim "better"', 5, 'big is better than small')]


@pytest.mark.parametrize('seed', [0, 7])
def test_sentences_of_compare_and_of_a_report_pass_check(seed, tmp_path):
    "The verdict, the statements about margins and the sentences of a report, copied into a paper as they are; letters, table and statements agree."
    ws = Workspace(toy_runs(40 + 10 * seed, seed, runs={'big': (.8, .95, 30.), 'small': (.6 + .02 * seed, .9, 6.), 'guess': (.2, .5, 1.)}))
    c = compare(ws, ['big', 'small', 'guess'], margin=.05)
    for p, s, r in zip(c.pairs, c.statements, c.margin_table):
        assert p['different'] == (' is better than ' in s) == (r['verdict'] in ('a is better', 'b is better')) == (not set(c.letters[p['a']]) & set(c.letters[p['b']]))
    said = [c.verdict, *c.statements, *(s.replace('**', '') for s in summary_sentences(Report(ws.root)) if 'significant' in s)]
    got = check_paper(ws, paper(tmp_path, '\n'.join(said).replace('%', '\\%'), cited_runs(ws, ['big', 'small', 'guess'])), margin=.05)
    assert {f['kind'] for f in got.faults} <= {'typed number'} and got.claims >= 2, got.to_text()


def test_claims_that_name_a_model(tmp_path):
    "A display name, key or id of the registry stands for the only cited run of the model; where two runs have it, that is said."
    ws = Workspace(toy_runs(runs={'first': (.8, .95, 30.), 'second': (.75, .9, 6.), 'third': (.2, 0., 1.)}))
    for run, model in (('first', 'Qwen/Qwen2.5-7B-Instruct'), ('second', 'Qwen/Qwen2.5-14B-Instruct'), ('third', 'Qwen/Qwen2.5-14B-Instruct')): change(runs_of(ws.root) / run, model_id=model)
    def faults(text, names):
        return [(f['kind'], f['finding']) for f in check_paper(ws, paper(tmp_path, text, cited_runs(ws, names))).faults]
    for text in ('Qwen2.5 7B outperforms Qwen2.5 14B.', 'qwen7b beats qwen14b.', 'Qwen2.5-7B-Instruct is better than second.'):
        [(kind, why)] = faults(text, ['first', 'second'])
        assert kind.startswith('claim') and 'first minus second' in why
        [(kind, why)] = faults(text.replace('second', 'Qwen2.5 14B'), ['first', 'second', 'third'])
        assert kind == 'unclear name' and 'may be second or third: the claim is not checked' in why
    assert faults('Qwen2.5 14B is a model, and Qwen2.5 7B another.', ['first', 'second', 'third']) == []


def test_verbs(study, tmp_path, capsys):
    "cite to a file and to stdout, check with its exit status, as text and as JSON; one line for what cannot be read."
    ws, _ = study
    at = ['--root', str(ws.root)]
    out = tmp_path / 'numbers.tex'
    assert main(['cite', 'big', 'small', '--output', str(out), *at]) == 0 and '\\wattnbset{big:score}' in out.read_text()
    capsys.readouterr()
    assert main(['cite', 'big', '--markdown', *at]) == 0 and '<!-- wattnb:score lab/toy_QA/big@' in capsys.readouterr().out
    assert main(['cite', 'big', 'small', '--json', *at]) == 0
    got = json.loads(capsys.readouterr().out)
    assert [x['key'] for x in got['runs']] == ['big', 'small'] and got['pairs'][0]['quantities']['p'] == 'p = 0.481'
    p = tmp_path / 'p.tex'
    p.write_text('\\input{numbers}\nbig is better than small.')
    assert main(['check', str(p), *at]) == 1 and 'claim "better"' in capsys.readouterr().out
    assert main(['check', str(p), '--json', *at]) == 1 and json.loads(capsys.readouterr().out)['faults'][0]['line'] == 2
    p.write_text('\\input{numbers}\nbig is not significantly different from small.')
    assert main(['check', str(p), *at]) == 0 and '1 claim looked at, 0 faults' in capsys.readouterr().out
    for args, why in ((['cite', 'nobody'], "no run 'nobody'"), (['cite', 'big', '--output', 'x.docx'], 'cannot write numbers as .docx'), (['check', str(tmp_path / 'no.tex')], 'no such file'),
                      (['check', str(runs_of(ws.root) / 'big/submission.csv')], 'declares no run')):
        assert main([*args, *at]) == 2 and why in capsys.readouterr().err
    p.write_text('\\input{gone}')
    assert main(['check', str(p), *at]) == 2 and 'gone.tex (included by' in capsys.readouterr().err


def test_a_margin_carries_equality(study, tmp_path):
    ws, cited = study
    p = paper(tmp_path, 'big and small are equivalent.', cited)
    assert check_paper(ws, p, margin=.2).faults == () and len(check_paper(ws, p, margin=.1).faults) == 1
