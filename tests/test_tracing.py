"Citations that an answer needs: the run option, its record and identity; what it changes on the demo and, where they are, on the recorded training runs."
import csv, json
from pathlib import Path

import linear
import pytest

from wattnb.core.questions import BLANK, is_blank, parse_refs, read_questions
from wattnb.core.workspace import UserError
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.run_files import derive
from wattnb.experiment.journal import read_journal
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.stored import stored_run, verify
from wattnb.index.store import build_index, open_index
from wattnb.llm.baselines import BaselineModel
from wattnb.llm.parsing import Answer
from wattnb.llm.protocol import Reply
from wattnb.llm.registry import load_registry
from wattnb.retrieval.queries import PRESETS
from wattnb.retrieval.search import retrieve
from wattnb.scoring.tracing import trace_answer
from wattnb.scoring.wattbot_score import jaccard, set_f1

SHARED = next((p / 'shared/wattbot' for p in Path(__file__).resolve().parents if (p / 'shared/wattbot').is_dir()), None)


class Generous(BaselineModel):
    "Knows the answer of every other question, refuses the others, and cites every paper that it was shown."
    def stream(self, requests):
        for r in requests:
            knows = int(r.id[1:]) % 2 and not is_blank(r.question.answer_value)
            d = dict(explanation='so', answer='so', answer_value=r.question.answer_value if knows else BLANK, ref_id=list(r.context.doc_ids), supporting_materials='')
            yield Reply(r.id, json.dumps(d), prompt_tokens=1, completion_tokens=1, seconds=.01)


def run(ws, name, **kw):
    s = RunSettings('extractive', env='c', preset='words', max_retries=0, name=name, **{'questions': 'demo2026_QA.csv', **kw})
    plan = plan_run(s, ws)
    files = run_all(plan, Generous(load_registry(ws).find('extractive'), ws=ws))
    return plan, files


def test_a_run_cites_what_its_answers_need(ws):
    plan, files = run(ws, 'needed')
    loose, all_cited = run(ws, 'model', citations='model')
    assert plan.identity['citations'] == 'needed' and 'citations' not in loose.identity and plan.run != loose.run
    assert files.summary['config_snapshot'].get('citations') is None and all_cited.summary['config_snapshot']['citations'] == 'model'
    papers, dropped = {q.id: q.refs for q in plan.questions}, 0
    for a, b in zip(files.results, all_cited.results):
        kept, cited, trace = json.loads(a['pred_ref']), json.loads(b['pred_ref']), a.get('citations')
        assert 'citations' not in b and a['pred_value'] == b['pred_value']
        if a['status'] != 'answered': assert kept == cited == [BLANK]; continue
        assert trace['kept'] == kept and sorted(kept + trace['dropped']) == sorted(cited) and kept
        assert len(a['pred_ref_url']) == len(kept) and all(r in u for r, u in zip(kept, a['pred_ref_url']))
        assert all(set(p) == {'document_id', 'page', 'text'} and p['document_id'] in cited for f in trace['facts'] for p in f['passages'])
        dropped += len(trace['dropped'])
        assert set_f1({*papers[a['id']]}, {*kept}) >= set_f1({*papers[a['id']]}, {*cited}) or a['id'] in ('e031',)
    assert dropped > 60 and files.scores.ref_overlap > all_cited.scores.ref_overlap + .2
    assert files.scores.value_accuracy == all_cited.scores.value_accuracy
    assert all(state == 'passed' for _, state, _ in verify(plan.run_dir).rows) and derive(read_journal(plan.run_dir / 'journal.jsonl')).summary == files.summary
    assert stored_run(plan.run_dir).results[0]['citations']['facts']
    shown = stored_run(plan.run_dir).example('e021').data
    assert '**Support**: 4.975, ratio in halvorsen2029, ishikawa2031' in shown and 'dropped: ' in shown
    with pytest.raises(UserError, match='citations: needed → none'): plan_run(RunSettings('extractive', env='c', preset='words', max_retries=0, name='needed', questions='demo2026_QA.csv', citations='model'), ws)


def test_runs_of_wattbot_2025_stay_as_they_are(ws):
    plan, files = run(ws, 'old', questions='demo_QA.csv')
    assert 'citations' not in plan.identity and not any('citations' in r for r in files.results)
    assert not any('citations' in a['answer'] for a in read_journal(plan.run_dir / 'journal.jsonl').of('attempt'))
    asked, needed = run(ws, 'old-needed', questions='demo_QA.csv', citations='needed')
    assert asked.identity['citations'] == 'needed' and needed.scores.ref_overlap > files.scores.ref_overlap + .3
    with pytest.raises(UserError, match="unknown citations 'some'"): RunSettings('extractive', citations='some')


