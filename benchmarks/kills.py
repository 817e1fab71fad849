"""The command under SIGKILL: `wattnb run` with its kernel and all its processes is killed at random moments, until it is done.

    python benchmarks/kills.py                                   # 200 kills of the extractive baseline
    python benchmarks/kills.py --model smollm2-135m --kills 12   # fewer, with the embedded model

Prints how many kills fell in the middle of a run and whether every finished run equals the undisturbed one: its answers, none lost,
none generated twice, and `wattnb verify` content with it but for the lines that the kills tore."""
import argparse, json, os, random, signal, subprocess, sys, tempfile, time


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--model', default='extractive'); p.add_argument('--kills', type=int, default=200)
    p.add_argument('--limit', type=int, default=12); p.add_argument('--seed', type=int, default=0)
    a = p.parse_args()
    from wattnb.cli.command import init_workspace
    from wattnb.index.corpus import build_corpus
    from wattnb.index.store import build_index
    from wattnb.experiment.journal import read_journal
    from wattnb.experiment.stored import verify
    from wattnb.core.workspace import Workspace
    os.environ['WATTNB_PROGRESS'] = '0'
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as d:
        init_workspace(d, demo=True)
        ws = Workspace.find(d)
        build_index(ws, embedder='none', corpus=build_corpus(ws))
        words = lambda name: [sys.executable, '-m', 'wattnb.cli', 'run', '--root', d, '--model', a.model, '--preset', 'words', '--limit', str(a.limit), '--env', 'k', '--name', name]
        start = lambda name: subprocess.Popen(words(name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        folder = lambda name: ws.experiments / f'k/{ws.questions().stem}/{name}'
        answers = lambda name: [(r['id'], r['pred_value'], r['pred_ref'], r['status']) for r in json.loads((folder(name) / 'results.json').read_text())]
        t0 = time.monotonic(); assert start('whole').wait() == 0; span = time.monotonic() - t0
        kills = middle = runs = 0
        while kills < a.kills:
            name = f'cut{runs}'
            while True: # until it is done
                child = start(name)
                if kills < a.kills:
                    time.sleep(rng.uniform(.3, 1.02) * span)
                    if child.poll() is None:
                        os.killpg(child.pid, signal.SIGKILL); kills += 1
                        _end_kernels(folder(name))
                        journal = folder(name) / 'journal.jsonl'
                        middle += journal.exists() and b'"kind":"attempt"' in journal.read_bytes()
                if child.wait() == 0: break
            runs += 1
            content = read_journal(folder(name) / 'journal.jsonl')
            asked = [(x['id'], x['attempt']) for x in content.of('attempt')]
            wrong = [c['check'] for c in verify(folder(name)) if c['result'] != 'passed' and c['check'] != 'journal whole']
            ok = answers(name) == answers('whole') and len(asked) == len(set(asked)) and not wrong
            print(f'{name}: {len(content.of("session"))} sessions, {len(content.quarantined)} torn lines, {"equal to the undisturbed run" if ok else f"DIFFERS {wrong}"}', flush=True)
            if not ok: return 1
        print(f'{kills} kills of {a.model}, {middle} of them with answers in the journal: {runs} runs, all as if nothing had happened')


def _end_kernels(folder):
    "The notebook's kernel is in a session of its own and would go on: kill what holds the run's lock."
    try: pid = json.loads((folder / '.lock.json').read_text())['pid']
    except (OSError, ValueError, KeyError): return
    try: os.kill(pid, signal.SIGKILL)
    except ProcessLookupError: pass


if __name__ == '__main__': sys.exit(main())
