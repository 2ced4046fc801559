"""Networks, from diffusers wherever it has them."""
