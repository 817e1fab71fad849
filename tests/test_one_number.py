"""One run, one number: every verb, table, figure, sentence and JSON document has the numbers of a run that `run_numbers` has.

The walk goes over trees of all kinds that researchers have: the recorded runs, resumed runs and runs of one GPU of two as WattBot leaves them,
unreadable replies, runs without truth, hosted models, ensembles, and runs of wattnb that asked for the precision `auto`."""
import functools, json, math, re, shutil, tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from wattnb.compare.auditing import audit
from wattnb.cli.command import main
from wattnb.compare.paired import compare
from wattnb.compare.results_matrix import matrix
from wattnb.testing.synthetic import synthetic_runs
from wattnb.plots.registry import ALIASES, FIGURES, FigureData
from wattnb.plots.figures import draw_all
from wattnb.testing.scratch import wattbot_runs
from wattnb.plots.findings import budget_table, energy_findings, money_findings, refusal_findings, summary_sentences, systems_table
from wattnb.plots.report_page import doubts_table
from wattnb.plots.reports import Report, methods_text
from wattnb.core.workspace import UserError
from wattnb.scoring.run_folders import GroundTruth, find_runs
from wattnb.scoring.store import load
from wattnb.scoring.numbers import question_costs, run_numbers
from wattnb.ensemble.systems import read_runs
from wattnb.experiment.stored import results_table
from wattnb.core.workspace import Workspace, atomic_write, folder_lock, jsonable, read_csv, read_json, write_csv, write_json

SHARED = next((p / 'shared/wattbot' for p in Path(__file__).resolve().parents if (p / 'shared/wattbot').is_dir()), None)
recorded = pytest.mark.skipif(SHARED is None, reason='the recorded runs are not on this machine')


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('WATTNB_CACHE', str(tmp_path_factory.mktemp('cache')))


# ---- the trees ----------------------------------------------------------------------------------------------------------

def change(folder:Path, **summary):
    "Other fields in a summary; those of `hardware` and `config_snapshot` are merged."
    s = read_json(folder / 'summary.json')
    for k in ('hardware', 'config_snapshot'):
        if k in summary: summary[k] = {**s.get(k, {}), **summary[k]}
    write_json(folder / 'summary.json', s | summary)


def unread(folder:Path, ids):
    "Replies that could not be read, as WattBot stores them: an empty value."
    for name in ('submission.csv',):
        t = read_csv(folder / name)
        write_csv(folder / name, t.columns, [{**r, 'answer_value': '' if r['id'] in ids else r['answer_value'], 'ref_id': '' if r['id'] in ids else r['ref_id']} for r in t.rows], quote_all=True)
    recs = read_json(folder / 'results.json')
    write_json(folder / 'results.json', [{**r, 'pred_value': '', 'pred_ref': ''} if r['id'] in ids else r for r in recs])


def older_tree() -> Path:
    "Runs of WattBot on two machines, with the faults that such runs have."
    root = Path(tempfile.mkdtemp()) / 'older'
    (root / 'data').mkdir(parents=True)
    rows = [dict(id=f'q{i:02}', question=f'What is the value of hall {i}?', answer=f'{i + 3} kWh', answer_value='is_blank' if i % 5 == 0 else str(i + 3), answer_unit='kWh',
                 ref_id='is_blank' if i % 5 == 0 else f"['paper{i % 7}']", ref_url='is_blank', supporting_materials='is_blank', explanation='Quote') for i in range(40)]
    write_csv(root / 'data/hall_QA.csv', list(rows[0]), rows)
    models = {'Qwen/Qwen2.5-7B-Instruct': (.5, .1, .2), 'Qwen/Qwen2.5-14B-Instruct': (.62, .2, .5), 'Qwen/Qwen2.5-32B-Instruct': (.7, .1, .9), 'Qwen/Qwen2.5-72B-Instruct': (.72, .06, 1.9)}
    for env, seed in (('GB10', 1), ('PowerEdge', 2)): wattbot_runs(root, models, env, 'hall_QA.csv', seed)
    at = lambda env, m: root / f'artifacts/experiments/{env}/hall_QA/qwen2.5-{m}b-instruct-bench'
    for m in (7, 14, 32, 72): change(at('PowerEdge', m), hardware=dict(gpu_count=2, gpu_device_id=0))    # one GPU of two
    s = read_json(at('GB10', 14) / 'summary.json')
    change(at('GB10', 14), total_time_seconds=s['total_time_seconds'] / 2.85, overall_score=.1)           # resumed, and a stale score
    s = read_json(at('PowerEdge', 72) / 'summary.json')
    change(at('PowerEdge', 72), total_time_seconds=s['total_time_seconds'] / 1.3, avg_generation_seconds=s['avg_latency_seconds'] * .9) # both
    for p, k in ((at('GB10', 32), 3),): change(p, config_snapshot=dict(max_concurrent=k), total_time_seconds=read_json(p / 'summary.json')['total_time_seconds'] / k)
    change(at('GB10', 72), hardware=dict(gpu_energy_wh=0., gpu_energy_method='nvml'))                      # a meter that measured nothing
    unread(at('GB10', 7), {'q00', 'q05', 'q10', 'q03', 'q04'})
    api = at('GB10', 7).with_name('api-bench')
    shutil.copytree(at('GB10', 72), api)
    change(api, name='api-bench', model_id='us.amazon.nova-pro-v1:0', llm_provider='bedrock', quantization='api', estimated_cost_usd=.31, input_tokens=9000, output_tokens=800,
           hardware=dict(gpu_energy_wh=0., gpu_energy_method='none', gpu_count=0))
    (api / 'results.json').unlink() # a run of which only the answers are left
    ens = at('GB10', 7).with_name('ensemble-majority')
    shutil.copytree(at('GB10', 14), ens)
    write_json(ens / 'summary.json', dict(name='ensemble-majority', type='ensemble', strategy='majority', ignore_blank=True, num_questions=40, num_models=3, value_accuracy=.5, ref_overlap=.5,
               na_accuracy=.5, overall_score=.5, models=[at('GB10', m).name for m in (7, 14, 32)]))
    (ens / 'results.json').unlink()
    return root


