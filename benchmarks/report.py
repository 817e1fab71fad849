"""`wattnb report --html` over 12 models x 300 questions: seconds and megabytes, and what the page asks the net for.

    python benchmarks/report.py
"""
import re, resource, subprocess, sys, tempfile, time
from pathlib import Path

from wattnb.testing.synthetic import DEMO, synthetic_runs

LIMIT_S, LIMIT_MB = 60, 10


def requests_of(page: str) -> list[str]:
    "Addresses that a browser would fetch on opening the page; links that a reader may follow are none."
    found = re.findall(r'<(?:script|img|iframe|link|source)\b[^>]*?\b(?:src|href)=["\']((?:https?:)?//[^"\']+)', page)
    return found + re.findall(r'(?:url\(|@import\s+|import\(|from\s+)["\']?(https?://[^"\')]+)', page)


def main():
    with tempfile.TemporaryDirectory() as d:
        ws = synthetic_runs(d, DEMO[:12], questions=300, unanswerable=16, ensembles=0)
        t = time.perf_counter()
        subprocess.run([Path(sys.executable).parent / 'wattnb', 'report', '--html', '--root', d], check=True, capture_output=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds, page = time.perf_counter() - t, ws.artifacts / 'reports/report.html'
        size, asks = page.stat().st_size / 1e6, requests_of(page.read_text('utf-8'))
    print(f'12 models x 300 questions: {seconds:.1f} s (at most {LIMIT_S}; {used.ru_utime + used.ru_stime:.1f} s of a processor), {size:.2f} MB (at most {LIMIT_MB}), {len(asks)} requests')
    for a in asks[:5]: print('  asks for', a)
    return int(seconds > LIMIT_S or size > LIMIT_MB or bool(asks))


if __name__ == '__main__': sys.exit(main())
