"""Demo questions in the shape of WattBot 2026. A row is that of `questions.py`, with two more flags: C the answer needs two papers, R it reconciles
two statements that seem to disagree. One more kind of evidence: 'bar' ("caption | label | value" of a bar in a figure; the value is printed above it).
Values as that task writes them: `[low, high]` is a tolerance band for one number, `(low, high)` a range that the paper states, `(a, b)` a list."""
NA = ('is_blank', (), '')

PUE = 'Figure 1. Monthly PUE of the Tarn hall in 2028.'
WATER = 'Figure 1. Water usage effectiveness by outside humidity class, all halls.'
SEASONS = 'Figure 1. Saving of emissions under Heron by season, in percent.'
BOARDS = 'Figure 1. Energy per token of Pico-3.2B by board at four bits, in joules.'
PASSAGES = 'Figure 1. Net energy per answer by number of passages, in joules.'
NORDIC = 'Figure 1. Median reported PUE by country, 2027.'
DRAFTS = 'Figure 1. Energy of Stratus-34B with drafts relative to without, by batch size.'
QUARTERS = 'Figure 1. Energy per board hour by quarter, in kWh.'
REGIONS = 'Figure 1. Error of boosted trees at 48 hours by region, in percent.'
SOURCES = 'Figure 1. Where the yearly saving of 386 MWh comes from, in MWh.'


def bar(paper, caption, label, value): return (paper, 'bar', f'{caption} | {label} | {value}')


