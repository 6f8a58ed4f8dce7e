"""What a tenant may ask of this router now: rates and operations under way. See ``docs/design.md``, 9."""
