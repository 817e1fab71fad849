"""What `--json` of every verb prints about the demo stays as it is: its keys and types, and the numbers that do not depend on the machine.

`python tests/test_json_pin.py` writes `json_pin.json` anew, after a change that is meant: look at its diff."""
import contextlib, io, json, re, shutil, sys, tempfile
from pathlib import Path

from wattnb.cli.command import VERBS, main

PIN = Path(__file__).with_name('json_pin.json')
EXACT = re.compile(r'(overall|value_accuracy|ref_overlap|na_recall|strict|n|na_|citation_|any_at_8|all_at_8|mrr|ndcg|answer_in_context|diff|ci_low|ci_high|p|p_holm|mcnemar_p|a_only|b_only|documents|passages)\w*')
RUNS = ['extractive-pin', 'abstain-pin']
COMMANDS = dict(
    init=['init', '{tmp}/made', '--demo'], index=['index', '--embedder', 'none'],
    run=['run', '--model', 'extractive', '--preset', 'words', '--env', 'pin', '--name', RUNS[0]],
    run_abstain=['run', '--model', 'abstain', '--preset', 'words', '--env', 'pin', '--name', RUNS[1]],
    run_again=['run', '--model', 'abstain', '--preset', 'words', '--env', 'pin', '--name', RUNS[1]],
    search=['search', 'energy of training'], page=['page', 'halvorsen2029', '1', '--passage', 'drew 3,184 MWh at the utility meter'], ask=['ask', 'How much energy?', '--model', 'extractive', '--preset', 'words'],
    serve=['serve', '--model', 'extractive', '--preset', 'words', '--port', '0', '--check'], eval=['eval', '--model', 'extractive', '--preset', 'words', '--limit', '4'], results=['results'],
    replay=['replay', RUNS[0]], verify=['verify', RUNS[0]], export=['export', RUNS[0], '--peer', '--output', '{tmp}/peer'], export_to=['export', RUNS[0], '--to', 'every-eval-ever', '--output', '{tmp}/eee'], export_card=['export', RUNS[0], '--to', 'eval-results', '--dataset', 'a/b', '--output', '{tmp}/card'], models=['models'], doctor=['doctor'], plan=['plan', '--model', 'qwen72b', '--preset', 'words'],
    score=['score', '{root}/data/demo_QA.csv', '{run}/submission.csv', '--strict'], submit=['submit', RUNS[0], '--output', '{tmp}/submission.csv'],
    bundle=['bundle', RUNS[0], '--output', '{tmp}/bundle.zip'], bundle_check=['bundle', '--check', '{tmp}/bundle.zip'], index_verify=['index', '--verify'], check_questions=['check-questions', '{root}/data/demo_QA.csv'],
    retrieval=['retrieval', '--preset', 'words'], benchmark=['benchmark', '--model', 'abstain', '--preset', 'words', '--env', 'pin', '--dry-run'],
    watch=['watch'], scaling=['scaling', '--dry-run'], matrix=['matrix'], compare=['compare', *RUNS], design=['design', *RUNS, '--margin', '5'], diff=['diff', *RUNS], thinking=['thinking'], atlas=['atlas'], estimates=['estimates'], board=['board', '{root}', '--output', '{tmp}/board'], completion=['completion', 'bash'], errors=['errors', RUNS[0]], audit=['audit'],
    ensemble=['ensemble', '--experiments', *RUNS, '--name', 'both', '--env', 'pin', '--datafile', 'demo_QA', '--ignore-blank'],
    rescore=['rescore', RUNS[0]], recommend=['recommend'], plots=['plots', '--only', 'score_breakdown'], plots_list=['plots', '--list'],
    report=['report', *RUNS], cite=['cite', *RUNS], check=['check', '{tmp}/paper.md'], meter=['meter', '--', sys.executable, '-c', 'pass'])