def own_tree() -> Path:
    "Runs of wattnb: local ones at three precisions, one of them requested as `auto`, hosted ones, an ensemble; loading and idling took energy and time."
    root = Path(tempfile.mkdtemp()) / 'own'
    plan = (('PowerEdge', 'qwen1.5b', '4bit'), ('PowerEdge', 'qwen7b', '4bit'), ('PowerEdge', 'qwen7b', 'bf16'), ('PowerEdge', 'qwen14b', '4bit'), ('GB10', 'qwen7b', '4bit'), ('PowerEdge', 'nova-pro', ''),
            ('PowerEdge', 'claude35-haiku', ''))
    ws = synthetic_runs(root, plan=plan, questions=40)
    for r in find_runs(ws):
        s = r.summary
        if s.get('llm_provider') != 'hf_local': continue
        more = s['energy']['total_wh'] * 1.2
        change(r.path, total_time_seconds=s['total_time_seconds'] * 1.1, energy=dict(s['energy'], total_wh=more, total_wh_low=more * .98, total_wh_high=more * 1.03))
        if s['precision'] == 'bf16': # asked for as auto; what was loaded is noted
            change(r.path, precision='auto', quantization='auto', effective=dict(effective_dtype='bfloat16', quantization='none'), effective_dtype='bfloat16', effective_quantization='none')
    return root


def recorded_tree(truth=True) -> Path:
    root = Path(tempfile.mkdtemp()) / 'recorded'
    (root / 'data').mkdir(parents=True)
    if truth: shutil.copyfile(SHARED / 'data/train_QA.csv', root / 'data/train_QA.csv')
    shutil.copytree(SHARED / 'recorded/PowerEdge', root / 'artifacts/experiments/PowerEdge')
    return root


TREES = dict(older=older_tree, own=own_tree, recorded=recorded_tree)


@functools.cache
def tree(name):
    root = TREES[name]()
    ws, truths = Workspace(root), GroundTruth(Workspace(root))
    return ws, {r.id: run_numbers(r, truths) for r in find_runs(ws)}


def of_label(numbers:dict, label:str):
    "The record of a run by its id, its name, or machine and name; None for another word."
    hits = [x for x in numbers.values() if label in (x.run, f'{x.env}/{x.name}')] or [x for x in numbers.values() if x.name == label]
    return hits[0] if len(hits) == 1 else None


trees = pytest.mark.parametrize('name', ['older', 'own', pytest.param('recorded', marks=recorded)])


# ---- what a cell must be ------------------------------------------------------------------------------------------------

