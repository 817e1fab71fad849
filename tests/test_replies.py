"Replies: any string is read, nothing raises, the four states are not mixed."
import json

import linear
import pytest
from hypothesis import given, settings, strategies as st

from wattnb.core.questions import BLANK, Question, is_blank
from wattnb.llm.prompts import (PROMPTS, REPLY_SCHEMA, answer_form, answer_request, best_guess_request,
                                closed_book_request)
from wattnb.llm.parsing import MAX_REPLY, Answer, clean_refs, clean_value, find_fields, parse_reply, token_confidence
from wattnb.retrieval.context import Block, Context

KWH = Question('q', 'How much energy did the hall use?', answer_unit='kWh')
IDS = ['okafor2031', 'Lindh2030', 'nsw-2029.b']
SHOWN = Context((Block('okafor2031', 2, '', 'The hall drew 1,240 MWh in 2031.', 1., 1, ('p1',)),))
STATES = {'answered', 'abstained', 'unparsed'}

bits = st.sampled_from(['{', '}', '[', ']', '"', "'", ':', ',', '\\', '\n', '```json', '</think>', '<think>', 'answer_value', 'ref_id', 'explanation', 'is_blank',
                        'null', 'NaN', '1e999', '1,240 kWh', 'true', 'okafor2031', '[ref_id=', '\x00', '\ud800', 'ä', '∞', ' ', '- ', '**'])


def check(a, allowed=IDS):
    assert isinstance(a, Answer) and a.status in STATES
    assert set(a.refs) <= set(allowed) and len(set(a.refs)) == len(a.refs)
    assert len(a.value) <= 500
    assert (a.status == 'abstained') == (a.value == BLANK) and (a.status == 'unparsed') == (a.value == '')
    if a.status != 'answered': assert not a.refs
    assert a.confidence is None or 0 <= a.confidence <= 1
    json.dumps(a.to_json(), allow_nan=False)


@given(st.one_of(st.text(max_size=300), st.lists(bits, max_size=60).map(''.join)), st.booleans())
@settings(max_examples=1500)
def test_any_text_is_read(text, compact):
    for q in (KWH, Question('t', 'True or false: it did.'), Question('n', 'Which hall?', answer_unit='is_blank'), None):
        check(parse_reply(text, q, IDS, compact=compact, context=SHOWN))


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30), lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=8), c, max_size=3), max_leaves=6)


@given(st.dictionaries(st.sampled_from(['answer_value', 'ref_id', 'explanation', 'answer', 'supporting_materials', 'confidence', 'x']), values))
@settings(max_examples=800)
def test_any_object_is_read(d):
    text = json.dumps(d)
    a = parse_reply(f'Here: {text} done', KWH, IDS)
    check(a)
    if 'answer_value' not in d: assert a.status == 'unparsed'
    elif d['answer_value'] is None or isinstance(d['answer_value'], str) and is_blank(d['answer_value'].strip('"\' \t\n')): assert a.status == 'abstained'


plain = st.text(alphabet='abc 12,.-%"\\{}[]\'\n:', max_size=40)


@given(plain, plain, st.sampled_from([*IDS, 'Okafor2031', '[ref_id=lindh2030]', 'nobody1999']), st.sampled_from(['{}', 'Sure: {}.', '```json\n{}\n```', '<think>{{"answer_value": "no"}}</think>{}', '{{x}} {} tail', '[{}]']))
@settings(max_examples=600)
def test_a_whole_object_survives_what_is_around_it(explanation, quote, ref, around):
    text = around.format(json.dumps(dict(explanation=explanation, answer='it', answer_value='12.5 kWh', ref_id=[ref], supporting_materials=quote)))
    a = parse_reply(text, KWH, IDS)
    assert (a.status, a.value, a.parsed_by) == ('answered', '12.5', 'json')
    assert a.refs == (() if ref == 'nobody1999' else (next(i for i in IDS if i.lower() in ref.lower()),))


@pytest.mark.parametrize('cut', range(40, 105, 5))
def test_a_cut_reply_keeps_its_value(cut):
    "Out of tokens anywhere after the value."
    text = '{"explanation": "page 3", "answer": "4 kWh", "answer_value": "412", "ref_id": ["okafor2031"], "supporting_materials": "The hall used 412 kWh'
    a = parse_reply(text[:max(cut, text.index('412",') + 5)], KWH, IDS)
    assert (a.status, a.value) == ('answered', '412')


