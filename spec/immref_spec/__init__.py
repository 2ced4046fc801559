"""The executable specification of immref: laws that judge any backend.

Run it with ``pytest --pyargs immref_spec --immref-backend NAME``; `spec/pairing.md`, `diffusion.md` and `miscibility.md` say the
same in words.
"""

LAWS = (  # in the order in which they judge, so that the first to break says most
    "laws_contract",  #    it runs; dtype, shape, device
    "laws_inputs",  #      odd arguments
    "laws_nearest",  #     values
    "laws_collapse",
    "laws_assignment",
    "laws_pair",
    "laws_diffusion",
    "laws_torch",
    "laws_draws",  #       statistics
    "laws_knn",
    "laws_miscibility",
)
