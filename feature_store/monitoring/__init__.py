"""What the values look like and whether they are right: profiles, baselines, checks, consistency, the request log.

Judgements are pure and know no store; what reads the stores for them is `preparing`, `stored`, `consistency`,
`online_monitor` and `replay`. Only `consistency` writes, and only to repair.
"""
