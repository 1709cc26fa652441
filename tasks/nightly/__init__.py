"""The nightly regression: it trains every night, judges the figures, and reports regressions.

- `config` reads the nightly's file, `gates` decides about one metric, `judging` about the night;
- `night` executes the runs of a night, `runner` executes one run;
- `history` stores the nights, `baseline` the accepted ones; `chart` and `page` show them, `alarms` reports changes;
- `bisect` finds the commit that changed a metric;
- `nightly_task`, `regression` and `commands` hold the Luigi tasks.
"""
