"""Load tests with Locust; see loadtests/README.md.

Nothing here imports Locust or gevent: the process that runs the SDK (``host``) is of this package and has neither.
"""
