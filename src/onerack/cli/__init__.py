"""The command line: one file per command, thin over the packages that do the work.

The idea: `main.py` names the commands and turns errors into exit codes; `run`, `history`, `show`, `debug` and `demo`
are one file each; `live` and `lines` show a running job, `summary` a finished one. Nothing heavy is imported
before a command needs it, so that `onerack --help` answers at once.

The rule: standard output carries what was asked for (a summary, or with --json exactly one JSON object); everything
else (progress, warnings, errors) goes to standard error. Exit codes: 0 done, 1 the job failed, 2 usage, 130 Ctrl-C.
"""