CELLS = {'score': 'score', 'overall': 'score', 'overall_score': 'score', 'value': 'value_accuracy', 'value_accuracy': 'value_accuracy', 'citations': 'ref_overlap', 'refs': 'ref_overlap',
         'ref_overlap': 'ref_overlap', 'NA recall': 'na_recall', 'na': 'na_recall', 'na_accuracy': 'na_recall', 'refusal recall': 'refusal_recall', 'refusal_recall': 'refusal_recall',
         'refusal precision': 'refusal_precision', 'refusal_precision': 'refusal_precision', 'strict': 'strict', 's/question': 'wall_s_per_question', 's_per_question': 'wall_s_per_question',
         'wall_s_per_question': 'wall_s_per_question', 'latency_s': 'latency_s', 'latency s': 'latency_s', 'avg_latency_s': 'latency_s', 'latency': 'latency_s', 'Wh/question': 'wh_per_question', 'wh_per_question': 'wh_per_question',
         'Wh': 'wh', 'wh': 'wh', 'energy_wh': 'wh', 'energy is': 'energy_is', 'energy_is': 'energy_is', 'USD/question': 'usd_per_question', 'electricity, USD': 'electricity_usd', 'score is': 'score_is',
         'overall_low': 'score_low', 'overall_high': 'score_high', 'ci_low': 'score_low', 'ci_high': 'score_high', 'ref': 'ref_overlap', 'overall reported': 'score_stored', 'Wh reported': 'wh_reported'}
PER_100 = {'wh_100': ('wh_per_question', 100), 'usd_1000': ('usd_per_question', 1000)}


def same(got, want, digits=None) -> bool:
    "Equal to the last digits of a float, or as printed, with the marks of a report."
    if digits is not None and isinstance(got, str) and not isinstance(want, str): got = re.sub(r'^[≥≈] |\s\[[a-z, ]*\]$', '', got)
    missing = lambda v: v is None or v == '' or v == '–' or v != v
    if missing(got) or missing(want): return missing(got) and missing(want)
    if isinstance(want, str): return str(got) == want
    if digits is None: return math.isclose(float(got), float(want), rel_tol=1e-12, abs_tol=1e-15)
    got = str(got).replace(',', '')
    return math.isclose(float(got), float(want), rel_tol=6e-3, abs_tol=.51 * 10 ** -digits)


def check_rows(where, rows, numbers, key='run', digits=None, skip=()) -> int:
    "Each cell of a table against the record of its run; how many were compared."
    n = 0
    for r in rows:
        x = of_label(numbers, str(r[key]))
        if x is None: continue
        want = x.to_json()
        for column, field in CELLS.items():
            if column in r and column not in skip:
                n += 1
                assert same(r[column], want[field], digits), f'{where}: {r[key]}: {column} is {r[column]!r}, the record has {want[field]!r}'
        for column, (field, each) in PER_100.items():
            if column in r: n += 1; assert same(r[column], None if want[field] is None else want[field] * each, digits), f'{where}: {r[key]}: {column}'
    return n


# ---- tables and JSON ----------------------------------------------------------------------------------------------------

@trees
def test_tables_and_json_of_every_verb(name, capsys):
    "results, compare, audit, recommend, scaling, footprint, matrix: text and --json."
    ws, numbers = tree(name)
    def said(*args):
        assert main([*args, '--root', str(ws.root), '--json']) in (0, 1), capsys.readouterr().err
        return json.loads(capsys.readouterr().out)
    datafile = next(iter(numbers.values())).datafile
    got = said('results')
    rows = [dict(zip(got['columns'], r)) | dict(run=x['run']) for r, x in zip(got['rows'], got['runs'])]
    assert len(rows) == len(numbers) and check_rows('results', rows, numbers) > 5 * len(rows)
    for r, x in zip(rows, got['runs']):
        assert r['95 % interval'] == ([x['score_low'], x['score_high']] if x['score_low'] is not None else None) and x == jsonable(numbers[x['run']].to_json())
    names = [x.run for x in numbers.values()]
    got = said('compare', *names, '--datafile', datafile)
    assert check_rows('compare --json', [r | r['numbers'] | dict(run=r['run'], overall=r['overall']) for r in got['runs']], numbers) and len(got['runs']) == len(numbers)
    for r in got['runs']: assert r['numbers'] == jsonable(numbers[r['run']].to_json())
    c = compare(ws, names, datafile=datafile)
    ids = {e.label: e.run.id for e in c.runs}
    assert check_rows('compare', [r | dict(run=ids[r['run']]) for r in c.ranking.to_json()], numbers) > 8 * len(numbers)
    got = said('audit')
    assert check_rows('audit', [r | dict(run=r['run']) for r in got['runs']], numbers)
    for r in got['runs']: assert r['numbers'] == jsonable(numbers[r['run']].to_json())
    assert check_rows('audit table', audit(ws).table.to_json(), numbers)
    r = Report(ws.root, datafile=datafile)
    ids = {e.label: e.run.id for e in r.source.scored}
    named = {r.names[label]: i for label, i in ids.items()}
    assert check_rows('footprint', [f | dict(run=named[f['system']]) for f in r.footprint.to_json()], numbers, skip=('overall',))
    assert {l: n.to_json() for l, n in r.numbers.items()} == {l: numbers[i].to_json() for l, i in ids.items()}
    env = next(x.env for x in numbers.values() if x.env != 'GB10')
    got = said('recommend', '--env', env)
    of = {x.name: x for x in numbers.values() if x.env == env}
    assert check_rows('recommend', [t | dict(run=of[t['model']].run) for t in got['top']], numbers)
    p = read_runs(ws, env, datafile)
    assert check_rows('panel', [dict(run=of[l].run, overall=s.overall) for l, s in zip(p.labels, p.scores)], numbers)
    got = said('scaling', '--env', env, '--datafile', datafile, '--dry-run')
    assert got['rows'] and check_rows('scaling', got['rows'], numbers) > 8 * len(got['rows'])
    for r in got['rows']: assert r['quantization'] == numbers[r['run']].precision and r['questions'] == numbers[r['run']].n


