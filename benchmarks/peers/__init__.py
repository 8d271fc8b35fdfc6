"""Peers: other job runners, each with its own documented way to run, for `python -m benchmarks compare`.

`systems.py` says how each is started and when it is done; `environments.py` installs them; `targets.py` holds what the product must show
beside them. The modules `with_*` (and `bullmq.mjs`, `sidekiq_jobs.rb`) run in the peers' own environments: they, and this module, need
nothing of the project but `benchmarks.load`, `benchmarks.tally` and `benchmarks.loop`.
"""
