"""The demo questions. A row: (question, answer, value, unit, papers, flags, evidence). Flags: Q quote, T table, F figure, M arithmetic.
Evidence: (paper, kind, text), kind 'quote' (words of the paper), 'cell' ("row | column | value" of a table) or 'figure' (its caption).
A row without papers is unanswerable: the corpus comes close and does not say it."""
NA = ('is_blank', (), '')

QUESTIONS = [
 # halvorsen2029
 ('How much electricity did the language model hall at Tarn draw over 2028, seen from the utility meter?', '3,184 MWh', '3184', 'MWh', 'halvorsen2029', 'Q', [('halvorsen2029', 'quote', 'drew 3,184 MWh at the utility meter')]),
 ('What was the annual PUE measured at the Tarn hall?', 'PUE of 1.10', '1.10', 'PUE', 'halvorsen2029', 'Q', [('halvorsen2029', 'quote', 'the power usage effectiveness (PUE) of the hall was 1.10')]),
 ('In the Tarn measurements, how much of the yearly energy went into host processors and memory?', '742 MWh', '742', 'MWh', 'halvorsen2029', 'T', [('halvorsen2029', 'cell', 'Host processors and memory | Energy (MWh) | 742')]),
 ('What energy did an average request to the Tarn service take, including everything behind the utility meter?', '7.7 Wh', '7.7', 'Wh', 'halvorsen2029', 'Q', [('halvorsen2029', 'quote', 'Per request the service used 7.7 Wh at the utility meter')]),
 ('Which kind of user request was the most energy-hungry at the Tarn hall?', 'Requests of the coding assistant', 'coding assistant', 'is_blank', 'halvorsen2029', 'Q', [('halvorsen2029', 'quote', 'Requests of the coding assistant were the most expensive group')]),
 ('By how many percent did the usual rated-power estimate exceed the metered electricity of the Tarn hall?', '46%', '46', 'percent', 'halvorsen2029', 'Q', [('halvorsen2029', 'quote', '46% more than the meter showed')]),
 ('Which PUE did the hall at Tarn reach in July 2028?', '1.19', '1.19', 'PUE', 'halvorsen2029', 'QF', [('halvorsen2029', 'quote', 'the highest 1.19 in July'), ('halvorsen2029', 'figure', 'Figure 1. Monthly PUE of the Tarn hall in 2028.')]),
 ('True or False: At Tarn, accelerators had at least one request running for more than three quarters of the time.', 'FALSE', '0', 'is_blank', 'halvorsen2029', 'Q', [('halvorsen2029', 'quote', 'for 61% of the time')]),
 # okonjo2030
 ('How many litres of on-site water per kWh of server energy did the three evaporatively cooled halls need on average?', '1.62 L/kWh', '1.62', 'L/kWh', 'okonjo2030', 'Q', [('okonjo2030', 'quote', 'Across the halls the mean was 1.62 L/kWh')]),
 ('What WUE was found for the hall called Basalt?', '1.94 L/kWh', '1.94', 'L/kWh', 'okonjo2030', 'T', [('okonjo2030', 'cell', 'Basalt | WUE (L/kWh) | 1.94')]),
 ('Give the range of electricity saving of evaporative cooling over closed-loop chillers.', '9% to 14%', '[9,14]', 'percent', 'okonjo2030', 'Q', [('okonjo2030', 'quote', 'between 9% and 14%')]),
 ('Which of the three evaporatively cooled halls met part of its demand with rain water?', 'Basalt', 'Basalt', 'is_blank', 'okonjo2030', 'Q', [('okonjo2030', 'quote', 'Basalt, the coastal hall, could reuse rain water')]),
 ('How much water did Cobalt withdraw in its hottest week?', '212,000 litres', '212000', 'liters', 'okonjo2030', 'Q', [('okonjo2030', 'quote', 'Cobalt withdrew 212,000 litres')]),
 ('What PUE does the Cobalt hall have when it runs its closed loop?', '1.27', '1.27', 'PUE', 'okonjo2030', 'T', [('okonjo2030', 'cell', 'Cobalt | PUE closed loop | 1.27')]),
 ('In the study of evaporative halls, what water usage effectiveness belongs to outside humidity above 70%?', '2.26 L/kWh', '2.26', 'L/kWh', 'okonjo2030', 'F', [('okonjo2030', 'figure', 'Figure 1. Water usage effectiveness by outside humidity class, all halls.')]),
 ('True or False: Counting water evaporated at power stations too, evaporative cooling lowers total water use at Amber.', 'FALSE', '0', 'is_blank', 'okonjo2030', 'Q', [('okonjo2030', 'quote', 'evaporative cooling raises total water use by 38% at Amber')]),
 # brandvik2031
 ('How much energy did the final training runs of the four Lumen models take together?', '2,310 MWh', '2310', 'MWh', 'brandvik2031', 'Q', [('brandvik2031', 'quote', 'Together the final runs used 2,310 MWh')]),
 ('What were the emissions of the whole Lumen project according to the hourly account?', '417 tCO2e', '417', 'tCO2e', 'brandvik2031', 'Q', [('brandvik2031', 'quote', '417 tCO2e')]),
 ('How many billion tokens was Lumen-22B trained on?', '1,500 billion', '1500', 'billion tokens', 'brandvik2031', 'T', [('brandvik2031', 'cell', 'Lumen-22B | Tokens (billion) | 1,500')]),
 ('What did training the final Lumen-7B run consume?', '248 MWh', '248', 'MWh', 'brandvik2031', 'T', [('brandvik2031', 'cell', 'Lumen-7B | Energy (MWh) | 248')]),
 ('How much energy was lost in the single worst failed run of the Lumen project?', '83 MWh', '83', 'MWh', 'brandvik2031', 'Q', [('brandvik2031', 'quote', 'cost 83 MWh')]),
 ('How many days of answering requests equal the electricity of the final training run of Lumen-65B?', '214 days', '214', 'days', 'brandvik2031', 'Q', [('brandvik2031', 'quote', 'after 214 days')]),
 ('What was the average grid carbon intensity at the Skarn centre while Lumen was trained?', '107 gCO2e/kWh', '107', 'gCO2e/kWh', 'brandvik2031', 'Q', [('brandvik2031', 'quote', 'average intensity of 107 gCO2e/kWh')]),
 ('How much energy did the Lumen project spend on choosing an architecture?', '870 MWh', '870', 'MWh', 'brandvik2031', 'QF', [('brandvik2031', 'quote', 'Exploratory runs for the choice of architecture used 870 MWh'), ('brandvik2031', 'figure', 'Figure 1. Energy of the Lumen project by purpose, in MWh.')]),
 # castellan2030
 ('By what percentage did the scheduler Heron lower emissions when a year of jobs was replayed?', '19%', '19', 'percent', 'castellan2030', 'QT', [('castellan2030', 'quote', 'lowered emissions by 19%'), ('castellan2030', 'cell', 'Heron | Saving (%) | 19')]),
 ('What mean delay did the policy that waits for solar noon cause?', '2.2 hours', '2.2', 'hours', 'castellan2030', 'T', [('castellan2030', 'cell', 'Noon | Mean delay (h) | 2.2')]),
 ('In which range did the grid intensity vary around the Heron cluster in 2029?', '84 to 391 gCO2e/kWh', '[84,391]', 'gCO2e/kWh', 'castellan2030', 'Q', [('castellan2030', 'quote', 'it varied between 84 and 391 gCO2e/kWh in 2029')]),
 ('How many users took part in the production trial of Heron?', '58 users', '58', 'users', 'castellan2030', 'Q', [('castellan2030', 'quote', 'a trial in production with 58 users')]),
 ('True or False: Jobs on the Heron cluster used slightly more energy during the trial.', 'TRUE', '1', 'is_blank', 'castellan2030', 'Q', [('castellan2030', 'quote', 'it rose by 0.6%')]),
 ('In which season was the emission saving of Heron the largest?', 'Spring', 'spring', 'is_blank', 'castellan2030', 'QF', [('castellan2030', 'quote', 'The saving is largest in spring'), ('castellan2030', 'figure', 'Figure 1. Saving of emissions under Heron by season, in percent.')]),
 # demirel2029
 ('What emissions are caused by making one eight-board accelerator server?', '2,860 kgCO2e', '2860', 'kgCO2e', 'demirel2029', 'Q', [('demirel2029', 'quote', 'Making the server emits 2,860 kgCO2e')]),
 ('What part of a server has the second largest embodied emissions?', 'Memory', 'memory', 'is_blank', 'demirel2029', 'Q', [('demirel2029', 'quote', 'Memory is the second largest item')]),
 ('What are the embodied emissions of the flash storage in the server that was taken apart?', '286 kgCO2e', '286', 'kgCO2e', 'demirel2029', 'TF', [('demirel2029', 'cell', 'Flash storage | kgCO2e | 286')]),
 ('After how many years does use equal manufacture for the dismantled server on a grid of 30 gCO2e/kWh?', '2.4 years', '2.4', 'years', 'demirel2029', 'Q', [('demirel2029', 'quote', 'only after 2.4 years')]),
 ('What interval was given for the embodied emissions of the accelerator server?', '2,210 to 3,640 kgCO2e', '[2210,3640]', 'kgCO2e', 'demirel2029', 'Q', [('demirel2029', 'quote', 'with a range from 2,210 to 3,640')]),
 ('How large would the transport share become if all boards had gone by sea?', '12 kgCO2e', '12', 'kgCO2e', 'demirel2029', 'Q', [('demirel2029', 'quote', 'from 85 to 12 kgCO2e')]),
 # ferreira2031
 ('How many joules per token does Pico-7.1B need on the Merlin board with four-bit weights?', '3.08 J', '3.08', 'J/token', 'ferreira2031', 'T', [('ferreira2031', 'cell', 'Pico-7.1B | 4 bit | 3.08')]),
 ('What does a token of Pico-1.1B cost on Merlin in bf16?', '0.82 J', '0.82', 'J/token', 'ferreira2031', 'T', [('ferreira2031', 'cell', 'Pico-1.1B | bf16 | 0.82')]),
 ('By how much did four-bit weights raise the energy per token of the smallest Pico model on Kestrel?', '31%', '31', 'percent', 'ferreira2031', 'Q', [('ferreira2031', 'quote', 'an increase of 31%')]),
 ('How many accuracy points did Pico-1.1B lose from bf16 to four bits?', '3.6 points', '3.6', 'points', 'ferreira2031', 'Q', [('ferreira2031', 'quote', '3.6 points for the 1.1B model')]),
 ('Which edge board needs the least energy per token for Pico-3.2B at four bits?', 'Merlin', 'Merlin', 'is_blank', 'ferreira2031', 'F', [('ferreira2031', 'figure', 'Figure 1. Energy per token of Pico-3.2B by board at four bits, in joules.')]),
 ('True or False: On the tested edge boards, bf16 beat four bits for every model that fits once more than four requests were batched.', 'TRUE', '1', 'is_blank', 'ferreira2031', 'Q', [('ferreira2031', 'quote', 'Above a batch of four, bf16 was the better choice for every model that fits')]),
 # grigoryan2030
 ('Which stage of a retrieval-augmented answer takes most of the energy?', 'Reading the passages (prefill)', 'Reading (prefill)', 'is_blank', 'grigoryan2030', 'QT', [('grigoryan2030', 'quote', 'Reading the passages took 71% of the energy')]),
 ('What net energy did an answer with ten passages need?', '612 J', '612', 'J', 'grigoryan2030', 'Q', [('grigoryan2030', 'quote', 'An answer with ten passages took 612 J net of idle')]),
 ('How many joules did the search stage take in the look-up service?', '4.3 J', '4.3', 'J', 'grigoryan2030', 'T', [('grigoryan2030', 'cell', 'Search | Energy (J) | 4.3')]),
 ('What share of right answers remained when the number of passages was halved from ten to five?', '66.9%', '66.9', 'percent', 'grigoryan2030', 'Q', [('grigoryan2030', 'quote', 'from 68.4% to 66.9%')]),
 ('How much did building the passage index cost once, in electricity?', '41 kWh', '41', 'kWh', 'grigoryan2030', 'Q', [('grigoryan2030', 'quote', 'Building the index had cost 41 kWh once')]),
 ('What energy did a refusal take on average in the question service over scientific papers?', '455 J', '455', 'J', 'grigoryan2030', 'Q', [('grigoryan2030', 'quote', '455 J on average')]),
 # ishikawa2031
 ('For what share of the time were boards on the Mizu cluster idle?', '37%', '37', 'percent', 'ishikawa2031', 'Q', [('ishikawa2031', 'quote', 'Boards were idle for 37% of all hours')]),
 ('What does a parked Corvid-2 board draw?', '34 W', '34', 'W', 'ishikawa2031', 'QF', [('ishikawa2031', 'quote', 'Firmware offers a parked state that draws 34 W')]),
 ('How much electricity per year was saved by parking boards at Mizu?', '640 MWh', '640', 'MWh', 'ishikawa2031', 'Q', [('ishikawa2031', 'quote', 'this saved 640 MWh')]),
 ('What is the mean gap, in minutes, of boards that are idle because an interactive session was left open?', '510 min', '510', 'minutes', 'ishikawa2031', 'T', [('ishikawa2031', 'cell', 'Interactive session left open | Mean gap (min) | 510')]),
 ('How much power does a Corvid-2 board take at a low clock while idle?', '88 W', '88', 'W', 'ishikawa2031', 'F', [('ishikawa2031', 'figure', 'Figure 1. Idle power of a Corvid-2 board by state, in watts.')]),
 # kowalczyk2030
 ('How much heat did the Brzeg centre deliver in the season 2028/29?', '9.4 GWh', '9.4', 'GWh', 'kowalczyk2030', 'Q', [('kowalczyk2030', 'quote', 'it delivered 9.4 GWh of heat')]),
 ('What coefficient of performance did the Brzeg heat pumps have in January?', '5.2', '5.2', 'COP', 'kowalczyk2030', 'T', [('kowalczyk2030', 'cell', 'January | COP | 5.2')]),
 ('What energy reuse effectiveness did Brzeg reach in the heating season?', '0.71', '0.71', 'ERE', 'kowalczyk2030', 'Q', [('kowalczyk2030', 'quote', 'The energy reuse effectiveness (ERE) of the centre was 0.71')]),
 ('In how many years are the Brzeg heat pumps paid back with the grant?', '17 years', '17', 'years', 'kowalczyk2030', 'Q', [('kowalczyk2030', 'quote', 'pays back the heat pumps in 17 years')]),
 # lindqvist2029
 ('How many of the Nordic data centre reports give a PUE?', '61', '61', 'reports', 'lindqvist2029', 'QT', [('lindqvist2029', 'quote', 'A PUE is given by 61 of them'), ('lindqvist2029', 'cell', 'PUE | Reports | 61')]),
 ('How many Nordic sites reported the utilisation of their servers for 2027?', '7', '7', 'reports', 'lindqvist2029', 'T', [('lindqvist2029', 'cell', 'Server utilisation | Reports | 7')]),
 ('Which Nordic country had the lowest median PUE in the 2027 reports?', 'Iceland', 'Iceland', 'is_blank', 'lindqvist2029', 'F', [('lindqvist2029', 'figure', 'Figure 1. Median reported PUE by country, 2027.')]),
 # mbeki2031
 ('How many joules per token did Stratus-34B need with the 0.5B draft model at batch one?', '9.2 J/token', '9.2', 'J/token', 'mbeki2031', 'T', [('mbeki2031', 'cell', 'Stratus-34B | Draft 0.5B | 9.2')]),
 ('Near which batch size does speculative decoding stop saving energy for the 34B target?', '6', '6', 'is_blank', 'mbeki2031', 'Q', [('mbeki2031', 'quote', 'The break-even lies near batch six')]),
 ('What acceptance rate did drafts have on code for Stratus-34B?', '78%', '78', 'percent', 'mbeki2031', 'Q', [('mbeki2031', 'quote', '78% on code')]),
 # novak2030
 ('By how much did energy per job fall on Vltava once kilowatt-hours were priced?', '12%', '12', 'percent', 'novak2030', 'Q', [('novak2030', 'quote', 'Energy per job fell by 12%')]),
 ('What was the price per kWh on the Vltava cluster in 2029?', '0.31 USD', '0.31', 'USD/kWh', 'novak2030', 'Q', [('novak2030', 'quote', '0.31 USD per kWh')]),
 ('Which change by users of Vltava brought the highest mean saving?', 'A smaller model', 'smaller model', 'is_blank', 'novak2030', 'QT', [('novak2030', 'quote', 'The most effective single change was a smaller model')]),
 # pereira2029
 ('What 48-hour error did boosted trees have on average over the four regions?', '9.5%', '9.5', 'percent', 'pereira2029', 'QT', [('pereira2029', 'cell', 'Boosted trees | 48 h | 9.5')]),
 ('How much energy did training the recurrent forecasting network take?', '38 kWh', '38', 'kWh', 'pereira2029', 'QT', [('pereira2029', 'quote', 'The recurrent network used 38 kWh for training')]),
 # quintero2029
 ('What PUE did the row at Pozo have after the change to cold plates?', '1.15', '1.15', 'PUE', 'quintero2029', 'QT', [('quintero2029', 'cell', 'PUE of the row | After | 1.15')]),
 ('How much did the liquid cooling retrofit cost per server?', '3,900 USD', '3900', 'USD', 'quintero2029', 'Q', [('quintero2029', 'quote', 'The change cost 3,900 USD per server')]),
 # arithmetic over one or two papers
 ('How much more final-run training energy did Lumen-65B need than Lumen-7B?', '1,171 MWh', '1171', 'MWh', 'brandvik2031', 'TM', [('brandvik2031', 'cell', 'Lumen-65B | Energy (MWh) | 1,419'), ('brandvik2031', 'cell', 'Lumen-7B | Energy (MWh) | 248')], '1419 - 248'),
 ('How many MWh would the Tarn hall have used in 2028 beyond its servers if its PUE had been that of the Pozo row after the retrofit?', '434.1 MWh', '434.1', 'MWh', 'halvorsen2029 quintero2029', 'QTM', [('halvorsen2029', 'quote', 'Servers took 2,894 MWh'), ('quintero2029', 'cell', 'PUE of the row | After | 1.15')], '2894 * 0.15'),
 ('By how many watts do the idle draws of a Corvid-2 board differ between the Mizu cluster and the Tarn hall?', '3 W', '3', 'W', 'ishikawa2031 halvorsen2029', 'QM', [('ishikawa2031', 'quote', 'An idle Corvid-2 drew 121 W'), ('halvorsen2029', 'quote', 'still drew 118 W on average')], '121 - 118'),
 ('What is the difference in PUE between the Tarn hall over the year and the Brzeg centre in its heating season?', '0.03', '0.03', 'PUE', 'kowalczyk2030 halvorsen2029', 'QM', [('kowalczyk2030', 'quote', 'a PUE of 1.13'), ('halvorsen2029', 'quote', 'of the hall was 1.10')], '1.13 - 1.10'),
 ('At the price of electricity in Pozo, what would the yearly saving by parking boards at Mizu be worth?', '99,200 USD', '99200', 'USD', 'quintero2029 ishikawa2031', 'QM', [('quintero2029', 'quote', 'At 0.155 USD per kWh'), ('ishikawa2031', 'quote', 'this saved 640 MWh')], '640000 * 0.155'),
 # unanswerable
 ('How much water did the Tarn hall withdraw in 2028?', *NA, 'liters'), ('What was the PUE of the Skarn centre in July 2030?', *NA, 'PUE'), ('How much energy did the final run of Lumen-130B take?', *NA, 'MWh'),
 ('By what percentage did Heron lower emissions in its second year of production?', *NA, 'percent'), ('What are the embodied emissions of a Corvid-2 server?', *NA, 'kgCO2e'),
 ('How many joules per token does Pico-13B need on the Merlin board in bf16?', *NA, 'J/token'), ('What was the energy per answer of the look-up service with fifty passages?', *NA, 'J'),
 ('How much did the town of Brzeg pay per MWh of heat in the season 2029/30?', *NA, 'USD/MWh'), ('What median PUE did data centres in Estonia report for 2027?', *NA, 'PUE'),
 ('How many tokens per second did Stratus-70B reach with the n-gram draft?', *NA, 'tokens per second'), ('Which operator owns the Mizu cluster?', *NA, 'is_blank'),
 ('How much did the leak sensors of the Pozo retrofit cost?', *NA, 'USD'),
]
