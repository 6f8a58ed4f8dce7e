"""The wire contract: names, limits, errors, frames and the stream that carries them.

Everything that crosses between two Holdfast processes is defined here and nowhere else; ``docs/design.md`` says what
it means. The package imports nothing of Holdfast's, so that SDK, router and nodes can all stand on it.
"""
