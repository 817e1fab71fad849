"""How fast replies are read: ordinary ones, garbage, and a megabyte of the nastiest patterns.

    python benchmarks/parser.py

Times are of the processor, so that they repeat on a busy machine.
"""
import argparse, json, random, string, time

from wattnb.core.questions import Question
from wattnb.llm.parsing import parse_reply
from wattnb.core.tables import ResultTable

Q, IDS = Question('q', 'How much energy did the hall use?', answer_unit='kWh'), ['okafor2031', 'lindh2030']
NASTY = {'opening braces': '{' * 10 ** 6, 'opening brackets': '[' * 10 ** 6, 'nested objects': '{"a":' * 200_000, 'quotes': '"' * 10 ** 6, 'backslashes': '\\' * 10 ** 6,
         'think tags': '<think>' * 143_000, 'end tags': '</think>' * 125_000, 'keys in lines': 'answer_value: ' * 71_000, 'single-quoted keys': "{'answer_value': " * 60_000,
         'an endless string': '{"answer_value": "' + 'x' * 10 ** 6, 'dashes': '- ' * 500_000, 'newlines': '\n' * 10 ** 6, 'digits': '1' * 10 ** 6,
         'blanks after a key': 'answer' + ' ' * 10 ** 6 + 'x' * 3000, 'blanks after a number': '{"answer_value": "1' + ' ' * 190_000 + 'x"}'}


def rate(texts):
    t = time.process_time()
    for x in texts: parse_reply(x, Q, IDS)
    s = time.process_time() - t
    return sum(len(x.encode()) for x in texts) / 1e6 / s, len(texts) / s


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=3000, help='replies of each kind')
    p.add_argument('--json', action='store_true')
    a = p.parse_args()
    rng = random.Random(0)
    good = json.dumps(dict(explanation='The third table gives it for the whole hall, in the requested unit.', answer='It used 412 kWh.', answer_value='412', ref_id=['okafor2031'], supporting_materials='Hall A | 412 kWh | 2031 ' * 4))
    kinds = {'whole objects': [good] * a.n, 'fenced, with prose': [f'Let me see.\n```json\n{good}\n```\nDone.'] * a.n, 'cut off (repaired)': [good[:rng.randint(200, len(good) - 1)] for _ in range(a.n // 5)],
             'random printable text, 4 kB': [''.join(rng.choices(string.printable, k=4096)) for _ in range(a.n // 5)],
             'random braces and keys, 4 kB': [''.join(rng.choices(['{', '}', '"', ':', 'answer_value', 'a', ' ', '\\', "'"], k=1500)) for _ in range(a.n // 5)]}
    rows = [(k, *rate(v)) for k, v in kinds.items()]
    worst = []
    for k, v in NASTY.items():
        t = time.process_time(); parse_reply(v, Q, IDS, compact=True); worst.append((k, len(v) / 1e6, time.process_time() - t))
    worst.sort(key=lambda r: -r[2])
    if a.json: print(json.dumps(dict(rates=[dict(zip(('kind', 'mb_per_s', 'replies_per_s'), r)) for r in rows], worst=[dict(zip(('kind', 'mb', 'seconds'), r)) for r in worst])))
    else: print(ResultTable(['replies', 'MB/s', 'replies/s'], rows, digits=1).to_text(), ResultTable(['a megabyte of', 'MB', 'seconds'], worst).to_text(), sep='\n\n')


if __name__ == '__main__': main()