@trees
def test_text_of_the_verbs(name, capsys):
    "The text of results and compare has the same numbers, and what is doubtful in them below."
    ws, numbers = tree(name)
    for args in (['results'], ['compare', *numbers]):
        assert main([*args, '--root', str(ws.root)]) == 0
        text = capsys.readouterr().out
        for x in numbers.values():
            line = next(l for l in text.splitlines() if re.match(rf'(\S+ +\S+ +)?({re.escape(x.name)}|{re.escape(x.run)})\s\s', l) and (x.env in l or args[0] == 'compare' and x.run in l or sum(y.name == x.name for y in numbers.values()) == 1))
            assert f'{x.score:.3f}' in line and (x.wh is None or f'{x.wh_per_question:,.3f}' in line) and x.energy.is_ in line, (x.run, line)
            for d in x.about('energy', 'latency', 'score'): assert f'{d.rule}: {d.message}' in text, (x.run, d)


@trees
def test_matrix(name, tmp_path):
    "The means of a run's columns in the matrix are the parts of its score."
    ws, numbers = tree(name)
    for part in matrix(ws):
        for m in part.models:
            x = next(x for x in numbers.values() if x.env == part.env and x.datafile == part.datafile and m in (x.name, x.name.replace('-v1', '').replace('bedrock_', '')))
            col = lambda k: [r[f'{m}_{k}'] for r in part.rows]
            mean = lambda xs: math.fsum(xs) / len(xs)
            na = [v for v, r in zip(col('NACorrect'), part.rows) if r['GT_Value'] == 'is_blank']
            assert same(mean(col('ValCorrect')), x.value_accuracy) and same(mean(col('RefScore')), x.ref_overlap) and same(mean(na), x.na_recall), x.run


@trees
def test_the_long_table(name):
    "Means over the questions are the numbers of the run."
    ws, numbers = tree(name)
    df = load(ws, cache=False)
    for run, g in df.groupby('run', observed=True):
        x = numbers[run]
        assert same(g['contribution'].mean(), x.score, 12) and same(g['joules'].sum() / 3600 if g['joules'].notna().all() else None, x.wh, 9), run
        assert x.latency_s is None or same(g['latency_seconds'].dropna().mean(), x.latency_s, 9), run
        assert x.api_usd is None or same(g['cost_usd'].sum(), x.api_usd, 9), run
        assert x.energy.is_ in ('measured', 'members', 'not measured') or g['energy_is'].astype(str).str.contains(x.energy.is_, regex=False).all(), run


# ---- figures ------------------------------------------------------------------------------------------------------------

NO_RUN_NUMBERS = {'unique_wins', 'agreement_heatmap', 'question_map', 'power_trace', 'tokens', 'retrieval'} # counts of questions, traces, passages
BY_RUN = {'size_vs_scores', 'size_vs_latency', 'size_vs_cost', 'size_score_cost_bubble', 'overall_ranking', 'cost_vs_performance', 'score_breakdown_models', 'energy_per_experiment', 'overall_scores',
          'cost_vs_score', 'score_breakdown_top10', 'score_breakdown'}


@functools.cache
def figures(name) -> dict:
    "Figure -> rows of its CSV, over all machines. The pictures are drawn and not written: `test_plots.py` looks at those."
    ws, _ = tree(name)
    out = Path(tempfile.mkdtemp())
    with pytest.MonkeyPatch.context() as m:
        m.setattr('wattnb.plots.figures.save', lambda fig, path, df: [atomic_write(path.with_suffix('.csv'), df.to_csv(index=False))])
        draw_all(ws, out=out)
    folder = next(p for p in out.iterdir() if (p / 'overall_ranking.csv').exists())
    number = lambda v: None if v == '' else {'True': True, 'False': False}[v] if v in ('True', 'False') else float(v) if re.fullmatch(r'-?\d+(\.\d+)?(e-?\d+)?', v) else v
    return {f: [{k: number(v) for k, v in r.items()} for r in read_csv(folder / f'{f}.csv').rows] if (folder / f'{f}.csv').exists() else [] for f in (*FIGURES, *ALIASES)}


