"""Lock services beside each other on this machine: their servers, their clients, and one way to load and measure them.

`peer` is what each service's module fills in; `roster` lists them; `clients` holds what speaks to them, one module for
each client library, imported by load processes only; `measuring` loads and looks; `figures` makes medians and ratios.
Run by ``make compare`` (`loadtests.compare`).
"""
