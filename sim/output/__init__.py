"""What both command lines take and print.

program: What a program of ours is: finds a command, runs it, and turns what went wrong into one
  line.
options: Options that commands share: a scenario's keys, what to print and in which format.
errors: What the user did wrong, in one line.
show: Standard output and standard error: reports on the one, progress on the other.
html: Reports for notebooks.
tables: Tables and reports in four formats: table, markdown, csv, json.
run_report: One run for people: what it is, its figures, where the time goes, what was assumed.
run_record: One run for programs: JSON in two parts, the evaluated rounds and the whole run; one CSV
  row.
columns: What each column of results holds, in a sentence.
run_tables: Many runs as tables: what was varied, then the figures that belong together.
comparison_report: Methods side by side. requirement_report: The bandwidth that targets need.
step_report: The fewest inner steps that targets need.
reproduction_report: A published table next to ours. published: The studies that have one.
pictures: Pictures of results. effort: What a command will take, said before it begins.
intervals: How a command says that something is random: median, interval, number of replications.
traces: Traces that a command writes, and one whose observations it repeats.
"""