def by_label(rows, key='label') -> dict:
    out = {}
    for r in rows: out.setdefault(r[key], []).append(r)
    return out


@trees
def test_every_figure(name):
    "The CSV of every figure, number by number."
    ws, numbers = tree(name)
    csvs, seen = figures(name), set(NO_RUN_NUMBERS)
    legacy = {r['label']: numbers[r['run']] for r in csvs['overall_ranking']} # the labels of the legacy figures
    src = FigureData(ws, None, next(iter(numbers.values())).datafile)
    label = {e.label: numbers[e.run.id] for e in src.scored}
    for f in BY_RUN:
        seen.add(f)
        for r in csvs[f]:
            x = numbers[r['run']]
            assert check_rows(f, [r], numbers) >= 12 and r['precision'] == (x.precision or None), f
            assert (r['energy_kind'] == 'at least') == (x.energy.kind == 'at least') and ('ONE_GPU' in (r['doubts'] or '')) == any(d.rule == 'ONE_GPU' for d in x.doubts)
    for l, rows in by_label(csvs['accuracy_by_type']).items():
        assert same(next(r for r in rows if r['type'] == 'is_NA')['accuracy'], legacy[l].refusal_recall), l
    for l, rows in by_label(csvs['refusal_rates']).items():
        a, u = ({r['of']: r for r in rows}.get(k, dict(refused=0, share=None)) for k in ('answerable', 'unanswerable'))
        x = legacy[l]
        assert same(u['share'], x.refusal_recall) and a['refused'] + u['refused'] == x.refused and same(u['refused'] / x.refused if x.refused else None, x.refusal_precision), l
    for l, rows in by_label(csvs['abstention']).items():
        x, cell = label[l], {(r['truth'], r['outcome']): r for r in rows}
        assert same(cell['unanswerable', 'refused']['share'], x.refusal_recall) and sum(r['count'] for (t, o), r in cell.items() if o == 'refused') == x.refused
        assert sum(r['count'] for (t, o), r in cell.items() if o == 'no reply') == x.unreadable + x.failed
    for l, rows in by_label(csvs['error_classes']).items():
        count = {r['error_class']: r['count'] for r in rows}
        assert sum(count.values()) == label[l].n and count.get('unparsed', 0) == label[l].unreadable and count.get('failed', 0) == label[l].failed
    for l, rows in by_label(csvs['risk_coverage']).items():
        x = label[l]
        assert same(max(r['coverage'] for r in rows), (x.n - x.refused - x.unreadable - x.failed) / x.n, 9)
    for f in ('cross_system_latency', 'cross_system_latency_breakdown', 'cross_system_latency_all_models'):
        for r in csvs[f]:
            hits = [x for x in numbers.values() if x.env == r['env'] and x.latency_s is not None and math.isclose(x.latency_s, r['seconds'], rel_tol=1e-9)]
            assert hits, (f, r)
            if r['other'] is not None: assert math.isclose(r['retrieval'] + r['generation'] + r['other'], r['seconds'], rel_tol=1e-9)
    for f, key in (('cross_system_latency_distribution', 'run'), ('latency', 'label')):
        for l, rows in by_label(csvs[f], key).items():
            x, value = (numbers.get(l) or label.get(l)), [r['latency'] if 'latency' in r else r['latency_seconds'] for r in rows]
            if x.latency_s is not None: assert same(math.fsum(v for v in value if v is not None) / sum(v is not None for v in value), x.latency_s, 9), (f, l)
    for f in ('accuracy_energy', 'accuracy_usd', 'ensemble_frontier', 'significance_groups'):
        for r in csvs[f]:
            x = label.get(r['label']) or label.get(f'{r["label"]}-bench')
            if r.get('kind', 'single') == 'single':
                assert same(r['overall'], x.score) and same(r['low'], x.score_low) and same(r['high'], x.score_high), (f, r)
                if 'cost' in r: assert same(r['cost'], x.usd_per_question if r['unit'] == 'USD' else x.wh_per_question), (f, r)
                if r.get('unit') == 'Wh': assert r['cost_is'] == x.energy.is_
            if r.get('unit') == 'Wh' and 'at least' in r['cost_is']: assert not r['on_frontier'] and r['apart'], r
    for r in csvs['paired_differences']: assert same(r['diff'], label[r['a']].score - label[r['b']].score, 12)
    for r in csvs['scaling_fit']:
        if r['kind'] == 'run': assert same(r['overall'], label[r['label']].score) and same(r['low'], label[r['label']].score_low)
    for f, total in (('energy_stages', 'wh_per_question'), ('time_stages', 'wall_s_per_question')):
        for l, rows in by_label(csvs[f]).items(): assert same(math.fsum(r['amount'] for r in rows), getattr(label[l], total), 9), (f, l)
    ratios = dict(latency=lambda a, b: a.latency_s / b.latency_s if a.latency_s and b.latency_s else None, energy=lambda a, b: a.wh / a.n / (b.wh / b.n) if a.wh and b.wh and a.energy.ranked and b.energy.ranked else None,
                  usd=lambda a, b: a.usd_per_question / b.usd_per_question if a.usd_per_question and b.usd_per_question else None, score=lambda a, b: a.score - b.score)
    for f in ('precisions', 'machines'):
        for r in csvs[f]:
            if r['value'] is None: assert r['measure'] == 'energy' and 'at least' in r['value_is']; continue
            fit = [(a, b) for a in numbers.values() for b in numbers.values() if a is not b and a.model == b.model and (v := ratios[r['measure']](a, b)) is not None and math.isclose(v, r['value'], rel_tol=1e-9, abs_tol=1e-12)]
            assert fit, (f, r)
            if r['measure'] == 'energy': assert any(all(n.energy.is_ == 'measured' or n.energy.is_ in r['value_is'] for n in pair) for pair in fit), (f, r)
    seen |= BY_RUN | {'accuracy_by_type', 'refusal_rates', 'abstention', 'error_classes', 'risk_coverage', 'cross_system_latency', 'cross_system_latency_breakdown', 'cross_system_latency_all_models',
                      'cross_system_latency_distribution', 'latency', 'accuracy_energy', 'accuracy_usd', 'ensemble_frontier', 'significance_groups', 'paired_differences', 'scaling_fit', 'energy_stages', 'time_stages',
                      'precisions', 'machines'}
    for f in {*FIGURES, *ALIASES} - seen: # a figure that no list above names: its scores are those of the runs
        for r in csvs[f]: assert r.get('label') not in label or 'overall' not in r or same(r['overall'], label[r['label']].score), (f, r)
    assert seen <= {*FIGURES, *ALIASES}