def shape(value, key=''):
    "The keys and types of a document; numbers of scores as they are. The items of a list are one item with the keys of all."
    if isinstance(value, dict): return {k: shape(v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [shape(v, key) for v in value]
        if items and all(isinstance(i, dict) for i in items): return [{k: merged([i[k] for i in items if k in i]) for i in items for k in i}]
        return sorted({json.dumps(i): i for i in items}.values(), key=json.dumps) if len(items) < 4 else [merged(items)]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and EXACT.fullmatch(key): return float(f'{value:.10g}')
    return 'number' if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def merged(shapes):
    if len({json.dumps(s) for s in shapes}) == 1: return shapes[0]
    if all(isinstance(s, dict) for s in shapes): return {k: merged([s[k] for s in shapes if k in s]) for s in shapes for k in s}
    return ' | '.join(sorted({s if isinstance(s, str) else type(s).__name__ for s in shapes})) if not all(isinstance(s, float) for s in shapes) else shapes


def differences(now, pinned, at='') -> list:
    "Where two shapes differ. What one machine measures or has and another does not is null or empty in one of them."
    if 'NoneType' in (now, pinned) or [] in (now, pinned): return []
    if isinstance(now, dict) and isinstance(pinned, dict):
        return [f'{at}.{k} is ' + ('new' if k in now else 'gone') for k in now.keys() ^ pinned.keys()] + [
            d for k in now.keys() & pinned.keys() for d in differences(now[k], pinned[k], f'{at}.{k}')]
    if isinstance(now, list) and isinstance(pinned, list) and len(now) == len(pinned):
        return [d for i, (a, b) in enumerate(zip(now, pinned)) for d in differences(a, b, f'{at}[{i}]')]
    return [] if now == pinned or 'NoneType' in f'{now}{pinned}' and not isinstance(now, float) else [f'{at}: {pinned} is now {now}']


def kept(now, pinned):
    "The pinned shape, changed only where the new one differs, and in its order: a second writing changes nothing."
    if not differences(now, pinned): return pinned
    if isinstance(now, dict) and isinstance(pinned, dict):
        return {k: kept(now[k], pinned[k]) if k in pinned else now[k] for k in [*(k for k in pinned if k in now), *(k for k in now if k not in pinned)]}
    if isinstance(now, list) and isinstance(pinned, list) and len(now) == len(pinned): return [kept(a, b) for a, b in zip(now, pinned)]
    return now


def documents(folder:Path) -> dict:
    "The shape of what each command prints over a demo workspace in `folder`."
    root, found = folder / 'ws', {}
    assert main(['init', str(root), '--demo']) == 0
    for name, words in COMMANDS.items():
        words = [w.format(tmp=folder, root=root, run=root / 'artifacts/experiments/pin/demo_QA' / RUNS[0]) for w in words]
        at = 1 if '--' in words else len(words)
        place = [] if words[0] in ('init', 'score', 'meter', 'doctor') else ['--root', str(root)]
        if name == 'check': main(['cite', *RUNS, '--root', str(root), '--output', str(folder / 'paper.md')])
        out = io.StringIO()
        with contextlib.redirect_stdout(out): status = main([*words[:at], '--json', *place, *words[at:]])
        assert status in (0, 1), (name, status, out.getvalue()[-500:])
        found[name] = dict(status=status, json=shape(json.loads(out.getvalue())))
    return found


def test_the_json_of_every_verb_is_the_pinned_one(tmp_path):
    assert {w[0] for w in COMMANDS.values()} >= set(VERBS), 'a verb is not pinned'
    now, pinned = json.loads(json.dumps(documents(tmp_path))), json.loads(PIN.read_text('utf-8'))
    assert not differences(now, pinned), 'if that is meant, write json_pin.json anew'
    assert json.dumps(kept(now, pinned)) == json.dumps(pinned)


if __name__ == '__main__':
    folder = Path(tempfile.mkdtemp(prefix='wattnb-pin-'))
    try: PIN.write_text(json.dumps(kept(json.loads(json.dumps(documents(folder))), json.loads(PIN.read_text('utf-8'))), indent=1) + '\n', 'utf-8')
    finally: shutil.rmtree(folder)