@pytest.mark.parametrize('text, status', [
    ('', 'unparsed'), ('{}', 'unparsed'), ('{"answer": "4"}', 'unparsed'), ('The model crashed', 'unparsed'), ('{"answer_value": ""}', 'abstained'),
    ('{"answer_value": "is_blank", "ref_id": ["is_blank"]}', 'abstained'), ('{"answer_value": "N/A"}', 'abstained'), ('{"answer_value": NaN}', 'abstained'),
    ('{"answer_value": "Unable to answer with confidence based on the provided documents."}', 'abstained'), ('{"answer_value": 0}', 'answered'), ('{"answer_value": false}', 'answered')])
def test_states(text, status):
    "A reply that cannot be read is no refusal, and what the scorer calls blank is blank here."
    assert parse_reply(text, KWH, IDS).status == status


@pytest.mark.parametrize('text, value', [
    ('1.3 million kWh', '1300000'), ('It used 1.3 million kWh.', '1300000'), ('3 × 10^5', '300000'), ('1.240,5 kWh', '1240.5'), ('[3,5]', '[3,5]'), ('3 to 5 kWh', '[3,5]'), ('Twelve', '12'), ('1 240 kWh', '1240'), ('In 2020, it used 1,240 kWh.', '1240')])
def test_a_short_reply_has_the_spellings_of_a_value(text, value): assert parse_reply(text, KWH, IDS, compact=True, context=SHOWN).value == value


@pytest.mark.parametrize('text', [
    '{"explanation": "Its reply begins with <think>.", "answer_value": "4"}', '{"explanation": "' + 'so it is ' * 900 + '", "answer_value": "4",}', '"explanation": "p. 3", "answer_value": "4"}', '{“answer_value”：“4”}', '<answer_value>4</answer_value>', '<parameter=answer_value>4</parameter>',
    '## Answer value\n4\n## Ref id\nokafor2031', 'answer_value: |\n  4', '<|begin_of_thought|>{"answer_value": "9"}<|end_of_thought|>{"answer_value": "4"}', '<thought>{"answer_value": "9"}</thought>{"answer_value": "4"}', r'{"answer\_value": "4"}',
    '<|channel|>analysis<|message|>{"answer_value": "9"}<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{"answer_value": "4"}', '{"final_answer": "4", "sources": []}'])
def test_forms_of_a_reply(text): assert parse_reply(text, KWH, IDS).value == '4'


def test_a_list_below_its_key(): assert parse_reply('answer_value: 4\nref_id:\n  - okafor2031\n  - lindh2030', KWH, IDS).refs == ('okafor2031', 'Lindh2030')


def test_ids_not_shown_are_dropped():
    assert clean_refs(['[ref_id=OKAFOR2031]', 'lindh2030 (page 4)', 'made-up', {'id': 'okafor2031'}, None, 7], IDS) == ('okafor2031', 'Lindh2030')
    assert clean_refs('nsw-2029.b.', IDS) == ('nsw-2029.b',)


@pytest.mark.parametrize('said, kept', [('1,240,000', '1240000'), ('1,24', '1,24'), ('12 MWh', '12 MWh'), ('5–8 kWh', '[5,8]'), ('about 7', '7'), ('more than 7', 'more than 7'), ('2.5e3', '2.5e3')])
def test_only_form_is_changed(said, kept): assert clean_value(said, KWH) == kept


def test_the_end_of_a_long_reply_is_read():
    assert parse_reply('thinking { ' * 60_000 + '{"answer_value": "4"}', KWH, IDS).value == '4'
    assert find_fields('x' * MAX_REPLY + '{"answer_value": "4"}')[1] == 'json'


@pytest.mark.parametrize('nasty', ['{' * 10 ** 6, '[' * 10 ** 6, '{"a":' * 200_000, '"' * 10 ** 6, '\\' * 10 ** 6, '<think>' * 150_000, '</think>' * 120_000, 'answer_value: ' * 70_000,
                                   "{'answer_value': " * 60_000, '{"answer_value": "' + 'x' * 10 ** 6, '{"explanation": "' + '{"' * 400_000, '1' * 10 ** 6, '- ' * 500_000, '\n' * 10 ** 6])
def test_a_megabyte_of_anything_ends(nasty): check(parse_reply(nasty, KWH, IDS, compact=True, context=SHOWN))


# --- prompts -----------------------------------------------------------------------------

KINDS = [KWH, Question('t', 'True or false: the hall was cooled by air.', answer_unit='is_blank'), Question('n', 'Which hall used least?', answer_unit='is_blank'),
         Question('c', 'How many racks were moved?', answer_unit='racks'), Question('nothing', 'How much energy did the hall use?')]