# ---- sentences and the page ---------------------------------------------------------------------------------------------

@trees
def test_sentences(name):
    "Energy and score in a sentence are those of the record, with the mark of what is not simply measured; a lower bound is never the least."
    ws, numbers = tree(name)
    r = Report(ws.root, datafile=next(iter(numbers.values())).datafile)
    text = [*summary_sentences(r), *energy_findings(r), *money_findings(r), *refusal_findings(r)]
    shown = {r.names[k]: x for k, x in r.numbers.items()}
    all_wh = {f'{x.wh_per_question:.3g}': x for x in r.numbers.values() if x.wh is not None}
    for s in text:
        for label, wh, mark in re.findall(r'\*\*([^*]+)\*\* takes the least energy[^:]*: (\S+) Wh a question(?: \(([^)]*)\))?', s):
            x = shown[label]
            assert wh == f'{x.wh_per_question:.3g}' and x.energy.ranked and (x.energy.is_ == 'measured' or mark == x.energy.is_), s
        for label, score in re.findall(r'\*\*([^*]+)\*\* with a score of ([\d.]+)', s): assert score == f'{shown[label].score:.3f}'
        for wh in re.findall(r'([\d.e+-]+) (?:Wh|watt-hours \(Wh\)) a question', s): assert wh in all_wh, s
    bounds, whole = [l for l, x in r.numbers.items() if x.energy.kind == 'at least'], ' '.join(text)
    try: assert not {x['system'] for x in budget_table(r) if 'Wh' in x['from, a question']} & {r.names[k] for k in bounds}
    except UserError: assert bounds
    if bounds: assert 'is a lower bound' in whole and 'of all:' not in whole
    notes = ' '.join(systems_table(r).notes)
    for x in r.numbers.values():
        for d in x.about('energy'):
            if x.wh is not None and d.severity != 'info': assert d.message in notes and d.rule in {row['rule'] for row in doubts_table(r)}, d
    assert 'No run measured its money' not in whole and 'measured its money' not in methods_text(r)
    if any(x.energy.factor != 1 for x in r.numbers.values()): assert 'extrapolated' in methods_text(r)


class Tables(HTMLParser):
    "The tables of a page: lists of rows of cells."
    def __init__(self, page):
        super().__init__(); self.tables, self.cell = [], None
        self.feed(page)
    def handle_starttag(self, tag, attrs):
        if tag == 'table': self.tables.append([])
        elif tag == 'tr' and self.tables: self.tables[-1].append([])
        elif tag in ('td', 'th') and self.tables and self.tables[-1]: self.cell = ''
    def handle_data(self, data):
        if self.cell is not None: self.cell += data
    def handle_endtag(self, tag):
        if tag in ('td', 'th') and self.cell is not None: self.tables[-1][-1].append(self.cell.strip()); self.cell = None