QUESTIONS = [
 # values that only a figure has
 ('Which PUE did the Tarn hall have in September 2028?', '1.12', '1.12', 'PUE', 'halvorsen2029', 'F', [bar('halvorsen2029', PUE, 'Sep', '1.12')]),
 ('What water usage effectiveness did the evaporatively cooled halls have at an outside humidity of 50 to 70%?', '1.80 L/kWh', '1.80', 'L/kWh', 'okonjo2030', 'F', [bar('okonjo2030', WATER, '50-70%', '1.80')]),
 ('By how many percent did Heron lower emissions in summer?', '23%', '23', 'percent', 'castellan2030', 'F', [bar('castellan2030', SEASONS, 'Summer', '23')]),
 ('How many joules per token does Pico-3.2B need on the Osprey board at four bits?', '1.95 J/token', '1.95', 'J/token', 'ferreira2031', 'F', [bar('ferreira2031', BOARDS, 'Osprey', '1.95')]),
 ('What net energy did an answer with two passages take in the question service over scientific papers?', '258 J', '258', 'J', 'grigoryan2030', 'F', [bar('grigoryan2030', PASSAGES, '2', '258')]),
 ('What median PUE did the data centres of Finland report for 2027?', '1.18', '1.18', 'PUE', 'lindqvist2029', 'F', [bar('lindqvist2029', NORDIC, 'Finland', '1.18')]),
 ('At batch size four, what is the energy of Stratus-34B with drafts relative to that without?', '0.93', '0.93', 'ratio', 'mbeki2031', 'F', [bar('mbeki2031', DRAFTS, '4', '0.93')]),
 ('How much energy did a board hour on Vltava take in the third quarter of 2029?', '0.35 kWh', '[0.345, 0.355]', 'kWh', 'novak2030', 'F', [bar('novak2030', QUARTERS, '2029 Q3', '0.35')]),
 ('What error did boosted trees have at 48 hours in the region Cedar?', '8.8%', '8.8', 'percent', 'pereira2029', 'F', [bar('pereira2029', REGIONS, 'Cedar', '8.8')]),
 ('By how many percentage points is the emission saving of Heron in spring above that in autumn?', '12 points', '12', 'percentage points', 'castellan2030', 'FM', [bar('castellan2030', SEASONS, 'Spring', '27'), bar('castellan2030', SEASONS, 'Autumn', '15')], '27 - 15'),
 # lists, ranges and bands
 ('Which Nordic countries had a median reported PUE below 1.20 in 2027?', 'Finland, Iceland and Norway', '(Finland, Iceland, Norway)', 'is_blank', 'lindqvist2029', 'F', [bar('lindqvist2029', NORDIC, 'Finland', '1.18'), bar('lindqvist2029', NORDIC, 'Iceland', '1.11'), bar('lindqvist2029', NORDIC, 'Norway', '1.17')]),
 ('At which of the batch sizes shown did drafts raise the energy of Stratus-34B?', '8 and 16', '(8, 16)', 'is_blank', 'mbeki2031', 'F', [bar('mbeki2031', DRAFTS, '8', '1.05'), bar('mbeki2031', DRAFTS, '16', '1.17')]),
 ('Which Lumen models took less than 300 MWh in their final run?', 'Lumen-1.4B and Lumen-7B', '(Lumen-1.4B, Lumen-7B)', 'is_blank', 'brandvik2031', 'T', [('brandvik2031', 'cell', 'Lumen-1.4B | Energy (MWh) | 31'), ('brandvik2031', 'cell', 'Lumen-7B | Energy (MWh) | 248')]),
 ('Which of the halls with evaporative cooling have a PUE above 1.10 when they cool that way?', 'Basalt and Cobalt', '(Basalt, Cobalt)', 'is_blank', 'okonjo2030', 'T', [('okonjo2030', 'cell', 'Basalt | PUE evaporative | 1.12'), ('okonjo2030', 'cell', 'Cobalt | PUE evaporative | 1.11')]),
 ('In which range does the reduction of energy per board hour on Vltava lie?', '8% to 16%', '(8, 16)', 'percent', 'novak2030', 'Q', [('novak2030', 'quote', 'The interval is 8% to 16%')]),
 ('Which range is given for the emissions that heat from Brzeg avoided?', '1,600 to 2,100 tCO2e', '(1600, 2100)', 'tCO2e', 'kowalczyk2030', 'Q', [('kowalczyk2030', 'quote', 'with a range from 1,600 to 2,100')]),
 ('About how many MWh of the yearly saving at Pozo come from the chillers?', '151 MWh', '[148, 154]', 'MWh', 'quintero2029', 'F', [bar('quintero2029', SOURCES, 'Chillers', '151')]),
 ('About how many times as much training energy as the boosted trees did the recurrent forecasting network take?', 'about 345 times', '[340, 350]', 'multiplier', 'pereira2029', 'QTM', [('pereira2029', 'quote', 'about 345 times as much as the boosted trees'), ('pereira2029', 'cell', 'Recurrent network | Training energy (kWh) | 38'), ('pereira2029', 'cell', 'Boosted trees | Training energy (kWh) | 0.11')], '38 / 0.11'),
 ('About how many kWh does the dismantled server use until its use equals its manufacture on a grid of 250 gCO2e/kWh?', 'about 11,450 kWh', '[11300, 11600]', 'kWh', 'demirel2029', 'QM', [('demirel2029', 'quote', 'At a mean draw of 4.5 kW'), ('demirel2029', 'quote', 'equals 106 days of operation')], '4.5 * 24 * 106'),
 # a unit that the paper does not use
 ('How much electricity per year was saved by parking boards at Mizu?', '640,000 kWh', '640000', 'kWh', 'ishikawa2031', 'QM', [('ishikawa2031', 'quote', 'this saved 640 MWh')], '640 * 1000'),
 # two papers
 ('How many times the yearly saving by parking boards at Mizu is the electricity of the Tarn hall in 2028?', '4.975 times', '4.975', 'multiplier', 'halvorsen2029 ishikawa2031', 'QMC', [('halvorsen2029', 'quote', 'drew 3,184 MWh at the utility meter'), ('ishikawa2031', 'quote', 'this saved 640 MWh')], '3184 / 640'),
 ('What is the sum of the electricity of the Tarn hall in 2028 and the energy of the final training runs of the Lumen models?', '5,494 MWh', '5494', 'MWh', 'halvorsen2029 brandvik2031', 'QMC', [('halvorsen2029', 'quote', 'drew 3,184 MWh at the utility meter'), ('brandvik2031', 'quote', 'Together the final runs used 2,310 MWh')], '3184 + 2310'),
 ('Which centre has the lower PUE: Brzeg in its heating season or Skarn, where Lumen was trained?', 'Skarn', 'Skarn', 'is_blank', 'brandvik2031 kowalczyk2030', 'QC', [('brandvik2031', 'quote', 'the metered PUE of 1.08'), ('kowalczyk2030', 'quote', 'against a PUE of 1.13')]),
 ('By how much is the PUE of the Pozo row after its retrofit above that of the Tarn hall over the year?', '0.05', '0.05', 'PUE', 'quintero2029 halvorsen2029', 'QTMC', [('quintero2029', 'cell', 'PUE of the row | After | 1.15'), ('halvorsen2029', 'quote', 'of the hall was 1.10')], '1.15 - 1.10'),
 ('At the price per kWh on the Vltava cluster in 2029, what would the electricity have cost that parking boards at Mizu saved in a year?', '198,400 USD', '198400', 'USD', 'novak2030 ishikawa2031', 'QMC', [('novak2030', 'quote', '0.31 USD per kWh'), ('ishikawa2031', 'quote', 'this saved 640 MWh')], '640 * 1000 * 0.31'),
 ('How many tCO2e would the electricity of the Tarn hall in 2028 have caused on the grid of the Skarn centre?', '340.7 tCO2e', '340.7', 'tCO2e', 'halvorsen2029 brandvik2031', 'QMC', [('halvorsen2029', 'quote', 'drew 3,184 MWh at the utility meter'), ('brandvik2031', 'quote', 'average intensity of 107 gCO2e/kWh')], '3184 * 107 / 1000'),
 ('How many litres of water would the servers of the Tarn hall have needed in 2028 at the water usage effectiveness of Amber?', '3,501,740 litres', '3501740', 'liters', 'halvorsen2029 okonjo2030', 'QTMC', [('halvorsen2029', 'quote', 'Servers took 2,894 MWh'), ('okonjo2030', 'cell', 'Amber | WUE (L/kWh) | 1.21')], '2894 * 1000 * 1.21'),
 ('How many Corvid-2 boards do the Tarn hall and the Mizu cluster have together?', '1,888 boards', '1888', 'boards', 'halvorsen2029 ishikawa2031', 'QMC', [('halvorsen2029', 'quote', 'multiplies 768 boards by 550 W'), ('ishikawa2031', 'quote', 'Mizu has 1,120 boards of the Corvid-2 type')], '768 + 1120'),
 ('Which needs fewer joules per token: Stratus-8B without drafts at batch one or Pico-7.1B with four bits on Merlin?', 'Stratus-8B', 'Stratus-8B', 'is_blank', 'mbeki2031 ferreira2031', 'TC', [('mbeki2031', 'cell', 'Stratus-8B | Draft none | 2.9'), ('ferreira2031', 'cell', 'Pico-7.1B | 4 bit | 3.08')]),
 ('What percentage of the energy of the final Lumen training runs is the yearly saving of the row at Pozo?', '16.7%', '16.71', 'percent', 'brandvik2031 quintero2029', 'QMC', [('brandvik2031', 'quote', 'Together the final runs used 2,310 MWh'), ('quintero2029', 'quote', 'Energy of the row fell by 386 MWh')], '386 / 2310 * 100'),
 ('By how many degrees is the return water at Brzeg warmer than the coolant that leaves the plates at Pozo?', '11 °C', '11', '°C', 'kowalczyk2030 quintero2029', 'QMC', [('kowalczyk2030', 'quote', 'return water reaches 52 °C'), ('quintero2029', 'quote', 'leaves at 41 °C in the mean')], '52 - 41'),
 ('How many litres per kWh are the mean withdrawal of the evaporatively cooled halls and the evaporation of the power stations together?', '2.92 L/kWh', '2.92', 'L/kWh', 'okonjo2030', 'QM', [('okonjo2030', 'quote', 'Across the halls the mean was 1.62 L/kWh'), ('okonjo2030', 'quote', 'the stations evaporate 1.3 L per kWh generated')], '1.62 + 1.3'),
 # statements that seem to disagree
 ('The studies of the Tarn hall and of the Mizu cluster give different idle draws for a Corvid-2 board. By what percentage is the one from Mizu higher?', '2.54%', '2.542', 'percent', 'ishikawa2031 halvorsen2029', 'QMCR', [('ishikawa2031', 'quote', 'An idle Corvid-2 drew 121 W'), ('halvorsen2029', 'quote', 'still drew 118 W on average')], '(121 - 118) / 118 * 100'),
 ('Castellan et al. say that idle boards draw a fifth of their rated power. What share does the study that they cite give for a Corvid-2 board?', '22%', '22', 'percent', 'castellan2030 ishikawa2031', 'QCR', [('castellan2030', 'quote', 'idle boards in the cluster draw a fifth of their rated power'), ('ishikawa2031', 'quote', '22% and 24% of the rated power')]),
 ('Halvorsen et al. say that a site described by Okonjo has a lower PUE than the Tarn hall. Which of the halls does so under evaporative cooling?', 'Amber', 'Amber', 'is_blank', 'halvorsen2029 okonjo2030', 'QTCR', [('halvorsen2029', 'quote', 'described by Okonjo et al. [1], has a lower PUE'), ('okonjo2030', 'cell', 'Amber | PUE evaporative | 1.09')]),
 ('True or False: The paper on Heron and the paper on forecasts give the same emission saving for perfect knowledge of the future.', 'TRUE', '1', 'is_blank', 'castellan2030 pereira2029', 'QCR', [('castellan2030', 'quote', 'with perfect knowledge of the future, called Oracle, would save 24%'), ('pereira2029', 'quote', 'with perfect knowledge it would be 24%')]),
 ('Energy per board hour on Vltava fell by 12% over the year. About what percentage lower was it in the last quarter of 2029 than in the last quarter of 2028?', '15%', '[14, 16]', 'percent', 'novak2030', 'QFMR', [bar('novak2030', QUARTERS, '2028 Q4', '0.40'), bar('novak2030', QUARTERS, '2029 Q4', '0.34'), ('novak2030', 'quote', 'from 0.402 to 0.354 kWh, or by 12%')], '(0.40 - 0.34) / 0.40 * 100'),
 ('Two shares of server electricity that became useful heat are given for Brzeg. Which one holds for the whole year?', '44%', '44', 'percent', 'kowalczyk2030', 'QR', [('kowalczyk2030', 'quote', 'it was 44% of the 21.2 GWh used'), ('kowalczyk2030', 'quote', 'was therefore 64% in the season')]),
 ('By how many tCO2e does the hourly account of the Lumen project exceed the estimate from the average grid intensity?', '2 tCO2e', '2', 'tCO2e', 'brandvik2031', 'QMR', [('brandvik2031', 'quote', 'correspond to about 415 tCO2e'), ('brandvik2031', 'quote', 'the exact hourly account gives 417 tCO2e')], '417 - 415'),
 ('By how many percentage points is the saving measured in the trial of Heron above that of the replay?', '2 points', '2', 'percentage points', 'castellan2030', 'QTMR', [('castellan2030', 'quote', 'The measured saving over jobs that used Heron was 21%'), ('castellan2030', 'cell', 'Heron | Saving (%) | 19')], '21 - 19'),
 # unanswerable
 ('What PUE did the Mizu cluster have in 2029?', *NA, 'PUE'), ('How many litres of water did the Brzeg centre withdraw in the season 2028/29?', *NA, 'liters'),
 ('By what factor did drafts change the energy of Stratus-34B at batch 64?', *NA, 'ratio'), ('What median PUE did the data centres of Latvia report for 2027?', *NA, 'PUE'),
]
