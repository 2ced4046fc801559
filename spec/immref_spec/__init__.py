"""The executable specification of immref: laws that judge any backend.

Run it with ``pytest --pyargs immref_spec --immref-backend NAME``; `spec/pairing.md` says the same in words.
"""