# ---- the kinds of numbers -----------------------------------------------------------------------------------------------

def test_kinds_of_energy_in_a_tree_of_wattbot():
    "Extrapolated with factor and interval; a lower bound; nothing; the sum over members: each run records which."
    _, numbers = tree('older')
    x = of_label(numbers, 'GB10/qwen2.5-14b-instruct-bench')
    assert x.energy.kind == 'extrapolated' and x.energy.factor == pytest.approx(2.85) and x.energy.low <= x.wh <= x.energy.high and x.wall_s is None and x.score != .1 and x.score_stored == .1
    y = of_label(numbers, 'PowerEdge/qwen2.5-72b-instruct-bench')
    assert y.energy.kind == 'at least' and y.energy.high is None and not y.energy.ranked and y.energy.factor < 1.3 and {'ONE_GPU', 'RESUMED'} <= {d.rule for d in y.doubts}
    z = of_label(numbers, 'GB10/qwen2.5-72b-instruct-bench')
    assert z.wh is None and '0 Wh' in z.energy.reason
    e = of_label(numbers, 'GB10/ensemble-majority')
    parts = [of_label(numbers, f'GB10/qwen2.5-{m}b-instruct-bench') for m in (7, 14, 32)]
    assert e.energy.kind == 'members' and e.wh == pytest.approx(sum(p.wh for p in parts)) and 'extrapolated' in e.energy.is_ and e.latency_s == max(p.latency_s for p in parts)
    u = of_label(numbers, 'GB10/qwen2.5-7b-instruct-bench')
    assert u.unreadable == 5 and u.na_recall > u.refusal_recall
    a = of_label(numbers, 'GB10/api-bench')
    assert a.api_usd == .31 and a.wh is None and a.electricity_usd is None and not a.ran_here
    w = of_label(numbers, 'GB10/qwen2.5-32b-instruct-bench')
    assert w.at_a_time == 3 and w.energy.kind == 'measured'


def test_ratios_of_extrapolated_energy_carry_the_mark_and_an_interval(capsys):
    "The ratio of a resumed run's energy to another's spans the plausible factors; with a run of one GPU of two there is none."
    ws, numbers = tree('older')
    a, b, p = 'GB10/hall_QA/qwen2.5-14b-instruct-bench', 'GB10/hall_QA/qwen2.5-7b-instruct-bench', 'PowerEdge/hall_QA/qwen2.5-7b-instruct-bench'
    c = compare(ws, [a, b, p])
    ab, ap = c.pairs[0]['cost'], c.pairs[1]['cost']
    e = numbers[a].energy
    r, lo, hi = ab['energy']
    assert r == pytest.approx(numbers[a].wh / numbers[b].wh) and lo <= r * e.low / e.wh * 1.0001 and hi >= r * e.high / e.wh * .9999 and e.is_ in ab['energy_mark']
    assert ap['energy'] is None and 'at least' in ap['energy_mark'] and ap['latency'] is not None
    assert main(['compare', a, b, p, '--root', str(ws.root)]) == 0
    assert e.is_ in capsys.readouterr().out.split('Cost ratios')[1]


@recorded
def test_without_truth_a_score_is_inherited_and_marked(capsys):
    root = recorded_tree(truth=False)
    assert main(['results', '--root', str(root), '--json']) == 0
    got = json.loads(capsys.readouterr().out)
    assert all(x['score_is'] == 'inherited' and x['score'] == x['score_stored'] for x in got['runs'])
    assert main(['results', '--root', str(root)]) == 0
    out = capsys.readouterr().out
    assert 'inherited' in out and 'not worked out anew' in out


@recorded
def test_expected_scores_of_the_recorded_runs():
    _, numbers = tree('recorded')
    for name, want in read_json(SHARED / 'recorded/expected_scores.json').items():
        x = of_label(numbers, name)
        assert (x.score, x.value_accuracy, x.ref_overlap, x.na_recall) == pytest.approx((want['overall'], want['value_accuracy'], want['ref_overlap'], want['na_recall']), abs=1e-12)


def test_auto_is_the_precision_that_was_loaded():
    "A run requested as auto is in the figure of precisions, and its label names what was loaded."
    ws, numbers = tree('own')
    x = next(x for x in numbers.values() if x.precision_requested == 'auto' and x.energy.kind == 'measured')
    assert x.precision == 'bf16'
    rows = figures('own')['precisions']
    assert rows and any('4bit / bf16' in r['pair'] for r in rows)
    assert any('bf16' in r['label'] for r in figures('own')['overall_ranking'] if r['run'] == x.run)