@pytest.mark.parametrize('q', KINDS, ids=lambda q: q.id)
@pytest.mark.parametrize('make', [lambda q: answer_request(q, SHOWN), lambda q: answer_request(q, SHOWN, stage='retry'), lambda q: best_guess_request(q, SHOWN), closed_book_request], ids=['answer', 'retry', 'guess', 'closed'])
def test_every_prompt_has_the_form_of_the_value(q, make):
    "The rules of form are in every prompt, once; with the schema of the reply."
    r = make(q)
    assert r.user.count(answer_form(q)) == 1 and r.schema['required'][:3] == ['explanation', 'answer', 'answer_value']
    assert answer_request(q, SHOWN).user.count('Papers you may cite: okafor2031') == 1


def test_true_or_false_wins_over_a_missing_unit():
    assert answer_form(KINDS[1]) == PROMPTS['true_false'] and '1 if the statement is true' in answer_request(KINDS[1], SHOWN).user and 'name or short phrase' not in answer_request(KINDS[1], SHOWN).user


def test_no_address_is_requested():
    "The address of a cited paper comes from the bibliography."
    from wattnb.index.corpus import Paper
    assert 'url' not in json.dumps([PROMPTS, REPLY_SCHEMA]).lower()
    paper = Paper(id='okafor2031', type='paper', title='Halls', year='2031', citation='', url='https://example.org/okafor.pdf')
    a = parse_reply('{"answer_value": "4", "ref_id": ["okafor2031"], "ref_url": ["https://made-up.example"]}', KWH, IDS, bibliography={'okafor2031': paper})
    assert a.ref_urls == ('https://example.org/okafor.pdf',)


def test_the_prompt_is_the_questions_alone():
    "No id and no NaN in it, so that the same question has the same prompt, also for a cache."
    one, two = Question('q017', 'How much energy did the hall use?'), Question('q200', 'How much energy did the hall use?', answer_unit='is_blank')
    assert answer_request(one, SHOWN).user == answer_request(two, SHOWN).user and 'q017' not in answer_request(one, SHOWN).user and 'nan' not in answer_request(one, SHOWN).user.lower()


# --- how sure -----------------------------------------------------------------------------------------------------------

@given(st.lists(st.tuples(bits, st.floats(max_value=0) | st.floats()), max_size=40))
@settings(max_examples=400)
def test_any_tokens_give_a_confidence_or_a_reason(tokens):
    sure, of = token_confidence(tokens)
    assert of and (sure is None or 0 <= sure <= 1)


def test_a_confidence_belongs_to_the_value_alone():
    "Whatever is written around it, and however it is cut into tokens; of several objects the last counts, as in the parser."
    def cut(text, n): return [text[i:i + n] for i in range(0, len(text), n)]
    def reply_with(text, value, n): # log-probability -1 where a token touches the value, -9 elsewhere
        at, end, out = 0, text.rindex(value), []
        for t in cut(text, n): out.append((t, -1. if at < end + len(value) and at + len(t) > end else -9.)); at += len(t)
        return out
    for text in ('{"explanation": "so", "answer_value": "412", "ref_id": []}', '{"answer_value":412}', "answer_value: 412\nref_id: x", '{"answer_value": "1"} no: {"answer_value": "412"}', '{"answerValue": "412"} {"answer_value" : "412'):
        for n in (1, 2, 3, 5): assert token_confidence(reply_with(text, '412', n)) == (pytest.approx(2.718281828 ** -1), 'value tokens'), (text, n)


# --- no reply keeps a run waiting -----------------------------------------------------------------------------------------

def test_replies_are_read_in_linear_time():
    "Whatever a reply repeats, its reading takes time in proportion to its length: one reply of blanks after a number held a run for minutes."
    linear.check("""
import json
from wattnb.core.questions import Question
from wattnb.llm.parsing import *
from wattnb.llm.protocol import split_thinking
from wattnb.retrieval.context import Block, Context
from wattnb.retrieval.queries import parse_plan
kwh, share, name, tf = Question('q', 'How much energy did it use?', answer_unit='kWh'), Question('q', 'What share?', answer_unit='%'), Question('q', 'Which hall?'), Question('q', 'True or false: it did.')
shown = Context((Block('a2020', 1, '', 'It used 3 kWh.', 1., 1, ()),))
whole = lambda t: json.dumps(dict(answer_value=t, ref_id=[t, t], confidence=t, explanation=t))
entries = dict(number=lambda t: parse_reply(t, kwh, ['a2020'], compact=True, context=shown), share=lambda t: parse_reply(whole(t), share, ['a2020']), true_false=lambda t: parse_reply(t, tf, compact=True),
    name=lambda t: parse_reply(whole(t), name, ['a2020']), value=lambda t: clean_value('1' + t + '1', kwh), refs=lambda t: clean_refs([t] * 3, ['a2020']), thoughts=split_thinking, opened=lambda t: split_thinking(t, opened=True),
    tokens=lambda t: token_confidence([('answer_value: ' + t, -.1)]), plan=lambda t: parse_plan('q', '["' + t + '"]'))
""")