def traced(index, q, value, refs, explanation='', quote=''):
    "Papers that are kept of those cited, traced in what the search finds in them."
    context = retrieve(index, [q], PRESETS['words'], restrict=[set(refs)])[0].context
    return trace_answer(q, Answer('answered', value, tuple(refs), explanation=explanation, supporting_materials=quote), context.blocks).kept


def test_a_paper_that_only_shares_words_is_dropped_and_the_right_ones_stay(ws):
    "The true answers of both demo files with the next two papers of the search: no right paper is lost, nine of ten others are."
    index, lost, kept_wrong, wrong = open_index(ws), [], 0, 0
    for name in ('demo_QA.csv', 'demo2026_QA.csv'):
        qs = [q for q in read_questions(ws.data / name) if not q.is_na]
        for q, r in zip(qs, retrieve(index, qs, PRESETS['words'])):
            others = [d for d in r.context.doc_ids if d not in q.refs][:2]
            kept = traced(index, q, q.answer_value, [*q.refs, *others])
            lost += [q.id] * (not {*q.refs} <= {*kept})
            wrong, kept_wrong = wrong + len(others), kept_wrong + len({*others} & {*kept})
    assert len(lost) <= 1, lost
    assert kept_wrong < .1 * wrong


@pytest.mark.skipif(SHARED is None, reason='the training questions are not here')
def test_recorded_runs_cite_better(tmp_path):
    "The recorded answers to the training questions: the mean of no model falls, by either measure."
    from wattnb.cli.command import init_workspace
    from wattnb.core.workspace import Workspace
    init_workspace(tmp_path)
    w = Workspace.find(tmp_path)
    w.metadata.write_bytes((SHARED / 'data/metadata.csv').read_bytes())
    w.corpus.mkdir(parents=True, exist_ok=True)
    for f in (SHARED / 'data/corpus').glob('*.json'): (w.corpus / f.name).write_bytes(f.read_bytes())
    build_index(w, embedder='none')
    index, questions = open_index(w), {q.id: q for q in read_questions(SHARED / 'data/train_QA.csv')}
    spelled, better = {d.lower(): d for d in index.manifest['documents']}, 0
    for f in sorted((SHARED / 'recorded/PowerEdge/train_QA').glob('*/submission.csv')):
        before, after = [], []
        for r in csv.DictReader(open(f, encoding='utf-8-sig')):
            q, refs = questions[r['id']], [spelled.get(x.lower(), x) for x in parse_refs(r['ref_id'])]
            several = len(refs) > 1 and not is_blank(r['answer_value']) and {*refs} <= {*spelled.values()}
            kept = traced(index, q, r['answer_value'], refs, r['explanation'], r['supporting_materials']) if several else refs
            for m in (set_f1, jaccard): before.append(m({*q.refs}, {*refs})); after.append(m({*q.refs}, {*kept}))
        assert sum(after) >= sum(before), f
        better += sum(after) > sum(before)
    assert better >= 6


def test_traces_take_linear_time():
    linear.check("""
from wattnb.core.questions import Question
from wattnb.llm.parsing import Answer
from wattnb.retrieval.context import Block
from wattnb.scoring.tracing import question_names, trace_answer
block = lambda t, kind='text': Block('a2020', 1, '', t, 1., 1, (), kind)
q = Question('q', 'How much energy did the Tarn hall use?', answer_unit='kWh')
trace = lambda q, t, v='3', quote='': trace_answer(q, Answer('answered', v, ('a2020', 'b2020'), t[:9000], t[:9000], quote), [block(t), block('It used 3 kWh at Tarn.')])
entries = dict(passage=lambda t: trace(q, t), table=lambda t: trace_answer(q, Answer('answered', '3', ('a2020',)), [block(t, 'table')]), value=lambda t: trace(q, 'a', t[:500]), quote=lambda t: trace(q, 'a', '3', t), names=question_names)
""")


def test_a_benchmark_passes_the_choice_on(ws):
    from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark, run_argv
    asked = BenchmarkSettings(models=('abstain',), questions='demo2026_QA.csv', preset='words', env='b', citations='model')
    [run] = plan_benchmark(asked, ws)
    assert run.plan.settings.citations == 'model' and '--citations model' in ' '.join(run_argv(run.plan.settings, ws.root))