def test_an_energy_without_its_questions_is_shared_whole():
    "The joules of the questions add up to the run's energy, also where loading took a part of it."
    ws, numbers = tree('own')
    for r in find_runs(ws):
        x, each = numbers[r.id], question_costs(r)
        if x.wh is not None and each and r.records and not r.is_ensemble: assert math.fsum(q['joules'] for q in each.values()) == pytest.approx(x.wh * 3600), r.id


# ---- damaged summaries --------------------------------------------------------------------------------------------------

WILD = st.one_of(st.none(), st.booleans(), st.text(max_size=4), st.integers(-9, 10**5), st.floats(), st.lists(st.integers(), max_size=2), st.dictionaries(st.sampled_from(['overall', 'wh', 'reasons', 'gpu']), st.integers(), max_size=2))
KEYS = ('num_questions avg_latency_seconds avg_retrieval_seconds total_time_seconds overall_score value_accuracy na_accuracy questions_correct estimated_cost_usd cost_usd quantization precision precision_requested llm_provider '
        'model_id scores by_status hardware energy effective effective_dtype config_snapshot error_count status input_tokens models member_runs type cost schema_version identity machine model timing').split()


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), WILD, max_size=12), st.dictionaries(st.sampled_from('total_wh total_wh_low total_wh_high by_device warnings reasons cpu method'.split()), WILD), st.booleans())
def test_a_wild_summary_costs_no_more_than_its_own_numbers(s, energy, answered):
    "Whatever a summary holds, the run has a record, and its tables print."
    with tempfile.TemporaryDirectory() as d:
        root = Path(d)
        rows = [dict(id=f'q{i}', question='?', answer_value=str(i), answer_unit='W', ref_id="['a']") for i in range(4)]
        write_csv(root / 'data/x_QA.csv', list(rows[0]), rows)
        run = root / 'artifacts/experiments/E/x_QA/r'
        if answered: write_csv(run / 'submission.csv', ['id', 'answer_value', 'ref_id'], [dict(id=r['id'], answer_value=r['answer_value'], ref_id='["a"]') for r in rows])
        run.mkdir(parents=True, exist_ok=True)
        (run / 'summary.json').write_text(json.dumps({'energy': energy, 'name': 'r', **s}))
        ws = Workspace(root)
        x = run_numbers(find_runs(ws)[0], GroundTruth(ws))
        json.dumps(jsonable(x.to_json()), allow_nan=False)
        assert (x.score == 1.) == answered or not answered
        assert len(results_table(ws)) == 1 and results_table(ws).to_text()
        audit(ws).to_text()


# ---- places, running runs -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('args', [['results'], ['audit'], ['matrix'], ['errors'], ['recommend'], ['plots', '--output', 'x'], ['report', '--output', 'x.html'], ['compare', 'a', 'b'], ['scaling'],
                                  ['rescore', 'a']], ids=lambda a: a[0])
def test_a_place_without_runs_lists_those_that_have_some(args, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ws, _ = tree('older')
    assert main([*args, '--env', 'nolab', '--root', str(ws.root)]) == 2
    assert "'nolab'" in (err := capsys.readouterr().err) and 'GB10, PowerEdge' in err
    assert main([*args, '--datafile', 'no_QA', '--root', str(ws.root)]) == 2
    assert "'no_QA'" in (err := capsys.readouterr().err) and 'hall_QA' in err


def test_models_counts_what_it_shows(capsys):
    assert main(['models', 'qwen7b']) == 0
    out = capsys.readouterr().out
    assert re.match(r'1( of \d+)? model', out) and 'none GB' not in out
    assert main(['models', 'no such model']) == 2 and "no model of the registry has 'no such model'" in capsys.readouterr().err


def test_a_running_run_is_called_running(tmp_path):
    "Its files change while the audit reads them: that is no error."
    root = older_tree()
    d = root / 'artifacts/experiments/GB10/hall_QA/new-bench'
    d.mkdir(); (d / 'journal.jsonl').write_text('{}\n')
    with folder_lock(d, 'wattnb run'): flags = next(r['flags'] for r in audit(root).runs if r['run'].endswith('new-bench'))
    assert [(f['rule'], f['severity']) for f in flags] == [('RUNNING', 'info')]
    assert 'INCOMPLETE' in {f['rule'] for r in audit(root).runs if r['run'].endswith('new-bench') for f in r['flags']}


def test_a_new_workspace_shows_no_results(tmp_path):
    "Its notebooks come without what they printed elsewhere."
    assert main(['init', str(tmp_path / 'ws')]) == 0
    for p in (tmp_path / 'ws/nbs').glob('*.ipynb'): assert all(not c.get('outputs') for c in read_json(p)['cells']), p
