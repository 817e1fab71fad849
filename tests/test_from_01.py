"What version 0.1 wrote and imported: `run_of_0_1.zip` is a run folder of commit cdf77a4, four demo questions answered by the extractive baseline."
import importlib, json, zipfile
from pathlib import Path

import pytest

from wattnb.cli import main
from wattnb.core import Workspace, digest
from wattnb.experiment import derive, read_journal, verify
from wattnb.scoring import find_run

here = Path(__file__).resolve().parent


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    "(workspace, the run) with the demo's data."
    ws = Workspace(tmp_path_factory.mktemp('old'))
    assert main(['init', str(ws.root), '--demo']) == 0
    zipfile.ZipFile(here / 'run_of_0_1.zip').extractall(ws.experiments / 'lab/demo_QA/four')
    return ws, find_run(ws, 'four')


def test_a_run_of_0_1_is_read_as_it_is(old, tmp_path, capsys):
    "Its identity, its score and the bytes of its submission are what 0.1 wrote; only the summary has other fields now."
    ws, run = old
    content, submission = read_journal(run.path / 'journal.jsonl'), (run.path / 'submission.csv').read_bytes()
    assert digest(content.last('run')['identity']) == content.run == run.summary['run_id']
    derive(content).write(tmp_path)
    assert (tmp_path / 'submission.csv').read_bytes() == submission
    again, before = json.loads((tmp_path / 'summary.json').read_text()), run.summary
    assert {k: again[k] for k in ('overall_score', 'identity', 'num_questions', 'total_time_seconds')} == {k: before[k] for k in ('overall_score', 'identity', 'num_questions', 'total_time_seconds')}
    assert set(before) - set(again) == {'roofline'}
    capsys.readouterr()
    assert main(['results', '--root', str(ws.root), '--json']) == 0
    [row] = json.loads(capsys.readouterr().out)['runs']
    assert row['score'] == pytest.approx(before['overall_score'], abs=1e-12) and row['n'] == 4 and row['wh'] is None


def test_verify_names_the_summary_and_replay_renews_it(old):
    ws, run = old
    failed = lambda: [r['check'] for r in verify(run.path) if r['result'] == 'failed']
    assert failed() == ['summary.json follows from the journal']
    assert main(['replay', 'four', '--root', str(ws.root)]) == 0 and failed() == []


@pytest.mark.parametrize('name', '''benchmark.BenchmarkSettings cli.main compare.Comparison ensemble.vote experiment.run_all index.load_embedders llm.ModelEntry local.local_weights
    machine.visible_gpus meters.Rapl plots.power_rows retrieval.RetrievalSettings scoring.score_value scripted.ScriptedGpu telemetry.Session testing.FakeServer'''.split())
def test_modules_of_0_1_that_still_import(name):
    module, attribute = name.split('.')
    assert hasattr(importlib.import_module(f'wattnb.{module}'), attribute)
