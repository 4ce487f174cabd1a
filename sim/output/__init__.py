"""What both command lines take and print.

program: What a program of ours is: finds a command, runs it, and turns what went wrong into one
  line.
options: Options that commands share: a scenario's keys, what to print and in which format.
errors: What the user did wrong, in one line.
show: Standard output and standard error: reports on the one, progress on the other.
html: Reports for notebooks. html_page: a report as a page of one file, of html_blocks (tables,
  paragraphs, pictures), html_pictures (which ones) and html_style; svg: a figure inside a page;
  html_option: what ``--html FILE`` does. answers: The answer of a report in one or two sentences.
tables: Tables and reports in four formats: table, markdown, csv, json.
run_report: One run for people: what it is, its figures, where the time goes, what was assumed.
run_record: One run for programs: JSON in two parts, the evaluated rounds and the whole run; one CSV
  row.
site_shares: What each site does in a round: steps, share of the tokens, weight in the mean.
columns: What each column of results holds, in a sentence.
cost_fields: What a run costs: columns, a record, and a table by site.
run_tables: Many runs as tables: what was varied, then the figures that belong together.
comparison_report: Methods side by side. comparison_folder: Its files. single_sites: What each
  site would do alone.
required_answer: What ``required`` answers. requirement_report: The bandwidth that targets need.
plan_report: A plan on one screen. targets: Compute utilizations to reach, as they are typed.
memory_report: Bytes per accelerator, and what other answers say where a worker does not fit.
quantity_report: What targets need of another quantity than the bandwidth.
reproduction_report: A published table next to ours. published: The studies that have one.
lever_lines: Levers at the end of an answer: one line each, the one that saves most first.
pictures: Pictures of results. effort: What a command will take, said before it begins.
intervals: How a command says that something is random: median, interval, number of replications.
traces: Traces that a command writes, and one whose observations it repeats.
varying_links: What is said of links that vary.
drawn_columns: Pictures of any columns of results. plan_pictures: The front of a plan, and money
  against time. plan_folder: The files of a plan. answer_folder: Folders that hold one answer,
  which another question never replaces.
"""
